//! A machine in long mode whose handlers of exceptions write down what they were called for.
#![allow(dead_code)] // Each test program uses a part.

use crate::bare::{self, Bare};
use ftemu_cpu::state::{Segment, State, control, gpr, rflags, segment};
use ftemu_cpu::{Cpu, Icount, Memory, Stop};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

pub const CODE: u64 = 0x10_0000;
pub const DATA: u64 = 0x20_0000;
pub const STACK: u64 = 0x30_0000;
const GDT: u64 = 0x8000;
const IDT: u64 = 0x9000;
const TSS: u64 = 0xa000;
const HANDLERS: u64 = 0x40_0000;
/// The address of the next record, then records of four words.
const LOG: u64 = 0x50_0000;

pub fn assemble(build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    bare::assemble(64, CODE, build)
}

/// What a handler was called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub vector: u64,
    pub rip: u64,
    pub rflags: u64,
    /// DR6 without its fixed bits.
    pub dr6: u64,
}

/// Writes a record, clears DR6, sets RF and goes back; behind a fault of alignment the flag AC is cleared.
fn handler(vector: u8, error_code: bool) -> Vec<u8> {
    let extra = if error_code { 8 } else { 0 };
    let mut a = CodeAssembler::new(64).expect("an assembler");
    let mut build = || -> Result<(), IcedError> {
        a.push(rax)?;
        a.push(rbx)?;
        a.mov(rbx, qword_ptr(LOG))?;
        a.mov(qword_ptr(rbx), i32::from(vector))?;
        a.mov(rax, qword_ptr(rsp + 16 + extra))?;
        a.mov(qword_ptr(rbx + 8), rax)?;
        a.mov(rax, qword_ptr(rsp + 32 + extra))?;
        a.mov(qword_ptr(rbx + 16), rax)?;
        a.mov(rax, dr6)?;
        a.mov(qword_ptr(rbx + 24), rax)?;
        a.add(rbx, 32)?;
        a.mov(qword_ptr(LOG), rbx)?;
        a.xor(eax, eax)?;
        a.mov(dr6, rax)?;
        a.or(dword_ptr(rsp + 32 + extra), rflags::RF as i32)?;
        if vector == 17 {
            a.and(dword_ptr(rsp + 32 + extra), !(rflags::AC as i32))?;
        }
        a.pop(rbx)?;
        a.pop(rax)?;
        if error_code {
            a.add(rsp, 8)?;
        }
        a.iretq()
    };
    build().expect("a handler");
    a.assemble(HANDLERS + 256 * u64::from(vector)).expect("a handler that assembles")
}

/// 16 MiB, identity-mapped by large pages that CPL 3 may use, CPL 0, a TSS with a stack for it.
pub fn machine(program: &[u8]) -> Cpu {
    let mut memory = Memory::new(16 << 20).expect("memory");
    memory.store(0x1000, &0x2007_u64.to_le_bytes());
    memory.store(0x2000, &0x3007_u64.to_le_bytes());
    for large in 0..8_u64 {
        memory.store(0x3000 + 8 * large, &(large << 21 | 0x87).to_le_bytes());
    }
    memory.store(CODE, program);
    for (number, descriptor) in [(1, 0xaf_9b00_0000_ffff_u64), (2, 0xcf_9300_0000_ffff), (3, 0xcf_f300_0000_ffff)] {
        memory.store(GDT + 8 * number, &descriptor.to_le_bytes());
    }
    memory.store(GDT + 32, &0xaf_fb00_0000_ffff_u64.to_le_bytes());
    memory.store(TSS + 4, &(STACK + 0x8000).to_le_bytes());
    memory.store(LOG, &(LOG + 8).to_le_bytes());
    for vector in [1, 3, 13, 14, 17] {
        let address = HANDLERS + 256 * u64::from(vector);
        memory.store(address, &handler(vector, vector > 8));
        let dpl = if vector == 3 { 3 } else { 0 };
        let low = address & 0xffff | 8 << 16 | (0x8e | dpl << 5) << 40 | (address >> 16 & 0xffff) << 48;
        memory.store(IDT + 16 * u64::from(vector), &low.to_le_bytes());
    }
    let mut cpu = Cpu::new(memory).expect("a CPU");
    let state = cpu.state_mut();
    *state = State {
        rip: CODE,
        rflags: 2,
        cr0: control::CR0_PE | control::CR0_PG | control::CR0_WP | control::CR0_NE | control::CR0_AM,
        cr3: 0x1000,
        cr4: control::CR4_PAE | control::CR4_OSFXSR | control::CR4_OSXMMEXCPT | control::CR4_DE,
        efer: control::EFER_LME | control::EFER_LMA | control::EFER_NXE,
        ..State::default()
    };
    state.segments[segment::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xa9b, selector: 8 };
    state.segments[segment::SS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc93, selector: 16 };
    (state.gdtr.base, state.gdtr.limit) = (GDT, 0x27);
    (state.idtr.base, state.idtr.limit) = (IDT, 0xfff);
    state.tr = Segment { base: TSS, limit: 0x67, attributes: 0x8b, selector: 0x28 };
    state.dr[6] = 0xffff_0ff0;
    state.dr[7] = 0x400;
    state.gpr[gpr::RSP] = STACK;
    cpu
}

/// Puts the CPU at CPL 3.
pub fn enter_user(cpu: &mut Cpu) {
    let state = cpu.state_mut();
    state.cpl = 3;
    state.segments[segment::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xafb, selector: 0x23 };
    state.segments[segment::SS] = Segment { base: 0, limit: u32::MAX, attributes: 0xcf3, selector: 0x1b };
}

/// The halves of DR7 that arm breakpoint `number`: kind 0 execute, 1 write, 2 port, 3 any data.
pub fn arm(cpu: &mut Cpu, number: usize, address: u64, kind: u64, bytes: u64) {
    let length = [1, 2, 8, 4].iter().position(|&known| known == bytes).expect("a length there is") as u64;
    let state = cpu.state_mut();
    state.dr[number] = address;
    state.dr[7] |= 2 << (2 * number) | (kind | length << 2) << (16 + 4 * number);
}

pub fn run_to_halt(cpu: &mut Cpu) {
    loop {
        match cpu.run(&mut Bare, Icount(1_000_000), false) {
            Stop::Halt => return,
            Stop::Device => {}
            stop => panic!("{stop:?} at {:#x} after {:?}", cpu.state().rip, cpu.count()),
        }
    }
}

fn word(cpu: &Cpu, address: u64) -> u64 {
    let mut bytes = [0; 8];
    cpu.memory().read(address, &mut bytes);
    u64::from_le_bytes(bytes)
}

/// What the handlers wrote down.
pub fn records(cpu: &Cpu) -> Vec<Record> {
    let end = word(cpu, LOG);
    let starts = (LOG + 8..end).step_by(32);
    starts
        .map(|at| Record {
            vector: word(cpu, at),
            rip: word(cpu, at + 8),
            rflags: word(cpu, at + 16),
            dr6: word(cpu, at + 24) & 0xe00f,
        })
        .collect()
}

/// Runs the same machine to its end at once and in slices of all lengths, with everything derived dropped now and then:
/// nothing may differ. Gives the records.
pub fn run_all_ways(prepare: impl Fn() -> Cpu) -> Vec<Record> {
    let mut whole = prepare();
    run_to_halt(&mut whole);
    let outcome = |cpu: &Cpu| {
        let mut saved = Vec::new();
        cpu.save(&mut saved);
        let mut data = vec![0; 0x2000];
        cpu.memory().read(DATA - 0x1000, &mut data);
        (saved, data, records(cpu))
    };
    let expected = outcome(&whole);
    let mut seed = 7_u64;
    for round in 0..12 {
        let mut cut = prepare();
        loop {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let longest = if round == 0 { 1 } else { 1 + (seed >> 33) % (4 * round) };
            match cut.run(&mut Bare, Icount(cut.count().0 + longest), false) {
                Stop::Count | Stop::Device => {}
                stop => break assert_eq!(stop, Stop::Halt),
            }
            if seed >> 61 == 0 {
                cut.forget_derived();
            }
        }
        assert!(outcome(&cut) == expected, "round {round}: {:x?} and {:x?}", records(&cut), records(&whole));
    }
    expected.2
}
