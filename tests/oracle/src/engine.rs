//! The device under test: `ftemu_cpu` runs the case at CPL 3 until the handler of its first exception halts.

use crate::case::{Case, Line, Outcome, Program, Subject, SystemState};
use crate::compare::IMAGES;
use crate::guest::{self, FRAMES, SYSTEM, selector};
use crate::layout::{CODE_FRAME, DATA_BYTES, PAGE};
use crate::random::Random;
use ftemu_cpu::state::{Segment, TableRegister, control, gpr, segment};
use ftemu_cpu::{Bus, Cpu, Icount, Memory, Optimisations, State, Stop};

/// More than any case needs that ends.
const LIMIT: u64 = 200_000;

/// A board without chips.
#[derive(Default)]
pub struct EmptyBoard;

impl Bus for EmptyBoard {
    fn port_read(&mut self, _memory: &mut Memory, _now: Icount, _port: u16, _size: u8) -> u32 {
        !0
    }
    fn port_write(&mut self, _memory: &mut Memory, _now: Icount, _port: u16, _size: u8, _value: u32) {}
    fn mmio_read(&mut self, _memory: &mut Memory, _now: Icount, _address: u64, _size: u8) -> u64 {
        !0
    }
    fn mmio_write(&mut self, _memory: &mut Memory, _now: Icount, _address: u64, _size: u8, _value: u64) {}
    fn time_stamp(&self, now: Icount) -> u64 {
        now.0
    }
    fn msr_read(&mut self, _now: Icount, _register: u32) -> Option<u64> {
        None
    }
    fn msr_write(&mut self, _now: Icount, _register: u32, _value: u64) -> bool {
        false
    }
    fn task_priority(&mut self) -> u8 {
        0
    }
    fn set_task_priority(&mut self, _now: Icount, _class: u8) {}
}

/// How a run is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slicing {
    /// Not at all.
    Whole,
    /// Into slices of a few instructions, seeded; derived state is forgotten now and then.
    Random(u64),
}

/// At which level a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// CPL 3.
    User,
    /// CPL 0, on the same pages: WP protects those that are read-only.
    Kernel,
}

/// The engine in a machine of its own.
pub struct Engine {
    cpu: Cpu,
    holds: usize,
    /// How the next runs are cut.
    pub slicing: Slicing,
    /// How the next runs are privileged.
    pub privilege: Privilege,
}

impl Engine {
    /// A machine with the tables of [`guest`].
    ///
    /// # Errors
    /// The host has no memory.
    pub fn new() -> std::io::Result<Engine> {
        let mut memory = Memory::new(guest::MEMORY as u64)?;
        memory.store(0, &guest::memory());
        Ok(Engine { cpu: Cpu::new(memory)?, holds: usize::MAX, slicing: Slicing::Whole, privilege: Privilege::User })
    }

    /// Leaves optimisations out of the next runs.
    pub fn set_optimisations(&mut self, optimisations: Optimisations) {
        self.cpu.set_optimisations(optimisations);
    }

    /// Puts the case's bytes into the frames, which hold their initial data between runs.
    fn load(&mut self, case: &Case, program: &Program) {
        let memory = self.cpu.memory_mut();
        if self.holds != case.image {
            memory.store(FRAMES, &IMAGES[case.image]);
            memory.store(FRAMES + DATA_BYTES as u64, &vec![0xcc; crate::layout::CODE_PAGES * PAGE]);
            self.holds = case.image;
        }
        for patch in &case.patches {
            memory.store(FRAMES + u64::from(patch.offset), &patch.bytes);
        }
        memory.store(FRAMES + (CODE_FRAME * PAGE + case.start) as u64, &program.bytes);
        let mut privilege = self.privilege;
        if let Some(system) = &case.system {
            for (address, value) in &system.stores {
                memory.store(*address, &value.to_le_bytes());
            }
            privilege = system.privilege;
            // WP and NXE may change without the CPU executing a MOV.
            self.cpu.forget_derived();
        }
        *self.cpu.state_mut() = initial_state(case, program, privilege);
    }

    /// Runs until the handler halts; false if the case does not end.
    fn run_to_halt(&mut self) -> bool {
        let start = self.cpu.count().0;
        let mut random = match self.slicing {
            Slicing::Whole => None,
            Slicing::Random(seed) => Some(Random::new(seed)),
        };
        while self.cpu.count().0 - start < LIMIT {
            let until = match &mut random {
                None => start + LIMIT,
                Some(random) => {
                    if random.percent(20) {
                        self.cpu.forget_derived();
                    }
                    self.cpu.count().0 + 1 + random.below(6) as u64
                }
            };
            match self.cpu.run(&mut EmptyBoard, Icount(until), false) {
                Stop::Halt => return true,
                Stop::Count => assert_eq!(self.cpu.count().0, until, "the count that was asked for"),
                Stop::Device | Stop::Window => {}
                Stop::Shutdown => return false,
            }
        }
        false
    }

    /// Changed lines; the frames are put back.
    fn take_lines(&mut self, case: &Case) -> Vec<Line> {
        const EMPTY: [u8; 64] = [0xcc; 64];
        let image = &IMAGES[case.image];
        let mut lines = Vec::new();
        for frame in 0..crate::layout::FRAMES {
            let page = self.cpu.memory().page_of(FRAMES + (frame * PAGE) as u64).expect("the frames are RAM");
            for (number, bytes) in self.cpu.memory().page(page).chunks_exact(64).enumerate() {
                let offset = frame * PAGE + number * 64;
                let initial = if frame < CODE_FRAME { &image[offset..offset + 64] } else { &EMPTY[..] };
                if bytes != initial {
                    lines.push(Line { offset: offset as u32, bytes: bytes.try_into().expect("64 bytes") });
                }
            }
        }
        for line in &lines {
            let offset = line.offset as usize;
            let initial = if offset < DATA_BYTES { &image[offset..offset + 64] } else { &EMPTY[..] };
            self.cpu.memory_mut().store(FRAMES + offset as u64, initial);
        }
        lines
    }

    /// System state of a case about it; the words it changed are put back.
    fn take_system(&mut self) -> SystemState {
        let words = guest::changed_words(|start| {
            let memory = self.cpu.memory();
            *memory.page(memory.page_of(start).expect("the tables are RAM"))
        });
        for (address, _) in &words {
            self.cpu.memory_mut().store(*address, &guest::initial_word(*address).to_le_bytes());
        }
        SystemState { words, selectors: self.cpu.state().segments.map(|segment| segment.selector) }
    }

    /// What the exception pushed, and the registers it left alone.
    fn outcome(&self, count: u64, lines: Vec<Line>, system: Option<SystemState>) -> Outcome {
        let state = self.cpu.state();
        let vector = (state.rip.wrapping_sub(SYSTEM + guest::HANDLERS) / 16) as u8;
        let has_error = matches!(vector, 8 | 10..=14 | 17);
        let frame = state.gpr[gpr::RSP];
        let word = |number: u64| {
            let mut bytes = [0; 8];
            self.cpu.memory().read(frame.wrapping_sub(SYSTEM) + 8 * number, &mut bytes);
            u64::from_le_bytes(bytes)
        };
        let after = u64::from(has_error);
        let mut registers = crate::case::Registers {
            fx: state.fx.0,
            gpr: state.gpr,
            rip: word(after),
            rflags: word(after + 2),
            fs_base: state.segments[segment::FS].base,
            gs_base: state.segments[segment::GS].base,
        };
        registers.gpr[gpr::RSP] = word(after + 3);
        let system = system.map(|mut system| {
            system.selectors[segment::CS] = word(after + 1) as u16;
            system.selectors[segment::SS] = word(after + 4) as u16;
            system
        });
        Outcome {
            vector,
            error: if has_error { word(0) as u32 } else { 0 },
            cr2: if vector == 14 { state.cr2 } else { 0 },
            registers,
            lines,
            count: Some(count - 1),
            system,
        }
    }
}

impl Subject for Engine {
    fn name(&self) -> &'static str {
        "engine"
    }

    fn run(&mut self, case: &Case, program: &Program) -> Option<Outcome> {
        self.load(case, program);
        let start = self.cpu.count().0;
        let halted = self.run_to_halt();
        let lines = self.take_lines(case);
        let system = case.system.as_ref().map(|_| self.take_system());
        halted.then(|| self.outcome(self.cpu.count().0 - start, lines, system))
    }
}

/// The CPU about to execute the program's first instruction.
fn initial_state(case: &Case, program: &Program, privilege: Privilege) -> State {
    use control::*;
    let registers = &case.registers;
    let mut state = State { gpr: registers.gpr, rip: program.address, rflags: registers.rflags, ..State::default() };
    let (code, stack, level) = match privilege {
        Privilege::User => ((0xafb, selector::USER_CODE), (0xcf3, selector::USER_DATA), 3),
        Privilege::Kernel => ((0xa9b, selector::KERNEL_CODE), (0xc93, selector::KERNEL_DATA), 0),
    };
    let flat = |(attributes, selector)| Segment { base: 0, limit: !0, attributes, selector };
    state.segments[segment::CS] = flat(code);
    state.segments[segment::SS] = flat(stack);
    state.segments[segment::FS].base = registers.fs_base;
    state.segments[segment::GS].base = registers.gs_base;
    state.tr = Segment { base: SYSTEM + guest::TSS, limit: 0x67, attributes: 0x8b, selector: selector::TASK };
    state.gdtr = TableRegister { base: SYSTEM + guest::GDT, limit: guest::GDT_LIMIT };
    state.idtr = TableRegister { base: SYSTEM + guest::IDT, limit: 0xfff };
    state.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
    state.cr3 = guest::TABLES;
    state.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
    state.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    if let Some(system) = &case.system {
        state.cr0 = if system.write_protect { state.cr0 } else { state.cr0 & !CR0_WP };
        state.efer = if system.no_execute { state.efer } else { state.efer & !EFER_NXE };
    }
    state.fx.0 = registers.fx;
    state.cpl = level;
    state
}
