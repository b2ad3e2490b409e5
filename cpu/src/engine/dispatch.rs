//! The dispatcher: runs block after block until the count is reached or the board is needed.
#![allow(unsafe_code)]

use super::blocks::{Block, Mode};
use super::buffer::LONGEST_STRETCH;
use super::frame::{pack_flags, unpack_flags};
use super::options::Optimisation;
use super::{Engine, Exit, signals, translate};
use crate::bus::Bus;
use crate::cpu::Stop;
use crate::exception::Exception;
use crate::memory::PAGE;
use crate::paging::{self, Access};
use crate::state::{control, rflags, segment};
use crate::system::{self, debug::SINGLE_STEP};

impl Engine {
    pub(super) fn mode(&self) -> Mode {
        let state = self.state();
        let mut mode = 0;
        if state.cpl == 3 {
            mode |= Mode::USER;
        }
        if state.cr0 & (control::CR0_TS | control::CR0_EM) != 0 {
            mode |= Mode::FPU_TRAP;
        }
        if state.cr4 & control::CR4_OSFXSR == 0 {
            mode |= Mode::SSE_OFF;
        }
        Mode(mode | self.segment_mode)
    }

    /// See [`crate::Cpu::run`].
    pub fn run(&mut self, bus: &mut dyn Bus, until: u64, interrupt_waiting: bool) -> Stop {
        // SAFETY: only the lifetime changes; the pointer is dropped before this function returns.
        let bus: *mut dyn Bus = unsafe { std::mem::transmute::<&mut dyn Bus, *mut (dyn Bus + 'static)>(bus) };
        self.bus = Some(bus);
        self.interrupt_waiting = interrupt_waiting;
        self.frame().interrupt_waiting = u64::from(interrupt_waiting);
        self.exit = Exit::Lookup;
        let mode = self.state().smm;
        self.memory.set_management_mode(mode);
        self.refresh_segments();
        self.require_format();
        self.refresh_watch();
        signals::enter(&raw mut self.port);
        let stop = loop {
            if let Some(stop) = self.reason_to_stop(until) {
                break stop;
            }
            self.step(until);
        };
        signals::leave();
        self.bus = None;
        system::fpu::canonicalize(&mut self.state_mut().fx);
        stop
    }

    pub(super) fn reason_to_stop(&mut self, until: u64) -> Option<Stop> {
        self.drop_stale();
        let state = self.state();
        if self.shutdown {
            self.shutdown = false;
            Some(Stop::Shutdown)
        } else if self.device {
            self.device = false;
            Some(Stop::Device)
        } else if state.halted {
            Some(Stop::Halt)
        } else if self.count >= until {
            Some(Stop::Count)
        } else if self.interrupt_waiting && state.rflags & rflags::IF != 0 && !state.interrupt_shadow {
            Some(Stop::Window)
        } else {
            None
        }
    }

    /// Runs one block, or one instruction where something depends on its end.
    pub(super) fn step(&mut self, until: u64) {
        self.step_through(until);
        self.raise_debug();
    }

    fn step_through(&mut self, until: u64) {
        if !self.optimisations.has(Optimisation::KeptBlocks) {
            self.forget_derived();
        }
        let state = self.state();
        let trap = state.rflags & rflags::TF != 0;
        let watches = self.watches_instruction();
        if state.interrupt_shadow || trap || watches {
            if watches {
                let hits = self.instruction_hits();
                if hits != 0 {
                    self.state_mut().dr[6] |= u64::from(hits);
                    return self.raise(Exception::debug());
                }
            }
            let state = self.state_mut();
            (state.interrupt_shadow, state.debug_shadow) = (false, false);
            let before = self.count;
            let next = self.run_isolated();
            // An interrupt or a system call that cleared TF enters its handler untrapped; POPF does not.
            let state = self.state_mut();
            let kept = state.rflags & rflags::TF != 0 || next == Some(state.rip);
            if trap && kept && self.count > before {
                self.state_mut().debug_pending |= SINGLE_STEP;
            }
            return;
        }
        let mode = self.mode();
        let found = match self.locate(mode) {
            Ok(found) => found,
            Err(exception) => return self.raise(exception),
        };
        let left = (until - self.count).min(LONGEST_STRETCH);
        let mut number = found;
        let block = self.block(found);
        if block.count() > left {
            let physical = block.physical;
            let rip = self.state().rip;
            match self.translate(rip, physical, mode, left as usize, true) {
                Ok(once) => number = once,
                Err(exception) => return self.raise(exception),
            }
        }
        self.enter(number, left);
        match self.exit {
            Exit::Lookup => {}
            Exit::Raised(exception) => self.raise(exception),
            Exit::Isolate => {
                self.run_isolated();
            }
        }
    }

    /// Runs the instruction at RIP alone; it may touch devices and tracked pages. Gives the address behind it.
    pub(super) fn run_isolated(&mut self) -> Option<u64> {
        self.tally.isolated += 1;
        let mode = Mode(self.mode().0 | Mode::ISOLATED);
        let number = match self.locate(mode) {
            Ok(number) => number,
            Err(exception) => {
                self.raise(exception);
                return None;
            }
        };
        let block = self.block(number);
        let next = block.rip.wrapping_add(u64::from(block.length));
        self.exit = Exit::Lookup;
        let pending = self.state().debug_pending;
        self.enter(number, 1);
        if let Exit::Raised(exception) = self.exit {
            // What did not complete traps nothing.
            self.state_mut().debug_pending = pending;
            self.raise(exception);
        }
        self.exit = Exit::Lookup;
        Some(next)
    }

    /// Control registers may have been changed from outside.
    fn require_format(&mut self) {
        let format = paging::Format::of(self.state());
        if format != self.tlb.format() {
            self.forget_derived();
        }
    }

    /// The linear address of an offset in the code segment.
    pub(super) fn linear_of(&self, rip: u64) -> u64 {
        match self.segment_mode & Mode::FLAT == 0 && self.segment_mode != 0 {
            true => rip.wrapping_add(self.state().segments[segment::CS].base) & 0xffff_ffff,
            false => rip,
        }
    }

    /// Bytes of code from RIP on that the limit of the code segment allows.
    pub(super) fn code_room(&self, mode: Mode) -> u64 {
        if mode.flat() {
            return u64::MAX;
        }
        let state = self.state();
        (u64::from(state.segments[segment::CS].limit) + 1).saturating_sub(state.rip)
    }

    /// The block at RIP, translated if need be.
    pub(super) fn locate(&mut self, mode: Mode) -> Result<u32, Exception> {
        self.tally.lookups += 1;
        let rip = self.state().rip;
        let joins = !mode.isolated() && self.optimisations.has(Optimisation::JumpCache);
        if joins && let Some(number) = self.tlb.jump_block(mode, rip) {
            self.tally.jump_hits += 1;
            return Ok(number);
        }
        let linear = self.linear_of(rip);
        let room = self.code_room(mode);
        if room == 0 {
            return Err(Exception::general_protection(0));
        }
        let physical = self.fetch_address(linear, mode.user())?;
        let number = match self.find(rip, physical, mode) {
            Some(number) if u64::from(self.blocks.get(number).length) > room => {
                return self.translate(rip, physical, mode, 1, true);
            }
            Some(number) => {
                // Its second page may be mapped elsewhere by now.
                if let Some(second) = self.blocks.get(number).second_page() {
                    let next = self.next_page(linear);
                    if self.fetch_address(next, mode.user())? != second {
                        return self.translate(rip, physical, mode, 1, true);
                    }
                }
                number
            }
            None => {
                let alone = mode.isolated() || !self.optimisations.has(Optimisation::LongBlocks);
                let limit = if alone { 1 } else { translate::LONGEST_BLOCK };
                self.translate(rip, physical, mode, limit, false)?
            }
        };
        if joins && mode.flat() {
            let block = self.blocks.get(number);
            let last = rip.wrapping_add(u64::from(block.length.max(1)) - 1);
            self.tlb.fill_jump(mode, rip, last, block.entry(), number);
        }
        Ok(number)
    }

    /// Whether code at an address is translated for all addresses: that of programs at random ones.
    pub(super) fn is_movable(&self, rip: u64, mode: Mode) -> bool {
        mode.long()
            && mode.user()
            && !mode.isolated()
            && rip >= 1 << 32
            && self.optimisations.has(Optimisation::MovableBlocks)
    }

    /// The block for an address, if translated.
    pub(super) fn find(&self, rip: u64, physical: u64, mode: Mode) -> Option<u32> {
        self.blocks.find(&self.memory, rip, physical, mode, self.is_movable(rip, mode))
    }

    /// Where an instruction of the running block is.
    pub(super) fn rip_in(&mut self, number: u32, index: u8) -> u64 {
        let base = self.frame().code_base;
        let rip = self.blocks.rip_of(number, index);
        if self.block(number).movable { base.wrapping_add(rip) } else { rip }
    }

    /// The linear address of the page behind an address.
    pub(super) fn next_page(&self, linear: u64) -> u64 {
        let next = (linear & !0xfff).wrapping_add(0x1000);
        if self.segment_mode == 0 { next } else { next & 0xffff_ffff }
    }

    /// Translates an instruction address, setting accessed bits.
    pub(super) fn fetch_address(&mut self, linear: u64, user: bool) -> Result<u64, Exception> {
        let cached = self.tlb.executable(user, linear);
        if let Some(physical) = cached.filter(|_| self.optimisations.has(Optimisation::FetchCache)) {
            return Ok(physical);
        }
        // SAFETY: the state lives in the frame, apart from everything borrowed here.
        let state = unsafe { &(*self.mapping.get()).state };
        self.tally.walks += 1;
        let found = paging::walk(&mut self.memory, state, linear, Access::fetch(user))?;
        // Blocks outlive the mapping of system management RAM.
        if self.memory.page_of(found.physical).is_none() {
            return Err(Exception::general_protection(0));
        }
        if cached.is_none() {
            self.tlb.fill_executable(&mut self.memory, user, linear, &found);
        }
        Ok(found.physical)
    }

    pub(super) fn block(&self, number: u32) -> &Block {
        self.blocks.get(number)
    }

    /// Enters a block with `left` instructions to run at most, and brings the count up to date.
    pub(super) fn enter(&mut self, number: u32, left: u64) {
        let block = self.block(number);
        let (host, fpu) = (block.near(), block.fpu || !self.optimisations.has(Optimisation::LazyFpu));
        self.limit = self.count + left;
        let guard = self.guard.base();
        let frame = self.frame();
        frame.budget = guard + left;
        frame.code_base = frame.state.rip & !(PAGE - 1);
        frame.resume = host;
        frame.fpu_wanted = u64::from(fpu);
        frame.packed_flags = pack_flags(frame.state.rflags);
        let anchor = self.mapping.anchor();
        // SAFETY: the trampoline follows the ABI; the frame is set up; faults are routed to `port`.
        unsafe {
            let enter: extern "sysv64" fn(u64) -> u32 = std::mem::transmute(self.trampolines.enter);
            enter(anchor);
        }
        self.sync_flags();
        self.count = self.limit - (self.frame().budget - guard);
    }

    /// Merges the arithmetic flags that translated code left into RFLAGS.
    pub(super) fn sync_flags(&mut self) {
        let frame = self.frame();
        let kept = frame.state.rflags & !rflags::ARITHMETIC;
        frame.state.rflags = kept | unpack_flags(frame.packed_flags);
    }
}
