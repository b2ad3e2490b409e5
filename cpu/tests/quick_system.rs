//! System instructions that are translated: nobody can tell them from those executed in Rust, wherever a run is cut and
//! whenever an interrupt waits.

mod bare;

use bare::Bare;
use ftemu_cpu::state::{Segment, State, control, gpr, segment};
use ftemu_cpu::{Cpu, Icount, Optimisation, Optimisations, Stop};
use iced_x86::code_asm::*;

const CODE: u64 = 0x10_0000;
const STACK: u64 = 0x30_0000;
const ROUNDS: u64 = 50;

/// Flags on and off, shown on the stack, between arithmetic whose flags must survive.
fn program() -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("an assembler");
    let mut build = || {
        let mut again = a.create_label();
        a.mov(r8, ROUNDS)?;
        a.set_label(&mut again)?;
        for step in 0..8u32 {
            a.add(rax, 0x7654_3210 + step as i32)?;
            a.rol(rax, 11)?;
            a.sub(rbx, rax)?;
            match step % 4 {
                0 => a.sti()?,
                1 => a.cli()?,
                2 => a.std()?,
                _ => a.swapgs()?,
            }
            a.adc(rcx, rbx)?;
            a.pushfq()?;
            a.adc(rdx, qword_ptr(rsp))?;
            match step % 3 {
                0 => a.pop(r9)?,
                1 => a.popfq()?,
                _ => a.add(rsp, 8)?,
            }
            a.cld()?;
            a.sti()?;
            a.sbb(rsi, rdx)?;
            a.xor(r10, qword_ptr(0x8).gs())?;
        }
        a.dec(r8)?;
        a.jne(again)?;
        a.hlt()
    };
    build().expect("a program");
    a.assemble(CODE).expect("a program that assembles")
}

/// 16 MiB, identity-mapped by large pages, CPL 0 or 1 of long mode.
fn machine(program: &[u8], optimisations: Optimisations, cpl: u8) -> Cpu {
    let mut memory = bare::identity();
    memory.store(CODE, program);
    let mut cpu = Cpu::new(memory).expect("a CPU");
    cpu.set_optimisations(optimisations);
    *cpu.state_mut() = State {
        rip: CODE,
        rflags: 0x2002,
        cr0: control::CR0_PE | control::CR0_PG | control::CR0_WP | control::CR0_NE,
        cr3: 0x1000,
        cr4: control::CR4_PAE,
        efer: control::EFER_LME | control::EFER_LMA,
        kernel_gs_base: 0x1_0000,
        cpl,
        ..State::default()
    };
    let state = cpu.state_mut();
    state.segments[segment::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xa9b, selector: 8 };
    state.segments[segment::SS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc93, selector: 16 };
    state.gpr[gpr::RSP] = STACK;
    cpu
}

fn saved(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = Vec::new();
    cpu.save(&mut bytes);
    bytes
}

#[test]
fn every_instruction_leaves_what_rust_would_leave() {
    let program = program();
    let mut quick = machine(&program, Optimisations::all(), 0);
    let mut slow = machine(&program, Optimisations::all().without(Optimisation::QuickSystem), 0);
    let mut seed = 7u64;
    loop {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let until = Icount(quick.count().0 + 1 + (seed >> 33) % 40);
        // Whether an interrupt waits changes where a run stops, and nothing else.
        let waits = seed >> 60 < 5;
        let stops = [quick.run(&mut Bare, until, waits), slow.run(&mut Bare, until, waits)];
        assert_eq!(stops[0], stops[1]);
        assert!(saved(&quick) == saved(&slow), "they differ at {:?}, {:#x}", quick.count(), quick.state().rip);
        match stops[0] {
            Stop::Halt => break,
            Stop::Window => {
                assert!(quick.interruptible());
                // The interrupt is taken: none waits for a while.
                let until = Icount(quick.count().0 + 1);
                assert_eq!(quick.run(&mut Bare, until, false), slow.run(&mut Bare, until, false));
            }
            stop => assert_eq!(stop, Stop::Count),
        }
    }
    assert!(quick.count().0 > ROUNDS * 90);
}

#[test]
fn less_privilege_is_refused() {
    let mut a = CodeAssembler::new(64).expect("an assembler");
    a.nop().and_then(|()| a.cli()).and_then(|()| a.nop()).expect("a program");
    let program = a.assemble(CODE).expect("a program that assembles");
    // CPL 1 with IOPL 0 and no IDT: #GP becomes a triple fault.
    let mut cpu = machine(&program, Optimisations::all(), 1);
    cpu.state_mut().rflags = 2;
    assert_eq!(cpu.run(&mut Bare, Icount(10), false), Stop::Shutdown);
    assert_eq!(cpu.count(), Icount(1));
}
