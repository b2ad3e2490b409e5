//! Blocks that stand where the jump was which leads to them: when either is rewritten, or entered some other way, a guest
//! computes the same.

mod bare;

use bare::{ALIAS, Bare, assemble, long_mode};
use ftemu_cpu::{Cpu, Icount, Optimisation, Optimisations};
use iced_x86::code_asm::*;

const CODE: u64 = 0x10_0000;
/// The function's page.
const FUNCTION: u64 = 0x20_0000;
/// Where the first block's operand, the second one and its operand are in the page.
const FIRST_OPERAND: u64 = 1;
const SECOND: u64 = 0x40;
const SECOND_OPERAND: u64 = SECOND + 1;
const INSTRUCTIONS: u64 = 5_000;

/// Adds up, goes on in the second block, by either of two jumps.
fn first() -> Vec<u8> {
    assemble(64, FUNCTION, |a| {
        a.mov(eax, 1)?;
        a.add(rbx, rax)?;
        a.test(bl, 4)?;
        a.je(FUNCTION + SECOND)?;
        a.jmp(FUNCTION + SECOND)
    })
}

/// Adds up, rewrites an operand of its own, adds that, returns.
fn second() -> Vec<u8> {
    assemble(64, FUNCTION + SECOND, |a| {
        let mut own = a.create_label();
        a.mov(eax, 2)?;
        a.add(rbx, rax)?;
        a.add(dword_ptr(own) + 1, 3)?;
        a.set_label(&mut own)?;
        a.mov(eax, 3)?;
        a.add(rbx, rax)?;
        a.ret()
    })
}

/// Calls the function three times, then its second block, after each change of either block's operand, in turn.
fn program(function: u64) -> Vec<u8> {
    assemble(64, CODE, |a| {
        let mut again = a.create_label();
        a.mov(rbp, function)?;
        a.set_label(&mut again)?;
        for operand in [SECOND_OPERAND, FIRST_OPERAND, SECOND_OPERAND] {
            for _ in 0..3 {
                a.call(rbp)?;
                a.rol(rbx, 3)?;
            }
            a.lea(r8, rbp + SECOND as i32)?;
            a.call(r8)?;
            a.add(dword_ptr(rbp + operand as i32), 0x101)?;
        }
        a.jmp(again)
    })
}

fn machine(optimisations: Optimisations, function_at: u64) -> Cpu {
    let mut memory = bare::twice();
    memory.store(CODE, &program(function_at));
    memory.store(FUNCTION, &first());
    memory.store(FUNCTION + SECOND, &second());
    let mut cpu = Cpu::new(memory).expect("a CPU");
    cpu.set_optimisations(optimisations);
    *cpu.state_mut() = long_mode(3, CODE, 0x30_0000);
    cpu
}

fn run(mut cpu: Cpu, slice: u64) -> (Vec<u8>, u64) {
    while cpu.count() < Icount(INSTRUCTIONS) {
        let until = Icount((cpu.count().0 / slice + 1) * slice).min(Icount(INSTRUCTIONS));
        cpu.run(&mut Bare, until, false);
    }
    let mut saved = Vec::new();
    cpu.save(&mut saved);
    (saved, cpu.tally().behind)
}

#[test]
fn a_block_behind_another_is_rewritten_and_entered_from_elsewhere() {
    for at in [FUNCTION, ALIAS + FUNCTION] {
        let (expected, _) = run(machine(Optimisations::none(), at), 1);
        for slice in [INSTRUCTIONS, 777, 13] {
            let (found, behind) = run(machine(Optimisations::all(), at), slice);
            assert!(found == expected, "at {at:#x}, slices of {slice}");
            assert!(behind > 20, "{behind} blocks stood behind others, slices of {slice}");
        }
        let without = Optimisations::all().without(Optimisation::FallThrough);
        assert_eq!(run(machine(without, at), INSTRUCTIONS), (expected, 0));
    }
}
