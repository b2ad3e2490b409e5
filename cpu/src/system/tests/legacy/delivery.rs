//! Delivery in real, protected and virtual-8086 mode.

use super::*;
use crate::system::{Shutdown, deliver};

const INTERRUPT: u64 = 0x8e;
const TRAP: u64 = 0x8f;
const OPEN: u64 = 0xee;
const SMALL_INTERRUPT: u64 = 0x86;

#[test]
fn real_mode_takes_a_far_pointer_and_pushes_three_words() {
    let mut machine = Machine::real();
    machine.store(4 * 13, 0x1234_5678);
    machine.state.rflags |= rflags::IF | rflags::TF | rflags::AC | rflags::CF;
    machine.state.rip = 0x42;
    machine.raise(Exception::general_protection(0));
    let state = &machine.state;
    assert_eq!((state.segments[segment::CS].selector, state.segments[segment::CS].base), (0x1234, 0x12340));
    assert_eq!((state.rip, state.gpr[gpr::RSP], state.cpl), (0x5678, 0x8000 - 6, 0));
    assert_eq!(state.rflags, 3);
    assert_eq!(machine.stacked(2, 3), [0x42, 0x1000, 0x303]);
}

#[test]
fn real_mode_software_interrupts_return() {
    let mut machine = Machine::real();
    machine.store(4 * 0x10, 0x1000_0100);
    machine.state.rflags |= rflags::IF;
    machine.run_bytes(&[0xcd, 0x10]).expect("delivered");
    assert_eq!((machine.state.rip, machine.state.rflags & rflags::IF), (0x100, 0));
    machine.run_bytes(&[0xcf]).expect("IRET");
    assert_eq!((machine.state.rip, machine.state.gpr[gpr::RSP]), (2, 0x8000));
    assert!(machine.state.rflags & rflags::IF != 0);
}

#[test]
fn vectors_beyond_the_table_end_in_shutdown() {
    let mut machine = Machine::real();
    machine.state.idtr.limit = 4 * 8 + 2;
    let ended = machine.with(|x| deliver::exception(x, Exception::general_protection(0)));
    assert_eq!(ended, Err(Shutdown));
    // With a handler for the double fault it is reached, without an error code.
    machine.state.idtr.limit = 4 * 8 + 3;
    machine.store(4 * 8, 0x1000_0200);
    machine.raise(Exception::general_protection(0));
    assert_eq!((machine.state.rip, machine.state.gpr[gpr::RSP]), (0x200, 0x8000 - 6));
}

#[test]
fn the_same_level_pushes_three_words_and_the_error_code() {
    let mut machine = Machine::protected();
    machine.legacy_gate(13, INTERRUPT, entry::CODE_0, HANDLER);
    machine.state.rflags |= rflags::IF | rflags::NT | rflags::TF;
    let flags = machine.state.rflags;
    machine.raise(Exception::general_protection(0x18));
    assert_eq!(machine.stacked(4, 4), [0x18, CODE, 8, flags | rflags::RF]);
    assert_eq!((machine.state.rip, machine.state.rflags), (HANDLER, 2));
    assert_eq!(machine.state.gpr[gpr::RSP], STACK - 16);
}

#[test]
fn ring_3_enters_ring_0_on_the_stack_of_the_tss() {
    let mut machine = Machine::protected_user();
    machine.legacy_gate(14, TRAP, entry::CODE_0, HANDLER);
    machine.state.rflags |= rflags::IF;
    machine.raise(Exception::page_fault(5, 0x1234));
    assert_eq!(machine.stacked(4, 6), [5, CODE, 0x1b, 0x1_0202, STACK, 0x23]);
    let state = &machine.state;
    assert_eq!((state.cpl, state.cr2, state.gpr[gpr::RSP]), (0, 0x1234, RING_0_STACK - 24));
    assert_eq!((state.segments[segment::CS].selector, state.segments[segment::SS].selector), (8, 0x10));
    assert_eq!(state.segments[segment::DS].selector, 0x23, "data segments stay");
    assert!(state.rflags & rflags::IF != 0);
}

#[test]
fn a_16_bit_gate_pushes_16_bits() {
    let mut machine = Machine::protected_user();
    machine.legacy_gate(6, SMALL_INTERRUPT, entry::SMALL_CODE_0, 0x1234_0000 | NEAR_HANDLER);
    machine.raise(Exception::invalid_opcode());
    assert_eq!(machine.stacked(2, 5), [CODE & 0xffff, 0x1b, 2, STACK & 0xffff, 0x23]);
    assert_eq!(machine.state.rip, NEAR_HANDLER, "the upper half of the offset is not a 286's");
    assert_eq!(machine.state.code_bits(), 16);
}

#[test]
fn virtual_8086_mode_is_left_with_all_its_segments() {
    let mut machine = Machine::virtual_8086(0);
    machine.legacy_gate(13, INTERRUPT, entry::CODE_0, HANDLER);
    machine.state.segments[segment::GS].selector = 0x4444;
    let flags = machine.state.rflags;
    assert_eq!(machine.run_bytes(&[0xcd, 0x21]), Err(Exception::general_protection(0)), "IOPL is below 3");
    machine.raise(Exception::general_protection(0));
    let expected = [0, 0, 0x1000, flags | rflags::RF, 0x8000, 0x2000, 0x2000, 0x2000, 0x2000, 0x4444];
    assert_eq!(machine.stacked(4, 10), expected);
    let state = &machine.state;
    assert_eq!((state.rflags, state.cpl, state.code_bits()), (2, 0, 32));
    for register in [segment::ES, segment::DS, segment::FS, segment::GS] {
        assert_eq!(state.segments[register], Segment::default());
    }
    // And back, past the error code.
    machine.with(|x| crate::system::operand::drop(x, 4));
    machine.run_bytes(&[0xcf]).expect("IRETD");
    let state = &machine.state;
    assert!(state.is_virtual_8086());
    assert_eq!((state.cpl, state.rip, state.gpr[gpr::RSP]), (3, 0, 0x8000));
    assert_eq!(
        state.segments[segment::GS],
        Segment { base: 0x44440, limit: 0xffff, attributes: 0xf3, selector: 0x4444 }
    );
    assert_eq!(state.rflags, flags);
}

#[test]
fn software_interrupts_of_virtual_8086_mode_need_io_privilege_and_the_gate() {
    let mut machine = Machine::virtual_8086(3);
    machine.legacy_gate(0x21, INTERRUPT, entry::CODE_0, HANDLER);
    let refused = Err(Exception::general_protection(0x21 * 8 + 2));
    assert_eq!(machine.run_bytes(&[0xcd, 0x21]), refused);
    machine.legacy_gate(0x21, OPEN, entry::CODE_0, HANDLER);
    machine.run_bytes(&[0xcd, 0x21]).expect("delivered");
    assert_eq!(machine.stacked(4, 2), [2, 0x1000]);
    // Breakpoints do not depend on IOPL.
    let mut machine = Machine::virtual_8086(0);
    machine.legacy_gate(3, OPEN, entry::CODE_0, HANDLER);
    machine.run_bytes(&[0xcc]).expect("delivered");
    assert_eq!(machine.state.cpl, 0);
}

#[test]
fn virtual_8086_mode_is_left_for_ring_0_only() {
    let mut machine = Machine::virtual_8086(3);
    for selector in [entry::CONFORMING, entry::CODE_3] {
        machine.legacy_gate(40, OPEN, selector, HANDLER);
        let result = machine.with(|x| deliver::software(x, 40, true, 2));
        assert_eq!(result, Err(Exception::general_protection(u32::from(selector))));
    }
}

#[test]
fn faults_on_the_way_name_what_is_wrong() {
    type Case<'a> = (&'a dyn Fn(&mut Machine), Exception);
    let cases: [Case; 9] = [
        (&|m| m.state.idtr.limit = 40 * 8 + 6, Exception::general_protection(0x142)),
        (&|m| m.legacy_gate(40, 0xec, 8, 0), Exception::general_protection(0x142)),
        (&|m| m.legacy_gate(40, 0x6e, 8, 0), Exception::segment_not_present(0x142)),
        (&|m| m.legacy_gate(40, OPEN, 0, 0), Exception::general_protection(0)),
        (&|m| m.legacy_gate(40, OPEN, entry::DATA_0, 0), Exception::general_protection(0x10)),
        (&|m| m.legacy_gate(40, OPEN, entry::SMALL_CODE_0, 0x1_0000), Exception::general_protection(0)),
        (&|m| m.state.tr.limit = 8, Exception::invalid_tss(0x38)),
        (&|m| m.store(TSS + 8, 0), Exception::invalid_tss(0)),
        (&|m| m.store(TSS + 8, 0x20), Exception::invalid_tss(0x20)),
    ];
    for (prepare, expected) in cases {
        let mut machine = Machine::protected_user();
        machine.legacy_gate(40, OPEN, entry::CODE_0, HANDLER);
        prepare(&mut machine);
        let state = machine.state.clone();
        assert_eq!(machine.with(|x| deliver::software(x, 40, true, 2)), Err(expected));
        assert!(machine.state == state, "nothing changed");
        let external = Exception { error: expected.error.map(|code| code | 1), ..expected };
        assert_eq!(machine.with(|x| deliver::software(x, 40, false, 2)), Err(external));
    }
}

#[test]
fn a_ring_0_stack_without_room_is_a_stack_fault_of_its_selector() {
    let mut machine = Machine::protected_user();
    machine.legacy_gate(40, OPEN, entry::CODE_0, HANDLER);
    // Expand-down from 2000h: five words do not fit under 2010h.
    machine.store(TSS + 4, 0x2010 | u64::from(entry::DOWN) << 32);
    let result = machine.with(|x| deliver::software(x, 40, true, 2));
    assert_eq!(result, Err(Exception::stack(u32::from(entry::DOWN))));
    machine.store(TSS + 4, 0x2014 | u64::from(entry::DOWN) << 32);
    machine.with(|x| deliver::software(x, 40, true, 2)).expect("delivered");
    assert_eq!(machine.state.gpr[gpr::RSP], 0x2000);
}

#[test]
fn a_contributory_fault_twice_is_a_double_fault() {
    let mut machine = Machine::protected();
    machine.legacy_gate(8, INTERRUPT, entry::CODE_0, HANDLER);
    machine.raise(Exception::general_protection(0));
    assert_eq!(machine.stacked(4, 2), [0, CODE]);
    machine.state.idtr.limit = 7;
    let ended = machine.with(|x| deliver::exception(x, Exception::general_protection(0)));
    assert_eq!(ended, Err(Shutdown));
}
