//! Register-level tests of the 8254.

use super::*;
use crate::state::{Random, assert_round_trip};

/// A time at which exactly `count` clocks are complete.
fn at(count: u64) -> u64 {
    nanoseconds(count)
}

fn load(pit: &mut Pit, now: u64, channel: u8, mode: u8, count: u16) {
    pit.write(now, 0x43, channel << 6 | 0x30 | mode << 1);
    pit.write(now, 0x40 + u16::from(channel), count as u8);
    pit.write(now, 0x40 + u16::from(channel), (count >> 8) as u8);
}

fn latched(pit: &mut Pit, now: u64, channel: u8) -> u16 {
    pit.write(now, 0x43, channel << 6);
    let low = pit.read(now, 0x40 + u16::from(channel));
    u16::from_le_bytes([low, pit.read(now, 0x40 + u16::from(channel))])
}

#[test]
fn clock_conversions_are_exact_inverses() {
    for count in [0, 1, 2, 1_193_182, 123_456_789] {
        assert_eq!(clocks(nanoseconds(count)), count);
        assert!(count == 0 || clocks(nanoseconds(count) - 1) < count);
    }
}

#[test]
fn mode_2_divides_and_pulses() {
    let mut pit = Pit::default();
    load(&mut pit, 0, 0, 2, 4773); // 250 Hz
    assert_eq!(pit.deadline(), Some(at(4773)));
    assert_eq!(pit.line(at(10)), Line { high: true, rose: false });
    assert_eq!(latched(&mut pit, at(10), 0), 4763);
    assert!(!pit.line(at(4772)).high);
    assert_eq!(pit.line(at(4773)), Line { high: true, rose: true });
    assert_eq!(pit.deadline(), Some(at(2 * 4773)));
    assert_eq!(pit.line(at(10 * 4773)), Line { high: true, rose: true });
    assert_eq!(pit.deadline(), Some(at(11 * 4773)));
}

#[test]
fn mode_3_is_a_square_wave() {
    let mut pit = Pit::default();
    load(&mut pit, 0, 0, 3, 0);
    assert!(pit.line(at(32_767)).high);
    assert!(!pit.line(at(32_768)).high);
    assert_eq!(latched(&mut pit, at(1), 0), 65_534);
    assert_eq!(pit.deadline(), Some(at(65_536)));
}

#[test]
fn mode_0_interrupts_once() {
    let mut pit = Pit::default();
    load(&mut pit, at(5), 0, 0, 100);
    assert_eq!(pit.line(at(105)), Line { high: false, rose: false });
    assert_eq!(pit.deadline(), Some(at(106)));
    assert_eq!(pit.line(at(106)), Line { high: true, rose: true });
    assert_eq!(pit.deadline(), None);
    assert_eq!(latched(&mut pit, at(107), 0), 0xfffe, "it goes on counting");
}

#[test]
fn mode_4_strobes_low_for_one_clock() {
    let mut pit = Pit::default();
    load(&mut pit, 0, 0, 4, 10);
    assert!(pit.line(at(9)).high);
    assert!(!pit.line(at(10)).high);
    assert_eq!(pit.line(at(11)), Line { high: true, rose: true });
    assert_eq!(pit.deadline(), None);
}

#[test]
fn channel_2_counts_while_its_gate_is_high_and_shows_in_port_61h() {
    let mut pit = Pit::default();
    load(&mut pit, 0, 2, 0, 1000);
    assert_eq!(pit.read(at(2000), 0x61) & 0x21, 0, "the gate is low");
    pit.write(at(2000), 0x61, 1);
    assert_eq!(latched(&mut pit, at(2500), 2), 500);
    pit.write(at(2500), 0x61, 0);
    assert_eq!(latched(&mut pit, at(9000), 2), 500);
    pit.write(at(9000), 0x61, 1);
    assert_eq!(pit.read(at(9500), 0x61) & 0x21, 0x01);
    assert_eq!(pit.read(at(9501), 0x61) & 0x21, 0x21);
}

#[test]
fn the_refresh_bit_toggles() {
    let mut pit = Pit::default();
    assert_eq!(pit.read(0, 0x61) & 0x10, 0);
    assert_eq!(pit.read(REFRESH_NS, 0x61) & 0x10, 0x10);
}

#[test]
fn read_back_latches_status_and_count() {
    let mut pit = Pit::default();
    pit.write(0, 0x43, 0x34);
    pit.write(0, 0x43, 0xe2);
    assert_eq!(pit.read(0, 0x40), 0xf4, "OUT high, null count");
    load(&mut pit, 0, 0, 2, 1000);
    pit.write(at(100), 0x43, 0xc2);
    assert_eq!(pit.read(at(200), 0x40), 0xb4);
    let low = pit.read(at(200), 0x40);
    assert_eq!(u16::from_le_bytes([low, pit.read(at(200), 0x40)]), 900);
}

#[test]
fn counts_in_bcd() {
    let mut pit = Pit::default();
    pit.write(0, 0x43, 0xb1);
    pit.write(0, 0x42, 0x00);
    pit.write(0, 0x42, 0x10);
    pit.write(0, 0x61, 1);
    assert_eq!(latched(&mut pit, at(1), 2), 0x0999);
}

#[test]
fn single_byte_access() {
    let mut pit = Pit::default();
    pit.write(0, 0x43, 0x14);
    pit.write(0, 0x40, 200);
    assert_eq!(pit.read(at(50), 0x40), 150);
    pit.write(0, 0x43, 0x24);
    pit.write(0, 0x40, 2);
    assert_eq!(pit.read(at(1), 0x40), 1);
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0x8254);
    let mut pit = Pit::default();
    let mut now = 0;
    for _ in 0..50_000 {
        now += random.step(30);
        let port = [0x40, 0x41, 0x42, 0x43, 0x61][random.below(5) as usize];
        match random.below(3) {
            0 => pit.write(now, port, random.next() as u8),
            1 => drop(pit.read(now, port)),
            _ => {
                pit.line(now);
                assert!(pit.deadline().is_none_or(|deadline| deadline > now), "{pit:?} at {now}");
            }
        }
    }
    assert_round_trip(&pit);
}
