//! The engine: finds or translates blocks, enters them, and deals with every reason they come back.
//!
//! Reading order: [`frame`] (what translated code sees), [`trampolines`] (the way in and out), [`tlb`] and [`regions`] with
//! [`blocks`], [`pages`], [`packed`] and [`eviction`] (what is cached), [`translate`] with [`step`] and [`plan`] (what is to
//! be emitted), [`builder`], [`relocate`], [`groups`], [`legacy`], [`transfer`], [`inline_strings`], [`exits`] and [`cold`]
//! (host code), [`dispatch`] (what runs next), [`service`] and [`accesses`] (what translated code asks of Rust),
//! [`follow_up`] (what changes entail), [`signals`] (faults of the host), [`options`] (what can be turned off).
#![allow(unsafe_code)]

mod accesses;
pub mod blocks;
pub mod buffer;
pub mod builder;
mod cold;
mod dispatch;
mod eviction;
mod execute;
mod exits;
mod follow_up;
pub mod frame;
#[cfg(test)]
mod goldens;
mod groups;
pub mod hasher;
mod inline_strings;
mod legacy;
pub mod options;
pub mod packed;
pub mod pages;
pub mod plan;
mod quick_strings;
mod quick_system;
pub mod regions;
pub mod relocate;
pub mod service;
pub mod signals;
pub mod sites;
mod step;
pub mod tally;
pub mod tlb;
pub mod trampolines;
pub mod transfer;
pub mod translate;
mod watch;

use crate::bus::Bus;
use crate::exception::Exception;
use crate::memory::Memory;
use crate::paging::Format;
use crate::state::{Segment, State};
use buffer::{CodeBuffer, Guard};
use frame::{Frame, FrameMapping};
use iced_x86::{Encoder, InstructionInfoFactory};
use options::{Optimisation, Optimisations};
use regions::Blocks;
use signals::FaultPort;
use std::io;
use tally::Tally;
use tlb::Tlb;
use trampolines::Trampolines;
use translate::{OpenEnd, Room};

/// Bytes of translated code kept, and as much at most for what is known about it, unless somebody wants another number.
const CODE_BYTES: usize = 64 << 20;
/// The number of the block that runs once.
pub const SCRATCH_BLOCK: u32 = 0;

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
    encoder: Encoder,
    factory: InstructionInfoFactory,
    /// For the block under construction.
    room: Room,
    blocks: Blocks,
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
    tally: Tally,
    bounce: Bounce,
    optimisations: Optimisations,
    /// Only while the code placed last in the region being filled ends with it.
    open_end: Option<OpenEnd>,
    /// The bits of the mode that segments decide.
    segment_mode: u16,
    /// The segments it was made of, and whether they were paragraphs.
    seen_segments: ([Segment; 6], bool),
}

// SAFETY: the raw pointers lead to mappings the engine owns and, during a run only, to the caller's bus.
unsafe impl Send for Engine {}

/// Room for code, and the routines in it.
fn new_buffer(bytes: usize) -> io::Result<(CodeBuffer, Trampolines)> {
    let mut buffer = CodeBuffer::new(bytes)?;
    let service = service::service as *const () as u64;
    let (code, trampolines) = trampolines::assemble(buffer.start(), service, sites::FAULT).map_err(io::Error::other)?;
    buffer.place_routines(&code);
    Ok((buffer, trampolines))
}

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
        let (buffer, trampolines) = new_buffer(CODE_BYTES)?;
        let range = buffer.range();
        let blocks = Blocks::new(buffer.regions());
        let mut engine = Box::new(Engine {
            mapping,
            guard: Guard::new()?,
            buffer,
            trampolines,
            encoder: Encoder::new(64),
            factory: InstructionInfoFactory::new(),
            room: Room::default(),
            blocks,
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
            tally: Tally::default(),
            bounce: Bounce::default(),
            optimisations: Optimisations::default(),
            open_end: None,
            segment_mode: 0,
            seen_segments: Default::default(),
        });
        let address = &raw mut *engine as u64;
        engine.frame().engine = address;
        engine.frame().negated_guard = engine.guard.base().wrapping_neg();
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

    /// Turns optimisations on and off. Not while translated code runs.
    pub fn set_optimisations(&mut self, optimisations: Optimisations) {
        self.optimisations = optimisations;
        self.blocks.whole_pages = !optimisations.has(Optimisation::CodePieces);
        self.tlb.knows_writers = optimisations.has(Optimisation::KnownWriters);
        self.forget_derived();
    }

    /// Keeps so many bytes of translated code from now on, and as much at most of what is known about it. Not while
    /// translated code runs.
    ///
    /// # Errors
    /// The host refuses memory.
    pub fn set_code_cache(&mut self, bytes: usize) -> io::Result<()> {
        if self.buffer.is_for(bytes) {
            return Ok(());
        }
        self.forget_derived();
        (self.buffer, self.trampolines) = new_buffer(bytes)?;
        let whole_pages = self.blocks.whole_pages;
        self.blocks = Blocks::new(self.buffer.regions());
        self.blocks.whole_pages = whole_pages;
        (self.port.range, self.port.trampoline) = (self.buffer.range(), self.trampolines.fault);
        Ok(())
    }

    /// Forgets all blocks and cached walks. Not while translated code runs.
    pub fn forget_derived(&mut self) {
        self.blocks.clear(&mut self.memory);
        self.tlb.forget_jumps();
        self.tlb.flush(&mut self.memory);
        let format = Format::of(self.state());
        self.tlb.set_format(format);
        self.buffer.clear();
        self.open_end = None;
        self.generation += 1;
    }

    /// Pages written since the last call.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = self.memory.take_dirty();
        self.tlb.drop_all_writes(&mut self.memory);
        dirty
    }
}
