//! Hardware task switches.

use super::*;

const NESTED: u64 = rflags::NT | 2;

fn store_32(machine: &mut Machine, address: u64, value: u64) {
    assert!(machine.memory.store(address, &value.to_le_bytes()[..4]));
}

fn load_32(machine: &Machine, address: u64) -> u64 {
    machine.load(address) & 0xffff_ffff
}

fn load_16(machine: &Machine, address: u64) -> u64 {
    machine.load(address) & 0xffff
}

/// Type of a descriptor of the GDT.
fn kind(machine: &Machine, selector: u16) -> u64 {
    machine.load(TABLE + u64::from(selector)) >> 40 & 15
}

/// A task in the other 32-bit TSS: registers 100h, 101h...
fn prepare(machine: &mut Machine, segments: [u64; 6], flags: u64) {
    store_32(machine, OTHER_TSS + 0x20, HANDLER);
    store_32(machine, OTHER_TSS + 0x24, flags);
    for index in 0..8 {
        store_32(machine, OTHER_TSS + 0x28 + 4 * index, 0x2_0100 + 0x10 * index);
    }
    for (index, selector) in segments.into_iter().enumerate() {
        store_32(machine, OTHER_TSS + 0x48 + 4 * index as u64, selector);
    }
    store_32(machine, OTHER_TSS + 0x60, 0);
}

const FLAT: [u64; 6] = [0x10, 0x08, 0x10, 0x10, 0, 0x10];
const JUMP: [u8; 7] = [0xea, 0, 0, 0, 0, entry::OTHER_TASK as u8, 0];

#[test]
fn a_jump_leaves_one_task_for_another() {
    let mut machine = Machine::protected();
    prepare(&mut machine, FLAT, 0x202);
    machine.state.gpr[gpr::RBX] = 0x1122_3344;
    machine.run_bytes(&JUMP).expect("a switch");
    let state = &machine.state;
    assert_eq!(
        (state.rip, state.rflags, state.gpr[gpr::RAX], state.gpr[gpr::RDI]),
        (HANDLER, 0x202, 0x2_0100, 0x2_0170)
    );
    assert_eq!((state.tr.selector, state.tr.base, state.tr.attributes & 15), (entry::OTHER_TASK, OTHER_TSS, 11));
    assert_eq!(state.segments[segment::FS], Segment::default());
    assert_eq!(state.segments[segment::GS].attributes, 0xc93);
    assert!(state.cr0 & control::CR0_TS != 0);
    assert_eq!((kind(&machine, entry::TASK), kind(&machine, entry::OTHER_TASK)), (9, 11));
    assert_eq!(load_32(&machine, TSS + 0x20), CODE + 7);
    assert_eq!(load_32(&machine, TSS + 0x34), 0x1122_3344);
    assert_eq!((load_16(&machine, TSS + 0x4c), load_16(&machine, TSS + 0x54)), (8, 0x10));
}

#[test]
fn a_call_nests_and_iret_returns() {
    let mut machine = Machine::protected();
    prepare(&mut machine, FLAT, 2);
    machine.state.gpr[gpr::RCX] = 77;
    let gate = [0x9a, 0, 0, 0, 0, entry::TASK_GATE as u8, 0];
    machine.run_bytes(&gate).expect("a switch");
    assert_eq!(machine.state.rflags, NESTED);
    assert_eq!(load_16(&machine, OTHER_TSS), u64::from(entry::TASK));
    assert_eq!((kind(&machine, entry::TASK), kind(&machine, entry::OTHER_TASK)), (11, 11));
    machine.run_bytes(&[0xcf]).expect("IRETD");
    let state = &machine.state;
    assert_eq!((state.rip, state.rflags, state.gpr[gpr::RCX]), (CODE + 7, 2, 77));
    assert_eq!(state.tr.selector, entry::TASK);
    assert_eq!((kind(&machine, entry::TASK), kind(&machine, entry::OTHER_TASK)), (11, 9));
    assert_eq!(load_32(&machine, OTHER_TSS + 0x20), HANDLER + 1, "it would go on behind its IRET");
    assert_eq!(load_32(&machine, OTHER_TSS + 0x24), 2, "NT is not saved");
}

#[test]
fn a_task_gate_in_the_idt_pushes_the_error_code_on_the_new_stack() {
    let mut machine = Machine::protected_user();
    prepare(&mut machine, FLAT, 2);
    machine.legacy_gate(10, 0x85, entry::OTHER_TASK, 0);
    machine.raise(Exception::invalid_tss(0x1234));
    let state = &machine.state;
    assert_eq!((state.cpl, state.rip, state.rflags), (0, HANDLER, NESTED));
    assert_eq!(state.gpr[gpr::RSP], 0x2_0140 - 4);
    assert_eq!(machine.stacked(4, 1), [0x1234]);
    assert_eq!(load_32(&machine, TSS + 0x20), CODE);
    assert_eq!(load_32(&machine, TSS + 0x24), 2 | rflags::RF);
}

#[test]
fn a_task_may_be_of_virtual_8086_mode() {
    let mut machine = Machine::protected();
    prepare(&mut machine, [0x2000, 0x1000, 0x3000, 0x2000, 1, 2], rflags::VM | 2);
    machine.run_bytes(&JUMP[..]).expect_err("the entry point lies beyond the limit");
    let mut machine = Machine::protected();
    prepare(&mut machine, [0x2000, 0x1000, 0x3000, 0x2000, 1, 2], rflags::VM | 2);
    store_32(&mut machine, OTHER_TSS + 0x20, 0x10);
    machine.run_bytes(&JUMP).expect("a switch");
    assert!(machine.state.is_virtual_8086());
    assert_eq!((machine.state.cpl, machine.state.code_address(machine.state.rip)), (3, CODE + 0x10));
    assert_eq!(machine.state.segments[segment::SS].base, STACK);
}

#[test]
fn a_16_bit_task_has_halves() {
    let mut machine = Machine::protected();
    for (offset, value) in
        [(0x0e, NEAR_HANDLER), (0x10, 0x46), (0x12, 0xaaaa), (0x22, 0x10), (0x24, 0x28), (0x26, 0x30)]
    {
        assert!(machine.memory.store(SMALL_TSS + offset, &value.to_le_bytes()[..2]));
    }
    machine.run_bytes(&[0x9a, 0, 0, 0, 0, entry::SMALL_TASK as u8, 0]).expect("a switch");
    let state = &machine.state;
    assert_eq!((state.rip, state.rflags, state.gpr[gpr::RAX]), (NEAR_HANDLER, 0x4046, 0xffff_aaaa));
    assert_eq!((state.code_bits(), state.segments[segment::DS], state.tr.attributes & 15), (16, Segment::default(), 3));
    assert_eq!(load_16(&machine, SMALL_TSS), u64::from(entry::TASK));
    machine.run_bytes(&[0xcf]).expect("IRET");
    assert_eq!((machine.state.tr.selector, machine.state.rip), (entry::TASK, CODE + 7));
    assert_eq!(kind(&machine, entry::SMALL_TASK), 1);
}

#[test]
fn what_is_wrong_with_the_tss_changes_nothing() {
    type Case<'a> = (&'a dyn Fn(&mut Machine), Exception);
    let other = TABLE + u64::from(entry::OTHER_TASK);
    let cases: [Case; 4] = [
        (&|m| m.store(other, 0x0000_0900_0000_0067), Exception::segment_not_present(0x40)),
        (&|m| m.store(other, 0x0000_8900_0000_0066), Exception::invalid_tss(0x40)),
        (&|m| m.store(other, 0x0000_8b00_0000_0067), Exception::general_protection(0x40)),
        (&|m| m.state.gdtr.limit = 0x3f, Exception::general_protection(0x40)),
    ];
    for (spoil, expected) in cases {
        let mut machine = Machine::protected();
        prepare(&mut machine, FLAT, 2);
        spoil(&mut machine);
        let state = machine.state.clone();
        assert_eq!(machine.run_bytes(&JUMP), Err(expected));
        assert!(machine.state == state);
    }
}

#[test]
fn what_is_wrong_with_the_new_task_is_raised_in_it() {
    let cases = [
        ([0x10, 0x10, 0x10, 0x10, 0, 0], Exception::invalid_tss(0x10)),
        ([0x10, 0x08, 0x08, 0x10, 0, 0], Exception::invalid_tss(0x08)),
        ([0x10, 0x08, 0x10, 0x40, 0, 0], Exception::invalid_tss(0x40)),
        ([0x10, 0x1b, 0x23, 0x10, 0, 0], Exception::invalid_tss(0x10)),
    ];
    for (segments, expected) in cases {
        let mut machine = Machine::protected();
        prepare(&mut machine, segments, 2);
        assert_eq!(machine.run_bytes(&JUMP), Err(expected));
        assert_eq!((machine.state.tr.selector, machine.state.rip), (entry::OTHER_TASK, HANDLER));
    }
    // T: trapped before its first instruction.
    let mut machine = Machine::protected();
    prepare(&mut machine, FLAT, 2);
    store_32(&mut machine, OTHER_TSS + 0x64, 1);
    assert_eq!(machine.run_bytes(&JUMP), Err(Exception::debug()));
    assert!(machine.state.dr[6] & 1 << 15 != 0);
}

#[test]
fn iret_needs_a_task_to_return_to() {
    for (link, expected) in [(0x40, 0x40), (0x10, 0x10), (0x84, 0x84), (0, 0)] {
        let mut machine = Machine::protected();
        machine.store(TSS, link | machine.load(TSS) & !0xffff);
        machine.state.rflags |= rflags::NT;
        assert_eq!(machine.run_bytes(&[0xcf]), Err(Exception::invalid_tss(expected)));
    }
}
