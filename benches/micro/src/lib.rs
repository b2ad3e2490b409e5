//! Small programs in a machine without chips, for measurements of one thing at a time.

use ftemu_cpu::state::{Segment, TableRegister, control, gpr, segment};
use ftemu_cpu::{Bus, Cpu, Icount, Memory, State, Stop};
use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;

/// Where programs begin.
pub const CODE: u64 = 0x10_0000;
/// Where they may store; 1 MiB.
pub const DATA: u64 = 0x20_0000;
/// Above the stack.
pub const STACK: u64 = 0x40_0000;
const MEMORY: u64 = 16 << 20;
const TABLES: u64 = 0x1000;
const GDT: u64 = 0x8000;
const TSS: u64 = 0x8100;
const IDT: u64 = 0x9000;
const INVALID_OPCODE: u64 = 6;

/// A board on which every port reads as ones.
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

/// A program that never ends, at CPL 0 in 64-bit mode, all memory mapped for both levels by pages of 4 KiB.
pub struct Program {
    /// The CPU it runs on.
    pub cpu: Cpu,
}

impl Program {
    /// `build` gets an assembler that begins at [`CODE`].
    ///
    /// # Panics
    /// The program cannot be assembled, or the host has no memory.
    pub fn new(build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Program {
        let mut assembler = CodeAssembler::new(64).expect("an assembler");
        build(&mut assembler).expect("a program");
        let code = assembler.assemble(CODE).expect("a program that assembles");
        let mut memory = Memory::new(MEMORY).expect("memory");
        map(&mut memory);
        describe(&mut memory);
        memory.store(CODE, &code);
        let mut cpu = Cpu::new(memory).expect("a CPU");
        *cpu.state_mut() = state();
        Program { cpu }
    }

    /// Sends #UD to a linear address.
    pub fn handle_invalid_opcodes(&mut self, handler: u64) {
        let gate = [handler & 0xffff | 8 << 16 | (handler >> 16 & 0xffff) << 48 | 0x8e00 << 32, handler >> 32];
        for (number, half) in (0..).zip(gate) {
            self.cpu.memory_mut().store(IDT + 16 * INVALID_OPCODE + 8 * number, &half.to_le_bytes());
        }
    }

    /// Runs so many instructions.
    ///
    /// # Panics
    /// The program halts or shuts down.
    pub fn run(&mut self, instructions: u64) {
        let until = Icount(self.cpu.count().0 + instructions);
        loop {
            match self.cpu.run(&mut Bare, until, false) {
                Stop::Count => return,
                Stop::Device | Stop::Window => {}
                stop => panic!("the program ends with {stop:?} at {:#x}", self.cpu.state().rip),
            }
        }
    }
}

/// Identity, present, writable, for users too.
fn map(memory: &mut Memory) {
    let entry = |address: u64| (address | 7).to_le_bytes();
    memory.store(TABLES, &entry(TABLES + 0x1000));
    memory.store(TABLES + 0x1000, &entry(TABLES + 0x2000));
    let lowest = 0x80_0000;
    for table in 0..MEMORY >> 21 {
        memory.store(TABLES + 0x2000 + 8 * table, &entry(lowest + 0x1000 * table));
    }
    for page in 0..MEMORY >> 12 {
        memory.store(lowest + 8 * page, &entry(page << 12));
    }
}

/// Null, kernel code, kernel data, user data, user code: what SYSCALL and SYSRET want; and a task.
fn describe(memory: &mut Memory) {
    for (number, descriptor) in
        (0..).zip([0u64, 0xaf_9b00_0000_ffff, 0xcf_9300_0000_ffff, 0xcf_f300_0000_ffff, 0xaf_fb00_0000_ffff])
    {
        memory.store(GDT + 8 * number, &descriptor.to_le_bytes());
    }
    memory.store(TSS + 4, &STACK.to_le_bytes());
}

fn state() -> State {
    use control::*;
    let mut state = State { rip: CODE, rflags: 2, ..State::default() };
    state.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE;
    state.cr3 = TABLES;
    state.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    state.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    state.star = 0x10_0008 << 32;
    state.gdtr = TableRegister { base: GDT, limit: 39 };
    state.idtr = TableRegister { base: IDT, limit: 0xfff };
    state.tr = Segment { base: TSS, limit: 0x67, attributes: 0x8b, selector: 0x28 };
    state.segments[segment::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xa9b, selector: 8 };
    state.segments[segment::SS] = Segment { base: 0, limit: u32::MAX, attributes: 0xc93, selector: 16 };
    state.gpr[gpr::RSP] = STACK;
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_runs_and_handles_its_exceptions() {
        let mut program = Program::new(|a| {
            use iced_x86::code_asm::*;
            let mut again = a.create_label();
            a.set_label(&mut again)?;
            a.inc(rbx)?;
            a.ud2()?;
            a.jmp(again)?;
            a.nops_with_size(16)
        });
        let handler = CODE + 0x1000;
        // INC RCX; ADD QWORD [RSP],2; IRETQ
        program.cpu.memory_mut().store(handler, &[0x48, 0xff, 0xc1, 0x48, 0x83, 0x04, 0x24, 2, 0x48, 0xcf]);
        program.handle_invalid_opcodes(handler);
        program.run(5 * 1000);
        let gpr = &program.cpu.state().gpr;
        assert_eq!((gpr[gpr::RBX], gpr[gpr::RCX]), (1000, 1000));
    }
}
