//! Frames in both directions.

use super::driver::*;
use crate::Output;
use crate::state::assert_round_trip;
use crate::virtio::{Network, VERSION_1};

const MRG_RXBUF: u64 = 1 << 15;
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;

fn bench(features: u64) -> Bench<Network> {
    let mut bench = Bench::new(Network::new(1, [2, 0, 0, 0, 0, 9]));
    bench.start(VERSION_1 | features);
    bench
}

fn receive(bench: &mut Bench<Network>, frame: &[u8]) {
    bench.act(|device, context| device.receive(frame, context));
}

fn frame(length: usize) -> Vec<u8> {
    (0..length).map(|at| at as u8).collect()
}

#[test]
fn configuration_tells_address_and_link() {
    let mut bench = bench(0);
    assert_eq!(bench.read(4, DEVICE, 8) & 0xffff_ffff_ffff, 0x0900_0000_0002);
    assert_eq!(bench.read(4, DEVICE + 6, 2), 1);
    let generation = bench.read(4, CONFIG_GENERATION, 1);
    bench.act(|device, _| device.set_link(false));
    assert_eq!((bench.read(4, DEVICE + 6, 2), bench.read(4, ISR, 1)), (0, 2));
    assert_ne!(bench.read(4, CONFIG_GENERATION, 1), generation);
    receive(&mut bench, &frame(60));
    bench.offer(RECEIVE, &[(0x8_0000, 2000, true)]);
    bench.notify(RECEIVE);
    assert_eq!(bench.used(RECEIVE), [], "no link, no frame");
}

#[test]
fn frames_are_sent_without_their_header() {
    let mut bench = bench(0);
    bench.memory.store(0x8_0000, &[[0; 12].as_slice(), &frame(60)].concat());
    bench.offer(TRANSMIT, &[(0x8_0000, 12, false), (0x8_000c, 60, false)]);
    bench.offer(TRANSMIT, &[(0x8_0000, 30, false), (0x8_001e, 42, false)]);
    for (address, length) in [(0x8_0000, 20), (0x8_0000, 5000), (1 << 40, 72)] {
        bench.offer(TRANSMIT, &[(address, length, false)]);
    }
    bench.notify(TRANSMIT);
    let sent = Output::Frame { nic: 1, bytes: frame(60) };
    assert_eq!(bench.sent(), [sent.clone(), sent], "too short, too long and from nowhere are lost");
    assert_eq!(bench.used(TRANSMIT).len(), 5);
    assert_eq!(bench.read(4, ISR, 1), 1);
}

#[test]
fn a_received_frame_follows_its_header() {
    let mut bench = bench(0);
    bench.offer(RECEIVE, &[(0x8_0000, 12, true), (0x8_1000, 1518, true)]);
    receive(&mut bench, &frame(100));
    assert_eq!(bench.used(RECEIVE), [(0, 112)]);
    assert_eq!(bench.bytes(0x8_0000, 12), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(bench.bytes(0x8_1000, 100), frame(100));
    assert_eq!(bench.read(4, ISR, 1), 1);
}

#[test]
fn frames_wait_for_buffers_and_then_are_lost() {
    let mut bench = bench(0);
    for length in 14..14 + 300 {
        receive(&mut bench, &frame(length));
    }
    assert_round_trip(&bench.device);
    let mut lengths = Vec::new();
    loop {
        bench.offer(RECEIVE, &[(0x8_0000, 2000, true)]);
        bench.notify(RECEIVE);
        let used = bench.used(RECEIVE);
        if used.is_empty() {
            break;
        }
        lengths.extend(used.iter().map(|(_, length)| length - 12));
    }
    assert_eq!(lengths, (14..14 + 256).collect::<Vec<u32>>());
}

#[test]
fn a_frame_is_spread_over_buffers_if_that_was_agreed() {
    let mut bench = bench(MRG_RXBUF);
    bench.offer(RECEIVE, &[(0x8_0000, 64, true)]);
    receive(&mut bench, &frame(150));
    assert_eq!(bench.used(RECEIVE), [], "all of it or nothing");
    bench.offer(RECEIVE, &[(0x8_1000, 64, true)]);
    bench.offer(RECEIVE, &[(0x8_2000, 64, true)]);
    bench.notify(RECEIVE);
    assert_eq!(bench.used(RECEIVE), [(0, 64), (1, 64), (2, 34)]);
    assert_eq!(bench.bytes(0x8_000a, 2), [3, 0], "num_buffers");
    let parts = [bench.bytes(0x8_000c, 52), bench.bytes(0x8_1000, 64), bench.bytes(0x8_2000, 34)];
    assert_eq!(parts.concat(), frame(150));
}

#[test]
fn a_frame_that_never_fits_is_lost() {
    let mut bench = bench(0);
    bench.offer(RECEIVE, &[(0x8_0000, 64, true)]);
    receive(&mut bench, &frame(150));
    receive(&mut bench, &frame(20));
    assert_eq!(bench.used(RECEIVE), [(0, 32)], "the next one takes its buffer");
    for length in [0, 13, 1519, 70_000] {
        receive(&mut bench, &frame(length));
    }
    bench.offer(RECEIVE, &[(0x8_0000, 64, true)]);
    bench.notify(RECEIVE);
    assert_eq!(bench.used(RECEIVE), []);
}

#[test]
fn before_1_0_the_header_is_shorter() {
    let mut bench = Bench::new(Network::new(0, [2; 6]));
    bench.write(0, 0x12, 1, 3);
    bench.write(0, 0x0e, 2, 0);
    bench.write(0, 0x08, 4, 0x40);
    bench.write(0, 0x12, 1, 7);
    bench.memory.store(0x4_0000, &[0, 0, 8, 0, 0, 0, 0, 0, 0, 8, 0, 0, 2, 0, 0, 0]);
    bench.memory.store(0x4_1000, &[0, 0, 1, 0, 0, 0]);
    receive(&mut bench, &frame(64));
    assert_eq!(bench.bytes(0x4_2000, 12), [0, 0, 1, 0, 0, 0, 0, 0, 74, 0, 0, 0]);
    assert_eq!(bench.bytes(0x8_000a, 64), frame(64));
}
