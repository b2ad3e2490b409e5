//! One page of code at many linear addresses: a store through any of them is noticed, whichever were stored through before
//! the page became code. And one instruction across a page's end, at several addresses: it is translated once for all that map
//! the same two pages.

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

/// Two pages that an instruction crosses between, one that stands in for the second, and the linear addresses above 4 GiB where
/// the first two are mapped twice, then the first and the third.
const CROSSED: [u64; 3] = [0x20_1000, 0x20_2000, 0x20_3000];
const PAIRS: [u64; 3] = [1 << 32, (1 << 32) + 0x3000, (1 << 32) + 0x6000];

/// Calls the instruction that crosses at each of its addresses in turn, and adds up what it gives.
fn crossing_program() -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("an assembler");
    let mut again = a.create_label();
    let mut build = || {
        a.set_label(&mut again)?;
        for pair in PAIRS {
            a.mov(r9, pair + 0xffc)?;
            a.call(r9)?;
            a.rol(rbx, 3)?;
            a.add(rbx, rax)?;
        }
        a.jmp(again)
    };
    build().expect("a program");
    a.assemble(CODE).expect("a program that assembles")
}

fn crossing_machine(optimisations: Optimisations) -> Cpu {
    let mut cpu = machine(optimisations);
    let memory = cpu.memory_mut();
    memory.store(0x2020, &0x5007_u64.to_le_bytes());
    memory.store(0x5000, &0x6007_u64.to_le_bytes());
    for (pair, second) in PAIRS.into_iter().zip([CROSSED[1], CROSSED[1], CROSSED[2]]) {
        let entry = 0x6000 + 8 * (pair >> 12 & 0x1ff);
        memory.store(entry, &(CROSSED[0] | 7).to_le_bytes());
        memory.store(entry + 8, &(second | 7).to_le_bytes());
    }
    memory.store(CODE, &crossing_program());
    // lea rax, [rip+displacement]; ret: the fourth byte of eight is the first page's last.
    memory.store(CROSSED[0] + 0xffc, &[0x48, 0x8d, 0x05, 0x10]);
    memory.store(CROSSED[1], &[0x01, 0, 0, 0xc3]);
    memory.store(CROSSED[2], &[0x02, 0, 0, 0xc3]);
    cpu
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

#[test]
fn an_instruction_across_a_pages_end_is_the_same_wherever_both_pages_are() {
    let expected = run(crossing_machine(Optimisations::none()), 1);
    for slice in [INSTRUCTIONS, 777, 13] {
        assert!(run(crossing_machine(Optimisations::all()), slice) == expected, "slices of {slice}");
    }
}

#[test]
fn it_is_translated_once_for_all_addresses_of_both_pages() {
    let blocks = |pairs: u64| {
        let mut cpu = machine(Optimisations::all());
        let memory = cpu.memory_mut();
        memory.store(0x2020, &0x5007_u64.to_le_bytes());
        memory.store(0x5000, &0x6007_u64.to_le_bytes());
        let mut a = CodeAssembler::new(64).expect("an assembler");
        for pair in 0..pairs {
            memory.store(0x6000 + 16 * pair, &(CROSSED[0] | 7).to_le_bytes());
            memory.store(0x6008 + 16 * pair, &(CROSSED[1] | 7).to_le_bytes());
        }
        memory.store(CROSSED[0] + 0xffc, &[0x48, 0x8d, 0x05, 0x10]);
        memory.store(CROSSED[1], &[0x01, 0, 0, 0xc3]);
        let mut again = a.create_label();
        let mut build = || {
            a.mov(r9, (1_u64 << 32) + 0xffc)?;
            a.mov(ecx, pairs as u32)?;
            a.set_label(&mut again)?;
            a.call(r9)?;
            a.add(r9, 0x2000)?;
            a.dec(ecx)?;
            a.jnz(again)
        };
        build().expect("a program");
        memory.store(CODE, &a.assemble(CODE).expect("a program that assembles"));
        cpu.run(&mut Bare, Icount(2 + 6 * pairs), false);
        assert_eq!(cpu.count(), Icount(2 + 6 * pairs));
        cpu.tally().blocks
    };
    assert_eq!(blocks(200), blocks(20));
}
