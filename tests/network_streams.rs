//! Streams through both network cards and both kinds of cable, in each direction, with every byte checked.
//!
//! `scripts/soak streams` has long ones: `FTEMU_STREAM_BYTES` says how long (with M or G).

mod namespaces;
mod network_guest;
mod processes;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Instant;

use namespaces::pattern;
use network_guest::running::{Backend, Running, Summing, first_word};
use network_guest::{CARDS, PATTERN_BYTES, port};

/// Bytes of each stream.
fn stream_bytes() -> u64 {
    let text = std::env::var("FTEMU_STREAM_BYTES").unwrap_or_else(|_| "8M".into());
    let (digits, shift) = match text.split_at(text.len().saturating_sub(1)) {
        (digits, "G") => (digits, 30),
        (digits, "M") => (digits, 20),
        _ => (text.as_str(), 0),
    };
    let bytes = digits.parse::<u64>().expect("FTEMU_STREAM_BYTES is a number, with M or G") << shift;
    bytes.next_multiple_of(PATTERN_BYTES)
}

/// The client sends, the guest sums up.
fn into_the_guest(running: &Running, bytes: u64) {
    let mut stream = running.connect(port::SUM);
    let piece: Vec<u8> = (0..PATTERN_BYTES).map(pattern).collect();
    let mut summing = Summing::new();
    for _ in 0..bytes / PATTERN_BYTES {
        stream.write_all(&piece).expect("the connection stands");
        summing.add(&piece);
    }
    stream.shutdown(Shutdown::Write).expect("the connection stands");
    assert_eq!(first_word(&mut stream), summing.finish(), "the guest got something else");
}

/// The guest sends, the client compares.
fn out_of_the_guest(running: &Running, bytes: u64) {
    let mut stream = running.connect(port::SOURCE);
    writeln!(stream, "{}", bytes / PATTERN_BYTES).expect("the connection stands");
    let expected: Vec<u8> = (0..PATTERN_BYTES).map(pattern).collect();
    let mut piece = vec![0; expected.len()];
    for place in 0..bytes / PATTERN_BYTES {
        stream.read_exact(&mut piece).unwrap_or_else(|error| panic!("{error} in MiB {place}"));
        assert!(piece == expected, "MiB {place} is altered");
    }
    assert_eq!(stream.read(&mut piece).expect("an end"), 0, "there is more than was sent");
}

fn streams(backend: Backend) {
    let bytes = stream_bytes();
    for (nic, card) in CARDS {
        let running = Running::start(backend, nic, card);
        let timed = |act: &dyn Fn(&Running, u64)| {
            let start = Instant::now();
            act(&running, bytes);
            bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
        };
        let (into, out) = (timed(&into_the_guest), timed(&out_of_the_guest));
        println!("{nic}, {backend:?}: {} MiB each way, {into:.1} MB/s in, {out:.1} MB/s out", bytes >> 20);
    }
}

#[test]
fn streams_through_a_tap_arrive_unaltered_both_ways() {
    streams(Backend::Tap);
}

#[test]
fn streams_through_the_servers_own_network_arrive_unaltered_both_ways() {
    streams(Backend::User);
}
