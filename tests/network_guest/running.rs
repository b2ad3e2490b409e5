//! The guest of the network tests as it runs on one server, with a client outside.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use ftemu_images::catalogue::Card;

use super::{guest, port};
use crate::namespaces::{GUEST, GUEST_MAC, Network};
use crate::processes::{Client, Folder, Side, guest_arguments};

/// The server's address when it lends the guest its network, and the address of a router that is not there.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);

/// Where the cable of the guest's card ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    Tap,
    User,
}

/// A guest on one side of a network, with its console.
pub struct Running {
    pub network: Network,
    address: Ipv4Addr,
    backend: Backend,
    pub console: Client,
    _side: Side,
    _folder: Folder,
}

impl Running {
    /// Starts it and waits until its services are there.
    pub fn start(backend: Backend, nic: &str, card: Card) -> Self {
        let network = Network::new(true);
        let folder = Folder::new();
        let mut command = network.command("a", env!("CARGO_BIN_EXE_ftemu"));
        command.args(["run", "--no-stdio", "--console-listen", "127.0.0.1:0", "--nic", nic, "--mac", GUEST_MAC]);
        command.args(["--identity".as_ref(), folder.path("a").as_os_str()]);
        let mut arguments = guest_arguments(&folder, &guest(card, backend == Backend::User));
        if let Some(memory) = arguments.last_mut() {
            *memory = "256M".into();
        }
        command.args(arguments);
        match backend {
            Backend::Tap => command.args(["--net", "tap=tap0"]),
            Backend::User => {
                network.ip("a", &format!("addr add {SERVER}/24 dev br0"));
                network.ip("a", &format!("route add default via {ROUTER}"));
                let ports = [port::ECHO, port::SUM, port::SOURCE, port::FETCH];
                let forwards = ports.map(|port| format!("{}:{port}", forwarded(port))).join(",");
                command.args(["--net", "user", "--forward", &forwards])
            }
        };
        let mut side = Side::spawn(command);
        let console = side.address("console");
        let console = network.within("a", move || Client::start(&[&console])).join().expect("a console");
        let address = if backend == Backend::Tap { GUEST } else { SERVER };
        let mut running = Self { network, address, backend, console, _side: side, _folder: folder };
        running.console.wait_for("ftemu-mark network");
        running
    }

    /// A connection to one of the guest's services, from the client.
    pub fn connect(&self, port: u16) -> TcpStream {
        let port = if self.backend == Backend::Tap { port } else { forwarded(port) };
        let address = SocketAddr::from((self.address, port));
        let connect = move || TcpStream::connect_timeout(&address, Duration::from_secs(20));
        self.network.within("client", connect).join().expect("no panic").expect("the guest's service")
    }
}

/// The server's port that leads to a port of the guest.
fn forwarded(port: u16) -> u16 {
    4000 + port
}

/// What `md5sum` says of bytes that are given piece by piece.
pub struct Summing(Child, ChildStdin);

impl Summing {
    pub fn new() -> Self {
        let mut child = Command::new("md5sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("md5sum");
        let input = child.stdin.take().expect("a pipe");
        Self(child, input)
    }

    pub fn add(&mut self, bytes: &[u8]) {
        self.1.write_all(bytes).expect("md5sum reads");
    }

    pub fn finish(self) -> String {
        let Self(mut child, input) = self;
        drop(input);
        let sum = first_word(child.stdout.take().expect("a pipe"));
        child.wait().expect("it ends");
        sum
    }
}

/// The first word of all that is said.
pub fn first_word(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).expect("a line");
    text.split_whitespace().next().unwrap_or_default().to_owned()
}
