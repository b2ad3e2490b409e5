//! Register-level tests of the local APIC.

use super::*;
use crate::state::{Random, assert_round_trip};

const SVR: u64 = 0xf0;
const TPR: u64 = 0x80;
const PPR: u64 = 0xa0;
const EOI: u64 = 0xb0;
const ICR: u64 = 0x300;
const LVT_TIMER: u64 = 0x320;
const LVT_LINT0: u64 = 0x350;
const LVT_ERROR: u64 = 0x370;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;
const ESR: u64 = 0x280;

fn enabled() -> LocalApic {
    let mut apic = LocalApic::default();
    apic.write(0, SVR, 0x1ff);
    apic
}

fn fixed(vector: u8, level: bool) -> Message {
    Message { vector, mode: 0, destination: 0, logical: false, level }
}

#[test]
fn reset_values() {
    let mut apic = LocalApic::default();
    assert_eq!(apic.base(), 0xfee0_0900);
    assert_eq!(apic.read(0, 0x30), 0x0005_0014);
    assert_eq!(apic.read(0, SVR), 0xff);
    assert_eq!(apic.read(0, 0xe0), u32::MAX);
    assert_eq!(apic.read(0, LVT_LINT0), MASKED);
    apic.write(0, LVT_LINT0, 0x700);
    assert_eq!(apic.read(0, LVT_LINT0), 0x1_0700, "no LVT unmasks while software-disabled");
}

#[test]
fn priorities_in_request_service_and_task() {
    let mut apic = enabled();
    apic.receive(&fixed(0x41, false));
    apic.receive(&fixed(0x52, false));
    assert_eq!(apic.acknowledge(), 0x52);
    assert_eq!(apic.read(0, PPR), 0x50);
    assert!(!apic.interrupt(), "41h is below the class in service");
    assert_eq!(apic.write(0, EOI, 0), None);
    apic.write(0, TPR, 0x4f);
    assert!(!apic.interrupt());
    apic.set_task_priority_class(3);
    assert_eq!(apic.read(0, TPR), 0x30);
    assert_eq!(apic.acknowledge(), 0x41);
}

#[test]
fn a_level_vector_is_reported_at_its_eoi() {
    let mut apic = enabled();
    apic.receive(&fixed(0x39, true));
    assert_eq!(apic.read(0, 0x190), 1 << 25, "TMR");
    assert_eq!(apic.acknowledge(), 0x39);
    assert_eq!(apic.write(0, EOI, 0), Some(0x39));
    apic.receive(&fixed(0x39, false));
    apic.acknowledge();
    assert_eq!(apic.write(0, EOI, 0), None);
}

#[test]
fn the_spurious_vector_answers_when_nothing_is_deliverable() {
    let mut apic = enabled();
    apic.receive(&fixed(0x31, false));
    apic.write(0, TPR, 0xff);
    assert_eq!(apic.acknowledge(), 0xff);
    assert_eq!(apic.read(0, 0x210), 1 << 17, "the request stays");
}

#[test]
fn self_interrupts_by_shorthand_and_by_destination() {
    let mut apic = enabled();
    apic.write(0, ICR, 0x0004_00f7);
    assert_eq!(apic.acknowledge(), 0xf7);
    apic.write(0, EOI, 0);
    apic.write(0, 0x310, 0);
    apic.write(0, ICR, 0x0000_00f6);
    assert_eq!(apic.acknowledge(), 0xf6);
    apic.write(0, EOI, 0);
    apic.write(0, ICR, 0x000c_00f5);
    assert!(!apic.interrupt(), "all but self is nobody");
    apic.write(0, ICR, 0x0004_0400);
    assert!(apic.take_nmi());
}

#[test]
fn logical_destinations_flat_and_cluster() {
    let mut apic = enabled();
    apic.write(0, 0xd0, 0x0200_0000);
    assert!(apic.is_destination(0x03, true));
    assert!(!apic.is_destination(0x01, true));
    apic.write(0, 0xe0, 0x0fff_ffff);
    apic.write(0, 0xd0, 0x3200_0000);
    assert!(apic.is_destination(0x3f, true));
    assert!(!apic.is_destination(0x2f, true));
    assert!(apic.is_destination(0xff, false));
}

#[test]
fn one_shot_timer() {
    let mut apic = enabled();
    apic.write(0, DIVIDE, 0x3);
    apic.write(0, LVT_TIMER, 0xec);
    apic.write(100, INITIAL_COUNT, 1000);
    assert_eq!(apic.deadline(), Some(100 + 16_000));
    assert_eq!(apic.read(100 + 1600, CURRENT_COUNT), 900);
    apic.tick(16_099);
    assert!(!apic.interrupt());
    apic.tick(16_100);
    assert_eq!(apic.acknowledge(), 0xec);
    assert_eq!(apic.deadline(), None);
    assert_eq!(apic.read(20_000, CURRENT_COUNT), 0);
}

#[test]
fn periodic_timer_keeps_its_phase() {
    let mut apic = enabled();
    apic.write(0, DIVIDE, 0xb);
    apic.write(0, LVT_TIMER, 0x2_00ec);
    apic.write(0, INITIAL_COUNT, 1000);
    apic.tick(1003);
    assert_eq!(apic.deadline(), Some(2000));
    apic.tick(5500);
    assert_eq!(apic.deadline(), Some(6000), "missed periods merge");
    assert_eq!(apic.read(5500, CURRENT_COUNT), 500);
}

#[test]
fn tsc_deadline_timer() {
    let mut apic = enabled();
    apic.write(0, LVT_TIMER, 0x4_00ec);
    apic.write(0, INITIAL_COUNT, 1000);
    assert_eq!(apic.deadline(), None, "the initial count is ignored");
    apic.set_tsc_deadline(10, 500);
    assert_eq!((apic.deadline(), apic.tsc_deadline()), (Some(500), 500));
    apic.tick(500);
    assert_eq!((apic.acknowledge(), apic.tsc_deadline()), (0xec, 0));
    apic.set_tsc_deadline(600, 5);
    assert_eq!(apic.deadline(), None, "a deadline in the past fires at once");
    apic.write(600, EOI, 0);
    assert_eq!(apic.acknowledge(), 0xec);
}

#[test]
fn a_masked_timer_runs_unseen() {
    let mut apic = enabled();
    apic.write(0, DIVIDE, 0xb);
    apic.write(0, LVT_TIMER, 0x1_00ec);
    apic.write(0, INITIAL_COUNT, 100);
    assert_eq!(apic.deadline(), None);
    apic.write(500, LVT_TIMER, 0xec);
    assert!(!apic.interrupt(), "it expired while masked");
}

#[test]
fn lint0_carries_the_8259_pair() {
    let mut apic = LocalApic::default();
    apic.set_lint0(true);
    assert!(!apic.external_interrupt(), "masked after reset");
    apic.set_virtual_wire();
    assert!(apic.external_interrupt());
    assert!(apic.set_base(BASE | BOOTSTRAP));
    assert!(apic.external_interrupt(), "globally off: INTR directly");
    assert!(!apic.set_base(0xfee0_1900), "the base cannot move");
    assert!(!apic.set_base(0xfee0_0d00), "no x2APIC mode");
}

#[test]
fn lint0_as_fixed_interrupt() {
    let mut apic = enabled();
    apic.write(0, LVT_LINT0, 0x30);
    apic.set_lint0(true);
    assert_eq!(apic.acknowledge(), 0x30);
    apic.write(0, EOI, 0);
    apic.set_lint0(true);
    assert!(!apic.interrupt());
}

#[test]
fn errors_are_latched_until_the_next_write() {
    let mut apic = enabled();
    apic.write(0, LVT_ERROR, 0xfe);
    apic.write(0, ICR, 0x0004_0005);
    assert_eq!(apic.acknowledge(), 0xfe);
    assert_eq!(apic.read(0, ESR), 0);
    apic.write(0, ESR, 0);
    assert_eq!(apic.read(0, ESR), SEND_ILLEGAL);
    apic.write(0, ESR, 0);
    assert_eq!(apic.read(0, ESR), 0);
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0xfee0);
    let mut apic = LocalApic::default();
    let mut now = 0;
    for _ in 0..50_000 {
        now += random.below(100_000);
        match random.below(8) {
            0..=2 => drop(apic.write(now, random.below(0x1000), random.next() as u32)),
            3 => drop(apic.read(now, random.below(0x1000))),
            4 => drop(apic.receive(&fixed(random.next() as u8, random.below(2) == 0))),
            5 => apic.set_lint0(random.below(2) == 0),
            6 => apic.set_tsc_deadline(now, random.next() >> random.below(64)),
            _ => drop(apic.acknowledge()),
        }
        assert!(apic.deadline().is_none_or(|deadline| deadline > now));
    }
    assert_round_trip(&apic);
}
