//! The engine on small programs: exact counts, slices, spilled registers, self-modification, page crossings.

mod bare;

use bare::{Bare, long_mode};
use ftemu_cpu::state::gpr;
use ftemu_cpu::{Cpu, Icount, Stop};
use iced_x86::code_asm::*;

const CODE: u64 = 0x10_0000;
const DATA: u64 = 0x20_0000;
const STACK: u64 = 0x30_0000;

/// 16 MiB, identity-mapped by large pages from tables at 1000h, long mode, CPL 0.
fn machine(program: &[u8]) -> Cpu {
    let mut memory = bare::identity();
    memory.store(CODE, program);
    let mut cpu = Cpu::new(memory).expect("a CPU");
    *cpu.state_mut() = long_mode(0, CODE, STACK);
    cpu
}

fn assemble(build: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>) -> Vec<u8> {
    bare::assemble(64, CODE, build)
}

fn run_to_halt(cpu: &mut Cpu) {
    while cpu.run(&mut Bare, Icount(u64::MAX), false) != Stop::Halt {}
}

/// Sums with every register, recursion, memory and flags that cross blocks.
fn busy_program() -> Vec<u8> {
    assemble(|a| {
        let mut outer = a.create_label();
        let mut fib = a.create_label();
        let mut recurse = a.create_label();
        a.mov(r15, 20u64)?;
        a.xor(r10, r10)?;
        a.mov(r14, DATA)?;
        a.set_label(&mut outer)?;
        a.mov(rdi, 10u64)?;
        a.call(fib)?;
        a.add(r10, rax)?;
        a.adc(qword_ptr(r14 + r15 * 8 + 0xff9), r10)?;
        a.mov(r11, r10)?;
        a.mov(rcx, r15)?;
        a.rol(r11, cl)?;
        a.xor(r13, r11)?;
        a.bswap(r13)?;
        a.movq(xmm3, r13)?;
        a.paddq(xmm4, xmm3)?;
        a.mov(ah, cl)?;
        a.mov(rsi, r14)?;
        a.add(byte_ptr(rsi), ah)?;
        a.xor(byte_ptr(rsi + 3), ch)?;
        a.dec(r15)?;
        a.jne(outer)?;
        a.movq(rsi, xmm4)?;
        a.hlt()?;
        a.set_label(&mut fib)?;
        a.cmp(rdi, 2)?;
        a.jae(recurse)?;
        a.mov(rax, rdi)?;
        a.ret()?;
        a.set_label(&mut recurse)?;
        a.push(r12)?;
        a.push(rdi)?;
        a.dec(rdi)?;
        a.call(fib)?;
        a.mov(r12, rax)?;
        a.pop(rdi)?;
        a.sub(rdi, 2)?;
        a.call(fib)?;
        a.add(rax, r12)?;
        a.pop(r12)?;
        a.ret()
    })
}

fn outcome(cpu: &Cpu) -> ([u64; 16], u64, u64, Icount, Vec<u8>) {
    let mut data = vec![0; 0x3000];
    cpu.memory().read(DATA, &mut data);
    (cpu.state().gpr, cpu.state().rip, cpu.state().rflags, cpu.count(), data)
}

#[test]
fn slices_and_flushes_change_nothing() {
    let program = busy_program();
    let mut whole = machine(&program);
    run_to_halt(&mut whole);
    let expected = outcome(&whole);
    assert_eq!(expected.0[10], 20 * 55);
    let mut seed = 1_u64;
    for round in 0..20 {
        let mut cut = machine(&program);
        loop {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let until = Icount(cut.count().0 + 1 + (seed >> 33) % 300);
            match cut.run(&mut Bare, until, false) {
                Stop::Count => assert_eq!(cut.count(), until),
                stop => break assert_eq!(stop, Stop::Halt),
            }
            if seed >> 60 == round % 16 {
                cut.forget_derived();
            }
        }
        assert!(outcome(&cut) == expected, "round {round}");
    }
}

#[test]
fn a_program_may_rewrite_itself() {
    let program = assemble(|a| {
        let mut patched = a.create_label();
        let mut again = a.create_label();
        a.mov(ecx, 100u32)?;
        a.set_label(&mut again)?;
        a.lea(rdi, ptr(patched))?;
        a.mov(byte_ptr(rdi + 1), cl)?;
        a.set_label(&mut patched)?;
        a.mov(eax, 0x55u32)?;
        a.add(rbx, rax)?;
        a.dec(ecx)?;
        a.jne(again)?;
        a.hlt()
    });
    let mut cpu = machine(&program);
    run_to_halt(&mut cpu);
    assert_eq!(cpu.state().gpr[gpr::RBX], (1..=100).sum::<u64>());
    assert_eq!(cpu.count(), Icount(1 + 6 * 100 + 1));
}

#[test]
fn a_changed_page_table_counts_at_once() {
    // The page at DATA is read, then its large page is pointed elsewhere, and it is read again.
    let program = assemble(|a| {
        a.mov(r8, DATA)?;
        a.mov(rax, qword_ptr(r8))?;
        a.mov(rdx, 0x3000u64 + 8)?;
        a.mov(rcx, 0x40_0083u64)?;
        a.mov(qword_ptr(rdx), rcx)?;
        a.mov(rbx, qword_ptr(r8))?;
        a.hlt()
    });
    let mut cpu = machine(&program);
    cpu.memory_mut().store(DATA, &1u64.to_le_bytes());
    cpu.memory_mut().store(0x40_0000, &2u64.to_le_bytes());
    // The second large page maps 200000h-3fffffh.
    run_to_halt(&mut cpu);
    assert_eq!((cpu.state().gpr[gpr::RAX], cpu.state().gpr[gpr::RBX]), (1, 2));
}
