//! What depends on the mode: opcodes, table registers, control registers, system calls, ports.

use super::*;

#[test]
fn selectors_name_nothing_in_real_and_virtual_8086_mode() {
    let opcodes: [&[u8]; 9] = [
        &[0x0f, 0x00, 0xc0],
        &[0x0f, 0x00, 0xc8],
        &[0x0f, 0x00, 0xd0],
        &[0x0f, 0x00, 0xd8],
        &[0x0f, 0x00, 0xe0],
        &[0x0f, 0x00, 0xe8],
        &[0x0f, 0x02, 0xc0],
        &[0x0f, 0x03, 0xc0],
        &[0x63, 0xc0],
    ];
    for bytes in opcodes {
        for mut machine in [Machine::real(), Machine::virtual_8086(3)] {
            assert_eq!(machine.run_bytes(bytes), Err(Exception::invalid_opcode()), "{bytes:x?}");
        }
    }
}

#[test]
fn virtual_8086_mode_guards_the_interrupt_flag() {
    for bytes in [&[0xfa][..], &[0xfb], &[0x9c], &[0x9d], &[0xcf], &[0xcd, 0x80], &[0xf4], &[0x0f, 0x22, 0xc0]] {
        let mut machine = Machine::virtual_8086(0);
        assert_eq!(machine.run_bytes(bytes), Err(Exception::general_protection(0)), "{bytes:x?}");
    }
    let mut machine = Machine::virtual_8086(3);
    machine.run_bytes(&[0xfb]).expect("STI");
    machine.run_bytes(&[0x9c]).expect("PUSHF");
    assert_eq!(machine.stacked(2, 1), [0x3202]);
    machine.stack(2, &[0x0000]);
    machine.run_bytes(&[0x9d]).expect("POPF");
    assert_eq!(machine.state.rflags, rflags::VM | 0x3002, "VM and IOPL stay");
}

#[test]
fn table_registers_have_24_or_32_bits() {
    let mut machine = Machine::real();
    machine.store(0x2_0000, 0x1234_5678_9abc);
    machine.run_bytes(&[0x0f, 0x01, 0x16, 0, 0]).expect("LGDT [0]");
    assert_eq!(machine.state.gdtr, TableRegister { base: 0x34_5678, limit: 0x9abc });
    machine.run_bytes(&[0x66, 0x0f, 0x01, 0x1e, 0, 0]).expect("LIDT with 66h");
    assert_eq!(machine.state.idtr, TableRegister { base: 0x1234_5678, limit: 0x9abc });
    machine.store(0x2_0010, u64::MAX);
    machine.run_bytes(&[0x0f, 0x01, 0x0e, 0x10, 0]).expect("SIDT [10h]");
    assert_eq!(machine.load(0x2_0010), 0xffff_1234_5678_9abc, "all 32 bits are stored");
}

#[test]
fn protected_mode_is_entered_and_left() {
    let mut machine = Machine::real();
    machine.state.gpr[gpr::RAX] = 0x11;
    machine.run_bytes(&[0x0f, 0x22, 0xc0]).expect("MOV CR0, EAX");
    assert!(!machine.state.is_real() && machine.state.code_bits() == 16);
    machine.run_bytes(&[0x0f, 0x01, 0xf0]).expect("LMSW AX");
    machine.state.gpr[gpr::RAX] = 0x10;
    machine.run_bytes(&[0x0f, 0x01, 0xf0]).expect("LMSW AX");
    assert!(!machine.state.is_real(), "LMSW cannot clear PE");
    machine.run_bytes(&[0x0f, 0x22, 0xc0]).expect("MOV CR0, EAX");
    assert!(machine.state.is_real());
    machine.state.gpr[gpr::RAX] = control::CR0_PG;
    assert_eq!(machine.run_bytes(&[0x0f, 0x22, 0xc0]), Err(Exception::general_protection(0)));
}

#[test]
fn system_calls_outside_long_mode() {
    let mut machine = Machine::protected_user();
    machine.state.rflags |= rflags::IF;
    assert_eq!(machine.run_bytes(&[0x0f, 0x34]), Err(Exception::general_protection(0)), "no code segment");
    (machine.state.sysenter_cs, machine.state.sysenter_esp, machine.state.sysenter_eip) = (8, 0x9000, HANDLER);
    machine.run_bytes(&[0x0f, 0x34]).expect("SYSENTER");
    let state = &machine.state;
    assert_eq!((state.cpl, state.rip, state.gpr[gpr::RSP], state.rflags), (0, HANDLER, 0x9000, 2));
    assert_eq!((state.segments[segment::CS].attributes, state.segments[segment::SS].selector), (0xc9b, 0x10));
    (machine.state.gpr[gpr::RCX], machine.state.gpr[gpr::RDX]) = (STACK, CODE);
    machine.run_bytes(&[0x0f, 0x35]).expect("SYSEXIT");
    let state = &machine.state;
    assert_eq!((state.cpl, state.rip, state.gpr[gpr::RSP]), (3, CODE, STACK));
    assert_eq!((state.segments[segment::CS].selector, state.segments[segment::SS].selector), (0x1b, 0x23));
    assert_eq!(machine.run_bytes(&[0x0f, 0x05]), Err(Exception::invalid_opcode()));
    machine.state.efer = control::EFER_SCE;
    machine.state.star = 0x0010_0008_0000_0000 | HANDLER;
    machine.state.rflags |= rflags::IF;
    machine.run_bytes(&[0x0f, 0x05]).expect("SYSCALL");
    assert_eq!((machine.state.cpl, machine.state.rip, machine.state.gpr[gpr::RCX]), (0, HANDLER, CODE + 2));
    assert_eq!(machine.state.rflags, 2);
    machine.run_bytes(&[0x0f, 0x07]).expect("SYSRET");
    assert_eq!((machine.state.cpl, machine.state.rip, machine.state.rflags), (3, CODE + 2, 0x202));
    assert_eq!(machine.state.segments[segment::CS].selector, 0x13);
}

#[test]
fn ports_ask_the_bitmap_in_virtual_8086_mode_always() {
    let mut machine = Machine::virtual_8086(3);
    machine.state.tr.limit = 0x8f;
    machine.store(TSS + 0x60, 0x0068 << 48);
    machine.store(TSS + 0x68, 0xffff_ffff_ffff_fffe);
    machine.run_bytes(&[0xe4, 0]).expect("IN AL, 0");
    assert_eq!(machine.run_bytes(&[0xe4, 1]), Err(Exception::general_protection(0)));
    assert_eq!(machine.run_bytes(&[0xe5, 0]), Err(Exception::general_protection(0)));
    machine.state.tr.attributes = 0x83;
    assert_eq!(machine.run_bytes(&[0xe4, 0]), Err(Exception::general_protection(0)), "a 286's TSS has no bitmap");
    let mut machine = Machine::protected_user();
    machine.state.rflags |= 3 << 12;
    machine.run_bytes(&[0xe4, 1]).expect("IOPL allows it");
    let mut machine = Machine::real();
    machine.run_bytes(&[0xe4, 1]).expect("real mode may");
}

#[test]
fn fxsave_stores_eight_registers_outside_64_bit_mode() {
    let mut machine = Machine::protected();
    machine.state.fx.0[160..416].fill(0x5a);
    machine.state.gpr[gpr::RAX] = DATA;
    machine.run_bytes(&[0x0f, 0xae, 0x00]).expect("FXSAVE [EAX]");
    assert_eq!((machine.load(DATA + 160 + 120), machine.load(DATA + 160 + 128)), (0x5a5a_5a5a_5a5a_5a5a, 0));
    machine.state.fx.0[160..416].fill(1);
    machine.run_bytes(&[0x0f, 0xae, 0x08]).expect("FXRSTOR [EAX]");
    assert_eq!((machine.state.fx.0[160 + 127], machine.state.fx.0[160 + 128]), (0x5a, 1));
}
