//! One page of code at many linear addresses: a store through any of them is noticed, whichever were stored through before
//! the page became code. And one instruction across a page's end, at several addresses: it is translated once for all that map
//! the same two pages.

mod bare;

use bare::{Bare, assemble, long_mode};
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
    assemble(64, CODE, |a| {
        let mut again = a.create_label();
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
    })
}

/// Two pages that an instruction crosses between, and one that stands in for the second.
const FIRST: u64 = 0x20_1000;
const SECOND: u64 = 0x20_2000;
const OTHER: u64 = 0x20_3000;

/// Where the instruction that crosses begins in a pair of pages: pair after pair lies above 4 GiB, where code is movable.
fn crossing(pair: u64) -> u64 {
    (1 << 32) + 0x2000 * pair + 0xffc
}

/// For each of `seconds` a pair of pages: the first one, and that.
fn crossing_machine(optimisations: Optimisations, seconds: &[u64], program: &[u8]) -> Cpu {
    let mut cpu = machine(optimisations);
    let memory = cpu.memory_mut();
    memory.store(0x2020, &0x5007_u64.to_le_bytes());
    memory.store(0x5000, &0x6007_u64.to_le_bytes());
    for (entry, second) in (0x6000..).step_by(16).zip(seconds) {
        memory.store(entry, &(FIRST | 7).to_le_bytes());
        memory.store(entry + 8, &(second | 7).to_le_bytes());
    }
    memory.store(CODE, program);
    // lea rax, [rip+displacement]; ret: the fourth byte of eight is the first page's last.
    memory.store(FIRST + 0xffc, &[0x48, 0x8d, 0x05, 0x10]);
    memory.store(SECOND, &[0x01, 0, 0, 0xc3]);
    memory.store(OTHER, &[0x02, 0, 0, 0xc3]);
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

/// Whatever the slices, all optimisations give what none gives.
fn assert_exact(machine: impl Fn(Optimisations) -> Cpu) {
    let expected = run(machine(Optimisations::none()), 1);
    for slice in [INSTRUCTIONS, 777, 13] {
        assert!(run(machine(Optimisations::all()), slice) == expected, "slices of {slice}");
    }
}

#[test]
fn code_that_changes_through_any_of_its_addresses_is_the_changed_code() {
    assert_exact(machine);
}

#[test]
fn an_instruction_across_a_pages_end_is_the_same_wherever_both_pages_are() {
    let seconds = [SECOND, SECOND, OTHER];
    let program = assemble(64, CODE, |a| {
        let mut again = a.create_label();
        a.set_label(&mut again)?;
        for pair in 0..seconds.len() as u64 {
            a.mov(r9, crossing(pair))?;
            a.call(r9)?;
            a.rol(rbx, 3)?;
            a.add(rbx, rax)?;
        }
        a.jmp(again)
    });
    assert_exact(|optimisations| crossing_machine(optimisations, &seconds, &program));
}

#[test]
fn it_is_translated_once_for_all_addresses_of_both_pages() {
    let blocks = |pairs: u32| {
        let program = assemble(64, CODE, |a| {
            let mut again = a.create_label();
            a.mov(r9, crossing(0))?;
            a.mov(ecx, pairs)?;
            a.set_label(&mut again)?;
            a.call(r9)?;
            a.add(r9, 0x2000)?;
            a.dec(ecx)?;
            a.jnz(again)
        });
        let mut cpu = crossing_machine(Optimisations::all(), &vec![SECOND; pairs as usize], &program);
        let end = Icount(2 + 6 * u64::from(pairs));
        cpu.run(&mut Bare, end, false);
        assert_eq!(cpu.count(), end);
        cpu.tally().blocks
    };
    assert_eq!(blocks(200), blocks(20));
}
