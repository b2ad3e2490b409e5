//! String instructions (APM vol. 3: MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS), alone and repeated.
//!
//! An iteration is to the guest what an instruction is: it is fetched, translates its operands (source first, then
//! destination), moves its element, and may be the last before an interrupt or a fault. What runs faster, page spans
//! at once, must not differ from that. So a span ends where an iteration could change what the next one sees: at
//! pages, at the limits of segments, at device registers, and at stores to the page that holds the instruction or a
//! table entry in use.

mod elements;
mod fragile;
mod spans;

pub(crate) use elements::subtraction_flags;

use super::operand::{next, set_masked};
use super::{Executed, Flow, debug};
use crate::bus::Icount;
use crate::exception::Exception;
use crate::execution::{Execution, linear_address};
use crate::state::gpr::{RCX, RDI, RDX, RSI};
use crate::state::rflags;
use crate::state::segment::{DS, ES, FS};
use fragile::Fragile;
use iced_x86::{Code, Instruction, OpKind};

/// What an iteration does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// MOVS.
    Move,
    /// STOS.
    Store,
    /// LODS.
    Load,
    /// SCAS.
    Scan,
    /// CMPS.
    Compare,
    /// INS.
    Input,
    /// OUTS.
    Output,
}

impl Kind {
    /// It reads an element at RSI.
    pub(crate) fn has_source(self) -> bool {
        matches!(self, Kind::Move | Kind::Load | Kind::Compare | Kind::Output)
    }

    /// It reads or writes an element at RDI.
    pub(crate) fn has_destination(self) -> bool {
        !matches!(self, Kind::Load | Kind::Output)
    }

    /// It writes an element at RDI.
    pub(crate) fn writes(self) -> bool {
        matches!(self, Kind::Move | Kind::Store | Kind::Input)
    }
}

/// One string instruction, taken apart.
struct Operation {
    kind: Kind,
    /// Bytes in an element.
    size: usize,
    /// Address size.
    mask: u64,
    /// Segment register of the source.
    source_segment: usize,
    repeated: bool,
    /// REPNE: comparisons end at equality, not at a difference.
    until_equal: bool,
    backward: bool,
    /// Breakpoints or alignment are to be checked: an element at a time, each access by itself.
    careful: bool,
    /// Page numbers that a span must not store to.
    fragile: Fragile,
}

/// What one span did.
struct Span {
    iterations: u64,
    /// A comparison ended the repetition.
    finished: bool,
    /// The dispatcher must look before the next iteration.
    pause: bool,
}

impl Span {
    fn of(iterations: u64) -> Span {
        Span { iterations, finished: false, pause: false }
    }
}

/// Executes one string instruction, at most `allowance` iterations of it.
///
/// # Errors
/// What an iteration raised; `completed` receives the number of those before it, and registers are as they left them.
pub fn execute(
    x: &mut Execution,
    instruction: &Instruction,
    allowance: u64,
    completed: &mut u64,
) -> Result<Executed, Exception> {
    let mut operation = Operation::of(x, instruction).ok_or(Exception::invalid_opcode())?;
    let start = x.now;
    let result = operation.run(x, instruction.len() as u64, allowance, completed);
    x.now = start;
    if let Ok(Executed { flow: Flow::Next, .. }) = result {
        x.state.rip = next(instruction);
    }
    result
}

impl Operation {
    fn of(x: &Execution, instruction: &Instruction) -> Option<Operation> {
        let (kind, size) = kind_and_size(instruction.code())?;
        let mut mask = u64::MAX;
        for index in 0..instruction.op_count() {
            match instruction.op_kind(index) {
                OpKind::MemorySegESI | OpKind::MemoryESEDI => mask = 0xffff_ffff,
                OpKind::MemorySegSI | OpKind::MemoryESDI => mask = 0xffff,
                _ => {}
            }
        }
        let segment = instruction.memory_segment();
        // 64-bit mode knows FS and GS only: an SS override is ignored there, and so no bad address is a stack fault.
        let used = segment.is_segment_register() && !(x.state.is_long() && segment.number() < FS);
        Some(Operation {
            kind,
            size,
            mask,
            source_segment: if used { segment.number() } else { DS },
            repeated: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
            until_equal: instruction.has_repne_prefix(),
            backward: x.flag(rflags::DF),
            careful: debug::is_armed(x.state) || debug::checks_alignment(x.state),
            fragile: Fragile::default(),
        })
    }

    fn run(
        &mut self,
        x: &mut Execution,
        length: u64,
        allowance: u64,
        completed: &mut u64,
    ) -> Result<Executed, Exception> {
        let start = x.now.0;
        let mut done = 0;
        if self.repeated && self.count(x) == 0 {
            if matches!(self.kind, Kind::Input | Kind::Output) {
                // Permission comes before the count.
                super::io::check(x, x.state.gpr[RDX] as u16, self.size as u8)?;
            }
            return Ok(Executed { count: 1, flow: Flow::Next });
        }
        loop {
            let limit = if self.repeated { self.count(x).min(allowance - done) } else { 1 };
            x.now = Icount(start + done);
            let span = self.span(x, length, limit).inspect_err(|_| *completed = done)?;
            self.advance(x, span.iterations);
            done += span.iterations;
            if !self.repeated || span.finished || self.count(x) == 0 {
                return Ok(Executed { count: done, flow: Flow::Next });
            }
            if span.pause || done >= allowance {
                return Ok(Executed { count: done, flow: Flow::Again });
            }
        }
    }

    fn count(&self, x: &Execution) -> u64 {
        x.state.gpr[RCX] & self.mask
    }

    /// Moves the registers over completed iterations.
    fn advance(&self, x: &mut Execution, iterations: u64) {
        let distance = iterations.wrapping_mul(self.size as u64);
        let distance = if self.backward { distance.wrapping_neg() } else { distance };
        if self.kind.has_source() {
            let to = x.state.gpr[RSI].wrapping_add(distance);
            set_masked(&mut x.state.gpr[RSI], to, self.mask);
        }
        if self.kind.has_destination() {
            let to = x.state.gpr[RDI].wrapping_add(distance);
            set_masked(&mut x.state.gpr[RDI], to, self.mask);
        }
        if self.repeated {
            let left = x.state.gpr[RCX].wrapping_sub(iterations);
            set_masked(&mut x.state.gpr[RCX], left, self.mask);
        }
    }

    /// Linear address of the source element.
    fn source(&self, x: &Execution) -> Result<u64, Exception> {
        linear_address(x.state, self.source_segment, x.state.gpr[RSI] & self.mask, self.size as u32, false)
    }

    /// Linear address of the destination element, always in ES. Only some instructions write there.
    fn destination(&self, x: &Execution) -> Result<u64, Exception> {
        linear_address(x.state, ES, x.state.gpr[RDI] & self.mask, self.size as u32, self.kind.writes())
    }
}

/// What an instruction does to elements of how many bytes; `None` if it is no string instruction.
pub(crate) fn kind_and_size(code: Code) -> Option<(Kind, usize)> {
    use iced_x86::Code::*;
    Some(match code {
        Movsb_m8_m8 => (Kind::Move, 1),
        Movsw_m16_m16 => (Kind::Move, 2),
        Movsd_m32_m32 => (Kind::Move, 4),
        Movsq_m64_m64 => (Kind::Move, 8),
        Stosb_m8_AL => (Kind::Store, 1),
        Stosw_m16_AX => (Kind::Store, 2),
        Stosd_m32_EAX => (Kind::Store, 4),
        Stosq_m64_RAX => (Kind::Store, 8),
        Lodsb_AL_m8 => (Kind::Load, 1),
        Lodsw_AX_m16 => (Kind::Load, 2),
        Lodsd_EAX_m32 => (Kind::Load, 4),
        Lodsq_RAX_m64 => (Kind::Load, 8),
        Scasb_AL_m8 => (Kind::Scan, 1),
        Scasw_AX_m16 => (Kind::Scan, 2),
        Scasd_EAX_m32 => (Kind::Scan, 4),
        Scasq_RAX_m64 => (Kind::Scan, 8),
        Cmpsb_m8_m8 => (Kind::Compare, 1),
        Cmpsw_m16_m16 => (Kind::Compare, 2),
        Cmpsd_m32_m32 => (Kind::Compare, 4),
        Cmpsq_m64_m64 => (Kind::Compare, 8),
        Insb_m8_DX => (Kind::Input, 1),
        Insw_m16_DX => (Kind::Input, 2),
        Insd_m32_DX => (Kind::Input, 4),
        Outsb_DX_m8 => (Kind::Output, 1),
        Outsw_DX_m16 => (Kind::Output, 2),
        Outsd_DX_m32 => (Kind::Output, 4),
        _ => return None,
    })
}
