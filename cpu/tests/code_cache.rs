//! Translated code that does not fit: whatever is forgotten and translated again, a guest computes the same.

mod bare;

use bare::{ALIAS, Bare, long_mode};
use ftemu_cpu::state::{State, gpr};
use ftemu_cpu::{Cpu, Icount, Optimisation, Optimisations, Stop};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

const CODE: u64 = 0x40_0000;
const FUNCTIONS: u64 = 2048;
/// Where the table of functions is.
const TABLE: u64 = 0x20_0000;
const DATA: u64 = 0x21_0000;
const STACK: u64 = 0x30_0000;
/// The smallest there is.
const TINY: usize = 1;

/// Twice mapped, and open to programs; in long mode, with the code at `base`.
fn machine(program: &[u8], entries: &[u64], base: u64, user: bool) -> Cpu {
    let mut memory = bare::twice();
    memory.store(CODE, program);
    for (number, entry) in (0..).zip(entries) {
        memory.store(TABLE + 8 * number, &(base + entry).to_le_bytes());
    }
    let mut cpu = Cpu::new(memory).expect("a CPU");
    let state = cpu.state_mut();
    *state = long_mode(if user { 3 } else { 0 }, base + CODE, STACK);
    (state.gpr[12], state.gpr[13], state.gpr[14]) = (1, TABLE, DATA);
    cpu
}

/// An endless loop that calls functions at random. They call or go on to others, far and near, and now and then the loop
/// rewrites an operand of one.
fn program() -> (Vec<u8>, Vec<u64>) {
    let mut entries = Vec::new();
    let mut a = CodeAssembler::new(64).expect("an assembler");
    let labels: Vec<CodeLabel> = (0..FUNCTIONS).map(|_| a.create_label()).collect();
    let mut marks = labels.clone();
    assemble(&mut a, &mut marks).expect("a program");
    let options = iced_x86::BlockEncoderOptions::RETURN_NEW_INSTRUCTION_OFFSETS;
    let done = a.assemble_options(CODE, options).expect("a program that assembles");
    for label in &marks {
        entries.push(done.label_ip(label).expect("a function"));
    }
    (done.inner.code_buffer, entries)
}

fn assemble(a: &mut CodeAssembler, labels: &mut [CodeLabel]) -> Result<(), IcedError> {
    let (mut again, mut leaves_alone) = (a.create_label(), a.create_label());
    a.set_label(&mut again)?;
    a.imul_3(r12, r12, 0x5851_f42d)?;
    a.add(r12, 0x1405_7b7e)?;
    a.mov(rcx, r12)?;
    a.shr(rcx, 21)?;
    a.and(rcx, FUNCTIONS as i32 - 1)?;
    a.mov(rdx, qword_ptr(r13 + rcx * 8))?;
    a.push(rdx)?;
    a.call(rdx)?;
    a.pop(rdx)?;
    a.test(r12, 0x1f00)?;
    a.jne(leaves_alone)?;
    a.mov(dword_ptr(rdx + 2), r12d)?;
    a.set_label(&mut leaves_alone)?;
    a.jmp(again)?;
    for number in 0..FUNCTIONS as usize {
        let mut skips = a.create_label();
        let step = |factor: usize| number + 1 + number * factor % 97 + number % 3 * 100;
        let slot = (number % 500 * 8) as i32;
        a.set_label(&mut labels[number])?;
        a.add(rax, 0x1234_5678)?;
        a.mov(rbx, qword_ptr(r14 + slot))?;
        a.xor(rbx, rax)?;
        a.mov(qword_ptr(r14 + slot), rbx)?;
        a.test(eax, 3 << (number % 16))?;
        a.jne(skips)?;
        if let Some(&next) = labels.get(step(7)) {
            a.call(next)?;
        }
        a.set_label(&mut skips)?;
        a.rol(rax, 7)?;
        match labels.get(step(11)) {
            Some(&next) if number % 4 == 1 => a.jmp(next)?,
            _ => a.ret()?,
        }
    }
    Ok(())
}

/// What is left of a run of so many instructions, in slices that grow by a prime.
fn outcome(cpu: &mut Cpu, instructions: u64, mut slice: u64) -> (State, Vec<u8>) {
    let mut until = 0;
    while until < instructions {
        until = (until + slice).min(instructions);
        slice += 7919;
        while cpu.count() < Icount(until) {
            cpu.run(&mut Bare, Icount(until), false);
        }
    }
    let mut memory = vec![0; 16 << 20];
    cpu.memory().read(0, &mut memory);
    (cpu.state().clone(), memory)
}

#[test]
fn a_tiny_code_cache_changes_nothing() {
    let (program, entries) = program();
    for (base, user) in [(0, false), (0, true), (ALIAS, true)] {
        let mut roomy = machine(&program, &entries, base, user);
        let expected = outcome(&mut roomy, 800_000, 800_000);
        assert_eq!(roomy.tally().evictions, 0);
        assert_ne!(expected.0.gpr[gpr::RAX], 0);
        for left_out in [None, Some(Optimisation::FarLinks), Some(Optimisation::GroupedLookup)] {
            let mut tiny = machine(&program, &entries, base, user);
            tiny.set_code_cache(TINY).expect("memory");
            let all = Optimisations::all();
            tiny.set_optimisations(left_out.map_or(all, |one| all.without(one)));
            let found = outcome(&mut tiny, 800_000, 1);
            assert!(found == expected, "at {base:#x}, user {user}, without {left_out:?}");
            let tally = tiny.tally();
            assert!(tally.evictions > 10, "{} evictions", tally.evictions);
            assert!(tally.kept_bytes <= 128 << 10 && tally.known_bytes <= 130 << 10, "{tally:?}");
        }
    }
}

#[test]
fn the_size_can_be_changed_at_any_time() {
    let (program, entries) = program();
    let expected = outcome(&mut machine(&program, &entries, 0, false), 400_000, 400_000);
    let mut cpu = machine(&program, &entries, 0, false);
    for (part, size) in (1..).zip([TINY, 300 << 10, 5 << 20, 80 << 20]) {
        cpu.set_code_cache(size).expect("memory");
        while cpu.count() < Icount(part * 100_000) {
            cpu.run(&mut Bare, Icount(part * 100_000), false);
        }
    }
    assert!(outcome(&mut cpu, 400_000, 1) == expected);
}

/// Short blocks, then two accesses off one pointer.
fn unit(blocks: u64) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("an assembler");
    let mut build = || {
        for _ in 0..blocks {
            let mut next = a.create_label();
            a.jmp(next)?;
            a.set_label(&mut next)?;
            a.zero_bytes()?;
        }
        a.mov(rax, qword_ptr(rbx))?;
        a.mov(rcx, qword_ptr(rbx + 8))?;
        a.nop()
    };
    build().expect("a program");
    a.assemble(CODE).expect("a program that assembles")
}

#[test]
fn a_guest_goes_on_where_the_room_ends_before_a_general_translation() {
    /// Less code than is kept free at the end of the room.
    const BLOCKS: u64 = 60;
    const UNITS: u64 = 30_000;
    let unit = unit(BLOCKS);
    let mut cpu = machine(&unit.repeat(UNITS as usize), &[], 0, false);
    // Accesses over a page's end are checked together, and always need the general translation.
    cpu.state_mut().gpr[gpr::RBX] = 0xf_effc;
    let before = cpu.tally().evictions;
    assert_eq!(cpu.run(&mut Bare, Icount(UNITS * (BLOCKS + 3)), false), Stop::Count);
    assert_eq!(cpu.state().rip, CODE + UNITS * unit.len() as u64);
    assert!(cpu.tally().evictions > before, "there was room for all of it");
}
