//! One page of code at many linear addresses: a store through any of them is noticed, whichever were stored through before
//! the page became code.

mod bare;

use bare::{Bare, long_mode};
use ftemu_cpu::{Cpu, Icount, Memory, Optimisations};
use iced_x86::code_asm::*;

const CODE: u64 = 0x10_0000;
/// The page that changes, and the first of the linear addresses it is mapped at.
const PAGE_AT: u64 = 0x20_0000;
const ALIASES: u64 = 0x80_0000;
const COUNT: u64 = 6;
const INSTRUCTIONS: u64 = 20_000;

/// Stores another operand through some aliases, runs the function through one, and adds up what it gives.
fn program() -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("an assembler");
    let mut again = a.create_label();
    let mut build = || {
        a.set_label(&mut again)?;
        for number in 0..40_u64 {
            for store in 0..=number % COUNT {
                a.add(r12d, 0x101)?;
                let alias = ALIASES + 0x1000 * ((number / 2 + store) % COUNT);
                a.mov(r9, alias + 1)?;
                a.mov(dword_ptr(r9), r12d)?;
            }
            a.mov(r9, ALIASES + 0x1000 * (number / 3 % COUNT))?;
            a.call(r9)?;
            a.rol(rbx, 3)?;
            a.add(rbx, rax)?;
        }
        a.jmp(again)
    };
    build().expect("a program");
    a.assemble(CODE).expect("a program that assembles")
}

fn machine(optimisations: Optimisations) -> Cpu {
    let mut memory = Memory::new(16 << 20).expect("memory");
    memory.store(0x1000, &0x2007_u64.to_le_bytes());
    memory.store(0x2000, &0x3007_u64.to_le_bytes());
    for large in 0..4_u64 {
        memory.store(0x3000 + 8 * large, &(large << 21 | 0x87).to_le_bytes());
    }
    memory.store(0x3020, &0x4007_u64.to_le_bytes());
    for alias in 0..COUNT {
        memory.store(0x4000 + 8 * alias, &(PAGE_AT | 7).to_le_bytes());
    }
    memory.store(CODE, &program());
    // mov eax, operand; ret
    memory.store(PAGE_AT, &[0xb8, 0, 0, 0, 0, 0xc3]);
    let mut cpu = Cpu::new(memory).expect("a CPU");
    cpu.set_optimisations(optimisations);
    *cpu.state_mut() = long_mode(3, CODE, 0x30_0000);
    cpu
}

fn run(mut cpu: Cpu, slice: u64) -> Vec<u8> {
    for until in (1..).map(|number| (number * slice).min(INSTRUCTIONS)) {
        while cpu.count() < Icount(until) {
            cpu.run(&mut Bare, Icount(until), false);
        }
        if until == INSTRUCTIONS {
            break;
        }
    }
    let mut saved = Vec::new();
    cpu.save(&mut saved);
    saved
}

#[test]
fn code_that_changes_through_any_of_its_addresses_is_the_changed_code() {
    let expected = run(machine(Optimisations::none()), 1);
    for slice in [INSTRUCTIONS, 777, 13] {
        assert!(run(machine(Optimisations::all()), slice) == expected, "slices of {slice}");
    }
}
