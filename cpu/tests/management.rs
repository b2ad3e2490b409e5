//! System management mode from the CPU's side: entered between any two instructions, left without a trace.

mod bare;
mod long;

use bare::Bare;
use ftemu_cpu::state::{gpr, rflags, segment};
use ftemu_cpu::{Cpu, Icount, Stop};
use iced_x86::code_asm::*;
use long::{CODE, DATA, STACK, arm, assemble, enter_user, machine, records, run_to_halt};

const SMBASE: u64 = 0x3_0000;
/// Where the handler counts, below 64 KiB of its own segment.
const COUNTER: u64 = SMBASE + 0x100;

fn assemble_16(build: impl FnOnce(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>) -> Vec<u8> {
    bare::assemble(16, 0x8000, build)
}

/// Counts in its own segment and in guest memory above 1 MiB, spoils all it may, and leaves.
fn handler() -> Vec<u8> {
    assemble_16(|a| {
        a.inc(word_ptr(0x100).cs())?;
        a.mov(edi, DATA as u32 + 0x800)?;
        a.inc(dword_ptr(edi))?;
        a.xor(ax, ax)?;
        a.mov(ss, ax)?;
        a.mov(sp, 0x7000)?;
        a.push(ax)?;
        a.mov(ds, ax)?;
        a.rsm()
    })
}

/// A machine with a handler where the mode begins after reset.
fn managed(program: &[u8]) -> Cpu {
    let mut cpu = machine(program);
    cpu.memory_mut().store(SMBASE + 0x8000, &handler());
    cpu.state_mut().smbase = SMBASE as u32;
    cpu.state_mut().gpr[gpr::RDI] = DATA;
    cpu
}

fn word(cpu: &Cpu, address: u64) -> u64 {
    let mut bytes = [0; 8];
    cpu.memory().read(address, &mut bytes);
    u64::from_le_bytes(bytes)
}

/// Everything of the CPU but the count.
fn registers(cpu: &Cpu) -> Vec<u8> {
    let mut saved = Vec::new();
    cpu.save(&mut saved);
    saved.split_off(8)
}

/// Runs the mode to its RSM.
fn leave(cpu: &mut Cpu) {
    while cpu.state().smm {
        let stop = cpu.run(&mut Bare, Icount(cpu.count().0 + 1), false);
        assert!(matches!(stop, Stop::Count | Stop::Device), "{stop:?} at {:#x}", cpu.state().rip);
    }
}

#[test]
fn a_program_does_not_notice_the_mode_at_any_of_its_instructions() {
    let program = assemble(|a| {
        let mut again = a.create_label();
        let mut function = a.create_label();
        a.mov(ecx, 5)?;
        a.set_label(&mut again)?;
        a.call(function)?;
        a.rol(r11, 7)?;
        a.dec(ecx)?;
        a.jne(again)?;
        a.syscall()?;
        a.set_label(&mut function)?;
        a.adc(qword_ptr(rdi), rcx)?;
        a.lea(r11, ptr(r11 + rcx * 8 + 3))?;
        a.movq(xmm1, r11)?;
        a.paddq(xmm0, xmm1)?;
        a.ret()
    });
    for user in [false, true] {
        let prepare = || {
            let mut cpu = managed(&program);
            if user {
                enter_user(&mut cpu);
                cpu.state_mut().rflags |= rflags::IF;
            }
            cpu
        };
        let total = 1 + 9 * 5;
        let mut whole = prepare();
        assert_eq!(whole.run(&mut Bare, Icount(total), false), Stop::Count);
        for at in 0..total {
            let mut cpu = prepare();
            while cpu.count().0 < at {
                cpu.run(&mut Bare, Icount(at), false);
            }
            cpu.management_interrupt(&mut Bare);
            let state = cpu.state();
            assert_eq!((state.rip, state.segments[segment::CS].base, state.cr0 & 0x8000_000d), (0x8000, SMBASE, 0));
            let before = cpu.count().0;
            leave(&mut cpu);
            let spent = cpu.count().0 - before;
            assert_eq!(spent, 9);
            while cpu.count().0 < total + spent {
                cpu.run(&mut Bare, Icount(total + spent), false);
            }
            assert!(registers(&cpu) == registers(&whole), "user {user}, at {at}");
            assert_eq!((word(&cpu, DATA), word(&cpu, COUNTER) & 0xffff), (word(&whole, DATA), 1));
            assert_eq!(word(&cpu, DATA + 0x800), 1);
        }
    }
}

#[test]
fn the_image_has_the_64_bit_form() {
    let mut cpu = managed(&assemble(|a| a.hlt()));
    cpu.state_mut().gpr[gpr::RAX] = 0x1234_5678_9abc_def0;
    cpu.state_mut().gpr[15] = 15;
    cpu.management_interrupt(&mut Bare);
    let at = |offset: u64| word(&cpu, SMBASE + offset);
    assert_eq!((at(0xfff8), at(0xff80), at(0xff78)), (0x1234_5678_9abc_def0, 15, CODE));
    assert_eq!((at(0xfefc) as u32, at(0xff00) as u32), (0x2_0064, SMBASE as u32));
    assert_eq!((at(0xfe10), at(0xfe18)), (0xffff_ffff_a09b_0008, 0), "CS");
    assert_eq!((at(0xfed0), at(0xff50), at(0xff70)), (0xd00, 0x1000, 2), "EFER, CR3, RFLAGS");
    assert!(cpu.state().nmi_blocked && cpu.state().smm && !cpu.state().halted);
}

#[test]
fn the_base_moves_to_memory_that_only_the_mode_sees() {
    let mut cpu = managed(&assemble(|a| {
        a.nop()?;
        a.mov(rax, qword_ptr(0xa_0100))?;
        a.hlt()
    }));
    // The first handler moves the base.
    let first = assemble_16(|a| {
        a.mov(bx, 0xff00)?;
        a.mov(dword_ptr(bx).cs(), 0xa_0000)?;
        a.rsm()
    });
    cpu.memory_mut().store(SMBASE + 0x8000, &first);
    cpu.memory_mut().set_management(true, true);
    cpu.memory_mut().store(0xa_8000, &handler());
    cpu.memory_mut().set_management(true, false);
    cpu.management_interrupt(&mut Bare);
    leave(&mut cpu);
    assert_eq!(cpu.state().smbase, 0xa_0000);
    for _ in 0..3 {
        cpu.management_interrupt(&mut Bare);
        leave(&mut cpu);
    }
    run_to_halt(&mut cpu);
    assert_eq!(cpu.state().gpr[gpr::RAX], u64::MAX, "outside of it the window is the bus's");
    assert_eq!(word(&cpu, DATA + 0x800), 3);
    cpu.memory_mut().set_management(true, true);
    assert_eq!(word(&cpu, 0xa_0100) & 0xffff, 3);
}

#[test]
fn a_halted_cpu_is_halted_again() {
    let mut cpu = managed(&assemble(|a| {
        a.hlt()?;
        a.mov(eax, 7)?;
        a.hlt()
    }));
    run_to_halt(&mut cpu);
    cpu.management_interrupt(&mut Bare);
    assert!(!cpu.state().halted);
    leave(&mut cpu);
    assert!(cpu.state().halted);
    assert_eq!(cpu.run(&mut Bare, Icount(1000), false), Stop::Halt);
    assert_eq!((cpu.state().rip, cpu.state().gpr[gpr::RAX]), (CODE + 1, 0));
}

#[test]
fn rsm_is_invalid_elsewhere() {
    let program = assemble(|a| {
        a.rsm()?;
        a.hlt()
    });
    let mut cpu = managed(&program);
    // #UD's gate leads to a HLT.
    cpu.memory_mut().store(0x8f00, &[0xf4]);
    cpu.memory_mut().store(0x9000 + 16 * 6, &0x8e00_0008_8f00_u64.to_le_bytes());
    run_to_halt(&mut cpu);
    assert_eq!((cpu.state().rip, word(&cpu, cpu.state().gpr[gpr::RSP])), (0x8f01, CODE));
}

#[test]
fn an_image_that_is_no_state_shuts_down() {
    for (offset, value) in [(0xff58, 0x8000_0010_u64), (0xff48, 1 << 63), (0xff50, 1 << 45), (0xfed0, 0x100)] {
        let mut cpu = managed(&assemble(|a| a.hlt()));
        cpu.management_interrupt(&mut Bare);
        cpu.memory_mut().store(SMBASE + offset, &value.to_le_bytes());
        let stop = loop {
            match cpu.run(&mut Bare, Icount(100), false) {
                Stop::Device => {}
                stop => break stop,
            }
        };
        assert_eq!(stop, Stop::Shutdown, "{offset:#x}");
    }
}

#[test]
fn breakpoints_rest_meanwhile() {
    let mut cpu = managed(&assemble(|a| {
        a.mov(qword_ptr(rdi), rax)?;
        a.hlt()
    }));
    arm(&mut cpu, 0, DATA + 0x800, 3, 4);
    arm(&mut cpu, 1, DATA, 1, 8);
    cpu.management_interrupt(&mut Bare);
    assert_eq!(cpu.state().dr[7], 0x400);
    leave(&mut cpu);
    run_to_halt(&mut cpu);
    assert_eq!(records(&cpu).iter().map(|record| record.dr6).collect::<Vec<_>>(), [2]);
    assert_eq!(cpu.state().gpr[gpr::RSP], STACK);
}
