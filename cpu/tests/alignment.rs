//! Alignment that is checked: CR0.AM, RFLAGS.AC, CPL 3 (SDM vol. 3 §6.15, interrupt 17).

mod bare;
mod long;

use ftemu_cpu::Cpu;
use ftemu_cpu::state::{control, gpr, rflags};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use long::{DATA, Record, STACK, assemble, enter_user, machine, run_all_ways, run_to_halt};

/// A program at CPL 3 with AC set and RDI at aligned data.
fn user(program: &[u8]) -> Cpu {
    let mut cpu = machine(program);
    enter_user(&mut cpu);
    let state = cpu.state_mut();
    state.rflags |= rflags::AC;
    state.gpr[gpr::RDI] = DATA;
    state.gpr[gpr::RSI] = DATA + 0x100;
    cpu
}

/// Runs up to the HLT, which CPL 3 may not execute: the handler of #GP is another one.
fn records_of(build: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<Record> {
    let program = assemble(build);
    run_all_ways(|| {
        let mut cpu = user(&program);
        let handler = 0x40_0000 + 256 * 13;
        cpu.memory_mut().store(handler, &[0xf4]);
        cpu
    })
}

#[test]
fn each_size_has_its_alignment() {
    type Build = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: [(&str, bool, Build); 16] = [
        ("word", true, |a| a.mov(ax, word_ptr(rdi + 1))),
        ("aligned word", false, |a| a.mov(ax, word_ptr(rdi + 2))),
        ("doubleword", true, |a| a.mov(dword_ptr(rdi + 2), eax)),
        ("quadword at 4", true, |a| a.add(qword_ptr(rdi + 4), rax)),
        ("quadword across pages", true, |a| a.mov(rax, qword_ptr(rdi - 4))),
        ("byte", false, |a| a.inc(byte_ptr(rdi + 3))),
        ("single", true, |a| a.fld(dword_ptr(rdi + 2))),
        ("double extended at 8", false, |a| a.fld(tbyte_ptr(rdi + 8))),
        ("double extended at 4", true, |a| a.fld(tbyte_ptr(rdi + 4))),
        ("quadword of SSE", true, |a| a.movq(xmm0, qword_ptr(rdi + 4))),
        ("double quadword", true, |a| a.movdqu(xmm0, xmmword_ptr(rdi + 8))),
        ("environment at 4", false, |a| a.fnstenv(ptr(rdi + 4))),
        ("environment at 2", true, |a| a.fnstenv(ptr(rdi + 2))),
        ("element", true, |a| {
            a.inc(rdi)?;
            a.stosd()
        }),
        ("push", true, |a| {
            a.sub(rsp, 4)?;
            a.push(rax)
        }),
        ("flags", true, |a| {
            a.sub(rsp, 2)?;
            a.pushfq()
        }),
    ];
    for (name, faults, build) in cases {
        let found = records_of(|a| {
            build(a)?;
            a.hlt()
        });
        assert_eq!(!found.is_empty(), faults, "{name}: {found:x?}");
        assert!(found.iter().all(|record| record.vector == 17 && record.rflags & rflags::RF != 0), "{name}");
    }
}

#[test]
fn nothing_is_checked_unless_all_three_say_so() {
    let program = assemble(|a| {
        a.mov(rax, qword_ptr(rdi + 1))?;
        a.movdqu(xmm0, xmmword_ptr(rdi + 1))?;
        a.hlt()
    });
    for number in 0..3 {
        let found = run_all_ways(|| {
            let mut cpu = user(&program);
            cpu.memory_mut().store(0x40_0000 + 256 * 13, &[0xf4]);
            match number {
                0 => cpu.state_mut().cr0 &= !control::CR0_AM,
                1 => cpu.state_mut().rflags &= !rflags::AC,
                _ => {
                    let kernel = machine(&program);
                    *cpu.state_mut() = kernel.state().clone();
                    cpu.state_mut().rflags |= rflags::AC;
                    cpu.state_mut().gpr[gpr::RDI] = DATA;
                }
            }
            cpu
        });
        assert_eq!(found, [], "{number}");
    }
}

#[test]
fn the_program_turns_it_on_in_the_middle_of_a_block() {
    let found = records_of(|a| {
        a.pushfq()?;
        a.pop(rbx)?;
        a.mov(rcx, rbx)?;
        a.and(rcx, !(rflags::AC as i32))?;
        a.push(rcx)?;
        a.popfq()?;
        a.mov(rax, qword_ptr(rdi + 4))?; // known to the tables from here on
        a.push(rbx)?;
        a.popfq()?;
        a.mov(rax, qword_ptr(rdi))?;
        a.mov(rdx, qword_ptr(rdi + 4))?; // faults; the handler clears AC
        a.mov(rdx, qword_ptr(rdi + 4))?;
        a.hlt()
    });
    assert_eq!(found.iter().map(|record| record.vector).collect::<Vec<_>>(), [17]);
}

#[test]
fn a_page_that_is_absent_comes_first() {
    let program = assemble(|a| {
        a.mov(rax, qword_ptr(rdi + 1))?;
        a.hlt()
    });
    let mut cpu = user(&program);
    cpu.state_mut().gpr[gpr::RDI] = 0x7000_0000;
    // The handler of #PF halts.
    cpu.memory_mut().store(0x40_0000 + 256 * 14, &[0xf4]);
    run_to_halt(&mut cpu);
    assert_eq!(cpu.state().cr2, 0x7000_0001);
    assert_eq!(cpu.state().gpr[gpr::RSP], STACK + 0x8000 - 48);
}
