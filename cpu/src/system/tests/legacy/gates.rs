//! Far transfers: paragraphs, segments, call gates, returns.

use super::*;

/// CALL FAR selector:offset in 32-bit code.
fn call_far(selector: u16, offset: u32) -> Vec<u8> {
    let mut bytes = vec![0x9a];
    bytes.extend(offset.to_le_bytes());
    bytes.extend(selector.to_le_bytes());
    bytes
}

#[test]
fn real_mode_calls_and_returns() {
    let mut machine = Machine::real();
    machine.state.rip = 0x10;
    machine.run_bytes(&[0x9a, 0x34, 0x12, 0x00, 0x18]).expect("CALL FAR 1800:1234");
    assert_eq!((machine.state.segments[segment::CS].base, machine.state.rip), (0x18000, 0x1234));
    assert_eq!(machine.stacked(2, 2), [0x15, 0x1000]);
    machine.run_bytes(&[0xca, 4, 0]).expect("RETF 4");
    assert_eq!((machine.state.segments[segment::CS].base, machine.state.rip), (0x10000, 0x15));
    assert_eq!(machine.state.gpr[gpr::RSP], 0x8004);
}

#[test]
fn real_mode_segments_keep_their_limits() {
    let mut machine = Machine::real();
    machine.state.segments[segment::DS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc93, selector: 8 };
    machine.state.gpr[gpr::RAX] = 0x1234;
    machine.run_bytes(&[0x8e, 0xd8]).expect("MOV DS, AX");
    let expected = Segment { base: 0x12340, limit: u32::MAX, attributes: 0xc93, selector: 0x1234 };
    assert_eq!(machine.state.segments[segment::DS], expected);
    // 66h EAh: a far jump with a 32-bit offset beyond the limit.
    let refused = machine.run_bytes(&[0x66, 0xea, 0, 0, 1, 0, 0, 0x10]);
    assert_eq!(refused, Err(Exception::general_protection(0)));
}

#[test]
fn a_far_jump_enters_protected_code() {
    let mut machine = Machine::real();
    machine.state.cr0 |= control::CR0_PE;
    machine.state.gdtr = TableRegister { base: TABLE, limit: 0x7f };
    assert_eq!(machine.state.code_bits(), 16);
    machine.run_bytes(&[0x66, 0xea, 0, 0, 1, 0, 8, 0]).expect("JMP FAR 8:10000h");
    assert_eq!((machine.state.rip, machine.state.code_bits()), (CODE, 32));
    // And back through a 16-bit segment.
    machine.run_bytes(&[0xea, 0, 0x80, 0, 0, 0x28, 0]).expect("JMP FAR 28:8000h");
    assert_eq!((machine.state.rip, machine.state.code_bits()), (NEAR_HANDLER, 16));
}

#[test]
fn a_call_gate_copies_parameters_to_the_inner_stack() {
    let mut machine = Machine::protected_user();
    machine.stack(4, &[0x1111_1111, 0x2222_2222]);
    machine.run_bytes(&call_far(entry::GATE | 3, 0)).expect("through the gate");
    assert_eq!(machine.stacked(4, 6), [CODE + 7, 0x1b, 0x1111_1111, 0x2222_2222, STACK, 0x23]);
    assert_eq!((machine.state.cpl, machine.state.rip), (0, HANDLER));
    machine.run_bytes(&[0xca, 8, 0]).expect("RETF 8");
    let state = &machine.state;
    assert_eq!((state.cpl, state.rip, state.gpr[gpr::RSP]), (3, CODE + 7, STACK + 8));
    assert_eq!((state.segments[segment::CS].selector, state.segments[segment::SS].selector), (0x1b, 0x23));
}

#[test]
fn a_16_bit_gate_moves_16_bit_words() {
    let mut machine = Machine::protected_user();
    machine.stack(2, &[0x1111]);
    machine.run_bytes(&call_far(entry::SMALL_GATE | 3, 0)).expect("through the gate");
    assert_eq!(machine.stacked(2, 5), [(CODE + 7) & 0xffff, 0x1b, 0x1111, STACK & 0xffff, 0x23]);
    assert_eq!((machine.state.rip, machine.state.code_bits()), (NEAR_HANDLER, 16));
}

#[test]
fn the_same_level_needs_no_other_stack() {
    let mut machine = Machine::protected();
    machine.run_bytes(&call_far(entry::GATE, 0)).expect("through the gate");
    assert_eq!(machine.stacked(4, 2), [CODE + 7, 8]);
    assert_eq!(machine.state.gpr[gpr::RSP], STACK - 8);
    let mut machine = Machine::protected();
    machine.run_bytes(&call_far(entry::CONFORMING, 0x1_2345)).expect("a call");
    assert_eq!((machine.state.rip, machine.state.cpl), (0x1_2345, 0));
}

#[test]
fn an_outer_return_drops_what_the_outer_level_may_not_use() {
    let mut machine = Machine::protected();
    machine.stack(4, &[CODE, 0x1b, 0x1234, 0x23]);
    machine.state.segments[segment::ES].selector = 0x23;
    machine.state.segments[segment::ES].attributes = 0xcf3;
    machine.run_bytes(&[0xcb]).expect("RETF");
    let state = &machine.state;
    assert_eq!((state.cpl, state.rip, state.gpr[gpr::RSP]), (3, CODE, 0x1234));
    assert_eq!(state.segments[segment::DS], Segment::default());
    assert_eq!(state.segments[segment::ES].selector, 0x23);
}

#[test]
fn iret_takes_a_stack_only_where_the_level_changes() {
    let mut machine = Machine::protected();
    machine.stack(4, &[CODE + 0x100, 8, 0x3202]);
    machine.run_bytes(&[0xcf]).expect("IRETD");
    assert_eq!((machine.state.rip, machine.state.gpr[gpr::RSP]), (CODE + 0x100, STACK + 12));
    assert_eq!(machine.state.rflags, 0x3202);
    machine.stack(4, &[CODE, 0x1b, 0x202, 0x8888, 0x23]);
    machine.run_bytes(&[0xcf]).expect("IRETD");
    assert_eq!((machine.state.cpl, machine.state.gpr[gpr::RSP], machine.state.rflags), (3, 0x8888, 0x202));
    // Ring 3 changes neither IOPL nor IF, nor enters virtual-8086 mode.
    machine.state.gpr[gpr::RSP] = STACK;
    machine.stack(4, &[CODE, 0x1b, 0x2_3002]);
    machine.run_bytes(&[0xcf]).expect("IRETD");
    assert_eq!(machine.state.rflags, 0x202);
}

#[test]
fn a_16_bit_stack_keeps_the_upper_half_of_esp() {
    let mut machine = Machine::protected();
    machine.store(TABLE + 0x20, 0x0000_f300_0000_ffff);
    machine.state.gpr[gpr::RSP] = STACK;
    machine.stack(4, &[CODE, 0x1b, 0x202, 0x1234_5678, 0x23]);
    machine.run_bytes(&[0xcf]).expect("IRETD");
    assert_eq!(machine.state.gpr[gpr::RSP], STACK & !0xffff | 0x5678);
}

#[test]
fn a_16_bit_stack_segment_takes_a_32_bit_frame() {
    let mut machine = Machine::protected_user();
    machine.legacy_gate(40, 0xee, entry::CODE_0, HANDLER);
    machine.store(TSS + 4, 0xabcd_0000 | u64::from(entry::SMALL_DATA_0) << 32);
    machine.with(|x| crate::system::deliver::software(x, 40, true, 2)).expect("delivered");
    assert_eq!(machine.state.gpr[gpr::RSP], 0xabcd_ffec);
    assert_eq!(machine.stacked(4, 2), [2, 0x1b]);
}

#[test]
fn far_transfers_check_privilege_and_kind() {
    let cases = [
        (0, Exception::general_protection(0)),
        (entry::CODE_0, Exception::general_protection(8)),
        (entry::DATA_3, Exception::general_protection(0x20)),
        (entry::LOCAL, Exception::general_protection(0x68)),
        (0x80, Exception::general_protection(0x80)),
        (entry::TASK, Exception::general_protection(0x38)),
        (entry::OTHER_TASK, Exception::general_protection(0x40)),
    ];
    for (selector, expected) in cases {
        let mut machine = Machine::protected_user();
        let state = machine.state.clone();
        assert_eq!(machine.run_bytes(&call_far(selector, 0)), Err(expected), "{selector:#x}");
        assert!(machine.state == state);
    }
}
