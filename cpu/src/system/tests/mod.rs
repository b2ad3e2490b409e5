//! Tests of system instructions on a small machine: identity-mapped 4-KiB pages, a GDT with one of everything, an IDT,
//! a TSS, a board that remembers what it was asked.

mod delivery;
mod instructions;
mod legacy;
mod registers;
mod strings;
mod transfers;

use super::{Executed, execute};
use crate::bus::{Bus, Icount};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::memory::{Memory, PAGE};
use crate::paging::{self, Access};
use crate::state::{Segment, State, TableRegister, control, gpr, segment};
use iced_x86::code_asm::CodeAssembler;
use iced_x86::{Decoder, IcedError, Instruction};

pub const GDT: u64 = 0x5000;
pub const IDT: u64 = 0x6000;
pub const TSS: u64 = 0x7000;
pub const LEAF_TABLE: u64 = 0x4000;
pub const CODE: u64 = 0x1_0000;
pub const HANDLER: u64 = 0x1_8000;
pub const DATA: u64 = 0x2_0000;
pub const STACK: u64 = 0x3_0000;
pub const RING_0_STACK: u64 = 0x3_8000;
pub const IST_STACK: u64 = 0x3_c000;
/// Mapped, but there is no RAM: device registers.
pub const DEVICE: u64 = 0x1f_0000;
const DEVICE_PHYSICAL: u64 = 0xfee0_0000;

/// Selectors of the GDT.
pub mod selector {
    pub const CODE_0: u16 = 0x08;
    pub const DATA_0: u16 = 0x10;
    pub const DATA_3: u16 = 0x20;
    pub const CODE_3: u16 = 0x28;
    pub const TASK: u16 = 0x30;
    pub const ABSENT_DATA: u16 = 0x40;
    pub const CONFORMING: u16 = 0x48;
    pub const LOCAL: u16 = 0x50;
    pub const GATE: u16 = 0x60;
    pub const READ_ONLY: u16 = 0x70;
    pub const ABSENT_CODE: u16 = 0x78;
    pub const FRESH: u16 = 0x80;
    pub const BEYOND: u16 = 0x90;
}

/// What the board was asked, and the value of every port and register.
#[derive(Default)]
pub struct Board {
    pub log: Vec<String>,
    pub value: u64,
    pub priority: u8,
}

impl Bus for Board {
    fn port_read(&mut self, _: &mut Memory, now: Icount, port: u16, size: u8) -> u32 {
        self.log.push(format!("{} in {port:#x} {size}", now.0));
        self.value as u32
    }
    fn port_write(&mut self, _: &mut Memory, now: Icount, port: u16, size: u8, value: u32) {
        self.log.push(format!("{} out {port:#x} {size} {value:#x}", now.0));
    }
    fn mmio_read(&mut self, _: &mut Memory, now: Icount, address: u64, size: u8) -> u64 {
        self.log.push(format!("{} load {address:#x} {size}", now.0));
        self.value
    }
    fn mmio_write(&mut self, _: &mut Memory, now: Icount, address: u64, size: u8, value: u64) {
        self.log.push(format!("{} store {address:#x} {size} {value:#x}", now.0));
    }
    fn time_stamp(&self, now: Icount) -> u64 {
        1000 + now.0
    }
    fn msr_read(&mut self, _: Icount, register: u32) -> Option<u64> {
        (register == 0x1b).then_some(0xfee0_0900)
    }
    fn msr_write(&mut self, _: Icount, register: u32, _: u64) -> bool {
        register == 0x1b
    }
    fn task_priority(&mut self) -> u8 {
        self.priority
    }
    fn set_task_priority(&mut self, _: Icount, class: u8) {
        self.priority = class;
    }
}

/// A CPU before one instruction.
pub struct Machine {
    pub state: State,
    pub memory: Memory,
    pub board: Board,
    /// Instructions completed.
    pub now: u64,
    /// The last instruction touched the board.
    pub device: bool,
    /// Iterations completed before the last exception.
    pub completed: u64,
}

impl Machine {
    /// 64-bit mode at CPL 0.
    pub fn new() -> Machine {
        let memory = Memory::new(2 << 20).expect("memory");
        let mut machine =
            Machine { state: State::default(), memory, board: Board::default(), now: 100, device: false, completed: 0 };
        machine.build_page_tables();
        machine.build_gdt();
        machine.build_state();
        machine.store(TSS + 4, RING_0_STACK);
        machine.store(TSS + 0x24, IST_STACK);
        machine
    }

    /// The same at CPL 3.
    pub fn user() -> Machine {
        let mut machine = Machine::new();
        machine.enter_ring_3();
        machine
    }

    pub fn enter_ring_3(&mut self) {
        self.state.cpl = 3;
        self.state.segments[segment::CS].selector = selector::CODE_3 | 3;
        self.state.segments[segment::CS].attributes = 0xafb;
        self.state.segments[segment::SS].selector = selector::DATA_3 | 3;
        self.state.segments[segment::SS].attributes = 0xcf3;
    }

    fn build_page_tables(&mut self) {
        self.store(0x1000, 0x2007);
        self.store(0x2000, 0x3007);
        self.store(0x3000, LEAF_TABLE | 7);
        for page in 0..512 {
            self.store(LEAF_TABLE + 8 * page, (page * PAGE) | 7);
        }
        self.store(LEAF_TABLE + 8 * (DEVICE / PAGE), DEVICE_PHYSICAL | 7);
    }

    fn build_gdt(&mut self) {
        let entries: [u64; 17] = [
            0,
            0x00af_9b00_0000_ffff,
            0x00cf_9300_0000_ffff,
            0x00cf_fb00_0000_ffff,
            0x00cf_f300_0000_ffff,
            0x00af_fb00_0000_ffff,
            0x0000_8900_0000_0067 | TSS << 16,
            0,
            0x00cf_1300_0000_ffff,
            0x00af_9f00_0000_ffff,
            0x0000_8200_0000_000f | (GDT + 0x100) << 16,
            0,
            // Call gate, DPL 3, to HANDLER in CODE_0.
            HANDLER & 0xffff | 0x08 << 16 | 0xec00 << 32 | (HANDLER >> 16) << 48,
            0,
            0x00cf_9100_0000_ffff,
            0x00af_1b00_0000_ffff,
            // Ring 3 data, not accessed yet.
            0x00cf_f212_3456_ffff,
        ];
        for (index, entry) in entries.into_iter().enumerate() {
            self.store(GDT + 8 * index as u64, entry);
        }
        // The LDT's only useful entry.
        self.store(GDT + 0x108, 0x00cf_f300_0000_ffff);
    }

    fn build_state(&mut self) {
        let flat = |selector, attributes| Segment { base: 0, limit: u32::MAX, attributes, selector };
        let state = &mut self.state;
        state.rip = CODE;
        state.rflags = 0x2;
        state.gpr[gpr::RSP] = STACK;
        state.cr0 = control::CR0_PE | control::CR0_PG | control::CR0_WP | control::CR0_NE | control::CR0_ET;
        state.cr3 = 0x1000;
        state.cr4 = control::CR4_PAE | control::CR4_OSFXSR | control::CR4_OSXMMEXCPT;
        state.efer = control::EFER_SCE | control::EFER_LME | control::EFER_LMA | control::EFER_NXE;
        state.segments = [flat(selector::DATA_0, 0xc93); 6];
        state.segments[segment::CS] = flat(selector::CODE_0, 0xa9b);
        state.gdtr = TableRegister { base: GDT, limit: 0x87 };
        state.idtr = TableRegister { base: IDT, limit: 0xfff };
        state.tr = Segment { base: TSS, limit: 0x67, attributes: 0x8b, selector: selector::TASK };
    }

    /// Writes eight bytes of physical (and linear) memory.
    pub fn store(&mut self, address: u64, value: u64) {
        assert!(self.memory.store(address, &value.to_le_bytes()));
    }

    /// Reads eight bytes of memory.
    pub fn load(&self, address: u64) -> u64 {
        let mut bytes = [0; 8];
        assert!(self.memory.read(address, &mut bytes));
        u64::from_le_bytes(bytes)
    }

    /// Changes the flags (bits 0 to 11 and 63) of a page's table entry.
    pub fn protect(&mut self, linear: u64, flags: u64) {
        self.store(LEAF_TABLE + 8 * (linear / PAGE), linear & !(PAGE - 1) | flags);
    }

    /// An IDT entry: `kind` is the access byte (8Eh interrupt gate, 8Fh trap gate, EEh for DPL 3).
    pub fn gate(&mut self, vector: u8, selector: u16, offset: u64, kind: u64, stack_index: u64) {
        let low = offset & 0xffff
            | u64::from(selector) << 16
            | stack_index << 32
            | kind << 40
            | (offset >> 16 & 0xffff) << 48;
        self.store(IDT + 16 * u64::from(vector), low);
        self.store(IDT + 16 * u64::from(vector) + 8, offset >> 32);
    }

    /// Runs Rust code on the machine.
    pub fn with<R>(&mut self, action: impl FnOnce(&mut Execution) -> R) -> R {
        let mut x = Execution {
            state: &mut self.state,
            memory: &mut self.memory,
            bus: &mut self.board,
            now: Icount(self.now),
            device: false,
            cached: None,
        };
        let result = action(&mut x);
        self.device = x.device;
        result
    }

    /// Places the instruction that `emit` assembles at RIP.
    pub fn assemble(&mut self, emit: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) {
        let mut assembler = CodeAssembler::new(self.state.code_bits()).expect("an assembler");
        emit(&mut assembler).expect("an encodable instruction");
        let bytes = assembler.assemble(self.state.rip).expect("an encodable instruction");
        self.place(&bytes);
    }

    /// Places bytes at RIP.
    pub fn place(&mut self, bytes: &[u8]) {
        assert!(self.memory.store(self.state.code_address(self.state.rip), bytes));
    }

    /// Fetches and decodes at RIP.
    pub fn fetch(&mut self) -> Result<Instruction, Exception> {
        let access = Access::fetch(self.state.cpl == 3);
        let mut bytes = [0; 15];
        let linear = self.state.code_address(self.state.rip);
        let at = paging::walk(&mut self.memory, &self.state, linear, access)?;
        self.memory.read(at.physical, &mut bytes);
        Ok(Decoder::with_ip(self.state.code_bits(), &bytes, self.state.rip, 0).decode())
    }

    /// Executes the instruction at RIP, at most `allowance` iterations.
    pub fn step(&mut self, allowance: u64) -> Result<Executed, Exception> {
        let instruction = self.fetch()?;
        let ours = super::handles(&instruction) || super::near::is_near(&instruction);
        assert!(ours, "{instruction} is not ours");
        let mut completed = 0;
        let result = self.with(|x| execute(x, &instruction, allowance, &mut completed));
        self.completed = completed;
        self.now += result.map_or(completed, |executed| executed.count);
        result
    }

    /// Assembles and executes one instruction.
    pub fn run(
        &mut self,
        emit: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
    ) -> Result<Executed, Exception> {
        self.assemble(emit);
        self.step(u64::MAX)
    }

    /// Executes raw bytes.
    pub fn run_bytes(&mut self, bytes: &[u8]) -> Result<Executed, Exception> {
        self.place(bytes);
        self.step(u64::MAX)
    }
}
