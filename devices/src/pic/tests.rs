//! Register-level tests of the 8259A pair.

use super::*;
use crate::state::{Random, assert_round_trip};

/// The pair as Linux programs it: vectors 30h and 38h, all unmasked.
fn programmed() -> Pic {
    let mut pic = Pic::default();
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1)] {
        pic.write(port, value);
    }
    for (port, value) in [(0xa0, 0x11), (0xa1, 0x38), (0xa1, 2), (0xa1, 1)] {
        pic.write(port, value);
    }
    pic
}

#[test]
fn icw_sequence_and_mask() {
    let mut pic = programmed();
    assert_eq!(pic.read(0x21), 0);
    pic.write(0x21, 0xfb);
    assert_eq!(pic.read(0x21), 0xfb);
    pic.set_line(4, true);
    assert!(!pic.interrupt());
    pic.write(0x21, 0xeb);
    assert!(pic.interrupt(), "a masked edge is remembered");
}

#[test]
fn edge_request_service_and_end_of_interrupt() {
    let mut pic = programmed();
    pic.set_line(4, true);
    assert_eq!(pic.read(0x20), 0x10, "IRR");
    assert_eq!(pic.acknowledge(), 0x34);
    pic.write(0x20, 0x0b);
    assert_eq!(pic.read(0x20), 0x10, "ISR");
    assert!(!pic.interrupt(), "no second edge");
    pic.set_line(1, true);
    assert!(pic.interrupt(), "IR1 outranks IR4");
    pic.set_line(1, false);
    pic.set_line(7, true);
    assert!(!pic.interrupt());
    pic.write(0x20, 0x20);
    assert_eq!(pic.acknowledge(), 0x37);
}

#[test]
fn cascade_delivers_the_slave_and_blocks_until_both_end() {
    let mut pic = programmed();
    pic.set_line(8, true);
    pic.set_line(12, true);
    assert_eq!(pic.acknowledge(), 0x38);
    assert!(!pic.interrupt());
    pic.write(0xa0, 0x20);
    assert!(!pic.interrupt(), "the master still serves IR2");
    pic.write(0x20, 0x62);
    assert_eq!(pic.acknowledge(), 0x3c);
}

#[test]
fn a_request_that_goes_away_is_spurious() {
    let mut pic = programmed();
    pic.set_line(3, true);
    pic.set_line(3, false);
    assert!(!pic.interrupt());
    assert_eq!(pic.acknowledge(), 0x37);
    pic.write(0x20, 0x0b);
    assert_eq!(pic.read(0x20), 0, "a spurious interrupt sets no ISR bit");
}

#[test]
fn level_mode_repeats_until_the_line_falls() {
    let mut pic = programmed();
    pic.write(0x4d1, 0xff);
    assert_eq!(pic.read(0x4d1), ELCR_SLAVE);
    pic.set_line(9, true);
    assert_eq!(pic.acknowledge(), 0x39);
    pic.write(0xa0, 0x20);
    pic.write(0x20, 0x20);
    assert_eq!(pic.acknowledge(), 0x39);
    pic.set_line(9, false);
    pic.write(0xa0, 0x20);
    pic.write(0x20, 0x20);
    assert!(!pic.interrupt());
}

#[test]
fn special_mask_mode_lets_lower_priorities_through() {
    let mut pic = programmed();
    pic.set_line(1, true);
    assert_eq!(pic.acknowledge(), 0x31);
    pic.set_line(5, true);
    assert!(!pic.interrupt());
    pic.write(0x21, 2);
    pic.write(0x20, 0x68);
    assert_eq!(pic.acknowledge(), 0x35);
}

#[test]
fn automatic_end_of_interrupt_and_rotation() {
    let mut pic = programmed();
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 3), (0x20, 0x80)] {
        pic.write(port, value);
    }
    pic.set_line(0, true);
    pic.set_line(1, true);
    assert_eq!(pic.acknowledge(), 0x30);
    pic.set_line(0, false);
    pic.set_line(0, true);
    assert_eq!(pic.acknowledge(), 0x31, "IR0 has become the lowest priority");
}

#[test]
fn poll_command_acknowledges() {
    let mut pic = programmed();
    pic.set_line(6, true);
    pic.write(0x20, 0x0c);
    assert_eq!(pic.read(0x20), 0x86);
    pic.write(0x20, 0x0c);
    assert_eq!(pic.read(0x20), 0);
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0x8259);
    let mut pic = Pic::default();
    for _ in 0..20_000 {
        let port = [0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1][random.below(6) as usize];
        match random.below(4) {
            0 => pic.write(port, random.next() as u8),
            1 => drop(pic.read(port)),
            2 => pic.set_line(random.below(18) as u8, random.below(2) == 0),
            _ if pic.interrupt() => drop(pic.acknowledge()),
            _ => {}
        }
    }
    assert_round_trip(&pic);
}
