//! What translated code asks of Rust: slow memory accesses, instructions executed in Rust, jumps not yet known, faults.
#![allow(unsafe_code)]

use super::blocks::Mode;
use super::options::Optimisation;
use super::sites::{COMMIT, Site};
use super::{Engine, Exit};
use crate::exception::Exception;
use crate::memory::PAGE;
use crate::paging;
use crate::state::{gpr, segment};

const RESUME: u32 = 0;
const RETURN: u32 = 1;

/// Called by the service trampoline, on the frame's stack, with the guest saved in the frame.
pub extern "sysv64" fn service(engine: *mut Engine) -> u32 {
    // SAFETY: the frame holds the address of the engine that is running; `Engine::enter` holds no reference across
    // the call into translated code that this could invalidate.
    let engine = unsafe { &mut *engine };
    if engine.frame().fpu_loaded == 0 {
        hide_pointers(&mut engine.frame().state.fx.0);
    }
    let number = engine.frame().argument as u32;
    if number & COMMIT != 0 {
        let Site::Access(site) = engine.blocks.site(number & !COMMIT) else { unreachable!("an access site") };
        return engine.commit(&site);
    }
    match engine.blocks.site(number) {
        Site::Miss => {
            let frame = engine.frame();
            frame.state.rip = frame.address;
            engine.go_on(None)
        }
        Site::Branch { block, index, moved } => engine.branch(block, index, moved),
        Site::Leave => {
            let frame = engine.frame();
            frame.state.rip = frame.address;
            engine.leave_with(Exit::Lookup)
        }
        Site::Fault => engine.host_fault(),
        Site::Access(site) => engine.slow_access(&site),
        Site::System { block, index, instruction, after } => engine.execute(block, index, &instruction, after),
        Site::Link { target, movable, .. } => {
            let frame = engine.frame();
            frame.state.rip = if movable { frame.code_base.wrapping_add(target) } else { target };
            engine.go_on(Some(number))
        }
        Site::FarLink { target, .. } => {
            engine.frame().state.rip = target;
            engine.go_on(Some(number))
        }
        Site::General { block, index, jump, .. } => engine.go_on_generally(block, index, number, jump),
        Site::Raise { block, index, exception } => engine.abort(block, index, Exit::Raised(exception)),
    }
}

/// FOP, FIP and FDP would show host addresses, and MXCSR_MASK the host's model: fixed values instead.
fn hide_pointers(area: &mut [u8; 512]) {
    area[6..24].fill(0);
    area[28..32].copy_from_slice(&0xffff_u32.to_le_bytes());
}

impl Engine {
    pub(super) fn leave_with(&mut self, exit: Exit) -> u32 {
        self.exit = exit;
        RETURN
    }

    /// An indirect transfer whose target, in R10, is not in the jump cache.
    fn branch(&mut self, block: u32, index: u8, moved: i32) -> u32 {
        let target = self.frame().address;
        let beyond = !self.block(block).mode.flat() && target > u64::from(self.state().segments[segment::CS].limit);
        let frame = self.frame();
        if beyond || !paging::is_canonical(target) {
            let mask = frame.state.stack_mask();
            let stack = &mut frame.state.gpr[gpr::RSP];
            *stack = *stack & !mask | stack.wrapping_sub(i64::from(moved) as u64) & mask;
            return self.abort(block, index, Exit::Raised(Exception::general_protection(0)));
        }
        frame.state.rip = frame.address;
        let running = self.block(block);
        if running.mode.isolated() || block == super::SCRATCH_BLOCK {
            return self.leave_with(Exit::Lookup);
        }
        self.go_on(None)
    }

    /// Goes on at RIP, between two blocks; `link` is the site of a jump that may lead there directly from now on.
    pub(super) fn go_on(&mut self, link: Option<u32>) -> u32 {
        if !self.optimisations.has(Optimisation::DirectDispatch) || !self.optimisations.has(Optimisation::KeptBlocks) {
            return self.leave_with(Exit::Lookup);
        }
        if self.watches_instruction() {
            return self.leave_with(Exit::Lookup);
        }
        let generation = self.generation;
        match self.locate(self.mode()) {
            // What the walk touched must be followed up first.
            Ok(_) if self.memory.has_touched() => self.leave_with(Exit::Lookup),
            // Such a block does not look at the budget.
            Ok(super::SCRATCH_BLOCK) => self.leave_with(Exit::Lookup),
            Ok(number) => {
                if let Some(site) = link.filter(|_| generation == self.generation) {
                    self.link(site, number);
                }
                let host = self.block(number).near();
                let frame = self.frame();
                frame.code_base = frame.state.rip & !(PAGE - 1);
                self.resume_at(number, host)
            }
            Err(exception) => self.leave_with(Exit::Raised(exception)),
        }
    }

    /// Goes on before instruction `index` in the general translation of a block, where `link` leads from now on.
    fn go_on_generally(&mut self, number: u32, index: u8, site: u32, jump: u64) -> u32 {
        let block = self.block(number);
        let (physical, count, exits) = (block.physical, block.count(), block.exits);
        let mode = Mode(block.mode.0 | Mode::GENERAL);
        if !block.valid || self.memory.has_touched() || !self.has_room() {
            let left = self.abort(number, index, Exit::Lookup);
            self.make_room();
            return left;
        }
        let rip = self.rip_in(number, 0);
        let general = match self.find(rip, physical, mode) {
            Some(known) => known,
            None => match self.translate(rip, physical, mode, count as usize, false) {
                Ok(made) => made,
                Err(exception) => return self.abort(number, index, Exit::Raised(exception)),
            },
        };
        let found = self.block(general);
        assert!((found.count(), found.exits) == (count, exits), "two translations of the same bytes");
        let host = self.blocks.host_of(general, index);
        self.blocks.note_link(site, general);
        self.buffer.patch(jump, host);
        self.resume_at(general, host)
    }

    pub(super) fn resume_at(&mut self, block: u32, host: u64) -> u32 {
        self.tlb.poison_dropped();
        let fpu = self.block(block).fpu || !self.optimisations.has(Optimisation::LazyFpu);
        let frame = self.frame();
        frame.resume = host;
        frame.fpu_wanted = u64::from(fpu);
        RESUME
    }

    /// Leaves before instruction `index` of a block.
    pub(super) fn abort(&mut self, block: u32, index: u8, exit: Exit) -> u32 {
        let rip = self.rip_in(block, index);
        let missing = self.block(block).together(index);
        let frame = self.frame();
        frame.state.rip = rip;
        frame.budget += missing;
        match exit {
            Exit::Raised(exception) => self.raise_and_go_on(block, exception),
            exit => self.leave_with(exit),
        }
    }

    /// The count before instruction `index` of the running block.
    pub(super) fn now(&mut self, block: u32, index: u8) -> u64 {
        let missing = self.block(block).together(index);
        let left = self.frame().budget - self.guard.base();
        self.limit - left - missing
    }

    fn host_fault(&mut self) -> u32 {
        let (host, vector) = (self.port.rip, self.port.vector);
        let number = self.blocks.at_host(self.buffer.region_of(host), host);
        let block = self.block(number);
        let index = self.blocks.index_at(number, host);
        if vector == 13 && !block.mode.isolated() && self.tlb.has_lost(block.mode.user()) {
            return self.abort(number, index, Exit::Isolate);
        }
        let block = self.block(number);
        let exception = match vector {
            0 => Exception::divide_error(),
            6 => Exception::invalid_opcode(),
            13 => Exception::general_protection(0),
            16 => Exception::x87_floating_point(),
            17 => Exception::alignment_check(0),
            19 => Exception::simd_floating_point(),
            14 if host == block.near() + 4 => return self.abort(number, 0, Exit::Lookup),
            _ => panic!("host exception {vector} at block {:#x}, instruction {index}", block.rip),
        };
        self.abort(number, index, Exit::Raised(exception))
    }
}
