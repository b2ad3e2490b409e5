//! The engine outside 64-bit mode: 16- and 32-bit code, segments with limits, both old formats of page tables.

mod bare;

use bare::{Bare, assemble};
use ftemu_cpu::state::{Segment, State, control, gpr, segment};
use ftemu_cpu::{Cpu, Icount, Memory, Stop};
use iced_x86::code_asm::*;

/// Real mode, code at 2000:0100, data at 3000:0, stack at 4000:8000.
fn real_mode(program: &[u8]) -> Cpu {
    let mut memory = Memory::new(2 << 20).expect("memory");
    memory.store(0x2_0100, program);
    let mut cpu = Cpu::new(memory).expect("a CPU");
    let paragraph = |selector: u16, attributes: u16| Segment {
        base: u64::from(selector) * 16,
        limit: 0xffff,
        attributes,
        selector,
    };
    let mut state = State { rip: 0x100, rflags: 2, cr0: control::CR0_ET, ..State::default() };
    state.segments = [paragraph(0x3000, 0x93); 6];
    state.segments[segment::CS] = paragraph(0x2000, 0x9b);
    state.segments[segment::SS] = paragraph(0x4000, 0x93);
    state.idtr.limit = 0x3ff;
    state.gpr[gpr::RSP] = 0x8000;
    *cpu.state_mut() = state;
    cpu
}

const CODE: u64 = 0x1_0000;
const FLAT_DATA: Segment = Segment { base: 0, limit: u32::MAX, attributes: 0xc93, selector: 16 };

/// Protected mode, flat, 32 bits, no paging.
fn flat(program: &[u8]) -> Cpu {
    let mut memory = Memory::new(16 << 20).expect("memory");
    memory.store(CODE, program);
    let mut cpu = Cpu::new(memory).expect("a CPU");
    let mut state = State { rip: CODE, rflags: 2, cr0: control::CR0_PE | control::CR0_ET, ..State::default() };
    state.segments = [FLAT_DATA; 6];
    state.segments[segment::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc9b, selector: 8 };
    state.gpr[gpr::RSP] = 0x9000;
    *cpu.state_mut() = state;
    cpu
}

fn run_to_halt(cpu: &mut Cpu) {
    loop {
        match cpu.run(&mut Bare, Icount(1_000_000), false) {
            Stop::Halt => return,
            Stop::Device => {}
            stop => panic!("{stop:?} at {:#x} after {:?}", cpu.state().rip, cpu.count()),
        }
    }
}

fn word(cpu: &Cpu, address: u64) -> u16 {
    let mut bytes = [0; 2];
    cpu.memory().read(address, &mut bytes);
    u16::from_le_bytes(bytes)
}

#[test]
fn real_mode_calls_stacks_and_wrapping_addresses() {
    let program = assemble(16, 0x100, |a| {
        let mut function = a.create_label();
        let mut again = a.create_label();
        a.mov(cx, 10)?;
        a.xor(ax, ax)?;
        a.set_label(&mut again)?;
        a.call(function)?;
        a.dec(cx)?;
        a.jne(again)?;
        a.mov(bx, 0xfff0)?;
        a.mov(si, 0x20)?;
        a.mov(word_ptr(bx + si), ax)?; // DS:0010
        a.mov(bp, sp)?;
        a.push(0x1234)?;
        a.mov(dx, word_ptr(bp - 2))?;
        a.mov(word_ptr(0x40).cs(), dx)?;
        a.hlt()?;
        a.set_label(&mut function)?;
        a.add(ax, cx)?;
        a.ret()
    });
    let mut cpu = real_mode(&program);
    cpu.state_mut().gpr[gpr::RAX] = 0xffff_ffff_ffff_ffff;
    run_to_halt(&mut cpu);
    assert_eq!(word(&cpu, 0x3_0010), 55);
    assert_eq!((word(&cpu, 0x4_7ffe), word(&cpu, 0x2_0040)), (0x1234, 0x1234));
    assert_eq!(cpu.state().gpr[gpr::RAX], 0xffff_ffff_ffff_0037, "16-bit results leave the rest alone");
    assert_eq!(cpu.count(), Icount(2 + 5 * 10 + 7 + 1));
}

#[test]
fn the_limit_of_real_mode_segments_faults_through_the_vector_table() {
    let program = assemble(16, 0x100, |a| {
        a.mov(bx, 0xffff)?;
        a.mov(al, byte_ptr(bx))?;
        a.mov(ax, word_ptr(bx))?;
        a.hlt()
    });
    let mut cpu = real_mode(&program);
    // Vector 13 leads to 2000:0500, which halts.
    cpu.memory_mut().store(13 * 4, &[0x00, 0x05, 0x00, 0x20]);
    cpu.memory_mut().store(0x2_0500, &[0xf4]);
    run_to_halt(&mut cpu);
    assert_eq!(cpu.state().rip, 0x501);
    assert_eq!(word(&cpu, 0x4_7ffa), 0x105, "the fault's IP is that of the second load");
    assert_eq!(word(&cpu, 0x4_7ffc), 0x2000);
}

#[test]
fn thirty_two_bit_code_uses_the_old_one_byte_forms() {
    let program = assemble(32, CODE, |a| {
        let mut fib = a.create_label();
        let mut small = a.create_label();
        a.push(15)?;
        a.call(fib)?;
        a.mov(dword_ptr(0x5000), eax)?;
        a.mov(edi, 0x5000)?;
        a.inc(edi)?;
        a.dec(edi)?;
        a.mov(ecx, 2)?;
        a.xchg(dword_ptr(edi + ecx * 4 - 8), ebx)?;
        a.hlt()?;
        a.set_label(&mut fib)?;
        a.push(ebp)?;
        a.mov(ebp, esp)?;
        a.push(ebx)?;
        a.mov(eax, dword_ptr(ebp + 8))?;
        a.cmp(eax, 2)?;
        a.jb(small)?;
        a.dec(eax)?;
        a.push(eax)?;
        a.call(fib)?;
        a.mov(ebx, eax)?;
        a.mov(eax, dword_ptr(ebp + 8))?;
        a.sub(eax, 2)?;
        a.push(eax)?;
        a.call(fib)?;
        a.add(eax, ebx)?;
        a.set_label(&mut small)?;
        a.pop(ebx)?;
        a.leave()?;
        a.ret_1(4)
    });
    let mut cpu = flat(&program);
    cpu.state_mut().gpr[gpr::RBX] = 7;
    run_to_halt(&mut cpu);
    assert_eq!(cpu.state().gpr[gpr::RBX], 610);
    assert_eq!((cpu.state().gpr[gpr::RSP], word(&cpu, 0x5000)), (0x9000, 7));
}

#[test]
fn bases_limits_and_wrapping_of_a_segment_that_is_not_flat() {
    let program = assemble(32, CODE, |a| {
        a.mov(eax, dword_ptr(0xffff_fffcu32).gs())?; // Wraps: 4 below the base.
        a.mov(dword_ptr(0x10).fs(), eax)?;
        a.mov(ebx, dword_ptr(0xffc).fs())?;
        a.mov(ebx, dword_ptr(0xffd).fs())?;
        a.hlt()
    });
    let mut cpu = flat(&program);
    cpu.memory_mut().store(0x4fffc, &0xfeed_u32.to_le_bytes());
    // #GP goes through an interrupt gate to a HLT.
    cpu.memory_mut().store(0x8000, &[0xf4]);
    cpu.memory_mut().store(0x7000 + 8, &[0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0]);
    cpu.memory_mut().store(0x6000 + 13 * 8, &[0x00, 0x80, 8, 0, 0, 0x8e, 0, 0]);
    let state = cpu.state_mut();
    state.gdtr.base = 0x7000;
    state.gdtr.limit = 0xf;
    state.idtr.base = 0x6000;
    state.idtr.limit = 0x7f;
    state.segments[segment::GS].base = 0x5_0000;
    state.segments[segment::FS] = Segment { base: 0x6_0000, limit: 0xfff, attributes: 0x493, selector: 24 };
    run_to_halt(&mut cpu);
    assert_eq!(word(&cpu, 0x6_0010), 0xfeed);
    assert_eq!((cpu.state().rip, cpu.count()), (0x8001, Icount(4)));
    assert_eq!(word(&cpu, 0x8ff0), 0, "the error code");
}

/// Stores through 40_0000h, then changes the entry that maps it, and reads there.
fn remapping(entry: i32, value: u32) -> Vec<u8> {
    assemble(32, CODE, |a| {
        a.mov(dword_ptr(0x40_0000), 1)?;
        a.mov(eax, dword_ptr(0x40_0000))?;
        a.mov(dword_ptr(entry), value)?;
        a.mov(ebx, dword_ptr(0x40_0000))?;
        a.hlt()
    })
}

#[test]
fn two_level_paging_with_4_kib_and_4_mib_pages() {
    let mut cpu = flat(&remapping(0x2000, 0x7007));
    cpu.memory_mut().store(0x1000, &0x83_u32.to_le_bytes()); // 4 MiB, identity
    cpu.memory_mut().store(0x1004, &0x2007_u32.to_le_bytes());
    cpu.memory_mut().store(0x2000, &0x6007_u32.to_le_bytes());
    cpu.memory_mut().store(0x7000, &2_u32.to_le_bytes());
    let state = cpu.state_mut();
    state.cr3 = 0x1000;
    state.cr4 = control::CR4_PSE;
    state.cr0 |= control::CR0_PG;
    run_to_halt(&mut cpu);
    assert_eq!((cpu.state().gpr[gpr::RAX], cpu.state().gpr[gpr::RBX]), (1, 2));
    assert_eq!((word(&cpu, 0x6000), word(&cpu, 0x2000)), (1, 0x7027), "accessed after the change");
    assert_eq!(word(&cpu, 0x1000), 0xe3, "the large page was written");
}

#[test]
fn three_level_paging() {
    let mut cpu = flat(&remapping(0x3010, 0x60_0083));
    cpu.memory_mut().store(0x1020, &0x3001_u64.to_le_bytes());
    for large in 0..3_u64 {
        cpu.memory_mut().store(0x3000 + 8 * large, &(large << 21 | 0x83).to_le_bytes());
    }
    cpu.memory_mut().store(0x60_0000, &2_u32.to_le_bytes());
    let state = cpu.state_mut();
    state.cr3 = 0x1020;
    state.cr4 = control::CR4_PAE;
    state.cr0 |= control::CR0_PG;
    run_to_halt(&mut cpu);
    assert_eq!((cpu.state().gpr[gpr::RAX], cpu.state().gpr[gpr::RBX]), (1, 2));
    assert_eq!(word(&cpu, 0x1020), 0x3001, "the pointers have no accessed bit");
}
