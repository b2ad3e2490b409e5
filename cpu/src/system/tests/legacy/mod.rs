//! The small machine in the modes before long mode: paging off, a GDT of its own, three TSSs.

mod delivery;
mod gates;
mod instructions;
mod modes;
mod random;
mod tasks;

use super::*;
use crate::state::rflags;

/// The GDT of these tests.
pub const TABLE: u64 = 0x5800;
/// An available 32-bit TSS, and an available 16-bit one.
pub const OTHER_TSS: u64 = 0x7800;
pub const SMALL_TSS: u64 = 0x7c00;
/// Where 16-bit handlers are.
pub const NEAR_HANDLER: u64 = 0x8000;

/// Selectors of that GDT.
pub mod entry {
    pub const CODE_0: u16 = 0x08;
    pub const DATA_0: u16 = 0x10;
    pub const CODE_3: u16 = 0x18;
    pub const DATA_3: u16 = 0x20;
    pub const SMALL_CODE_0: u16 = 0x28;
    pub const SMALL_DATA_0: u16 = 0x30;
    pub const TASK: u16 = 0x38;
    pub const OTHER_TASK: u16 = 0x40;
    pub const SMALL_TASK: u16 = 0x48;
    pub const GATE: u16 = 0x50;
    pub const TASK_GATE: u16 = 0x58;
    pub const SMALL_GATE: u16 = 0x60;
    pub const LOCAL: u16 = 0x68;
    pub const CONFORMING: u16 = 0x70;
    pub const DOWN: u16 = 0x78;
}

const fn gate(kind: u64, selector: u16, offset: u64, parameters: u64) -> u64 {
    offset & 0xffff | (selector as u64) << 16 | parameters << 32 | kind << 40 | (offset >> 16) << 48
}

const ENTRIES: [u64; 16] = [
    0,
    0x00cf_9b00_0000_ffff,
    0x00cf_9300_0000_ffff,
    0x00cf_fb00_0000_ffff,
    0x00cf_f300_0000_ffff,
    0x0000_9b00_0000_ffff,
    0x0000_9300_0000_ffff,
    0x0000_8b00_0000_0067 | TSS << 16,
    0x0000_8900_0000_0067 | OTHER_TSS << 16,
    0x0000_8100_0000_002b | SMALL_TSS << 16,
    gate(0xec, entry::CODE_0, HANDLER, 2),
    gate(0xe5, entry::OTHER_TASK, 0, 0),
    gate(0xe4, entry::SMALL_CODE_0, NEAR_HANDLER, 1),
    0x0000_8200_0000_000f | (TABLE + 0x100) << 16,
    0x00cf_9f00_0000_ffff,
    // Expand-down data: valid from 2000h on.
    0x0040_9700_0000_1fff,
];

impl Machine {
    /// 32-bit protected mode at CPL 0, flat.
    pub fn protected() -> Machine {
        let mut machine = Machine::new();
        for (index, entry) in ENTRIES.into_iter().enumerate() {
            machine.store(TABLE + 8 * index as u64, entry);
        }
        let flat = |selector, attributes| Segment { base: 0, limit: u32::MAX, attributes, selector };
        let state = &mut machine.state;
        state.cr0 = control::CR0_PE | control::CR0_ET | control::CR0_NE;
        (state.cr3, state.cr4, state.efer) = (0, control::CR4_OSFXSR, 0);
        state.segments = [flat(entry::DATA_0, 0xc93); 6];
        state.segments[segment::CS] = flat(entry::CODE_0, 0xc9b);
        state.gdtr = TableRegister { base: TABLE, limit: 0x7f };
        state.tr = Segment { base: TSS, limit: 0x67, attributes: 0x8b, selector: entry::TASK };
        // ESP0 and SS0.
        machine.store(TSS + 4, RING_0_STACK | u64::from(entry::DATA_0) << 32);
        machine
    }

    /// The same at CPL 3.
    pub fn protected_user() -> Machine {
        let mut machine = Machine::protected();
        machine.state.cpl = 3;
        machine.state.segments = [Segment { limit: u32::MAX, attributes: 0xcf3, base: 0, selector: 0x23 }; 6];
        machine.state.segments[segment::CS].attributes = 0xcfb;
        machine.state.segments[segment::CS].selector = entry::CODE_3 | 3;
        machine
    }

    /// Virtual-8086 mode: CS 1000h (CODE), the others 2000h (DATA), SP 8000h.
    pub fn virtual_8086(io_privilege: u64) -> Machine {
        let mut machine = Machine::protected();
        let part =
            |selector: u16| Segment { base: u64::from(selector) << 4, limit: 0xffff, attributes: 0xf3, selector };
        machine.state.segments = [part(0x2000); 6];
        machine.state.segments[segment::CS] = part(0x1000);
        machine.state.rip = 0;
        machine.state.gpr[gpr::RSP] = 0x8000;
        machine.state.rflags |= rflags::VM | io_privilege << 12;
        machine.state.cpl = 3;
        machine
    }

    /// Real mode: CS 1000h (CODE), the others 2000h (DATA), SP 8000h, the vector table at 0.
    pub fn real() -> Machine {
        let mut machine = Machine::protected();
        let part =
            |selector: u16| Segment { base: u64::from(selector) << 4, limit: 0xffff, attributes: 0x93, selector };
        machine.state.segments = [part(0x2000); 6];
        machine.state.segments[segment::CS] = part(0x1000);
        machine.state.rip = 0;
        machine.state.gpr[gpr::RSP] = 0x8000;
        machine.state.cr0 = control::CR0_ET;
        machine.state.idtr = TableRegister { base: 0, limit: 0x3ff };
        machine
    }

    /// A gate of the IDT.
    pub fn legacy_gate(&mut self, vector: u8, kind: u64, selector: u16, offset: u64) {
        self.store(IDT + 8 * u64::from(vector), gate(kind, selector, offset, 0));
    }

    /// `count` words of `size` bytes from the top of the stack.
    pub fn stacked(&self, size: u64, count: u64) -> Vec<u64> {
        let stack = self.state.segments[segment::SS];
        let top = stack.base + (self.state.gpr[gpr::RSP] & stack.offset_mask());
        (0..count).map(|index| self.load(top + size * index) & (u64::MAX >> (64 - 8 * size))).collect()
    }

    /// Writes words of `size` bytes to the top of the stack.
    pub fn stack(&mut self, size: u64, words: &[u64]) {
        let stack = self.state.segments[segment::SS];
        let top = stack.base + (self.state.gpr[gpr::RSP] & stack.offset_mask());
        for (index, word) in words.iter().enumerate() {
            let bytes = word.to_le_bytes();
            assert!(self.memory.store(top + size * index as u64, &bytes[..size as usize]));
        }
    }

    /// Delivers an exception.
    pub fn raise(&mut self, exception: Exception) {
        self.with(|x| crate::system::deliver::exception(x, exception)).expect("delivered");
    }
}
