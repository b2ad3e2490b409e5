//! The room for translated code ends anywhere, also where a block wants its general translation: the guest goes on.

mod bare;

use bare::Bare;
use ftemu_cpu::state::{Segment, State, control, gpr, segment};
use ftemu_cpu::{Cpu, Icount, Memory, Stop};
use iced_x86::code_asm::*;

const CODE: u64 = 0x10_0000;
/// Two accesses off one pointer that go over a page's end: checked together, they always need the general translation.
const DATA: u64 = 0xf_effc;
/// Short blocks before each such pair: less code than is kept free at the end of the room.
const BLOCKS: u64 = 60;
const UNITS: u64 = 30_000;

fn program() -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("an assembler");
    let mut build = || {
        for _ in 0..BLOCKS {
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
fn a_guest_goes_on_wherever_the_room_for_translations_ends() {
    let mut memory = Memory::new(16 << 20).expect("memory");
    memory.store(0x1000, &0x2003_u64.to_le_bytes());
    memory.store(0x2000, &0x3003_u64.to_le_bytes());
    for large in 0..8_u64 {
        memory.store(0x3000 + 8 * large, &(large << 21 | 0x83).to_le_bytes());
    }
    let unit = program();
    memory.store(CODE, &unit.repeat(UNITS as usize));
    let mut cpu = Cpu::new(memory).expect("a CPU");
    *cpu.state_mut() = State {
        rip: CODE,
        rflags: 2,
        cr0: control::CR0_PE | control::CR0_PG | control::CR0_WP | control::CR0_NE,
        cr3: 0x1000,
        cr4: control::CR4_PAE,
        efer: control::EFER_LME | control::EFER_LMA,
        ..State::default()
    };
    let state = cpu.state_mut();
    state.segments[segment::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xa9b, selector: 8 };
    state.segments[segment::SS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc93, selector: 16 };
    state.gpr[gpr::RBX] = DATA;
    let before = cpu.tally().evictions;
    let until = Icount(UNITS * (BLOCKS + 3));
    assert_eq!(cpu.run(&mut Bare, until, false), Stop::Count);
    assert_eq!(cpu.state().rip, CODE + UNITS * unit.len() as u64);
    assert!(cpu.tally().evictions > before, "there was room for all of it");
}
