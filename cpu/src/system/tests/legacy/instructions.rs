//! Single instructions with 16- and 32-bit operands, addresses and stacks.

use super::*;

/// AX and flags before, AX and flags after, for one-byte opcodes and AAM, AAD.
#[test]
fn decimal_adjustments() {
    let (cf, pf, af, zf, sf, of) = (1, 4, 0x10, 0x40, 0x80, 0x800);
    let cases: [(&[u8], u64, u64, u64, u64); 17] = [
        (&[0x37], 0x000b, 0, 0x0101, cf | af | pf),
        (&[0x37], 0x01ff, 0, 0x0305, cf | af | pf),
        (&[0x37], 0x8315, 0, 0x8305, sf),
        (&[0x37], 0x00aa, 0, 0x0100, cf | af),
        (&[0x3f], 0x0205, af, 0x000f, cf | af | pf),
        (&[0x3f], 0xffff, 0, 0xfe09, cf | af | sf | pf),
        (&[0x27], 0x00ae, 0, 0x0014, cf | af | pf),
        (&[0x27], 0x0079, af, 0x007f, af),
        (&[0x27], 0x0061, cf | af, 0x00c7, cf | af | sf | of),
        (&[0x27], 0x009a, 0, 0x0000, cf | af | zf | pf),
        (&[0x2f], 0x00ee, 0, 0x0088, cf | af | sf | pf),
        (&[0x2f], 0x0003, af, 0x00fd, cf | af | sf),
        (&[0xd4, 10], 0x1263, 0, 0x0909, pf),
        (&[0xd5, 10], 0x0507, cf, 0x0039, pf),
        (&[0xd5, 0xa5], 0x07b0, 0, 0x0033, cf | pf | of),
        (&[0xd6], 0x1200, cf, 0x12ff, cf),
        (&[0xd6], 0x12ff, 0, 0x1200, 0),
    ];
    for (bytes, before, flags, after, expected) in cases {
        let mut machine = Machine::protected();
        machine.state.gpr[gpr::RAX] = 0xabcd_0000 | before;
        machine.state.rflags = 2 | flags;
        machine.run_bytes(bytes).expect("completes");
        let found = (machine.state.gpr[gpr::RAX], machine.state.rflags);
        assert_eq!(found, (0xabcd_0000 | after, 2 | expected), "{bytes:x?} {before:#x} {flags:#x}");
    }
    assert_eq!(Machine::protected().run_bytes(&[0xd4, 0]), Err(Exception::divide_error()));
}

#[test]
fn all_registers_are_pushed_and_popped() {
    let mut machine = Machine::real();
    for number in 0..8 {
        if number != gpr::RSP {
            machine.state.gpr[number] = 0x1_1110 + number as u64;
        }
    }
    machine.run_bytes(&[0x60]).expect("PUSHA");
    assert_eq!(machine.stacked(2, 8), [0x1117, 0x1116, 0x1115, 0x8000, 0x1113, 0x1112, 0x1111, 0x1110]);
    machine.stack(2, &[7, 6, 5, 0xffff, 3, 2, 1, 0]);
    machine.run_bytes(&[0x61]).expect("POPA");
    assert_eq!(machine.state.gpr[..8], [0x1_0000, 0x1_0001, 0x1_0002, 0x1_0003, 0x8000, 0x1_0005, 0x1_0006, 0x1_0007]);
    let mut machine = Machine::protected();
    machine.run_bytes(&[0x60]).expect("PUSHAD");
    assert_eq!((machine.state.gpr[gpr::RSP], machine.stacked(4, 4)[3]), (STACK - 32, STACK));
}

#[test]
fn a_16_bit_stack_pointer_wraps() {
    let mut machine = Machine::real();
    machine.state.gpr[gpr::RSP] = 0xabcd_0000;
    machine.run_bytes(&[0x1e]).expect("PUSH DS");
    assert_eq!(machine.state.gpr[gpr::RSP], 0xabcd_fffe);
    assert_eq!(machine.stacked(2, 1), [0x2000]);
    machine.run_bytes(&[0x07]).expect("POP ES");
    assert_eq!(machine.state.gpr[gpr::RSP], 0xabcd_0000);
    machine.state.gpr[gpr::RSP] = 1;
    assert_eq!(machine.run_bytes(&[0x1e]), Err(Exception::stack(0)), "a word does not wrap");
}

#[test]
fn bound_compares_with_sign() {
    let mut machine = Machine::protected();
    machine.store(DATA, (-5_i32) as u32 as u64 | 5 << 32);
    machine.state.gpr[gpr::RBX] = DATA;
    for (index, inside) in [(-5_i32, true), (5, true), (6, false), (-6, false)] {
        machine.state.gpr[gpr::RAX] = u64::from(index as u32);
        let expected = if inside { None } else { Some(Exception::bound_range()) };
        assert_eq!(machine.run_bytes(&[0x62, 0x03]).err(), expected, "{index}");
    }
}

#[test]
fn arpl_raises_the_requested_level() {
    let mut machine = Machine::protected();
    (machine.state.gpr[gpr::RAX], machine.state.gpr[gpr::RCX]) = (0xffff_0008, 3);
    machine.run_bytes(&[0x63, 0xc8]).expect("ARPL AX, CX");
    assert_eq!((machine.state.gpr[gpr::RAX], machine.state.rflags), (0xffff_000b, 0x42));
    machine.run_bytes(&[0x63, 0xc8]).expect("ARPL AX, CX");
    assert_eq!((machine.state.gpr[gpr::RAX], machine.state.rflags), (0xffff_000b, 2));
}

#[test]
fn enter_and_leave_with_every_stack() {
    let mut machine = Machine::real();
    machine.state.gpr[gpr::RBP] = 0x9999_7777;
    machine.run_bytes(&[0xc8, 0x10, 0, 0]).expect("ENTER 16, 0");
    assert_eq!((machine.state.gpr[gpr::RBP], machine.state.gpr[gpr::RSP]), (0x9999_7ffe, 0x8000 - 18));
    machine.run_bytes(&[0xc9]).expect("LEAVE");
    assert_eq!((machine.state.gpr[gpr::RBP], machine.state.gpr[gpr::RSP]), (0x9999_7777, 0x8000));
    let mut machine = Machine::protected();
    machine.state.gpr[gpr::RBP] = DATA;
    machine.store(DATA - 4, 0x4242_4242);
    machine.run_bytes(&[0xc8, 8, 0, 2]).expect("ENTER 8, 2");
    assert_eq!((machine.state.gpr[gpr::RBP], machine.state.gpr[gpr::RSP]), (STACK - 4, STACK - 20));
    assert_eq!(machine.load(STACK - 12), (STACK - 4) | 0x4242_4242 << 32);
}

#[test]
fn strings_wrap_and_stop_at_limits() {
    let mut machine = Machine::real();
    machine.state.segments[segment::ES].base = 0x3_0000;
    (machine.state.gpr[gpr::RSI], machine.state.gpr[gpr::RDI]) = (0x5555_fffe, 0x6666_0000);
    machine.state.gpr[gpr::RCX] = 0x7777_0002;
    machine.store(0x2_fff8, 0xbbaa << 48);
    machine.store(0x2_0000, 0xddcc);
    machine.run_bytes(&[0xf3, 0xa5]).expect("REP MOVSW");
    assert_eq!(machine.load(0x3_0000), 0xddcc_bbaa);
    let state = &machine.state;
    let registers = [state.gpr[gpr::RSI], state.gpr[gpr::RDI], state.gpr[gpr::RCX]];
    assert_eq!(registers, [0x5555_0002, 0x6666_0004, 0x7777_0000]);
    // The limit ends a span at the exact element.
    let mut machine = Machine::protected();
    machine.state.segments[segment::ES].limit = 0x2_00ff;
    (machine.state.gpr[gpr::RDI], machine.state.gpr[gpr::RCX]) = (0x2_00f0, 100);
    assert_eq!(machine.run_bytes(&[0xf3, 0xab]), Err(Exception::general_protection(0)));
    assert_eq!((machine.completed, machine.state.gpr[gpr::RDI]), (4, 0x2_0100));
}

#[test]
fn overrides_choose_the_segment_of_a_source() {
    let mut machine = Machine::real();
    machine.state.segments[segment::FS].base = 0x3_0000;
    machine.store(0x3_0010, 0x55);
    machine.state.gpr[gpr::RSI] = 0x10;
    machine.run_bytes(&[0x64, 0xac]).expect("LODSB FS:[SI]");
    assert_eq!(machine.state.gpr[gpr::RAX], 0x55);
    machine.state.gpr[gpr::RBX] = 0xffff;
    machine.state.gpr[gpr::RAX] = 0x11;
    machine.run_bytes(&[0x64, 0xd7]).expect("XLATB FS:[BX]");
    assert_eq!(machine.state.gpr[gpr::RAX], 0x55, "the offset wraps at 64 KiB");
}

#[test]
fn far_pointers_load_segments() {
    let mut machine = Machine::real();
    machine.store(0x2_0000, 0x4000_1234);
    machine.run_bytes(&[0xc5, 0x1e, 0, 0]).expect("LDS BX, [0]");
    assert_eq!((machine.state.gpr[gpr::RBX], machine.state.segments[segment::DS].base), (0x1234, 0x4_0000));
    let mut machine = Machine::protected();
    machine.state.gpr[gpr::RAX] = DATA;
    machine.store(DATA, u64::from(entry::DATA_3) << 32 | 0x8765_4321);
    machine.run_bytes(&[0xc4, 0x18]).expect("LES EBX, [EAX]");
    assert_eq!((machine.state.gpr[gpr::RBX], machine.state.segments[segment::ES].selector), (0x8765_4321, 0x20));
    machine.store(DATA, 0);
    assert_eq!(machine.run_bytes(&[0x0f, 0xb2, 0x18]), Err(Exception::general_protection(0)), "a null SS");
}

#[test]
fn loops_count_with_the_address_size() {
    let mut machine = Machine::real();
    machine.state.gpr[gpr::RCX] = 0xffff_0001;
    machine.run_bytes(&[0xe2, 0x10]).expect("LOOP");
    assert_eq!((machine.state.rip, machine.state.gpr[gpr::RCX]), (2, 0xffff_0000));
    machine.run_bytes(&[0xe3, 0x10]).expect("JCXZ");
    assert_eq!(machine.state.rip, 0x14);
    machine.run_bytes(&[0x67, 0xe3, 0x10]).expect("JECXZ");
    assert_eq!(machine.state.rip, 0x17);
    machine.state.segments[segment::CS].limit = 0x20;
    assert_eq!(machine.run_bytes(&[0xe2, 0x10]), Err(Exception::general_protection(0)));
    assert_eq!(machine.state.gpr[gpr::RCX], 0xffff_0000);
}

#[test]
fn near_transfers_stay_within_the_code_segment() {
    let mut machine = Machine::real();
    machine.run_bytes(&[0xe8, 0xfd, 0xff]).expect("CALL to itself");
    assert_eq!((machine.state.rip, machine.stacked(2, 1)), (0, vec![3]));
    machine.run_bytes(&[0xc2, 2, 0]).expect("RET 2");
    assert_eq!((machine.state.rip, machine.state.gpr[gpr::RSP]), (3, 0x8002));
    machine.state.rflags |= rflags::ZF;
    machine.run_bytes(&[0x74, 0x10]).expect("JZ");
    machine.run_bytes(&[0x75, 0x10]).expect("JNZ");
    assert_eq!(machine.state.rip, 0x17);
    machine.state.gpr[gpr::RAX] = 0x1_0000;
    assert_eq!(machine.run_bytes(&[0x66, 0xff, 0xe0]), Err(Exception::general_protection(0)), "JMP EAX");
    machine.run_bytes(&[0xff, 0xe0]).expect("JMP AX");
    assert_eq!(machine.state.rip, 0);
    machine.run_bytes(&[0x66, 0x6a, 0xff]).expect("PUSH dword -1");
    machine.run_bytes(&[0x5b]).expect("POP BX");
    assert_eq!((machine.state.gpr[gpr::RBX], machine.state.gpr[gpr::RSP]), (0xffff, 0x8000));
}
