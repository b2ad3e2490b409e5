//! Frames that go out.

use super::*;
use crate::e1000::checksum::{add, fold};

const EOP: u8 = 1;
const IFCS: u8 = 2;
const RS: u8 = 8;
const DEXT: u8 = 0x20;
const TSE: u8 = 4;

fn legacy(address: u64, length: u16, command: u8, cso: u8, css: u8) -> [u8; 16] {
    let mut descriptor = [0; 16];
    descriptor[..8].copy_from_slice(&address.to_le_bytes());
    descriptor[8..10].copy_from_slice(&length.to_le_bytes());
    (descriptor[10], descriptor[11], descriptor[13]) = (cso, command, css);
    descriptor
}

/// IP's sum over its header at 14, TCP's or UDP's from 34 on, inserted at `tucso`.
fn context(tucmd: u8, tucso: u8, hdrlen: u8, mss: u16) -> [u8; 16] {
    let mss = mss.to_le_bytes();
    [14, 24, 33, 0, 34, tucso, 0, 0, 0, 0, 0, tucmd | DEXT, 0, hdrlen, mss[0], mss[1]]
}

fn data(address: u64, length: u32, command: u8, popts: u8) -> [u8; 16] {
    let mut descriptor = [0; 16];
    descriptor[..8].copy_from_slice(&address.to_le_bytes());
    descriptor[8..12].copy_from_slice(&(length | 1 << 20 | u32::from(command | DEXT) << 24).to_le_bytes());
    descriptor[13] = popts;
    descriptor
}

/// Ethernet, IPv4 and TCP headers of 54 bytes and a payload, as software leaves them to the chip.
fn segment(payload: usize, pseudo_with_length: bool) -> Vec<u8> {
    let mut frame = frame(54 + payload);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..34].copy_from_slice(&[0x45, 0, 0, 0, 0xff, 0xff, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    let total = (40 + payload) as u16;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[34..54].copy_from_slice(&[0x30, 0x39, 0, 80, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0x50, 0x19, 1, 0, 0, 0, 0, 0]);
    let length = if pseudo_with_length { 20 + payload as u64 } else { 0 };
    let pseudo = fold(add(6 + length, &frame[26..34]));
    frame[50..52].copy_from_slice(&pseudo.to_be_bytes());
    frame
}

/// Both sums of an IPv4 packet with TCP are right.
fn assert_sums(frame: &[u8]) {
    assert_eq!(fold(add(0, &frame[14..34])), 0xffff, "IP");
    let length = u16::from_be_bytes([frame[16], frame[17]]);
    assert_eq!(usize::from(length), frame.len() - 14);
    assert_eq!(fold(add(6 + u64::from(length) - 20, &frame[26..])), 0xffff, "TCP");
}

#[test]
fn legacy_descriptors_gather_a_frame_and_are_reported() {
    let mut bench = Bench::new();
    bench.memory.store(BUFFERS, &frame(100));
    bench.write(IMS, ICR_TXDW);
    bench.transmit(&[legacy(BUFFERS, 40, IFCS, 0, 0), legacy(BUFFERS + 40, 60, EOP | IFCS | RS, 0, 0)]);
    assert_eq!(bench.sent(), [frame(100)]);
    let mut status = [0; 2];
    bench.memory.read(TX_RING + 12, &mut status[..1]);
    bench.memory.read(TX_RING + 28, &mut status[1..]);
    assert_eq!(status, [0, 1], "only RS is reported");
    assert!(bench.chip.line());
    assert_eq!(bench.read(ICR), ICR_TXDW | ICR_TXQE);
    assert_eq!((bench.read(TDBAL + 0x10), bench.read(0x4080), bench.read(0x4090)), (2, 1, 104), "TDH, GPTC, GOTCL");
}

#[test]
fn a_legacy_descriptor_can_have_a_sum_inserted() {
    let mut bench = Bench::new();
    let whole = segment(100, true);
    bench.memory.store(BUFFERS, &whole);
    bench.transmit(&[legacy(BUFFERS, 154, EOP | 4, 50, 34)]);
    let sent = bench.sent().remove(0);
    assert_eq!(fold(add(6 + 120, &sent[26..])), 0xffff);
}

#[test]
fn a_context_says_which_sums_are_inserted() {
    let mut bench = Bench::new();
    bench.memory.store(BUFFERS, &segment(101, true));
    bench.transmit(&[context(3, 50, 0, 0), data(BUFFERS, 60, 0, 3), data(BUFFERS + 60, 95, EOP | RS, 0)]);
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_sums(&sent[0]);
}

#[test]
fn a_large_segment_is_cut_into_frames() {
    let mut bench = Bench::new();
    bench.memory.store(BUFFERS, &segment(3000, false));
    bench.transmit(&[context(3 | TSE, 50, 54, 1448), data(BUFFERS, 3054, EOP | TSE | RS, 3)]);
    let sent = bench.sent();
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [1502, 1502, 158]);
    for (index, frame) in sent.iter().enumerate() {
        assert_sums(frame);
        let identification = u16::from_be_bytes([frame[18], frame[19]]);
        assert_eq!(identification, 0xffff_u16.wrapping_add(index as u16));
        let sequence = u32::from_be_bytes([frame[38], frame[39], frame[40], frame[41]]);
        assert_eq!(sequence, 0xffff_ff00_u32.wrapping_add(1448 * index as u32));
        assert_eq!(frame[47], if index == 2 { 0x19 } else { 0x10 }, "PSH and FIN only on the last");
    }
    let payload: Vec<u8> = sent.iter().flat_map(|frame| frame[54..].to_vec()).collect();
    assert_eq!(payload, segment(3000, false)[54..]);
    assert_eq!(bench.read(0x40f8), 1, "TSCTC");
}

#[test]
fn the_wire_carries_a_gigabit_a_second() {
    let mut bench = Bench::new();
    bench.memory.store(BUFFERS, &frame(1500));
    bench.transmit(&[legacy(BUFFERS, 1500, EOP, 0, 0); 100]);
    let first = bench.sent().len();
    assert!((40..50).contains(&first), "{first} frames at once");
    bench.pass(400_000);
    assert_eq!(bench.sent().len(), 0);
    bench.pass(2_000_000);
    assert_eq!(bench.sent().len(), 100 - first);
    assert_eq!(bench.chip.deadline(), None);
}

#[test]
fn a_loop_in_the_phy_brings_frames_back() {
    let mut bench = Bench::new();
    bench.receive_ring(8);
    bench.write(MDIC, 1 << 26 | 1 << 21 | 0x4140);
    bench.memory.store(BUFFERS + 0x8000, &frame(100));
    bench.transmit(&[legacy(BUFFERS + 0x8000, 100, EOP, 0, 0)]);
    assert_eq!((bench.sent().len(), bench.received(0).0), (0, 100));
}

#[test]
fn a_pulled_cable_takes_frames_and_loses_them() {
    let mut bench = Bench::new();
    bench.with(|chip, context| chip.set_cable(context, false));
    bench.transmit(&[legacy(BUFFERS, 100, EOP | RS, 0, 0)]);
    assert_eq!((bench.sent().len(), bench.read(TDBAL + 0x10)), (0, 1));
}
