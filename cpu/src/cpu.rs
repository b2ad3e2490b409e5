//! One CPU with its memory: run to a count, deliver interrupts, save and load.

use crate::bus::{Bus, Icount};
use crate::engine::Engine;
use crate::engine::options::Optimisations;
use crate::engine::tally::Tally;
use crate::memory::Memory;
use crate::save::Saved;
use crate::state::{State, rflags};
use std::io;

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
    engine: Box<Engine>,
}

impl Cpu {
    /// A CPU with zeroed registers at count 0; the loader sets the state.
    ///
    /// # Errors
    /// The host lacks BMI2, or refuses memory.
    pub fn new(memory: Memory) -> io::Result<Cpu> {
        Ok(Cpu { engine: Engine::new(memory)? })
    }

    /// Leaves out what makes it fast, to find out which part a fault lies in; nothing a guest could notice.
    pub fn set_optimisations(&mut self, optimisations: Optimisations) {
        self.engine.set_optimisations(optimisations);
    }

    /// What the engine has counted about itself.
    pub fn tally(&self) -> Tally {
        self.engine.tally()
    }

    /// Instructions completed so far.
    pub fn count(&self) -> Icount {
        Icount(self.engine.count())
    }

    /// Advances the count by one for an idle skip (a halted CPU woken by time): see docs/DETERMINISM.md.
    pub fn count_idle_skip(&mut self) {
        self.engine.set_count(self.engine.count() + 1);
    }

    /// Registers.
    pub fn state(&self) -> &State {
        self.engine.state()
    }

    /// Registers, to be changed from outside of a run. After changing control registers call
    /// [`Cpu::forget_derived`].
    pub fn state_mut(&mut self) -> &mut State {
        self.engine.state_mut()
    }

    /// Guest RAM.
    pub fn memory(&self) -> &Memory {
        &self.engine.memory
    }

    /// Guest RAM, to be changed from outside of a run (loaders, DMA). Derived state is dropped at the next run.
    pub fn memory_mut(&mut self) -> &mut Memory {
        &mut self.engine.memory
    }

    /// Runs until `until` instructions are complete or something needs the board. Never overshoots.
    /// `interrupt_waiting`: also stop as soon as an interrupt could be delivered.
    pub fn run(&mut self, bus: &mut dyn Bus, until: Icount, interrupt_waiting: bool) -> Stop {
        self.engine.run(bus, until.0, interrupt_waiting)
    }

    /// Whether an external interrupt can be delivered now: IF set and no shadow.
    pub fn interruptible(&self) -> bool {
        self.state().rflags & rflags::IF != 0 && !self.state().interrupt_shadow
    }

    /// Delivers an external interrupt; wakes a halted CPU. False: it ended in a triple fault.
    pub fn interrupt(&mut self, bus: &mut dyn Bus, vector: u8) -> bool {
        self.engine.interrupt(bus, vector)
    }

    /// Enters system management mode, for an SMI. Not in that mode, nor in the shadow of STI or MOV SS.
    pub fn management_interrupt(&mut self, bus: &mut dyn Bus) {
        self.engine.management_interrupt(bus);
    }

    /// Appends registers and count (not RAM) to a checkpoint, little-endian.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.engine.count().save(out);
        self.state().save(out);
    }

    /// Restores what [`Cpu::save`] wrote, taking it off the front of `bytes`; everything derived is dropped. False if
    /// cut short or invalid: there is no level above 3.
    pub fn load(&mut self, bytes: &mut &[u8]) -> bool {
        let mut rest = *bytes;
        let Some(count) = u64::load(&mut rest) else { return false };
        let Some(state) = State::load(&mut rest).filter(|state| state.cpl < 4) else { return false };
        *bytes = rest;
        self.engine.set_count(count);
        *self.engine.state_mut() = state;
        self.forget_derived();
        true
    }

    /// Keeps so many bytes of translated code from now on, rounded and within bounds, and as much at most of what is known
    /// about it; nothing a guest could notice.
    ///
    /// # Errors
    /// The host refuses memory.
    pub fn set_code_cache(&mut self, bytes: usize) -> io::Result<()> {
        self.engine.set_code_cache(bytes)
    }

    /// Drops all translated code and cached walks; nothing a guest could notice.
    pub fn forget_derived(&mut self) {
        self.engine.forget_derived();
    }

    /// RAM pages written since the last call, ascending. All pages after `new`.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        self.engine.take_dirty()
    }
}
