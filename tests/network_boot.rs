//! Starting from the network: SeaBIOS starts iPXE of a card's option ROM, which gets an address and a script by DHCP, and
//! kernel and initial RAM disk by HTTP.

mod namespaces;
mod network_guest;
mod processes;

use std::net::{Ipv4Addr, UdpSocket};

use ftemu_images::catalogue::Card;
use namespaces::{CLIENT, GUEST, GUEST_MAC, Network};
use network_guest::{CARDS, guest, http};
use processes::{Client, Folder, Side};

const PORT: u16 = 8080;
/// DHCP (RFC 2131, RFC 2132).
const FIXED_BYTES: usize = 236;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
const MESSAGE_TYPE: u8 = 53;
const DISCOVER: u8 = 1;

/// An option of a message.
fn option(message: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = message.get(FIXED_BYTES + COOKIE.len()..)?;
    while let [kind, after @ ..] = rest {
        if *kind == 0 {
            rest = after;
            continue;
        }
        let (length, after) = after.split_first()?;
        let (value, after) = after.split_at_checked(usize::from(*length))?;
        if *kind == wanted {
            return Some(value);
        }
        rest = after;
    }
    None
}

/// An offer, or an acknowledgement, of the guest's address and of what to start.
fn reply(request: &[u8], script: &str) -> Vec<u8> {
    let kind = if option(request, MESSAGE_TYPE) == Some(&[DISCOVER]) { 2 } else { 5 };
    let mut reply = request[..FIXED_BYTES].to_vec();
    reply[0] = 2;
    reply[16..20].copy_from_slice(&GUEST.octets());
    reply[20..24].copy_from_slice(&CLIENT.octets());
    reply[44..FIXED_BYTES].fill(0);
    reply[108..108 + script.len()].copy_from_slice(script.as_bytes());
    reply.extend(COOKIE);
    reply.extend([MESSAGE_TYPE, 1, kind, 54, 4]);
    reply.extend(CLIENT.octets());
    reply.extend([51, 4, 0, 0, 255, 255, 1, 4, 255, 255, 255, 0, 255]);
    reply.resize(300, 0);
    reply
}

/// Answers DHCP requests for as long as the process lives.
fn offer(network: &Network, script: String) {
    network.ip("client", "route add default dev eth0");
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 67)).expect("DHCP's port");
    let socket = network.within("client", bind).join().expect("no panic");
    socket.set_broadcast(true).expect("an ordinary socket");
    std::thread::spawn(move || {
        let mut message = [0; 1500];
        while let Ok((length, _)) = socket.recv_from(&mut message) {
            let request = &message[..length];
            if length > FIXED_BYTES {
                let _ = socket.send_to(&reply(request, &script), (Ipv4Addr::BROADCAST, 68));
            }
        }
    });
}

fn starts_from_the_network(nic: &str, card: Card) {
    let (network, folder, files) = (Network::new(true), Folder::new(), tempfile::tempdir().expect("a folder"));
    let guest = guest(card, false);
    let url = format!("http://{CLIENT}:{PORT}");
    let script = format!("#!ipxe\nkernel {url}/kernel {}\ninitrd {url}/initrd\nboot\n", guest.command_line);
    guest.write_to(files.path()).expect("the guest's files");
    std::fs::write(files.path().join("start"), script).expect("a script");
    let served = http::serve(&network, PORT, files.path());
    offer(&network, format!("{url}/start"));

    let mut command = network.command("a", env!("CARGO_BIN_EXE_ftemu"));
    command.args(["run", "--no-stdio", "--boot", "n", "--memory", "256M", "--net", "tap=tap0", "--nic", nic]);
    command.args(["--mac", GUEST_MAC, "--console-listen", "127.0.0.1:0"]);
    command.arg("--identity").arg(folder.path("a"));
    let mut side = Side::spawn(command);
    let console = side.address("console");
    let mut console = network.within("a", move || Client::start(&[&console])).join().expect("a console");
    console.wait_for("ftemu-mark network");
    let served: Vec<String> = served.lock().expect("no panic").keys().cloned().collect();
    assert_eq!(served, ["initrd", "kernel", "start"]);
    network.wait_for_guest();
}

#[test]
fn a_guest_without_a_disk_starts_from_its_network() {
    for (nic, card) in CARDS {
        starts_from_the_network(nic, card);
    }
}
