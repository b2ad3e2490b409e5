//! The device under test: `ftemu_cpu` without an interrupt table, so that the first exception shuts it down with nothing
//! changed. Which one it was, a second run with a table tells.

use super::{
    CASE_SELECTOR, Case, GDT, HANDLERS, IDT, LDT, MEMORY, Mode, Outcome, Registers, TABLES, TABLES_BYTES, TSS,
};
use crate::engine::EmptyBoard;
use ftemu_cpu::state::{Segment, TableRegister, control, segment};
use ftemu_cpu::{Cpu, Icount, Memory, State, Stop};
use std::collections::BTreeMap;

/// More than any case needs.
const LIMIT: u64 = 300_000;

pub struct Machine {
    cpu: Cpu,
}

impl Machine {
    pub fn new(image: &[u8]) -> std::io::Result<Machine> {
        let mut memory = Memory::new(TABLES + TABLES_BYTES)?;
        memory.store(0, image);
        Ok(Machine { cpu: Cpu::new(memory)? })
    }

    /// `None` if the case does not end.
    pub fn run(&mut self, case: &Case, image: &[u8]) -> Option<Outcome> {
        self.load(case, 0);
        let stop = self.run_to_the_end();
        let registers = self.registers();
        let changes = self.take_changes(image);
        if stop != Some(Stop::Shutdown) {
            return None;
        }
        let at = self.cpu.state().code_address(u64::from(registers.ip)) as u32;
        let byte = changes.get(&at).copied().or(image.get(at as usize).copied());
        let placed = at.wrapping_sub(case.parts[1].base as u32 + case.registers.ip) as usize;
        let ended =
            byte == Some(0xcc) && !(placed < case.bytes.len() && changes.is_empty() && case.bytes[placed] != 0xcc);
        let vector = if ended { Some(3) } else { self.vector(case, image) };
        Some(Outcome { vector, registers, linear: at, changes })
    }

    /// The vector of the first exception: which handler the same case leads to.
    fn vector(&mut self, case: &Case, image: &[u8]) -> Option<u8> {
        self.load(case, 0x7ff);
        let halted = self.run_to_the_end() == Some(Stop::Halt);
        let vector = self.cpu.state().rip.wrapping_sub(HANDLERS + 1);
        self.take_changes(image);
        (halted && vector < 32).then_some(vector as u8)
    }

    fn load(&mut self, case: &Case, table_limit: u16) {
        let memory = self.cpu.memory_mut();
        // A program that goes astray may have written to the tables.
        memory.store(GDT, &super::flat_descriptors());
        memory.store(LDT, &super::segments::table());
        for number in 0..6 {
            memory.store(GDT + u64::from(CASE_SELECTOR) + 8 * number as u64, &case.descriptor(number).to_le_bytes());
        }
        memory.store(TSS + 4, &(0x10 << 32 | (TABLES + 0x7f00)).to_le_bytes());
        // No I/O permission map.
        memory.store(TSS + 0x66, &0x68_u16.to_le_bytes());
        for vector in 0..32 {
            let handler = HANDLERS + vector;
            if case.mode == Mode::Real {
                memory.store(IDT + 4 * vector, &(handler as u32).to_le_bytes());
            } else {
                memory.store(IDT + 8 * vector, &(handler | 8 << 16 | 0xee00 << 32).to_le_bytes());
            }
        }
        memory.store(case.parts[1].base + u64::from(case.registers.ip), &case.bytes);
        if let Some((address, bytes)) = &case.patch {
            memory.store(*address, bytes);
        }
        *self.cpu.state_mut() = state(case, table_limit);
        self.cpu.forget_derived();
    }

    fn run_to_the_end(&mut self) -> Option<Stop> {
        let until = Icount(self.cpu.count().0 + LIMIT);
        loop {
            match self.cpu.run(&mut EmptyBoard, until, false) {
                Stop::Device | Stop::Window => {}
                Stop::Count => return None,
                stop => return Some(stop),
            }
        }
    }

    fn registers(&self) -> Registers {
        let state = self.cpu.state();
        let mut registers = Registers { ip: state.rip as u32, flags: state.rflags as u32, ..Registers::default() };
        for (value, register) in registers.gpr.iter_mut().zip(state.gpr) {
            *value = register as u32;
        }
        registers.selectors = state.segments.map(|segment| segment.selector);
        registers
    }

    /// Bytes that differ from the image, which is put back.
    fn take_changes(&mut self, image: &[u8]) -> BTreeMap<u32, u8> {
        let mut bytes = vec![0; MEMORY];
        self.cpu.memory().read(0, &mut bytes);
        let changes = super::compare::changes(image, &bytes);
        for page in super::compare::changed_pages(image, &bytes) {
            self.cpu.memory_mut().store(page as u64, &image[page..page + 4096]);
        }
        changes
    }
}

/// The CPU about to execute the case.
fn state(case: &Case, table_limit: u16) -> State {
    let registers = &case.registers;
    let mut state = State { rip: registers.ip.into(), rflags: registers.flags.into(), ..State::default() };
    for (register, &value) in state.gpr.iter_mut().zip(&registers.gpr) {
        *register = value.into();
    }
    for number in 0..6 {
        let part = &case.parts[number];
        let (code, user) = (number == segment::CS, case.mode == Mode::Virtual8086);
        let attributes = match case.mode {
            Mode::Protected { .. } => {
                let descriptor = case.descriptor(number);
                (descriptor >> 40 & 0xff | descriptor >> 44 & 0xf00) as u16
            }
            _ => 0x93 | if user { 0x60 } else { 0 } | if code && !user { 8 } else { 0 },
        };
        state.segments[number] =
            Segment { base: part.base, limit: part.limit, attributes, selector: registers.selectors[number] };
    }
    state.gdtr = TableRegister { base: GDT, limit: CASE_SELECTOR + 8 * 6 - 1 };
    state.idtr = TableRegister { base: IDT, limit: table_limit };
    // Only the cases for silicon have a local table.
    let present = if case.parts[segment::CS].access == 0 { 0 } else { Segment::PRESENT };
    let limit = 8 * super::segments::COUNT as u32 - 1;
    state.ldtr = Segment { base: LDT, limit, attributes: 2 | present, selector: 0x60 };
    state.tr = Segment { base: TSS, limit: 0x67, attributes: 0x8b, selector: 0 };
    state.cr0 = control::CR0_ET | if case.mode == Mode::Real { 0 } else { control::CR0_PE };
    state.cr4 = control::CR4_OSFXSR;
    state.cpl = match case.mode {
        Mode::Virtual8086 | Mode::Protected { user: true, .. } => 3,
        _ => 0,
    };
    state
}
