//! A server dies while clients talk with its guest, in network namespaces: the guest answers on from the other server,
//! with the same addresses. A stream loses no byte and is not reset, an ssh session goes on; pings lose nothing, one waits.
//!
//! `scripts/soak failover` has more rounds: `FTEMU_FAILOVER_ROUNDS` says how many of each kind, and `FTEMU_FAILOVER_RESULTS`
//! names a file for what the clients saw.

mod namespaces;
mod network_guest;
mod processes;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use ftemu_images::Guest;
use namespaces::{Echo, GUEST, GUEST_MAC, LINK, Network};
use network_guest::ssh::{Key, Session};
use network_guest::{CARDS, guest, with_ssh};
use processes::{Folder, Side, guest_arguments};
use serde_json::{Value, json};

/// Pings in a round, 10 ms apart, and the one after which the fault happens.
const PINGS: usize = 500;
const FAULT_AT: usize = 150;
/// Bytes of the stream that are sent with each line that ping says.
const CHUNK: u64 = 4096;

/// What happens to the server that runs the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// SIGKILL.
    Killed,
    /// SIGSTOP: it is silent, and comes back later.
    Stopped,
    /// The link between the servers is cut.
    Cut,
}

/// What the clients saw of a round.
#[derive(Debug)]
struct Seen {
    lost: usize,
    slowest_ms: f64,
    usual_ms: f64,
    stream: u64,
    commands: usize,
    slowest_command_ms: f64,
}

/// A protected guest on two servers.
struct Pair {
    primary: Side,
    standby: Side,
    folder: Folder,
}

impl Pair {
    fn start(network: &Network, guest: &Guest, nic: &str) -> Self {
        let folder = Folder::new();
        folder.identities();
        let arbiter = format!("file:{}", folder.path("arbiter").display());
        let side = |name: &str, arguments: &[&str]| {
            let identity = folder.path(name).display().to_string();
            let mut command = network.command(name, env!("CARGO_BIN_EXE_ftemu"));
            command.args(arguments).args(["--identity", &identity, "--net", "tap=tap0", "--arbiter", &arbiter]);
            command
        };
        let mut standby = Side::spawn(side("b", &["standby", "--once", "--listen", &format!("{}:7700", LINK[1])]));
        let address = standby.address("listening");
        let card = ["--nic", nic, "--mac", GUEST_MAC];
        let mut command = side("a", &["run", "--no-stdio", "--peer", &address]);
        let mut arguments = guest_arguments(&folder, guest);
        if let Some(memory) = arguments.last_mut() {
            *memory = "192M".into();
        }
        command.args(arguments).args(card);
        let mut primary = Side::spawn(command);
        primary.wait_for("protected");
        standby.wait_for("protected");
        network.wait_for_guest();
        Self { primary, standby, folder }
    }

    /// A server that was too busy to give a sign of life was given up: the fault has nothing to hit any more.
    fn has_failed_over(&self) -> bool {
        self.folder.path("arbiter.term-1").exists()
    }

    fn suffer(&mut self, fault: Fault, network: &Network) {
        match fault {
            Fault::Killed => self.primary.kill(),
            Fault::Stopped => self.primary.signal("-STOP"),
            Fault::Cut => drop(network.ip("a", "link set pair down")),
        }
    }

    /// The fault is over: exactly one side goes on.
    fn conclude(mut self, fault: Fault) {
        match fault {
            Fault::Killed => drop(self.standby.wait_for("live")),
            Fault::Stopped => {
                self.standby.wait_for("live");
                self.primary.signal("-CONT");
                self.primary.wait_for("halted");
            }
            Fault::Cut => {
                // Either may win; the loser ends itself and says so.
                self.primary.signal("-TERM");
                self.standby.signal("-TERM");
                let won_on = [self.primary.seek("unprotected"), self.standby.seek("live")];
                assert_eq!(won_on.iter().flatten().count(), 1, "{won_on:?}");
            }
        }
    }
}

/// Pings the guest every 10 ms, and gives a line for each answer, or for each that is late.
fn ping(network: &Network) -> Child {
    let mut command: Command = network.command("client", "ping");
    command.args(["-n", "-O", "-i", "0.01", "-W", "5", "-c", &PINGS.to_string(), &GUEST.to_string()]);
    command.stdout(Stdio::piped()).spawn().expect("ping; is iputils-ping installed? (scripts/setup)")
}

/// The milliseconds that an answer took.
fn time_of(line: &str) -> Option<f64> {
    line.split_once("time=")?.1.split_whitespace().next()?.parse().ok()
}

/// `None`: a server was given up before the fault.
fn attempt(learning: bool, guest: &Guest, key: &Key, nic: &str, fault: Fault) -> Option<Seen> {
    let network = Network::new(learning);
    let mut pair = Pair::start(&network, guest, nic);
    assert_eq!(network.guest_mac(), GUEST_MAC);
    let mut echo = Echo::connect(&network);
    let session = Session::start(&network, key);
    let mut ping = ping(&network);
    let (mut times, mut lines, mut answered) = (Vec::new(), 0, vec![false; PINGS + 1]);
    for line in BufReader::new(ping.stdout.take().expect("a pipe")).lines() {
        let line = line.expect("a line");
        assert!(!line.contains("Unreachable"), "{line}");
        lines += 1;
        if lines == FAULT_AT {
            if pair.has_failed_over() {
                ping.kill().and_then(|()| ping.wait()).expect("ping ends");
                return None;
            }
            pair.suffer(fault, &network);
        }
        if lines < PINGS {
            echo.send(CHUNK);
        }
        let number = line.split_once("icmp_seq=").and_then(|(_, rest)| rest.split(' ').next()?.parse::<usize>().ok());
        if let (Some(time), Some(number)) = (time_of(&line), number) {
            times.push(time);
            answered[number] = true;
        }
    }
    ping.wait().expect("ping ends");
    let stream = echo.finish();
    let (commands, slowest_command) = session.finish();
    assert_eq!(network.guest_mac(), GUEST_MAC);
    pair.conclude(fault);
    times.sort_by(f64::total_cmp);
    let lost = answered.iter().skip(1).filter(|answered| !**answered).count();
    Some(Seen {
        lost,
        slowest_ms: times.last().copied().unwrap_or_default(),
        usual_ms: times[times.len() / 2],
        stream,
        commands,
        slowest_command_ms: slowest_command.as_secs_f64() * 1000.0,
    })
}

fn round(learning: bool, guest: &Guest, key: &Key, nic: &str, fault: Fault) -> Seen {
    let seen = (0..5).find_map(|_| attempt(learning, guest, key, nic, fault));
    seen.expect("servers with enough CPU time to say every 50 ms that they live")
}

fn rounds() -> usize {
    std::env::var("FTEMU_FAILOVER_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number of rounds"))
}

/// What the clients saw in many rounds, for a file.
fn results(rounds: &[(Fault, &str, Seen)]) -> Value {
    let of = |fault: Fault| {
        let rounds: Vec<&Seen> = rounds.iter().filter(|round| round.0 == fault).map(|round| &round.2).collect();
        let sorted = |figure: &dyn Fn(&Seen) -> f64| {
            let mut figures: Vec<f64> = rounds.iter().map(|seen| figure(seen)).collect();
            figures.sort_by(f64::total_cmp);
            figures
        };
        json!({
            "rounds": rounds.len(),
            "pings_lost": rounds.iter().map(|seen| seen.lost).sum::<usize>(),
            "slowest_ping_ms": sorted(&|seen| seen.slowest_ms),
            "usual_ping_ms": sorted(&|seen| seen.usual_ms),
            "slowest_ssh_command_ms": sorted(&|seen| seen.slowest_command_ms),
            "ssh_commands": rounds.iter().map(|seen| seen.commands).sum::<usize>(),
            "stream_bytes": rounds.iter().map(|seen| seen.stream).sum::<u64>(),
        })
    };
    json!({ "killed": of(Fault::Killed), "stopped": of(Fault::Stopped), "cut": of(Fault::Cut) })
}

#[test]
fn clients_keep_their_connections_when_a_server_dies() {
    let key = Key::new();
    let guests = CARDS.map(|(nic, card)| (nic, with_ssh(guest(card, false), &key.public)));
    let faults = [Fault::Killed, Fault::Stopped, Fault::Cut];
    let mut all = Vec::new();
    for number in 0..rounds() * faults.len() {
        let fault = faults[number % faults.len()];
        let (nic, guest) = &guests[number % guests.len()];
        let seen = round(false, guest, &key, nic, fault);
        println!(
            "round {number}: {nic}, {fault:?}: the slowest answer took {:.1} ms (usually {:.1} ms), {} bytes echoed, {} ssh \
             commands, the slowest {:.1} ms",
            seen.slowest_ms, seen.usual_ms, seen.stream, seen.commands, seen.slowest_command_ms
        );
        assert_eq!(seen.lost, 0, "pings are lost in round {number}: {seen:?}");
        assert!(seen.slowest_ms < 3000.0, "{seen:?}");
        all.push((fault, *nic, seen));
    }
    if let Some(path) = std::env::var_os("FTEMU_FAILOVER_RESULTS") {
        let text = serde_json::to_string_pretty(&results(&all)).expect("plain figures");
        std::fs::write(path, text + "\n").expect("a place for the results");
    }
}

#[test]
fn a_switch_that_learns_is_told_where_the_guest_is() {
    let key = Key::new();
    let (nic, card) = CARDS[0];
    let seen = round(true, &with_ssh(guest(card, false), &key.public), &key, nic, Fault::Killed);
    println!("a learning switch: {} pings lost, the slowest answer took {:.1} ms", seen.lost, seen.slowest_ms);
    assert!(seen.lost < PINGS / 10, "{seen:?}");
}
