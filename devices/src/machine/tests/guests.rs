//! Small guests, assembled here and booted by the Linux protocol.

use crate::linux::tests::bzimage;
use crate::machine::{Config, Machine};
use iced_x86::code_asm::*;

const ENTRY: u64 = 0x100_0200;
/// Where guests put their IDT and count interrupts.
const IDT: u64 = 0x50_0000;
pub const TICKS: u64 = 0x51_0000;

pub type Assembled = Result<(), IcedError>;

/// A bzImage whose entry point is what `build` assembles.
pub fn kernel(build: impl FnOnce(&mut CodeAssembler) -> Assembled) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(64).unwrap();
    build(&mut assembler).unwrap();
    let mut payload = vec![0; 0x200];
    payload.extend(assembler.assemble(ENTRY).unwrap());
    bzimage(&payload)
}

pub fn machine(build: impl FnOnce(&mut CodeAssembler) -> Assembled) -> Machine {
    let mut machine = Machine::new(&config()).unwrap();
    machine.load_linux(&kernel(build), None, "").unwrap();
    machine
}

pub fn config() -> Config {
    Config { memory_bytes: 24 << 20, ..Config::default() }
}

pub fn outb(a: &mut CodeAssembler, port: u32, value: u32) -> Assembled {
    a.mov(edx, port)?;
    a.mov(eax, value)?;
    a.out(dx, al)
}

pub fn mmio(a: &mut CodeAssembler, address: u64, value: u32) -> Assembled {
    a.mov(rbx, address)?;
    a.mov(dword_ptr(rbx), value)
}

/// Points an interrupt vector at a label and loads the IDT.
pub fn gate(a: &mut CodeAssembler, vector: u64, handler: CodeLabel) -> Assembled {
    a.mov(rbx, IDT + 16 * vector)?;
    a.lea(rax, ptr(handler))?;
    a.mov(word_ptr(rbx), ax)?;
    a.mov(dword_ptr(rbx + 2), 0x8e00_0010_u32)?;
    a.shr(rax, 16)?;
    a.mov(word_ptr(rbx + 6), ax)?;
    a.mov(qword_ptr(rbx + 8), 0)?;
    a.mov(rbx, IDT - 16)?;
    a.mov(word_ptr(rbx), 0xfff)?;
    a.mov(rax, IDT)?;
    a.mov(qword_ptr(rbx + 2), rax)?;
    a.lidt(ptr(rbx))
}

/// A guest that computes while the local APIC's timer interrupts it every 5000 ns and prints a letter each time.
pub fn ticking(a: &mut CodeAssembler) -> Assembled {
    let (mut handler, mut work) = (a.create_label(), a.create_label());
    gate(a, 0x40, handler)?;
    outb(a, 0x21, 0xff)?;
    mmio(a, 0xfee0_03e0, 0xb)?;
    mmio(a, 0xfee0_0320, 0x2_0040)?;
    mmio(a, 0xfee0_0380, 5000)?;
    a.sti()?;
    a.mov(r8, 1u64)?;
    a.mov(r9, 0x60_0000u64)?;
    a.set_label(&mut work)?;
    a.imul_3(r8, r8, 0x1357)?;
    a.add(r8, 1)?;
    a.mov(rcx, r8)?;
    a.and(ecx, 0xfff8)?;
    a.mov(qword_ptr(r9 + rcx), r8)?;
    a.jmp(work)?;
    a.set_label(&mut handler)?;
    a.push(rax)?;
    a.push(rdx)?;
    a.push(rbx)?;
    a.mov(rbx, TICKS)?;
    a.inc(dword_ptr(rbx))?;
    a.mov(eax, dword_ptr(rbx))?;
    a.and(al, 0x1f)?;
    a.or(al, 0x40)?;
    a.mov(edx, 0x3f8)?;
    a.out(dx, al)?;
    mmio(a, 0xfee0_00b0, 0)?;
    a.pop(rbx)?;
    a.pop(rdx)?;
    a.pop(rax)?;
    a.iretq()
}

/// A guest that sleeps until COM1 receives, echoes the bytes with one added, and sleeps again.
pub fn echo(a: &mut CodeAssembler) -> Assembled {
    let (mut handler, mut sleep) = (a.create_label(), a.create_label());
    gate(a, 0x34, handler)?;
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0xef)] {
        outb(a, port, value)?;
    }
    outb(a, 0x3fc, 8)?;
    outb(a, 0x3f9, 1)?;
    a.sti()?;
    a.set_label(&mut sleep)?;
    a.hlt()?;
    a.jmp(sleep)?;
    a.set_label(&mut handler)?;
    let mut done = a.create_label();
    a.mov(edx, 0x3fd)?;
    a.in_(al, dx)?;
    a.test(al, 1)?;
    a.jz(done)?;
    a.mov(edx, 0x3f8)?;
    a.in_(al, dx)?;
    a.inc(al)?;
    a.out(dx, al)?;
    a.jmp(handler)?;
    a.set_label(&mut done)?;
    outb(a, 0x20, 0x20)?;
    a.iretq()
}
