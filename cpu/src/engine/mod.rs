//! The engine: finds or translates blocks, enters them, and deals with every reason they come back.
//!
//! Reading order: [`frame`] (what translated code sees), [`trampolines`] (the way in and out), [`tlb`] and [`blocks`]
//! (what is cached), [`translate`], [`relocate`] and [`transfer`] (from guest to host code), [`service`] (what
//! translated code asks of Rust), [`signals`] (faults of the host).
#![allow(unsafe_code)]

pub mod blocks;
pub mod buffer;
pub mod builder;
pub mod frame;
pub mod hasher;
pub mod relocate;
pub mod service;
pub mod signals;
pub mod sites;
pub mod tlb;
pub mod trampolines;
pub mod transfer;
pub mod translate;

use crate::bus::{Bus, Icount};
use crate::cpu::Stop;
use crate::exception::Exception;
use crate::execution::Execution;
use crate::memory::Memory;
use crate::paging::{self, Access};
use crate::state::{State, control, rflags};
use crate::system;
use blocks::{Block, Blocks, Link, Mode};
use buffer::{CodeBuffer, Guard, LONGEST_STRETCH};
use frame::{Frame, FrameMapping, pack_flags, unpack_flags};
use iced_x86::Encoder;
use signals::FaultPort;
use sites::Site;
use std::io;
use tlb::Tlb;
use trampolines::Trampolines;

/// Bytes of translated code kept; past that all of it is forgotten. What is known about it takes about three times as
/// much, and all together stays below 256 MiB.
const CODE_BYTES: usize = 40 << 20;
/// The number of the block in the scratch area.
pub const SCRATCH_BLOCK: u32 = u32::MAX;

/// Why translated code came back.
#[derive(Clone, Copy, Debug)]
enum Exit {
    /// To find the block at `state.rip`.
    Lookup,
    /// The instruction at `state.rip` raised.
    Raised(Exception),
    /// The instruction at `state.rip` must run alone.
    Isolate,
}

/// An access under way on the bounce buffer.
#[derive(Clone, Copy, Default)]
struct Bounce {
    physical: [(u64, usize); 2],
    pieces: usize,
    host: u64,
}

/// See the module. Boxed by its owner: translated code holds its address.
pub struct Engine {
    mapping: FrameMapping,
    guard: Guard,
    buffer: CodeBuffer,
    trampolines: Trampolines,
    /// Code bytes of the trampolines, kept when blocks are forgotten.
    kept_code: usize,
    encoder: Encoder,
    blocks: Blocks,
    scratch_block: Option<Block>,
    sites: Vec<Site>,
    scratch_sites: usize,
    tlb: Tlb,
    /// Guest RAM.
    pub memory: Memory,
    port: FaultPort,
    bus: Option<*mut dyn Bus>,
    count: u64,
    /// What the count will be when the budget is used up.
    limit: u64,
    interrupt_waiting: bool,
    device: bool,
    shutdown: bool,
    exit: Exit,
    /// How often all blocks have been forgotten.
    generation: u64,
    bounce: Bounce,
}

// SAFETY: the raw pointers lead to mappings the engine owns and, during a run only, to the caller's bus.
unsafe impl Send for Engine {}

impl Engine {
    /// An engine over `memory`.
    ///
    /// # Errors
    /// The host lacks BMI2, or refuses memory.
    pub fn new(memory: Memory) -> io::Result<Box<Engine>> {
        if !std::arch::is_x86_feature_detected!("bmi2") {
            let text = "this host's CPU lacks BMI2 (Haswell, Zen or later is needed)";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        let mapping = FrameMapping::new()?;
        let tlb = Tlb::new(mapping.get());
        let mut buffer = CodeBuffer::new(CODE_BYTES)?;
        let address = buffer.next(false);
        let (code, trampolines) = trampolines::assemble(address, service::service as *const () as u64, sites::FAULT)
            .map_err(io::Error::other)?;
        buffer.place(&code);
        let range = buffer.range();
        let kept_code = buffer.used();
        let mut engine = Box::new(Engine {
            mapping,
            guard: Guard::new()?,
            buffer,
            trampolines,
            kept_code,
            encoder: Encoder::new(64),
            blocks: Blocks::default(),
            scratch_block: None,
            sites: vec![Site::Miss, Site::Fault, Site::Leave],
            scratch_sites: sites::FIXED,
            tlb,
            memory,
            port: FaultPort { range, trampoline: trampolines.fault, ..FaultPort::default() },
            bus: None,
            count: 0,
            limit: 0,
            interrupt_waiting: false,
            device: false,
            shutdown: false,
            exit: Exit::Lookup,
            generation: 0,
            bounce: Bounce::default(),
        });
        let address = &raw mut *engine as u64;
        engine.frame().engine = address;
        Ok(engine)
    }

    fn frame(&mut self) -> &mut Frame {
        // SAFETY: the mapping is ours, and no other reference to the frame outlives a statement.
        unsafe { &mut *self.mapping.get() }
    }

    /// Registers.
    pub fn state(&self) -> &State {
        // SAFETY: as in `frame`; `&self` keeps writers out.
        unsafe { &(*self.mapping.get()).state }
    }

    /// Registers, to be changed.
    pub fn state_mut(&mut self) -> &mut State {
        &mut self.frame().state
    }

    /// Instructions completed.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Sets the count (loading a checkpoint, idle skips).
    pub fn set_count(&mut self, count: u64) {
        self.count = count;
    }

    /// Forgets all blocks and cached walks. Not while translated code runs.
    pub fn forget_derived(&mut self) {
        self.blocks.clear(&mut self.memory);
        self.tlb.forget_jumps();
        self.tlb.flush(&mut self.memory);
        self.sites.truncate(sites::FIXED);
        self.scratch_sites = sites::FIXED;
        self.buffer.truncate(self.kept_code);
        self.generation += 1;
    }

    /// Pages written since the last call.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = self.memory.take_dirty();
        self.tlb.drop_all_writes(&mut self.memory);
        dirty
    }

    fn mode(&self) -> Mode {
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
        Mode(mode)
    }

    /// See [`crate::Cpu::run`].
    pub fn run(&mut self, bus: &mut dyn Bus, until: u64, interrupt_waiting: bool) -> Stop {
        // SAFETY: only the lifetime changes; the pointer is dropped before this function returns.
        let bus: *mut dyn Bus = unsafe { std::mem::transmute::<&mut dyn Bus, *mut (dyn Bus + 'static)>(bus) };
        self.bus = Some(bus);
        self.interrupt_waiting = interrupt_waiting;
        self.exit = Exit::Lookup;
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

    fn reason_to_stop(&mut self, until: u64) -> Option<Stop> {
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
    fn step(&mut self, until: u64) {
        let state = self.state();
        let trap = state.rflags & rflags::TF != 0;
        if state.interrupt_shadow || trap {
            self.state_mut().interrupt_shadow = false;
            let before = self.count;
            let next = self.run_isolated();
            // An interrupt or a system call that cleared TF enters its handler untrapped; POPF does not.
            let state = self.state();
            let kept = state.rflags & rflags::TF != 0 || next == Some(state.rip);
            if trap && kept && self.count > before {
                self.state_mut().dr[6] |= 1 << 14;
                self.raise(Exception::debug());
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
            let (rip, physical) = (block.rip, block.physical);
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
    fn run_isolated(&mut self) -> Option<u64> {
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
        self.enter(number, 1);
        if let Exit::Raised(exception) = self.exit {
            self.raise(exception);
        }
        self.exit = Exit::Lookup;
        Some(next)
    }

    /// The block at RIP, translated if need be.
    fn locate(&mut self, mode: Mode) -> Result<u32, Exception> {
        let rip = self.state().rip;
        let physical = self.fetch_address(rip, mode.user())?;
        let number = match self.blocks.find(rip, physical, mode) {
            Some(number) => {
                // Its second page may be mapped elsewhere by now.
                if let Some(second) = self.blocks.get(number).second_page {
                    let next = (rip & !0xfff).wrapping_add(0x1000);
                    if self.fetch_address(next, mode.user())? != second {
                        return self.translate(rip, physical, mode, 1, true);
                    }
                }
                number
            }
            None => {
                let limit = if mode.isolated() { 1 } else { translate::LONGEST_BLOCK };
                self.translate(rip, physical, mode, limit, false)?
            }
        };
        if !mode.isolated() {
            let block = self.blocks.get(number);
            let last = rip.wrapping_add(u64::from(block.length.max(1)) - 1);
            self.tlb.fill_jump(mode.user(), rip, last, block.host);
        }
        Ok(number)
    }

    /// Translates an instruction address, setting accessed bits.
    fn fetch_address(&mut self, linear: u64, user: bool) -> Result<u64, Exception> {
        if let Some(physical) = self.tlb.executable(user, linear) {
            return Ok(physical);
        }
        // SAFETY: the state lives in the frame, apart from everything borrowed here.
        let state = unsafe { &(*self.mapping.get()).state };
        let found = paging::walk(&mut self.memory, state, linear, Access::fetch(user))?;
        self.tlb.fill_executable(&mut self.memory, user, linear, &found);
        Ok(found.physical)
    }

    /// Points the jump of a site at a block, unless the block also depends on the mapping of a second page.
    fn link(&mut self, jump: u64, stub: u64, number: u32) {
        let block = self.blocks.get_mut(number);
        if block.second_page.is_none() {
            let host = block.host;
            block.links.push(Link { site: jump, stub });
            self.buffer.patch(jump, host);
        }
    }

    fn block(&self, number: u32) -> &Block {
        if number == SCRATCH_BLOCK {
            self.scratch_block.as_ref().expect("a scratch block is running")
        } else {
            self.blocks.get(number)
        }
    }

    /// Enters a block with `left` instructions to run at most, and brings the count up to date.
    fn enter(&mut self, number: u32, left: u64) {
        let block = self.block(number);
        let (host, fpu) = (block.host, block.fpu);
        self.limit = self.count + left;
        let guard = self.guard.base();
        let frame = self.frame();
        frame.budget = guard + left;
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
    fn sync_flags(&mut self) {
        let frame = self.frame();
        let kept = frame.state.rflags & !rflags::ARITHMETIC;
        frame.state.rflags = kept | unpack_flags(frame.packed_flags);
    }

    /// Delivers an exception of the instruction at RIP.
    fn raise(&mut self, exception: Exception) {
        self.exit = Exit::Lookup;
        self.shutdown |= self.execution(|x| system::deliver::exception(x, exception)).is_err();
    }

    /// Delivers an external interrupt; false is a triple fault.
    pub fn interrupt(&mut self, bus: &mut dyn Bus, vector: u8) -> bool {
        // SAFETY: as in `run`.
        let bus: *mut dyn Bus = unsafe { std::mem::transmute::<&mut dyn Bus, *mut (dyn Bus + 'static)>(bus) };
        self.bus = Some(bus);
        let delivered = self.execution(|x| system::deliver::interrupt(x, vector)).is_ok();
        self.bus = None;
        delivered
    }

    /// Runs Rust code on the guest between instructions, and follows up on what it changed.
    fn execution<R>(&mut self, action: impl FnOnce(&mut Execution) -> R) -> R {
        self.execution_at(self.count, action).0
    }

    /// As `execution`, at a count inside a block. Also tells whether paging or privilege changed.
    fn execution_at<R>(&mut self, now: u64, action: impl FnOnce(&mut Execution) -> R) -> (R, bool) {
        // SAFETY: the frame and the bus are apart from `self.memory`; the bus pointer is valid during a run.
        let (state, bus) = unsafe { (&mut (*self.mapping.get()).state, &mut *self.bus.expect("during a run")) };
        let before = (state.cr0, state.cr3, state.cr4, state.efer, state.cpl);
        let mut execution = Execution { state, memory: &mut self.memory, bus, now: Icount(now), device: false };
        let result = action(&mut execution);
        self.device |= execution.device;
        let state = self.state();
        let after = (state.cr0, state.cr3, state.cr4, state.efer, state.cpl);
        if before == after {
            return (result, false);
        }
        let paging = control::CR0_PG | control::CR0_WP;
        if (before.0 ^ after.0) & paging != 0 || before.2 != after.2 || before.3 != after.3 {
            self.tlb.flush(&mut self.memory);
        } else if before.1 != after.1 {
            self.tlb.switch_space(&mut self.memory, before.1, after.1);
        }
        (result, true)
    }

    /// Drops what was derived from bytes that have changed.
    fn drop_stale(&mut self) {
        while self.memory.has_touched() {
            for touched in self.memory.take_touched() {
                if touched.table {
                    self.tlb.table_changed(&self.memory, touched.address, touched.length);
                }
                if touched.code {
                    let (address, length) = (touched.address, touched.length);
                    self.blocks.bytes_changed(&mut self.memory, &mut self.tlb, &mut self.buffer, address, length);
                }
            }
        }
    }
}
