//! Addresses that an empty slot of a look-up's table, or one with another page, could be taken to hold.

mod bare;

use bare::Bare;
use ftemu_cpu::state::gpr;
use ftemu_cpu::{Cpu, Icount, Memory, Optimisation, Optimisations, Stop};
use iced_x86::code_asm::*;

const CODE: u64 = 0x10_0000;
/// The table that maps the first GiB by large pages.
const DIRECTORY: u64 = 0x3000;

/// 16 MiB, identity-mapped, with what `prepare` stores; runs until something ends it.
fn run(optimisations: Optimisations, program: &[u8], prepare: impl FnOnce(&mut Memory)) -> (Cpu, Stop) {
    let mut memory = bare::identity();
    memory.store(CODE, program);
    prepare(&mut memory);
    let mut cpu = Cpu::new(memory).expect("a CPU");
    cpu.set_optimisations(optimisations);
    *cpu.state_mut() = bare::long_mode(0, CODE, 0x8000);
    let stop = cpu.run(&mut Bare, Icount(u64::MAX), false);
    (cpu, stop)
}

/// All that can be left out of look-ups, and nothing.
fn variants() -> [Optimisations; 3] {
    let all = Optimisations::all();
    [all, all.without(Optimisation::LoopChecks), Optimisations::none()]
}

/// Data pages at 2 MiB, which the program moves to 8 MiB by table entries at 4000h, between a store and a string over three
/// of them.
#[test]
fn a_string_over_pages_does_not_find_what_the_first_one_was() {
    const LINEAR: u64 = 0x20_0000;
    const MOVED: u64 = 0x80_0000;
    const QUADWORDS: usize = 1100;
    let program = bare::assemble(64, CODE, |a| {
        let mut next = a.create_label();
        a.mov(rbx, LINEAR)?;
        a.mov(qword_ptr(rbx), rbx)?;
        a.mov(rsi, 0x4000_u64)?;
        a.mov(rax, MOVED | 3)?;
        a.mov(ecx, 3)?;
        a.set_label(&mut next)?;
        a.mov(qword_ptr(rsi), rax)?;
        a.add(rsi, 8)?;
        a.add(rax, 0x1000)?;
        a.dec(ecx)?;
        a.jne(next)?;
        a.mov(rdi, rbx)?;
        a.mov(ecx, QUADWORDS as u32)?;
        a.mov(rax, -1_i64 as u64)?;
        a.rep().stosq()?;
        a.hlt()
    });
    for optimisations in variants() {
        let (cpu, stop) = run(optimisations, &program, |memory| {
            memory.store(DIRECTORY + 8, &0x4003_u64.to_le_bytes());
            for page in 0..512_u64 {
                memory.store(0x4000 + 8 * page, &((LINEAR + 0x1000 * page) | 3).to_le_bytes());
            }
        });
        assert_eq!(stop, Stop::Halt);
        let mut bytes = vec![0; 8 * QUADWORDS + 8];
        cpu.memory().read(LINEAR, &mut bytes);
        assert!(bytes[..8] == LINEAR.to_le_bytes() && bytes[8..].iter().all(|&byte| byte == 0), "where it was");
        cpu.memory().read(MOVED, &mut bytes);
        let (stored, after) = bytes.split_at(8 * QUADWORDS);
        assert!(stored.iter().all(|&byte| byte == 0xff) && after == [0; 8], "where it is");
    }
}

/// The lowest and the highest page of what a displacement reaches share a slot with a page 4 GiB away.
#[test]
fn constant_addresses_at_both_ends_are_their_own() {
    // Each through its own entry of the third level: 2 GiB and 4 GiB less a page, and both 4 GiB lower.
    const LOW: [u64; 2] = [0x8000_0467, 0xffff_f467];
    const HIGH: [u64; 2] = [0xffff_ffff_8000_0467, 0xffff_ffff_ffff_f467];
    let program = bare::assemble(64, CODE, |a| {
        a.mov(rbx, LOW[0])?;
        a.mov(rsi, qword_ptr(rbx))?;
        a.mov(rbx, LOW[1])?;
        a.mov(rdi, qword_ptr(rbx))?;
        a.mov(r8, qword_ptr(HIGH[0]))?;
        a.mov(r9, qword_ptr(HIGH[1]))?;
        a.hlt()
    });
    let places = [0x40_0000_u64, 0x60_0000, 0x80_0000, 0xa0_0000];
    for optimisations in variants() {
        let (cpu, stop) = run(optimisations, &program, |memory| {
            // The last entry of the topmost table leads to the upper end.
            memory.store(0x1ff8, &0x4003_u64.to_le_bytes());
            for (number, (&place, linear)) in places.iter().zip(LOW.into_iter().chain(HIGH)).enumerate() {
                let (pointers, directory) = (if number < 2 { 0x2000 } else { 0x4000 }, 0x5000 + 0x1000 * number as u64);
                memory.store(pointers + 8 * (linear >> 30 & 511), &(directory | 3).to_le_bytes());
                memory.store(directory + 8 * (linear >> 21 & 511), &(place | 0x83).to_le_bytes());
                memory.store(place + linear % (2 << 20), &place.to_le_bytes());
            }
        });
        assert_eq!(stop, Stop::Halt);
        assert_eq!([gpr::RSI, gpr::RDI, 8, 9].map(|register| cpu.state().gpr[register]), places);
    }
}

/// There is no handler: #GP ends in a triple fault, and not in the host.
#[test]
fn a_jump_to_no_address_is_none_that_an_empty_slot_has() {
    for target in [1_u64 << 55, 1 << 47, 1 << 63, (1 << 63) - 1, (0x3ff << 22) | (1 << 55)] {
        let program = bare::assemble(64, CODE, |a| {
            a.mov(rax, target)?;
            a.jmp(rax)
        });
        for optimisations in variants() {
            let (cpu, stop) = run(optimisations, &program, |_| {});
            assert_eq!((stop, cpu.state().rip), (Stop::Shutdown, CODE + 10), "{target:x}");
        }
    }
}
