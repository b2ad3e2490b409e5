//! A network for a test, in namespaces of its own: a switch, a client, and two servers, each with a bridge to which a tap
//! and the server's card belong, and a link between the servers. Nothing of the host's network is touched.
#![allow(dead_code)] // each test file uses its part

use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The client's address and the guest's.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const GUEST_MAC: &str = "52:54:00:f7:00:02";
/// The servers' addresses on the link between them.
pub const LINK: [&str; 2] = ["10.9.0.1", "10.9.0.2"];

/// The namespaces, removed at the end.
pub struct Network {
    prefix: String,
    _alone: MutexGuard<'static, ()>,
}

/// What is measured here is time: one network after the other.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs a command that must succeed.
#[track_caller]
fn must(program: &str, arguments: &str) -> String {
    let output = Command::new(program).args(arguments.split_whitespace()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; is iproute2 installed? (scripts/setup)"));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {complaints}(this test needs root)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Network {
    /// A network. `learning`: the switch notices which port a station is at, as most do; otherwise it sends frames for the
    /// guest to both servers.
    pub fn new(learning: bool) -> Self {
        assert!(rustix::process::geteuid().is_root(), "this test makes network namespaces: it needs root");
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let network = Self { prefix: format!("ftemu{}", std::process::id()), _alone: alone };
        network.remove();
        for name in ["switch", "client", "a", "b"] {
            must("ip", &format!("netns add {}", network.name(name)));
            network.ip(name, "link set lo up");
        }
        network.ip("switch", "link add br0 type bridge forward_delay 0");
        network.ip("switch", "link set br0 up");
        for name in ["client", "a", "b"] {
            let (switch, there) = (network.name("switch"), network.name(name));
            must("ip", &format!("link add name to-{name} netns {switch} type veth peer name eth0 netns {there}"));
            network.ip("switch", &format!("link set to-{name} master br0 up"));
            network.ip(name, "link set eth0 up");
        }
        network.ip("client", &format!("addr add {CLIENT}/24 dev eth0"));
        for name in ["a", "b"] {
            network.server(name, learning);
        }
        let (a, b) = (network.name("a"), network.name("b"));
        must("ip", &format!("link add name pair netns {a} type veth peer name pair netns {b}"));
        for (name, address) in ["a", "b"].into_iter().zip(LINK) {
            network.ip(name, &format!("addr add {address}/24 dev pair"));
            network.ip(name, "link set pair up");
        }
        network
    }

    /// A server's bridge; it must send frames for the guest to the tap even if it saw the guest outside.
    fn server(&self, name: &str, learning: bool) {
        self.ip(name, "link add br0 type bridge forward_delay 0");
        self.ip(name, "link set br0 up");
        self.ip(name, "link set eth0 master br0");
        self.ip(name, "tuntap add dev tap0 mode tap");
        self.ip(name, "link set tap0 master br0 up");
        for port in ["eth0", "tap0"] {
            must("ip", &format!("netns exec {} bridge link set dev {port} learning off", self.name(name)));
        }
        if !learning {
            must("ip", &format!("netns exec {} bridge link set dev to-{name} learning off", self.name("switch")));
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// `ip` inside of a namespace.
    #[track_caller]
    pub fn ip(&self, name: &str, arguments: &str) -> String {
        must("ip", &format!("-n {} {arguments}", self.name(name)))
    }

    /// A command that runs inside of a namespace, as the same process.
    pub fn command(&self, name: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(name), program]);
        command
    }

    /// Runs something in a thread whose sockets are in a namespace.
    pub fn within<T: Send + 'static>(&self, name: &str, act: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let space = File::open(format!("/run/netns/{}", self.name(name))).expect("the namespace");
        std::thread::spawn(move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).expect("into the namespace");
            act()
        })
    }

    /// Waits until the guest answers.
    pub fn wait_for_guest(&self) {
        let answers = |_: &u32| {
            let mut ping = self.command("client", "ping");
            let status = ping.args(["-q", "-c", "1", "-W", "1"]).arg(GUEST.to_string()).stdout(Stdio::null()).status();
            status.expect("ping; is iputils-ping installed? (scripts/setup)").success()
        };
        assert!((0..180).any(|attempt| answers(&attempt)), "the guest does not come onto its network");
    }

    /// The Ethernet address the client sends the guest's packets to.
    pub fn guest_mac(&self) -> String {
        let shown = self.ip("client", &format!("neigh show {GUEST}"));
        let mut words = shown.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).unwrap_or_default().to_owned()
    }

    fn remove(&self) {
        for name in ["switch", "client", "a", "b"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(name)]).stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Byte number `place` of the pattern that a stream carries.
pub fn pattern(place: u64) -> u8 {
    let mixed = (place >> 3).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).to_le_bytes()[(place & 7) as usize]
}

/// A TCP connection to the guest's echo port, and what came back so far, checked byte by byte.
pub struct Echo {
    stream: TcpStream,
    sent: u64,
    reader: JoinHandle<Result<u64, String>>,
}

impl Echo {
    /// Connects from the client's namespace.
    pub fn connect(network: &Network) -> Self {
        let address = SocketAddr::from((GUEST, 7));
        let connect = move || TcpStream::connect_timeout(&address, Duration::from_secs(20));
        let stream = network.within("client", connect).join().expect("no panic").expect("the guest's echo port");
        let mut incoming = stream.try_clone().expect("a second handle");
        let reader = std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            let mut place = 0;
            loop {
                let length = incoming.read(&mut buffer).map_err(|error| format!("after {place} bytes: {error}"))?;
                if length == 0 {
                    return Ok(place);
                }
                for byte in &buffer[..length] {
                    if *byte != pattern(place) {
                        return Err(format!("byte {place} is {byte:#x}, not {:#x}", pattern(place)));
                    }
                    place += 1;
                }
            }
        });
        Self { stream, sent: 0, reader }
    }

    /// Sends the next bytes of the pattern.
    pub fn send(&mut self, length: u64) {
        let bytes: Vec<u8> = (self.sent..self.sent + length).map(pattern).collect();
        std::io::Write::write_all(&mut self.stream, &bytes).expect("the connection stands");
        self.sent += length;
    }

    /// Ends the stream, and gives its length when all of it has come back unaltered.
    pub fn finish(self) -> u64 {
        self.stream.shutdown(Shutdown::Write).expect("the connection stands");
        let back = self.reader.join().expect("no panic").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(back, self.sent, "bytes of the stream are lost");
        back
    }
}
