//! Packets that are finished by the device, checked as a receiver would.

use super::*;
use crate::state::Random;

const ALL: u64 = CSUM | HOST_TSO4 | HOST_TSO6;

/// A TCP packet over IPv4 or IPv6 as a driver hands it over, and what it asks for.
fn packet(v6: bool, payload: usize, gso_size: u16) -> (Offload, Vec<u8>) {
    let mut frame = vec![2; 12];
    let addresses: Vec<u8> = (1..=if v6 { 32 } else { 8 }).collect();
    let length = (20 + payload) as u16;
    if v6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([6, 64]);
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + length).to_be_bytes());
        frame.extend([0x12, 0xff, 0x40, 0, 64, 6, 0, 0]);
    }
    frame.extend(&addresses);
    let csum_start = frame.len() as u16;
    let pseudo = fold(sum(&addresses) + 6 + u64::from(length));
    frame.extend([0x10, 0, 0x20, 0, 0xff, 0xff, 0xff, 0, 0, 0, 0, 9, 0x50, 0x19, 0x20, 0]);
    frame.extend(pseudo.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend((0..payload).map(|at| at as u8));
    let gso_type = if gso_size == 0 {
        GSO_NONE
    } else if v6 {
        GSO_TCPV6
    } else {
        GSO_TCPV4
    };
    (Offload { flags: NEEDS_CSUM, gso_type, gso_size, csum_start, csum_offset: 16 }, frame)
}

/// Whether the TCP sum over pseudo header and segment is right.
fn is_whole(frame: &[u8], v6: bool) -> bool {
    let (addresses, tcp) = if v6 { (&frame[22..54], &frame[54..]) } else { (&frame[26..34], &frame[34..]) };
    fold(sum(addresses) + 6 + tcp.len() as u64 + sum(tcp)) == 0xffff
}

#[test]
fn a_checksum_is_completed() {
    for v6 in [false, true] {
        for payload in [0, 1, 2, 1399] {
            let (offload, frame) = packet(v6, payload, 0);
            let sent = offload.allowed(ALL).frames(frame);
            assert!(sent.len() == 1 && is_whole(&sent[0], v6), "{payload}");
        }
    }
}

#[test]
fn a_long_packet_becomes_segments() {
    for v6 in [false, true] {
        let (offload, frame) = packet(v6, 3001, 1000);
        let header = frame.len() - 3001;
        let sent = offload.allowed(ALL).frames(frame.clone());
        assert_eq!(sent.iter().map(|frame| frame.len() - header).collect::<Vec<_>>(), [1000, 1000, 1000, 1]);
        let payload: Vec<u8> = sent.iter().flat_map(|frame| &frame[header..]).copied().collect();
        assert_eq!(payload, frame[header..]);
        for (index, frame) in sent.iter().enumerate() {
            assert!(is_whole(frame, v6));
            let tcp = &frame[header - 20..];
            let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
            assert_eq!(sequence, 0xffff_ff00_u32.wrapping_add(1000 * index as u32));
            assert_eq!(tcp[13], if index == 3 { 0x19 } else { 0x10 });
            if v6 {
                assert_eq!(get(frame, 18), Some((frame.len() - 54) as u16));
            } else {
                assert_eq!(fold(sum(&frame[14..34])), 0xffff);
                assert_eq!(
                    (get(frame, 16), get(frame, 18)),
                    (Some(frame.len() as u16 - 14), Some(0x12ff + index as u16))
                );
            }
        }
    }
}

#[test]
fn only_what_was_agreed_is_done() {
    let (offload, frame) = packet(false, 3000, 1000);
    assert_eq!(offload.allowed(0).frames(frame.clone()), vec![frame.clone()], "as it is");
    assert_eq!(offload.allowed(CSUM | HOST_TSO6).frames(frame.clone()).len(), 1, "a checksum alone");
    assert_eq!(offload.allowed(ALL).frames(frame).len(), 3);
}

#[test]
fn nonsense_is_sent_as_nothing() {
    let (good, frame) = packet(false, 3000, 1000);
    for bad in [
        Offload { gso_size: 0, ..good },
        Offload { gso_size: 63, ..good },
        Offload { flags: 0, ..good },
        Offload { csum_start: 65_535, ..good },
        Offload { csum_offset: 65_535, ..good },
        Offload { csum_start: 3053, ..good },
    ] {
        assert_eq!(bad.allowed(ALL).frames(frame.clone()), Vec::<Vec<u8>>::new(), "{bad:?}");
    }
    let mut random = Random(0x0ff);
    for _ in 0..20_000 {
        let header = std::array::from_fn(|at| if at < 2 { random.below(6) as u8 } else { random.step(8) as u8 });
        let packet = (0..random.step(12)).map(|_| random.step(8) as u8).collect();
        let frames = Offload::from_header(&header).allowed(random.next()).frames(packet);
        assert!(frames.len() <= 4096 / SMALLEST_SEGMENT + 1);
    }
}
