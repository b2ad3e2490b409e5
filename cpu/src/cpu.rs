//! One CPU with its memory: run to a count, deliver interrupts, save and load.

use crate::bus::{Bus, Icount};
use crate::memory::Memory;
use crate::state::State;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The count asked for is reached, exactly.
    Count,
    /// An instruction touched the board: sample lines and deadlines, then go on.
    Device,
    /// An interrupt waits and the window has just opened.
    Window,
    /// HLT: nothing happens before an interrupt.
    Halt,
    /// A triple fault: the board resets the machine.
    Shutdown,
}

/// One CPU and the RAM it runs from.
pub struct Cpu {
    state: State,
    memory: Memory,
    count: Icount,
}

impl Cpu {
    /// A CPU with zeroed registers at count 0; the loader sets the state.
    pub fn new(memory: Memory) -> Cpu {
        Cpu { state: State::default(), memory, count: Icount(0) }
    }

    /// Instructions completed so far.
    pub fn count(&self) -> Icount {
        self.count
    }

    /// Advances the count by one for an idle skip (a halted CPU woken by time): see docs/DETERMINISM.md.
    pub fn count_idle_skip(&mut self) {
        self.count.0 += 1;
    }

    /// Registers.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Registers, to be changed from outside of a run.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.state
    }

    /// Guest RAM.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Guest RAM, to be changed from outside of a run (loaders, DMA). Derived state is dropped at the next run.
    pub fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// Runs until `until` instructions are complete or something needs the board. Never overshoots.
    /// `interrupt_waiting`: also stop as soon as an interrupt could be delivered.
    pub fn run(&mut self, _bus: &mut dyn Bus, _until: Icount, _interrupt_waiting: bool) -> Stop {
        todo!("the translator")
    }

    /// Whether an external interrupt can be delivered now: IF set and no shadow.
    pub fn interruptible(&self) -> bool {
        self.state.rflags & crate::state::rflags::IF != 0 && !self.state.interrupt_shadow
    }

    /// Delivers an external interrupt; wakes a halted CPU. False: it ended in a triple fault.
    pub fn interrupt(&mut self, _bus: &mut dyn Bus, _vector: u8) -> bool {
        todo!("system::deliver")
    }

    /// Appends registers and count (not RAM) to a checkpoint, little-endian.
    pub fn save(&self, _out: &mut Vec<u8>) {
        todo!()
    }

    /// Restores what [`Cpu::save`] wrote, taking it off the front of `bytes`; everything derived is dropped. False if cut short or invalid.
    pub fn load(&mut self, _bytes: &mut &[u8]) -> bool {
        todo!()
    }

    /// Drops all translated code and cached walks; nothing a guest could notice.
    pub fn forget_derived(&mut self) {}

    /// RAM pages written since the last call, ascending. All pages after `new`.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        todo!()
    }
}
