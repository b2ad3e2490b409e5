//! No address finds the block of another, or of another mode.

use super::*;
use crate::engine::frame::FrameMapping;

#[test]
fn modes_with_one_tag_have_slots_of_their_own() {
    let mut rip = 0x1234_5678_9abc_def1_u64;
    for _ in 0..2000 {
        rip = rip.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let address = rip >> (rip & 31);
        for other in 1..Mode::GENERAL {
            let alike = address.wrapping_sub(Mode(other).jump_distance().into());
            assert_eq!(Mode(other).jump_tag(alike), Mode(0).jump_tag(address));
            assert_ne!(jump_slot(alike), jump_slot(address), "{address:x} in mode {other}");
        }
    }
}

#[test]
fn empty_tables_hold_no_address() {
    let frame = FrameMapping::new().expect("memory");
    let mut tlb = Tlb::new(frame.get());
    for mode in (0..Mode::GENERAL).map(Mode) {
        let address = u64::from(mode.jump_distance()).wrapping_neg();
        for rip in [0, 1, 8, address.wrapping_sub(1), address, address.wrapping_add(1)] {
            assert_eq!(tlb.jump_block(mode, rip), None, "{rip:x} in mode {mode:?}");
        }
    }
}

/// Jumps are looked up before anybody asks whether their target is canonical.
#[test]
fn empty_slots_hold_no_address_at_all() {
    for mode in (0..Mode::GENERAL).map(Mode) {
        for slot in (0..JUMP_SLOTS).step_by(if mode.0 % 16 == 0 { 1 } else { 61 }) {
            let address = invalid_jump(slot).wrapping_neg().wrapping_sub(mode.jump_distance().into());
            assert_ne!(jump_slot(address), slot, "{address:x} in mode {mode:?}");
        }
    }
}
