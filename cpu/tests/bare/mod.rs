//! A board for tests that need none, programs, and a CPU's state where its own setting up is not what they are about.
#![allow(dead_code)] // Each test program uses a part.

use ftemu_cpu::state::{Segment, State, control, gpr, segment};
use ftemu_cpu::{Bus, Icount, Memory};
use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;

/// A board with nothing on it.
pub struct Bare;

impl Bus for Bare {
    fn port_read(&mut self, _: &mut Memory, _: Icount, _: u16, _: u8) -> u32 {
        u32::MAX
    }
    fn port_write(&mut self, _: &mut Memory, _: Icount, _: u16, _: u8, _: u32) {}
    fn mmio_read(&mut self, _: &mut Memory, _: Icount, _: u64, _: u8) -> u64 {
        u64::MAX
    }
    fn mmio_write(&mut self, _: &mut Memory, _: Icount, _: u64, _: u8, _: u64) {}
    fn time_stamp(&self, now: Icount) -> u64 {
        now.0
    }
    fn msr_read(&mut self, _: Icount, _: u32) -> Option<u64> {
        None
    }
    fn msr_write(&mut self, _: Icount, _: u32, _: u64) -> bool {
        false
    }
    fn task_priority(&mut self) -> u8 {
        0
    }
    fn set_task_priority(&mut self, _: Icount, _: u8) {}
}

/// Code of so many bits for an address.
pub fn assemble(bits: u32, at: u64, build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Vec<u8> {
    let mut a = CodeAssembler::new(bits).expect("an assembler");
    build(&mut a).expect("a program");
    a.assemble(at).expect("a program that assembles")
}

/// 16 MiB, identity-mapped by large pages: the tables of long mode at 1000h, 2000h and 3000h.
pub fn identity() -> Memory {
    let mut memory = Memory::new(16 << 20).expect("memory");
    memory.store(0x1000, &0x2003_u64.to_le_bytes());
    memory.store(0x2000, &0x3003_u64.to_le_bytes());
    for large in 0..8_u64 {
        memory.store(0x3000 + 8 * large, &(large << 21 | 0x83).to_le_bytes());
    }
    memory
}

/// Where [`twice`] maps everything once more: code there is translated for all addresses, if a program has it.
pub const ALIAS: u64 = 4 << 30;

/// As [`identity`], open to programs, and mapped at [`ALIAS`], too.
pub fn twice() -> Memory {
    let mut memory = Memory::new(16 << 20).expect("memory");
    memory.store(0x1000, &0x2007_u64.to_le_bytes());
    for place in [0, ALIAS >> 30] {
        memory.store(0x2000 + 8 * place, &0x3007_u64.to_le_bytes());
    }
    for large in 0..8_u64 {
        memory.store(0x3000 + 8 * large, &(large << 21 | 0x87).to_le_bytes());
    }
    memory
}

/// About to run 64-bit code at this privilege (0 or 3), with the page tables at 1000h.
pub fn long_mode(cpl: u8, rip: u64, stack: u64) -> State {
    let mut state = State {
        rip,
        rflags: 2,
        cr0: control::CR0_PE | control::CR0_PG | control::CR0_WP | control::CR0_NE,
        cr3: 0x1000,
        cr4: control::CR4_PAE | control::CR4_OSFXSR | control::CR4_OSXMMEXCPT,
        efer: control::EFER_LME | control::EFER_LMA | control::EFER_NXE,
        cpl,
        ..State::default()
    };
    let [code, data] = if cpl == 0 { [(0xa9b, 8), (0xc93, 16)] } else { [(0xafb, 0x2b), (0xcf3, 0x33)] };
    let flat = |(attributes, selector)| Segment { base: 0, limit: u32::MAX, attributes, selector };
    (state.segments[segment::CS], state.segments[segment::SS]) = (flat(code), flat(data));
    state.gpr[gpr::RSP] = stack;
    state
}
