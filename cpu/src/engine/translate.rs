//! From guest bytes to a block: decode, classify, emit, place.

use super::Engine;
use super::blocks::{Block, Mode, Parts};
use super::buffer::JUMP_BYTES;
use super::builder::Builder;
use super::cold::Cold;
use super::frame::TableDisplacements;
use super::options::Optimisation;
use super::plan::Plan;
use super::regions::{Finished, Mark};
use super::sites::Site;
use super::step::Step;
use super::{inline_strings, transfer};
use crate::exception::Exception;
use crate::memory::PAGE;
use iced_x86::{Code, Decoder, DecoderError, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic};
use std::collections::VecDeque;

/// Instructions in a block at most; one byte counts them.
pub const LONGEST_BLOCK: usize = 64;
/// Conditional jumps in the middle of a block at most. What lies behind more of them is rarely reached from the block's start.
const SIDE_EXITS: usize = 8;
/// Guest bytes that the longest block can take: no instruction has more than 15.
pub const LONGEST_FETCH: usize = 16 * LONGEST_BLOCK;
/// Host bytes that each part of the longest block can take.
pub const LARGEST_PART: usize = 20 << 10;

/// The model has neither LZCNT nor TZCNT: their encodings are BSR and BSF. It is AMD's: 66h makes a near branch 16 bits
/// wide. PAUSE is a NOP, and with REX.B an XCHG, which iced-x86 knows only without PAUSE.
const DECODER: u32 =
    DecoderOptions::AMD | DecoderOptions::NO_PAUSE | DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD;

/// Bytes of an instruction at most.
pub const LONGEST_INSTRUCTION: usize = 15;

/// Room for a block under construction, kept from one to the next.
#[derive(Default)]
pub struct Room {
    steps: Vec<Step>,
    plan: Plan,
    emitted: Vec<u8>,
    sites: Vec<Site>,
    marks: Vec<Mark>,
    cold: VecDeque<Cold>,
}

/// Where a block is from, and what it is for.
struct Origin {
    /// As in [`Block`].
    rip: u64,
    /// As in [`Block`].
    movable: bool,
    /// Guest-physical address of the first byte.
    physical: u64,
    /// Guest-physical page of the last byte, when another.
    second_page: Option<u64>,
    mode: Mode,
    /// It goes to the scratch area.
    once: bool,
}

/// A jump that the code placed last ends with: the block that it leads to may take its place.
pub struct OpenEnd {
    /// Host address of the jump.
    jump: u64,
    site: u32,
    /// What it leads to, as in [`Block`].
    rip: u64,
    movable: bool,
    physical: u64,
    mode: Mode,
}

impl OpenEnd {
    /// Such a jump never leads to an instruction that ends in the next page.
    fn leads_to(&self, origin: &Origin) -> bool {
        (self.rip, self.movable, self.physical, self.mode) == (origin.rip, origin.movable, origin.physical, origin.mode)
    }
}

/// What bounds a block.
struct Limits {
    /// Instructions.
    instructions: usize,
    /// Bytes that the limit of the code segment allows.
    room: usize,
    /// Conditional jumps that it may go on behind.
    side_exits: usize,
}

impl Engine {
    /// Translates the block at an offset whose first byte lies at `physical`; at most `limit` instructions.
    /// With `once`, it goes to the scratch area and is not entered in the table of blocks.
    ///
    /// # Errors
    /// The fetch fault of the first instruction's second page.
    pub fn translate(
        &mut self,
        rip: u64,
        physical: u64,
        mode: Mode,
        limit: usize,
        once: bool,
    ) -> Result<u32, Exception> {
        if !once {
            self.make_room();
        }
        let Some(page) = self.memory.page_of(physical) else { return Err(Exception::general_protection(0)) };
        let offset = (physical % PAGE) as usize;
        let length = (PAGE as usize - offset).min(LONGEST_FETCH);
        let movable = !once && self.is_movable(rip, mode);
        let at = if movable { rip % PAGE } else { rip };
        let room = usize::try_from(self.code_room(mode)).unwrap_or(usize::MAX);
        let mut steps = std::mem::take(&mut self.room.steps);
        steps.clear();
        let bytes = &self.memory.page(page)[offset..][..length];
        let decoder = Decoder::with_ip(mode.bitness(), bytes, at, DECODER);
        let mut origin = Origin { rip: at, movable, physical, second_page: None, mode, once };
        let goes_on = mode.flat() && self.optimisations.has(Optimisation::SideExits);
        let limits = Limits { instructions: limit, room, side_exits: if goes_on { SIDE_EXITS } else { 0 } };
        if !decode(decoder, &origin, &limits, &mut self.factory, &mut steps)? {
            let (step, second) = self.step_across(rip, at, page, offset, mode)?;
            steps.push(step);
            origin.second_page = Some(second);
        }
        let number = self.emit(&origin, &steps);
        self.room.steps = steps;
        Ok(number)
    }

    /// The instruction at an offset, decoded as at `at`, that ends in the next page, and that.
    fn step_across(
        &mut self,
        rip: u64,
        at: u64,
        page: usize,
        offset: usize,
        mode: Mode,
    ) -> Result<(Step, u64), Exception> {
        let head = PAGE as usize - offset;
        let mut bytes = [0; 2 * LONGEST_INSTRUCTION];
        bytes[..head].copy_from_slice(&self.memory.page(page)[offset..]);
        let next = self.next_page(self.linear_of(rip));
        let second = self.fetch_address(next, mode.user())?;
        let page = self.memory.page_of(second).ok_or(Exception::general_protection(0))?;
        bytes[head..][..LONGEST_INSTRUCTION].copy_from_slice(&self.memory.page(page)[..LONGEST_INSTRUCTION]);
        let bytes = &bytes[..head + LONGEST_INSTRUCTION];
        let (instruction, _) = decode_one(&mut Decoder::with_ip(mode.bitness(), bytes, at, DECODER));
        if instruction.len() as u64 > self.code_room(mode) {
            return Err(Exception::general_protection(0));
        }
        Ok((Step::new(instruction, mode, &mut self.factory), second))
    }

    fn emit(&mut self, origin: &Origin, steps: &[Step]) -> u32 {
        let &Origin { rip, movable, physical, second_page, mode, once } = origin;
        let region = if once { 0 } else { self.buffer.current() };
        let block = self.blocks.next_number(region);
        let wanted = [Optimisation::FallThrough, Optimisation::DirectDispatch];
        let falls_through = !once && wanted.iter().all(|&one| self.optimisations.has(one));
        let behind = self.open_end.take_if(|end| falls_through && end.leads_to(origin));
        if let Some(end) = &behind {
            let Site::Link { stub, .. } = self.blocks.site(end.site) else { unreachable!("a jump within the page") };
            assert!(self.buffer.target_of(end.jump) == stub, "a jump that leads elsewhere");
        }
        let (next, cold_at) = self.buffer.next(region);
        let hot_at = behind.as_ref().map_or(next, |end| end.jump);
        let parts = Parts { hot: hot_at, distance: (cold_at - hot_at) as u32, length: u16::MAX };
        let fpu = steps.iter().any(Step::uses_fpu);
        let goes_on = |step: &Step| u64::from(step.is_side_exit());
        let exits = steps[..steps.len() - 1].iter().rev().fold(0, |all, step| all << 1 | goes_on(step));
        let trampolines = self.trampolines;
        let joins = !once && !mode.isolated() && mode.flat() && self.optimisations.has(Optimisation::KeptBlocks);
        let grouped = self.optimisations.has(Optimisation::GroupedLookup)
            && joins
            && mode.long()
            && mode.0 & Mode::GENERAL == 0
            && second_page.is_none();
        let Room { mut plan, emitted, sites, mut marks, cold, .. } = std::mem::take(&mut self.room);
        if grouped {
            plan.make(steps, mode.user());
        } else {
            plan.clear();
        }
        marks.clear();
        // The block's entry.
        marks.push(Mark { position: 0, index: 0 });
        let inlines = joins && self.optimisations.has(Optimisation::InlineStrings);
        let mut builder = Builder {
            parts,
            out: emitted,
            sites,
            first_site: self.blocks.next_site(region),
            block,
            mode,
            alone: once || mode.isolated(),
            chain: joins && self.optimisations.has(Optimisation::Chaining),
            low: self.buffer.range().1 < 1 << 31 && self.optimisations.has(Optimisation::FarLinks),
            cached: joins && self.optimisations.has(Optimisation::JumpCache),
            rip,
            movable,
            index: 0,
            count: steps.len() as u8,
            exits,
            marks,
            plan,
            resident: None,
            loops: self.optimisations.has(Optimisation::LoopChecks),
            inlines,
            cold,
            open_end: None,
            tables: TableDisplacements::new(mode.user()),
            trampolines: &trampolines,
            encoder: &mut self.encoder,
        };
        let entered_apart = movable && behind.is_some();
        if movable && !entered_apart {
            builder.movable_entry();
        }
        let near_distance = builder.out.len() as u8;
        builder.entry(!once);
        if fpu {
            builder.require_fpu();
        }
        let quick = self.optimisations.has(Optimisation::QuickSystem);
        for (index, step) in steps.iter().enumerate() {
            builder.index = index as u8;
            builder.mark();
            let spares = !step.is_opaque() && builder.spares_r13(&step.instruction);
            builder.resident = builder.resident.filter(|_| spares);
            builder.check_pointers();
            if !quick || step.raises.is_some() || !builder.quick_system(&step.instruction) {
                emit_step(&mut builder, step);
            }
            builder.resident = builder.resident.filter(|_| spares);
        }
        let last = steps.last().expect("a block has an instruction");
        let end = last.instruction.next_ip();
        if last.raises.is_none() && !last.is_transfer() {
            builder.continue_at(end);
        }
        builder.finish(entered_apart);
        let Builder { parts, mut out, mut sites, marks, plan, cold, open_end, .. } = builder;
        self.buffer.place(region, parts, &out);
        let block = Block {
            rip,
            movable,
            physical,
            second: second_page.unwrap_or(u64::MAX),
            length: end.wrapping_sub(rip) as u16,
            mode,
            fpu,
            parts,
            near_distance,
            entered_apart,
            instructions: steps.len() as u8,
            exits,
            ..Block::NEW
        };
        let offsets = &mut steps.iter().map(|one| one.instruction.ip().wrapping_sub(rip) as u16);
        let finished = Finished { block, offsets, marks: &marks, sites: &sites };
        self.tally.blocks += 1;
        let number = self.blocks.insert(region, finished, &mut self.memory, &mut self.tlb);
        if let Some(end) = behind {
            self.blocks.note_link(end.site, number);
            self.tally.behind += 1;
        }
        if !once {
            self.open_end = open_end.map(|(site, target)| OpenEnd {
                jump: parts.hot + u64::from(parts.length) - JUMP_BYTES,
                site,
                rip: target,
                movable,
                physical: physical & !(PAGE - 1) | (target % PAGE),
                mode: Mode(mode.0 & !Mode::GENERAL),
            });
        }
        out.clear();
        sites.clear();
        self.room = Room { plan, emitted: out, sites, marks, cold, ..Room::default() };
        number
    }
}

/// Decodes up to the end of the block. `false`: the first instruction ends in the next page.
fn decode(
    mut decoder: Decoder,
    origin: &Origin,
    limits: &Limits,
    factory: &mut InstructionInfoFactory,
    steps: &mut Vec<Step>,
) -> Result<bool, Exception> {
    let &Limits { instructions, room, mut side_exits } = limits;
    let length = decoder.max_position();
    loop {
        let (instruction, error) = decode_one(&mut decoder);
        let end = (instruction.ip().wrapping_sub(origin.rip)) as usize + instruction.len();
        if steps.is_empty() && instruction.len().min(LONGEST_INSTRUCTION) > room {
            return Err(Exception::general_protection(0));
        }
        if error == DecoderError::NoMoreBytes || end > room {
            if steps.is_empty() && length < LONGEST_INSTRUCTION {
                return Ok(false);
            }
            if !steps.is_empty() {
                return Ok(true);
            }
        }
        let step = Step::new(instruction, origin.mode, factory);
        let goes_on = side_exits > 0 && step.is_side_exit();
        side_exits -= usize::from(goes_on);
        let ends = step.ends_block() && !goes_on;
        steps.push(step);
        if ends || steps.len() == instructions || end >= length {
            return Ok(true);
        }
    }
}

fn decode_one(decoder: &mut Decoder) -> (Instruction, DecoderError) {
    let mut instruction = decoder.decode();
    let error = decoder.last_error();
    if instruction.len() == 0 {
        instruction.set_len(1);
    }
    (instruction, error)
}

fn emit_step(builder: &mut Builder, step: &Step) {
    let instruction = &step.instruction;
    if let Some(exception) = step.raises {
        let site = Site::Raise { block: builder.block, index: builder.index, exception };
        builder.service(site);
    } else if let Some(shape) = inline_strings::shape(instruction, builder.mode).filter(|_| builder.inlines) {
        builder.inline_string(shape, instruction);
    } else if step.rust {
        let position = builder.sites.len();
        builder.service(Site::System {
            block: builder.block,
            index: builder.index,
            instruction: *instruction,
            after: 0,
        });
        let here = builder.here();
        if let Site::System { after, .. } = &mut builder.sites[position] {
            *after = here;
        }
    } else if transfer::is_stack(instruction) {
        match instruction.mnemonic() {
            Mnemonic::Push => builder.push(instruction),
            Mnemonic::Pop => builder.pop(instruction),
            _ => builder.leave_frame(instruction),
        }
    } else if !builder.transfer(instruction) {
        if instruction.code() == Code::Wait {
            builder.bytes(&[0x9b]);
            return;
        }
        builder.relocate(instruction, &step.accesses);
    }
}
