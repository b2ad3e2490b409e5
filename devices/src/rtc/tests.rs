//! Register-level tests of the MC146818.

use super::*;
use crate::state::{Random, assert_round_trip};

/// 2024-02-29 05:06:07 UTC.
const EPOCH: u64 = 1_709_183_167;
const S: u64 = 1_000_000_000;

fn get(rtc: &mut Rtc, now: u64, index: u8) -> u8 {
    rtc.write(now, 0x70, index);
    rtc.read(now, 0x71)
}

fn set(rtc: &mut Rtc, now: u64, index: u8, value: u8) {
    rtc.write(now, 0x70, index);
    rtc.write(now, 0x71, value);
}

#[test]
fn shows_the_epoch_and_goes_on() {
    let mut rtc = Rtc::new(EPOCH);
    let fields: Vec<u8> = [0, 2, 4, 6, 7, 8, 9, 0x32].into_iter().map(|index| get(&mut rtc, 0, index)).collect();
    assert_eq!(fields, [0x07, 0x06, 0x05, 5, 0x29, 0x02, 0x24, 0x20]);
    assert_eq!(get(&mut rtc, 60 * S, 2), 0x07);
    assert_eq!(get(&mut rtc, 0, 13), 0x80);
}

#[test]
fn update_in_progress_precedes_each_second() {
    let mut rtc = Rtc::new(EPOCH);
    assert_eq!(get(&mut rtc, S - 2_228_001, 10), 0x26);
    assert_eq!(get(&mut rtc, S - 2_228_000, 10), 0xa6);
    assert_eq!(get(&mut rtc, S, 10), 0x26);
}

#[test]
fn setting_the_time_the_way_linux_does() {
    let mut rtc = Rtc::new(EPOCH);
    set(&mut rtc, S / 4, 11, 0x82);
    set(&mut rtc, S / 4, 10, 0x76);
    for (index, value) in [(0, 0x59), (2, 0x59), (4, 0x23), (7, 0x31), (8, 0x12), (9, 0x30)] {
        set(&mut rtc, S / 4, index, value);
    }
    assert_eq!(get(&mut rtc, 9 * S, 0), 0x59, "the clock stands still");
    set(&mut rtc, 9 * S, 11, 0x02);
    set(&mut rtc, 9 * S, 10, 0x26);
    assert_eq!(get(&mut rtc, 9 * S + S / 2 - 1, 0), 0x59);
    assert_eq!(get(&mut rtc, 9 * S + S / 2, 0), 0x00);
    assert_eq!(get(&mut rtc, 9 * S + S / 2, 9), 0x31);
    assert_eq!(get(&mut rtc, 9 * S + S / 2, 7), 0x01);
}

#[test]
fn update_ended_interrupt() {
    let mut rtc = Rtc::new(EPOCH);
    assert_eq!(rtc.deadline(), None);
    set(&mut rtc, 10, 11, 0x12);
    assert_eq!(rtc.deadline(), Some(S));
    rtc.tick(S);
    assert!(rtc.line());
    assert_eq!(rtc.deadline(), None, "nothing new before register C is read");
    assert_eq!(get(&mut rtc, S, 12) & 0x90, 0x90);
    assert!(!rtc.line());
    assert_eq!(rtc.deadline(), Some(2 * S));
}

#[test]
fn periodic_interrupt_at_1024_hz() {
    let mut rtc = Rtc::new(EPOCH);
    set(&mut rtc, 0, 11, 0x42);
    assert_eq!(rtc.deadline(), Some(976_563));
    rtc.tick(976_563);
    assert!(rtc.line());
    assert_eq!(get(&mut rtc, 976_563, 12), 0xc0);
    assert_eq!(rtc.deadline(), Some(1_953_125));
    set(&mut rtc, 976_564, 10, 0x2f);
    assert_eq!(rtc.deadline(), Some(S / 2), "2 Hz");
}

#[test]
fn alarm_interrupt() {
    let mut rtc = Rtc::new(EPOCH);
    for (index, value) in [(1, 0x10), (3, 0x06), (5, 0x05), (11, 0x22)] {
        set(&mut rtc, 0, index, value);
    }
    assert_eq!(rtc.deadline(), Some(3 * S));
    rtc.tick(3 * S);
    assert!(rtc.line());
    assert_eq!(get(&mut rtc, 3 * S, 12), 0xf0, "update and periodic flags show without being enabled");
}

#[test]
fn flags_are_seen_by_polling() {
    let mut rtc = Rtc::new(EPOCH);
    assert_eq!(get(&mut rtc, S - 1, 12), 0x40);
    assert_eq!(get(&mut rtc, S, 12), 0x50);
    assert_eq!(get(&mut rtc, S, 12), 0);
}

#[test]
fn ram_keeps_bytes() {
    let mut rtc = Rtc::new(EPOCH);
    set(&mut rtc, 0, 0x8f, 0x55);
    assert_eq!(get(&mut rtc, 0, 0x0f), 0x55, "bit 7 of the index is the NMI mask");
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0x146818);
    let mut rtc = Rtc::new(EPOCH);
    let mut now = 0;
    for _ in 0..50_000 {
        now += random.step(40);
        match random.below(3) {
            0 => set(&mut rtc, now, random.below(20) as u8, random.next() as u8),
            1 => drop(get(&mut rtc, now, random.next() as u8)),
            _ => {
                rtc.tick(now);
                assert!(rtc.deadline().is_none_or(|deadline| deadline > now));
            }
        }
    }
    assert_round_trip(&rtc);
}
