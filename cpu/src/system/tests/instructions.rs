//! Flags, bit strings, the stack, ports, and whole-state moves of x87 and SSE.

use super::*;
use crate::state::gpr;
use crate::state::rflags;
use crate::system::{Flow, fpu, io};
use iced_x86::code_asm::*;

const GENERAL: Exception = Exception::general_protection(0);

#[test]
fn bit_strings_reach_far_and_change_only_the_carry() {
    // Opcode, bit offset, memory offset of the byte hit, its bit, the byte before and after.
    let cases: [(u8, i64, i64, u8, u8); 6] = [
        (0xa3, 5, 0, 0x20, 0x20),
        (0xab, 64 * 3 + 9, 25, 0x00, 0x02),
        (0xb3, -1, -1, 0x80, 0x00),
        (0xbb, -64, -8, 0x01, 0x00),
        (0xab, 1 << 20, 1 << 17, 0x00, 0x01),
        (0xbb, -65, -9, 0x00, 0x80),
    ];
    for (opcode, offset, byte, before, after) in cases {
        let mut machine = Machine::user();
        machine.state.gpr[gpr::RBX] = DATA + 64;
        machine.state.gpr[gpr::RAX] = offset as u64;
        machine.state.rflags |= rflags::ARITHMETIC & !rflags::CF;
        let at = (DATA + 64).wrapping_add_signed(byte);
        machine.memory.store(at, &[before]);
        machine.run_bytes(&[0x48, 0x0f, opcode, 0x03]).expect("executed");
        assert_eq!(machine.load(at) as u8, after, "{offset}");
        let carry = if offset == 5 || before != 0 { rflags::CF } else { 0 };
        assert_eq!(machine.state.rflags, 0x2 | rflags::ARITHMETIC & !rflags::CF | carry, "{offset}");
    }
}

#[test]
fn a_narrow_bit_offset_is_taken_from_its_register_part() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RBX] = DATA + 64;
    machine.state.gpr[gpr::RAX] = 0x1234_ffff;
    machine.store(DATA + 56, 1 << 63);
    // bt word [rbx], ax: bit -1
    machine.run_bytes(&[0x66, 0x0f, 0xa3, 0x03]).expect("executed");
    assert!(machine.state.rflags & rflags::CF != 0);
}

#[test]
fn bit_strings_that_write_need_the_right_to() {
    let mut machine = Machine::user();
    machine.state.gpr[gpr::RBX] = DATA;
    machine.protect(DATA, 5);
    assert!(machine.run_bytes(&[0x0f, 0xa3, 0x03]).is_ok());
    assert_eq!(machine.run_bytes(&[0x0f, 0xab, 0x03]), Err(Exception::page_fault(7, DATA)));
}

#[test]
fn flags_are_pushed_and_popped() {
    let mut machine = Machine::user();
    machine.state.rflags = 0x2 | rflags::IF | rflags::CF;
    machine.run(|a| a.pushfq()).expect("pushed");
    assert_eq!(machine.load(STACK - 8), 0x203);
    machine.store(STACK - 8, !0);
    machine.run(|a| a.popfq()).expect("popped");
    let free = rflags::ARITHMETIC | rflags::TF | rflags::DF | rflags::NT | rflags::AC | rflags::ID;
    assert_eq!(machine.state.rflags, 0x2 | rflags::IF | free, "IF kept, IOPL unchanged");
    let mut machine = Machine::new();
    machine.store(STACK, !0);
    machine.run(|a| a.popfq()).expect("popped");
    assert_eq!(machine.state.rflags, 0x2 | free | rflags::IF | rflags::IOPL);
    machine.state.gpr[gpr::RSP] = STACK;
    machine.store(STACK, 0);
    machine.run(|a| a.popf()).expect("popped");
    assert_eq!(machine.state.rflags, 0x2 | rflags::AC | rflags::ID, "the upper half stays");
}

#[test]
fn the_interrupt_flag_and_its_shadow() {
    let mut machine = Machine::new();
    machine.run(|a| a.sti()).expect("executed");
    assert!(machine.state.rflags & rflags::IF != 0 && machine.state.interrupt_shadow);
    machine.run(|a| a.sti()).expect("executed");
    assert!(!machine.state.interrupt_shadow, "IF was set already");
    machine.run(|a| a.cli()).expect("executed");
    assert!(machine.state.rflags & rflags::IF == 0);
    machine.enter_ring_3();
    assert_eq!(machine.run(|a| a.cli()), Err(GENERAL));
    machine.state.rflags |= rflags::IOPL;
    assert!(machine.run(|a| a.sti()).is_ok());
}

#[test]
fn halt_is_for_ring_0() {
    let mut machine = Machine::new();
    let executed = machine.run(|a| a.hlt()).expect("halted");
    assert_eq!((executed.flow, machine.state.rip, machine.state.halted), (Flow::Halt, CODE + 1, true));
    assert_eq!(Machine::user().run(|a| a.hlt()), Err(GENERAL));
    assert_eq!(Machine::user().run(|a| a.invlpg(ptr(rax))), Err(GENERAL));
    assert_eq!(Machine::user().run(|a| a.ud2()), Err(Exception::invalid_opcode()));
}

#[test]
fn pop_uses_the_new_stack_pointer_in_its_address() {
    let mut machine = Machine::new();
    machine.store(STACK, 0x1234);
    machine.run(|a| a.pop(qword_ptr(rsp))).expect("popped");
    assert_eq!((machine.load(STACK + 8), machine.state.gpr[gpr::RSP]), (0x1234, STACK + 8));
    machine.run(|a| a.push(qword_ptr(rsp))).expect("pushed");
    assert_eq!((machine.load(STACK), machine.state.gpr[gpr::RSP]), (0x1234, STACK));
    machine.protect(DATA, 0);
    machine.state.gpr[gpr::RBX] = DATA;
    machine.enter_ring_3();
    assert_eq!(machine.run(|a| a.pop(qword_ptr(rbx))), Err(Exception::page_fault(6, DATA)));
    assert_eq!(machine.state.gpr[gpr::RSP], STACK);
}

#[test]
fn enter_builds_a_frame() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RBP] = DATA + 0x100;
    machine.store(DATA + 0xf8, 0xaaaa);
    machine.run(|a| a.enter(0x20, 2)).expect("entered");
    let frame = STACK - 8;
    assert_eq!([machine.load(frame), machine.load(frame - 8), machine.load(frame - 16)], [DATA + 0x100, 0xaaaa, frame]);
    assert_eq!((machine.state.gpr[gpr::RBP], machine.state.gpr[gpr::RSP]), (frame, frame - 0x30));
}

#[test]
fn a_non_canonical_stack_is_a_stack_fault() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RSP] = 1 << 50;
    machine.state.gpr[gpr::RBX] = 1 << 50;
    assert_eq!(machine.run(|a| a.pushfq()), Err(Exception::stack(0)));
    assert_eq!(machine.run(|a| a.push(qword_ptr(rbx))), Err(GENERAL));
    assert_eq!(machine.run(|a| a.fxsave(ptr(rsp))), Err(Exception::stack(0)));
}

#[test]
fn ports_follow_iopl_and_the_bitmap() {
    let mut machine = Machine::user();
    machine.state.gpr[gpr::RDX] = 0x3f8;
    assert_eq!(machine.run(|a| a.in_(al, dx)), Err(GENERAL));
    machine.state.tr.limit = 0x2067;
    machine.store(TSS + 0x60, 0x68 << 48);
    machine.store(TSS + 0x68 + 0x78, !0b111);
    for (port, size, allowed) in
        [(0x3c0, 1, true), (0x3c0, 2, true), (0x3c2, 1, true), (0x3c2, 2, false), (0x3c0, 4, false), (0x3c3, 1, false)]
    {
        assert_eq!(machine.with(|x| io::check(x, port, size)).is_ok(), allowed, "{port:#x} {size}");
    }
    assert_eq!(machine.with(|x| io::check(x, 0xffff, 1)), Err(GENERAL), "beyond the limit");
    machine.state.rflags |= rflags::IOPL;
    machine.board.value = 0x1234_5678;
    machine.state.gpr[gpr::RAX] = u64::MAX;
    machine.run(|a| a.in_(ax, dx)).expect("read");
    assert!(machine.device);
    assert_eq!(machine.state.gpr[gpr::RAX], 0xffff_ffff_ffff_5678);
    machine.run(|a| a.out(0x80, al)).expect("written");
    assert_eq!(machine.board.log, ["100 in 0x3f8 2", "101 out 0x80 1 0x78"]);
}

/// An x87 state with TOP 6: ST(0) = 1, ST(1) = 0, the others empty.
fn some_x87(machine: &mut Machine) {
    let area = &mut machine.state.fx.0;
    area[0..5].copy_from_slice(&[0x7f, 0x03, 0x00, 0x30, 0xc0]);
    area[32..42].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]);
    area[160..168].copy_from_slice(&0x1122_3344_5566_7788_u64.to_le_bytes());
}

#[test]
fn fxsave_and_fxrstor_round_trip() {
    let mut machine = Machine::user();
    some_x87(&mut machine);
    machine.state.fx.0[8] = 0x77; // An instruction pointer of the host.
    machine.state.gpr[gpr::RBX] = DATA + 16;
    machine.store(DATA + 16 + 416, 0x5555);
    machine.run(|a| a.fxsave64(ptr(rbx))).expect("saved");
    assert_eq!(machine.load(DATA + 16), 0x00c0_3000_037f);
    assert_eq!([machine.load(DATA + 24), machine.load(DATA + 32)], [0, 0], "no pointers");
    assert_eq!(machine.load(DATA + 40), 0xffff_0000_1f80);
    assert_eq!(machine.load(DATA + 16 + 160), 0x1122_3344_5566_7788);
    assert_eq!(machine.load(DATA + 16 + 416), 0x5555, "the program's own bytes");
    let mut saved = machine.state.fx;
    fpu::canonicalize(&mut saved);
    machine.state.fx = Default::default();
    machine.run(|a| a.fxrstor64(ptr(rbx))).expect("restored");
    assert!(machine.state.fx == saved);
    machine.state.gpr[gpr::RBX] += 8;
    assert_eq!(machine.run(|a| a.fxrstor(ptr(rbx))), Err(GENERAL), "not aligned");
    assert_eq!(machine.run(|a| a.fxsave(ptr(rbx))), Err(GENERAL), "not aligned");
    machine.state.gpr[gpr::RBX] -= 8;
    machine.store(DATA + 40, 1 << 16);
    assert_eq!(machine.run(|a| a.fxrstor(ptr(rbx))), Err(GENERAL), "a reserved MXCSR bit");
    assert!(machine.state.fx == saved);
}

#[test]
fn availability_of_the_fpu() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RBX] = DATA;
    machine.state.cr0 |= control::CR0_TS;
    let missing = Err(Exception::device_not_available());
    assert_eq!(machine.run(|a| a.fxsave(ptr(rbx))), missing);
    assert_eq!(machine.run(|a| a.fnstenv(ptr(rbx))), missing);
    assert_eq!(machine.run(|a| a.ldmxcsr(ptr(rbx))), missing);
    machine.run(|a| a.clts()).expect("cleared");
    assert!(machine.run(|a| a.fxsave(ptr(rbx))).is_ok());
    machine.state.cr4 &= !control::CR4_OSFXSR;
    assert_eq!(machine.run(|a| a.stmxcsr(ptr(rbx))), Err(Exception::invalid_opcode()));
}

#[test]
fn mxcsr_refuses_reserved_bits() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RBX] = DATA;
    machine.store(DATA, 0x9f80);
    machine.run(|a| a.ldmxcsr(ptr(rbx))).expect("loaded");
    machine.run(|a| a.stmxcsr(ptr(rbx + 8))).expect("stored");
    assert_eq!(machine.load(DATA + 8), 0x9f80);
    machine.store(DATA, 1 << 16);
    assert_eq!(machine.run(|a| a.ldmxcsr(ptr(rbx))), Err(GENERAL));
}

#[test]
fn environments_hold_full_tags() {
    let mut machine = Machine::new();
    some_x87(&mut machine);
    machine.state.gpr[gpr::RBX] = DATA;
    // fnstenv [rbx]
    machine.run_bytes(&[0xd9, 0x33]).expect("stored");
    let words: Vec<u64> = (0..4).map(|index| machine.load(DATA + 8 * index)).collect();
    // Register 6 holds 1 (valid), register 7 holds 0 (zero), the others are empty.
    assert_eq!(words[0], 0xffff_3000_ffff_037f);
    assert_eq!(words[1], 0x0000_0000_ffff_4fff);
    assert_eq!((words[2], words[3] as u32), (0, 0xffff_0000));
    // fldenv [rbx] with TOP 7: the registers stay where they are.
    machine.store(DATA, 0xffff_3800_ffff_037f);
    machine.run_bytes(&[0xd9, 0x23]).expect("loaded");
    let area = &machine.state.fx.0;
    assert_eq!((area[3], area[4]), (0x38, 0xc0));
    assert_eq!(area[32 + 7 * 16 + 9], 0x3f, "the 1 is ST(7) now");
}

#[test]
fn fnsave_initialises_and_frstor_brings_back() {
    let mut machine = Machine::new();
    some_x87(&mut machine);
    let before = machine.state.fx;
    machine.state.gpr[gpr::RBX] = DATA;
    machine.run_bytes(&[0xdd, 0x33]).expect("saved");
    assert_eq!(machine.state.fx.0[0..5], [0x7f, 0x03, 0, 0, 0]);
    assert_eq!(machine.load(DATA + 28), 0x8000_0000_0000_0000);
    machine.run_bytes(&[0xdd, 0x23]).expect("restored");
    assert!(machine.state.fx == before);
    // The narrow form.
    machine.run_bytes(&[0x66, 0xdd, 0x33]).expect("saved");
    assert_eq!(machine.load(DATA), 0x4fff_3000_037f);
    machine.run_bytes(&[0x66, 0xdd, 0x23]).expect("restored");
    assert!(machine.state.fx == before);
    // An unmasked pending exception shows in ES and B.
    machine.store(DATA, 0x0000_0001_0000_037e);
    machine.run_bytes(&[0xd9, 0x23]).expect("loaded");
    assert_eq!(machine.state.fx.0[2..4], [0x81, 0x80]);
}

#[test]
fn masked_moves_write_only_chosen_bytes() {
    let mut machine = Machine::user();
    machine.state.gpr[gpr::RDI] = DATA + PAGE - 3;
    machine.state.fx.0[160..176].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    machine.state.fx.0[176] = 0x80;
    machine.state.fx.0[178] = 0xff;
    machine.run(|a| a.maskmovdqu(xmm0, xmm1)).expect("moved");
    assert_eq!(machine.load(DATA + PAGE - 8) >> 40, 0x03_0001);
    // The whole operand must be writable, also where no byte is chosen.
    machine.protect(DATA + PAGE, 0);
    assert_eq!(machine.run(|a| a.maskmovdqu(xmm0, xmm1)), Err(Exception::page_fault(6, DATA + PAGE)));
    machine.state.gpr[gpr::RDI] = DATA + 64;
    some_x87(&mut machine);
    // MM6 is ST(0): its mask byte 7 is 80h, its data byte 7 too.
    machine.run(|a| a.maskmovq(mm6, mm6)).expect("moved");
    assert_eq!(machine.load(DATA + 64), 0x80 << 56);
    assert_eq!((machine.state.fx.0[3], machine.state.fx.0[4]), (0, 0xff), "TOP 0, all in use");
}

#[test]
fn cache_lines_are_flushed_like_loads() {
    let mut machine = Machine::user();
    machine.state.gpr[gpr::RBX] = DATA;
    assert!(machine.run(|a| a.clflush(ptr(rbx))).is_ok());
    machine.protect(DATA, 0);
    assert_eq!(machine.run(|a| a.clflush(ptr(rbx))), Err(Exception::page_fault(4, DATA)));
}

#[test]
fn xlat_looks_up_a_byte() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RBX] = DATA;
    machine.state.gpr[gpr::RAX] = 0x1102;
    machine.store(DATA, 0x4433_2211);
    machine.run_bytes(&[0xd7]).expect("looked up");
    assert_eq!(machine.state.gpr[gpr::RAX], 0x1133);
}
