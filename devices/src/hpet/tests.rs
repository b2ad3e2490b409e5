//! The timer block by its registers.

use super::*;
use crate::state::{Random, assert_round_trip};

const MS: u64 = 1_000_000;
const ENABLED: u64 = 1;

fn timer(index: u64) -> u64 {
    TIMER_0 + TIMER_BYTES * index
}

#[test]
fn capabilities_and_counter() {
    let mut hpet = Hpet::default();
    assert_eq!(hpet.read(0, GCAP_ID, 8), 0x0098_9680_8086_a201);
    assert_eq!(hpet.read(0, GCAP_ID + 4, 4), 10_000_000, "femtoseconds");
    hpet.write(0, MAIN_CNT, 8, 1_000);
    assert_eq!(hpet.read(5 * MS, MAIN_CNT, 8), 1_000, "stands still");
    hpet.write(5 * MS, GEN_CONF, 4, ENABLED);
    assert_eq!(hpet.read(6 * MS, MAIN_CNT, 8), 101_000, "100 MHz");
    hpet.write(6 * MS, GEN_CONF, 4, 0);
    assert_eq!(hpet.read(9 * MS, MAIN_CNT, 4), 101_000);
}

#[test]
fn one_shot_matches_once_by_an_edge() {
    let mut hpet = Hpet::default();
    hpet.write(0, timer(2), 4, INTERRUPT_ENABLE | 20 << 9);
    hpet.write(0, timer(2) + COMPARATOR, 8, 100_000);
    assert_eq!(hpet.deadline(), None);
    hpet.write(0, GEN_CONF, 8, ENABLED);
    assert_eq!(hpet.deadline(), Some(MS));
    hpet.tick(MS - 1);
    assert!(!hpet.take_line(2).unwrap().high);
    hpet.tick(MS);
    assert_eq!(hpet.take_line(2), Some(Line { pin: 20, high: true, rose: true }));
    assert!(!hpet.take_line(2).unwrap().rose);
    hpet.tick(50 * MS);
    assert!(!hpet.take_line(2).unwrap().rose);
    assert_eq!(hpet.deadline(), None, "the counter does not come round in this machine's life");
}

#[test]
fn periodic_timer_as_linux_sets_it_up() {
    let mut hpet = Hpet::default();
    hpet.write(0, GEN_CONF, 4, ENABLED | LEGACY);
    hpet.write(0, timer(0), 4, INTERRUPT_ENABLE | PERIODIC | VALUE_SET | MODE_32);
    hpet.write(0, timer(0) + COMPARATOR, 4, 400_000);
    hpet.write(0, timer(0) + COMPARATOR, 4, 100_000);
    for expected in [4 * MS, 5 * MS, 6 * MS] {
        assert_eq!(hpet.deadline(), Some(expected));
        hpet.tick(expected);
        assert_eq!(hpet.take_line(0), Some(Line { pin: 2, high: true, rose: true }));
    }
    hpet.tick(10 * MS + 5);
    assert_eq!(hpet.deadline(), Some(11 * MS), "what was missed is not made up for");
}

#[test]
fn level_triggered_timer_and_its_status() {
    let mut hpet = Hpet::default();
    hpet.write(0, GEN_CONF, 4, ENABLED);
    hpet.write(0, timer(1), 4, INTERRUPT_ENABLE | LEVEL | 21 << 9);
    hpet.write(0, timer(1) + COMPARATOR, 8, 10);
    hpet.tick(100);
    assert_eq!(hpet.read(100, GINTR_STA, 4), 2);
    assert_eq!(hpet.take_line(1), Some(Line { pin: 21, high: true, rose: false }));
    assert_eq!(hpet.deadline(), None);
    hpet.write(200, GINTR_STA, 4, 2);
    assert!(!hpet.take_line(1).unwrap().high);
}

#[test]
fn a_comparator_of_32_bits_comes_round() {
    let mut hpet = Hpet::default();
    hpet.write(0, MAIN_CNT, 8, 0xffff_fff0);
    hpet.write(0, timer(0), 4, INTERRUPT_ENABLE | MODE_32);
    hpet.write(0, timer(0) + COMPARATOR, 8, 0x1_0000_0010);
    assert_eq!(hpet.read(0, timer(0) + COMPARATOR, 8), 0x10);
    hpet.write(0, GEN_CONF, 4, ENABLED | LEGACY);
    assert_eq!(hpet.deadline(), Some(0x20 * TICK_NS));
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0x8e7);
    let mut hpet = Hpet::default();
    let mut now = 0;
    for _ in 0..20_000 {
        now += random.step(30);
        let (offset, size) = (random.below(0x40) * 8 + random.below(2) * 4, 1 << random.below(4));
        match random.below(4) {
            0 => hpet.write(now, offset, size, random.next() >> random.below(64)),
            1 => drop(hpet.read(now, offset, size).to_le_bytes()),
            2 => drop(hpet.take_line(random.below(4) as usize)),
            _ => hpet.tick(now),
        }
        hpet.tick(now);
        assert!(hpet.deadline().is_none_or(|deadline| deadline > now));
    }
    assert_round_trip(&hpet);
    let mut state = Vec::new();
    crate::state::Saved::save(&hpet, &mut state);
    for _ in 0..2_000 {
        let at = random.below(state.len() as u64) as usize;
        state[at] = random.next() as u8;
        if let Some(mut damaged) = <Hpet as crate::state::Saved>::load(&mut &state[..]) {
            damaged.tick(now);
            assert!(damaged.deadline().is_none_or(|deadline| deadline > now));
        }
    }
}
