//! `--net user`: the guest gets its address by DHCP, reaches servers through the host, and is reached by forwarded ports.

mod namespaces;
mod network_guest;
mod processes;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpListener};
use std::thread::JoinHandle;

use namespaces::{CLIENT, pattern};
use network_guest::running::{Backend, ROUTER, Running, SERVER, Summing, first_word};
use network_guest::{CARDS, port};

/// Bytes that the guest fetches.
const BYTES: u64 = 100_000;

/// A server that sends the pattern to whoever comes first, and tells who that was.
fn serve(running: &Running, space: &str, address: Ipv4Addr) -> (u16, JoinHandle<IpAddr>) {
    let listen = move || TcpListener::bind((address, 0)).expect("a port");
    let listener = running.network.within(space, listen).join().expect("no panic");
    let port = listener.local_addr().expect("an address").port();
    let serving = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().expect("a visitor");
        stream.write_all(&(0..BYTES).map(pattern).collect::<Vec<u8>>()).expect("it listens");
        from.ip()
    });
    (port, serving)
}

#[test]
fn the_servers_own_network_gives_an_address_a_way_out_and_ports_in() {
    let (nic, card) = CARDS[1];
    let running = Running::start(Backend::User, nic, card);
    let said = String::from_utf8_lossy(&running.console.shown).into_owned();
    assert!(said.contains(&format!("lease {SERVER} mask 24 gateway {ROUTER}")), "{said}");

    let mut summing = Summing::new();
    summing.add(&(0..BYTES).map(pattern).collect::<Vec<u8>>());
    let sum = summing.finish();
    let (at, serving) = serve(&running, "client", CLIENT);
    let mut stream = running.connect(port::FETCH);
    writeln!(stream, "{CLIENT} {at}").expect("the connection stands");
    assert_eq!(first_word(&mut stream), sum);
    // It sees the server's address, which is the guest's too.
    assert_eq!(serving.join().expect("no panic"), IpAddr::V4(SERVER));

    let mut echo = running.connect(port::ECHO);
    echo.write_all(b"to a forwarded port")
        .and_then(|()| echo.shutdown(Shutdown::Write))
        .expect("the connection stands");
    let mut back = String::new();
    echo.read_to_string(&mut back).expect("the connection stands");
    assert_eq!(back, "to a forwarded port");
}
