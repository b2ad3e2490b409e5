//! Frames that come in.

use super::*;
use crate::e1000::checksum::frame_check;
use crate::e1000::statistics::{MPC, RNBC, ROC};

const DD_EOP: u8 = 3;
const IXSM: u8 = 4;

/// An IPv4 packet with a UDP datagram of 20 bytes, its sums right.
fn datagram() -> Vec<u8> {
    let mut frame = [&MAC[..], &[2, 0, 0, 0, 0, 1], &[8, 0]].concat();
    frame.extend([0x45, 0, 0, 48, 0, 1, 0x40, 0, 64, 17, 0x26, 0xba, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0x30, 0x39, 0, 7, 0, 28, 0x7d, 0x8e]);
    frame.extend(b"abcdefghijklmnopqrst");
    let pseudo = add(17 + 28, &frame[26..34]);
    frame[40..42].copy_from_slice(&[0, 0]);
    let sum = !fold(add(pseudo, &frame[34..]));
    frame[40..42].copy_from_slice(&sum.to_be_bytes());
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum = !fold(add(0, &frame[14..34]));
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame
}

use crate::e1000::checksum::{add, fold};

#[test]
fn a_frame_lands_in_the_next_buffer_and_interrupts() {
    let mut bench = Bench::new();
    bench.receive_ring(8);
    bench.write(IMS, ICR_RXT0);
    bench.receive(&frame(100));
    assert_eq!(bench.received(0), (100, bench.received(0).1, DD_EOP | IXSM, 0, 0));
    let mut bytes = [0; 100];
    bench.memory.read(BUFFERS, &mut bytes);
    assert_eq!(bytes[..], frame(100));
    assert!(bench.chip.line());
    assert_eq!(bench.read(ICR) & ICR_RXT0, ICR_RXT0);
    assert!(!bench.chip.line());
    assert_eq!(bench.read(RDBAL + 0x10), 1);
    // Short frames are padded; without SECRC the check sequence is kept.
    bench.write(RCTL, RCTL_EN);
    bench.receive(&frame(20));
    assert_eq!(bench.received(1).0, 64);
    let mut bytes = [0; 64];
    bench.memory.read(BUFFERS + 2048, &mut bytes);
    assert_eq!(bytes[..20], frame(20));
    assert_eq!(bytes[60..], frame_check(&bytes[..60]));
    assert_eq!((bench.read(0x4074), bench.read(0x4088)), (2, 168), "GPRC, GORCL");
}

#[test]
fn what_is_not_for_the_station_is_not_taken() {
    let mut bench = Bench::new();
    bench.receive_ring(8);
    let mut other = frame(60);
    other[5] ^= 1;
    bench.receive(&other);
    bench.receive(&frame(1600));
    bench.receive(&[0; 5]);
    bench.with(|chip, context| chip.set_cable(context, false));
    bench.receive(&frame(60));
    assert_eq!((bench.received(0).2, bench.read(ROC)), (0, 1));
}

#[test]
fn a_large_frame_fills_several_buffers() {
    let mut bench = Bench::new();
    bench.receive_ring(8);
    bench.write(RCTL, RCTL_EN | RCTL_LPE | RCTL_SECRC);
    bench.receive(&frame(5000));
    let pieces: Vec<(u16, u8)> = (0..4).map(|index| bench.received(index)).map(|(a, _, b, ..)| (a, b & 3)).collect();
    assert_eq!(pieces, [(2048, 1), (2048, 1), (904, 3), (0, 0)]);
    let mut bytes = vec![0; 5000];
    bench.memory.read(BUFFERS, &mut bytes);
    assert_eq!(bytes, frame(5000));
}

#[test]
fn without_descriptors_frames_wait_and_then_are_lost() {
    let mut bench = Bench::new();
    bench.receive_ring(8);
    bench.write(RDT, 0);
    for _ in 0..40 {
        bench.receive(&frame(1400));
    }
    let lost = bench.read(MPC);
    assert_eq!((bench.read(RNBC), lost), (40 - lost, 5), "48 KiB of packet buffer");
    assert_ne!(bench.read(ICR) & ICR_RXO, 0);
    bench.write(RDT, 3);
    assert_eq!((bench.received(2).0, bench.received(3).0, bench.read(RDBAL + 0x10)), (1400, 0, 3));
    assert_ne!(bench.read(ICR) & (ICR_RXT0 | ICR_RXDMT0), 0);
}

#[test]
fn checksums_are_looked_at_when_asked_for() {
    let mut bench = Bench::new();
    bench.receive_ring(8);
    bench.write(RXCSUM, RXCSUM_IPOFLD | RXCSUM_TUOFLD | 14);
    let good = datagram();
    bench.receive(&good);
    let (_, sum, status, errors, _) = bench.received(0);
    assert_eq!((status & 0x64, errors), (0x60, 0), "TCPCS, IPCS, not IXSM");
    assert_eq!(sum, !fold(add(0, &good[14..])), "from PCSS on");
    let mut bad = good.clone();
    bad[50] ^= 1;
    bench.receive(&bad);
    assert_eq!(bench.received(1).3, 0x20, "TCPE");
    let mut bad = good;
    bad[22] ^= 1;
    bench.receive(&bad);
    assert_eq!(bench.received(2).3 & 0x40, 0x40, "IPE");
    bench.receive(&frame(60));
    assert_eq!(bench.received(3).2 & IXSM, IXSM);
}

#[test]
fn vlan_tags_are_taken_out() {
    let mut bench = Bench::new();
    bench.receive_ring(8);
    bench.write(CTRL, CTRL_VME);
    let mut tagged = frame(100);
    tagged.splice(12..12, [0x81, 0, 0x20, 5]);
    bench.receive(&tagged);
    let (length, _, status, _, special) = bench.received(0);
    assert_eq!((length, status & 8, special), (100, 8, 0x2005));
    bench.write(RCTL, RCTL_EN | RCTL_VFE);
    bench.receive(&tagged);
    assert_eq!(bench.received(1).2, 0, "not in VFTA");
}

#[test]
fn delayed_interrupts_come_when_no_more_frames_do() {
    let mut bench = Bench::new();
    bench.receive_ring(64);
    bench.write(IMS, ICR_RXT0);
    bench.write(RDTR, 10);
    bench.receive(&frame(60));
    bench.pass(10_000);
    bench.receive(&frame(60));
    bench.pass(10_239);
    assert!(!bench.chip.line());
    bench.pass(1);
    assert!(bench.chip.line());
    bench.read(ICR);
    bench.write(RADV, 15);
    for _ in 0..3 {
        bench.receive(&frame(60));
        bench.pass(6_000);
    }
    assert!(bench.chip.line(), "RADV does not start anew");
    bench.read(ICR);
    bench.receive(&frame(60));
    bench.write(RDTR, 1 << 31);
    assert!(bench.chip.line(), "FPD");
}
