//! From guest bytes to a block: decode, classify, emit, place.

use super::Engine;
use super::blocks::{Block, Mode};
use super::builder::Builder;
use super::frame::TableDisplacements;
use super::options::Optimisation;
use super::sites::Site;
use super::plan::{self, Plan};
use super::{inline_strings, transfer};
use crate::exception::Exception;
use crate::memory::PAGE;
use crate::system;
use std::collections::VecDeque;
use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderError, DecoderOptions, EncodingKind, FlowControl, Instruction,
    InstructionInfoFactory, Mnemonic,
};

/// Instructions in a block at most; one byte counts them.
pub const LONGEST_BLOCK: usize = 64;
/// Host bytes that the longest block can take.
pub const LARGEST_BLOCK: usize = 48 << 10;

/// The model has neither LZCNT nor TZCNT: their encodings are BSR and BSF. It is AMD's: 66h makes a near branch 16 bits
/// wide. PAUSE is a NOP, and with REX.B an XCHG, which iced-x86 knows only without PAUSE.
const DECODER: u32 =
    DecoderOptions::AMD | DecoderOptions::NO_PAUSE | DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD;

/// The bytes a block is decoded from.
pub struct Fetched {
    bytes: [u8; PAGE as usize + 16],
    length: usize,
    second_page: Option<u64>,
}

fn uses_fpu(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    if matches!(
        instruction.mnemonic(),
        Lfence
            | Mfence
            | Sfence
            | Movnti
            | Pause
            | Prefetchnta
            | Prefetcht0
            | Prefetcht1
            | Prefetcht2
            | Prefetchw
            | Clflush
    ) {
        return false;
    }
    instruction.mnemonic() == Wait
        || instruction.cpuid_features().iter().any(|&feature| is_fpu(feature) || is_sse(feature))
}

fn is_fpu(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    matches!(feature, FPU | FPU287 | FPU287XL_ONLY | FPU387 | FPU387SL_ONLY | MMX)
}

fn is_sse(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    matches!(feature, SSE | SSE2 | SSE3 | SSSE3 | SSE4_1 | SSE4_2)
}

/// What an instruction raises whatever its operands, in this mode.
fn always_raises(instruction: &Instruction, mode: Mode) -> Option<Exception> {
    if instruction.is_invalid()
        || instruction.encoding() != EncodingKind::Legacy
        || instruction.flow_control() == FlowControl::Exception
        || !system::cpuid::accepts(instruction)
    {
        return Some(Exception::invalid_opcode());
    }
    if mode.0 & (Mode::FPU_TRAP | Mode::SSE_OFF) != 0 && uses_fpu(instruction) && !system::handles(instruction) {
        let sse = instruction.cpuid_features().iter().any(|feature| is_sse(*feature));
        if mode.0 & Mode::SSE_OFF != 0 && sse {
            return Some(Exception::invalid_opcode());
        }
        if mode.0 & Mode::FPU_TRAP != 0 {
            return Some(Exception::device_not_available());
        }
    }
    None
}

/// Whether nothing can follow in the same block.
fn ends_block(instruction: &Instruction) -> bool {
    let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    instruction.flow_control() != FlowControl::Next || repeats && instruction.is_string_instruction()
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
        if !once && !self.buffer.has_room(LARGEST_BLOCK) {
            self.tally.evictions += 1;
            self.forget_derived();
        }
        let Some(page) = self.memory.page_of(physical) else { return Err(Exception::general_protection(0)) };
        let offset = (physical % PAGE) as usize;
        let mut fetched = Fetched { bytes: [0; PAGE as usize + 16], length: PAGE as usize - offset, second_page: None };
        fetched.bytes[..fetched.length].copy_from_slice(&self.memory.page(page)[offset..]);
        let movable = !once && self.is_movable(rip, mode);
        let mut instructions = self.decode(rip, movable, mode, limit, &mut fetched)?;
        // What also depends on the next page stays where it is.
        let movable = movable && fetched.second_page.is_none();
        if fetched.second_page.is_some() {
            instructions = vec![decode_one(&fetched, 0, rip, mode).0];
        }
        let at = if movable { rip % PAGE } else { rip };
        Ok(self.emit(at, movable, physical, mode, &instructions, fetched.second_page, once))
    }

    /// Decodes up to the end of the block.
    fn decode(
        &mut self,
        address: u64,
        movable: bool,
        mode: Mode,
        limit: usize,
        fetched: &mut Fetched,
    ) -> Result<Vec<Instruction>, Exception> {
        let rip = if movable { address % PAGE } else { address };
        let mut instructions = Vec::with_capacity(16);
        let room = usize::try_from(self.code_room(mode)).unwrap_or(usize::MAX);
        let mut first = decode_one(fetched, 0, rip, mode);
        if first.0.len().min(15) > room {
            return Err(Exception::general_protection(0));
        }
        if first.1 == DecoderError::NoMoreBytes && fetched.length < 15 {
            let next = self.next_page(self.linear_of(address));
            let second = self.fetch_address(next, mode.user())?;
            let page = self.memory.page_of(second).ok_or(Exception::general_protection(0))?;
            fetched.bytes[fetched.length..fetched.length + 15].copy_from_slice(&self.memory.page(page)[..15]);
            fetched.length += 15;
            fetched.second_page = Some(second);
            first = decode_one(fetched, 0, rip, mode);
            if first.0.len() > room {
                return Err(Exception::general_protection(0));
            }
            instructions.push(first.0);
            return Ok(instructions);
        }
        let mut position = 0;
        loop {
            let (instruction, error) = decode_one(fetched, position, rip.wrapping_add(position as u64), mode);
            let cut_off = error == DecoderError::NoMoreBytes || position + instruction.len() > room;
            if cut_off && !instructions.is_empty() {
                break;
            }
            instructions.push(instruction);
            position += instruction.len();
            let raises = always_raises(&instruction, mode).is_some();
            if raises || ends_block(&instruction) || instructions.len() == limit || position >= fetched.length {
                break;
            }
        }
        Ok(instructions)
    }

    fn emit(
        &mut self,
        rip: u64,
        movable: bool,
        physical: u64,
        mode: Mode,
        instructions: &[Instruction],
        second_page: Option<u64>,
        once: bool,
    ) -> u32 {
        let block = if once { super::SCRATCH_BLOCK } else { self.blocks.next_number() };
        if once {
            self.sites.truncate(self.scratch_sites);
        }
        let base = self.buffer.next(once);
        let fpu =
            instructions.iter().any(|one| always_raises(one, mode).is_none() && uses_fpu(one) && !system::handles(one));
        let trampolines = self.trampolines;
        let joins = !once && !mode.isolated() && mode.flat() && self.optimisations.has(Optimisation::KeptBlocks);
        let grouped = self.optimisations.has(Optimisation::GroupedLookup)
            && joins
            && mode.long() && mode.0 & Mode::GENERAL == 0 && second_page.is_none();
        let opaque = |one: &Instruction| always_raises(one, mode).is_some() || is_left_to_rust(one, mode);
        let plans = if grouped { plan::plan(instructions, mode.user(), opaque) } else { Vec::new() };
        let inlines = joins && self.optimisations.has(Optimisation::InlineStrings);
        let mut builder = Builder {
            base,
            out: Vec::with_capacity(2048),
            sites: Vec::new(),
            first_site: self.sites.len() as u32,
            block,
            mode,
            alone: once || mode.isolated(),
            chain: joins && self.optimisations.has(Optimisation::Chaining),
            low: self.buffer.range().1 < 1 << 31 && self.optimisations.has(Optimisation::FarLinks),
            cached: joins && self.optimisations.has(Optimisation::JumpCache),
            rip,
            movable,
            index: 0,
            marks: vec![(0, 0)],
            plan: Plan::default(),
            resident: None,
            inlines,
            cold: VecDeque::new(),
            tables: TableDisplacements::new(mode.user()),
            trampolines: &trampolines,
            encoder: &mut self.encoder,
        };
        if movable {
            builder.movable_entry();
        }
        let near = builder.here();
        builder.entry(instructions.len() as u8, !once);
        if fpu {
            builder.require_fpu();
        }
        let mut factory = InstructionInfoFactory::new();
        for (index, instruction) in instructions.iter().enumerate() {
            builder.index = index as u8;
            builder.mark();
            builder.plan = plans.get(index).cloned().unwrap_or_default();
            let spares = !opaque(instruction) && builder.spares_r13(instruction);
            builder.resident = builder.resident.filter(|_| spares);
            builder.check_pointers();
            emit_instruction(&mut builder, instruction, &mut factory);
            builder.resident = builder.resident.filter(|_| spares);
        }
        let last = instructions.last().expect("a block has an instruction");
        if always_raises(last, mode).is_none() && !is_transfer(last, mode) {
            builder.continue_at(last.next_ip());
        }
        builder.finish();
        let Builder { out, sites, marks, .. } = builder;
        self.sites.extend(sites);
        self.buffer.place(&out);
        let finished = Block {
            rip,
            movable,
            physical,
            second_page,
            length: (last.next_ip().wrapping_sub(rip)) as u32,
            mode,
            fpu,
            host: base,
            near,
            offsets: instructions.iter().map(|one| one.ip().wrapping_sub(rip) as u16).collect(),
            marks,
            links: Vec::new(),
            valid: true,
        };
        self.tally.blocks += 1;
        if once {
            self.scratch_block = Some(finished);
            return block;
        }
        self.scratch_sites = self.sites.len();
        self.blocks.insert(finished, &mut self.memory, &mut self.tlb)
    }
}

fn decode_one(fetched: &Fetched, position: usize, rip: u64, mode: Mode) -> (Instruction, DecoderError) {
    let mut decoder = Decoder::with_ip(mode.bitness(), &fetched.bytes[position..fetched.length], rip, DECODER);
    let mut instruction = decoder.decode();
    let error = decoder.last_error();
    if instruction.len() == 0 {
        instruction.set_len(1);
    }
    (instruction, error)
}

/// Whether the instruction is executed in Rust. So are calls where the code segment has a limit: they must look at their
/// target before they push.
fn is_left_to_rust(instruction: &Instruction, mode: Mode) -> bool {
    let calls = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
    system::handles(instruction) || calls && !mode.flat()
}

/// Whether the instruction's own code decides where execution goes on.
fn is_transfer(instruction: &Instruction, mode: Mode) -> bool {
    instruction.flow_control() != FlowControl::Next && !is_left_to_rust(instruction, mode)
}

fn emit_instruction(builder: &mut Builder, instruction: &Instruction, factory: &mut InstructionInfoFactory) {
    if let Some(exception) = always_raises(instruction, builder.mode) {
        let site = Site::Raise { block: builder.block, index: builder.index, exception };
        builder.service(site);
    } else if let Some(shape) = inline_strings::shape(instruction, builder.mode).filter(|_| builder.inlines) {
        builder.inline_string(shape, instruction);
    } else if is_left_to_rust(instruction, builder.mode) {
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
        let info = factory.info(instruction).clone();
        builder.relocate(instruction, &info);
    }
}
