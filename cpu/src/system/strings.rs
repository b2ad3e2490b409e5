//! String instructions (APM vol. 3: MOVS, STOS, LODS, SCAS, CMPS, INS, OUTS), alone and repeated.
//!
//! An iteration is to the guest what an instruction is: it is fetched, translates its operands (source first, then
//! destination), moves its element, and may be the last before an interrupt or a fault. What runs faster, page spans
//! at once, must not differ from that. So a span ends where an iteration could change what the next one sees: at
//! pages, at device registers, and at stores to the page that holds the instruction or a table entry in use.

use super::{Executed, Flow, io, operand};
use crate::bus::Icount;
use crate::exception::Exception;
use crate::execution::Execution;
use crate::memory::PAGE;
use crate::paging::{self, Access, Translation};
use crate::state::gpr::{RAX, RCX, RDI, RDX, RSI};
use crate::state::rflags;
use iced_x86::{Instruction, OpKind, Register};

/// Bytes moved at a time through a buffer of ours.
const PIECE: usize = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Move,
    Store,
    Load,
    Scan,
    Compare,
    Input,
    Output,
}

/// One string instruction, taken apart.
struct Operation {
    kind: Kind,
    /// Bytes in an element.
    size: usize,
    /// Address size.
    mask: u64,
    /// Base of the source's segment.
    source_base: u64,
    /// The source's segment is SS.
    source_stack: bool,
    repeated: bool,
    /// REPNE: comparisons end at equality, not at a difference.
    until_equal: bool,
    backward: bool,
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
        Span {
            iterations,
            finished: false,
            pause: false,
        }
    }
}

/// Guest-physical pages of the instruction's bytes and of the table entries that map them.
#[derive(Default)]
struct Fragile {
    pages: [u64; 10],
    count: usize,
    known: bool,
}

impl Fragile {
    fn add(&mut self, translation: &Translation) {
        let entries = &translation.entries[..translation.depth];
        for address in entries.iter().chain([&translation.physical]) {
            self.pages[self.count] = address / PAGE;
            self.count += 1;
        }
    }

    /// Finds the pages at the first use; the instruction has just been fetched, so the walks change nothing.
    fn contains(&mut self, x: &mut Execution, length: u64, physical: u64) -> bool {
        if !self.known {
            self.known = true;
            let first = x.state.rip;
            let last = first.wrapping_add(length - 1);
            let access = Access::fetch(x.user());
            let ends = if first / PAGE == last / PAGE {
                &[first][..]
            } else {
                &[first, last][..]
            };
            for &linear in ends {
                if let Ok(translation) = paging::walk(x.memory, x.state, linear, access) {
                    self.add(&translation);
                }
            }
        }
        self.pages[..self.count].contains(&(physical / PAGE))
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
    if let Ok(Executed {
        flow: Flow::Next, ..
    }) = result
    {
        x.state.rip = instruction.next_ip();
    }
    result
}

impl Operation {
    fn of(x: &Execution, instruction: &Instruction) -> Option<Operation> {
        let (kind, size) = kind_and_size(instruction)?;
        let mut mask = u64::MAX;
        for index in 0..instruction.op_count() {
            match instruction.op_kind(index) {
                OpKind::MemorySegESI | OpKind::MemoryESEDI => mask = 0xffff_ffff,
                OpKind::MemorySegSI | OpKind::MemoryESDI => mask = 0xffff,
                _ => {}
            }
        }
        let segment = instruction.memory_segment();
        Some(Operation {
            kind,
            size,
            mask,
            source_base: if segment == Register::None {
                0
            } else {
                x.register(segment)
            },
            source_stack: segment == Register::SS,
            repeated: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
            until_equal: instruction.has_repne_prefix(),
            backward: x.flag(rflags::DF),
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
            return Ok(Executed {
                count: 1,
                flow: Flow::Next,
            });
        }
        loop {
            let limit = if self.repeated {
                self.count(x).min(allowance - done)
            } else {
                1
            };
            x.now = Icount(start + done);
            let span = self
                .span(x, length, limit)
                .inspect_err(|_| *completed = done)?;
            self.advance(x, span.iterations);
            done += span.iterations;
            if !self.repeated || span.finished || self.count(x) == 0 {
                return Ok(Executed {
                    count: done,
                    flow: Flow::Next,
                });
            }
            if span.pause || done >= allowance {
                return Ok(Executed {
                    count: done,
                    flow: Flow::Again,
                });
            }
        }
    }

    fn count(&self, x: &Execution) -> u64 {
        x.state.gpr[RCX] & self.mask
    }

    /// Moves the registers over completed iterations.
    fn advance(&self, x: &mut Execution, iterations: u64) {
        let distance = iterations.wrapping_mul(self.size as u64);
        let distance = if self.backward {
            distance.wrapping_neg()
        } else {
            distance
        };
        if self.has_source() {
            x.state.gpr[RSI] = x.state.gpr[RSI].wrapping_add(distance) & self.mask;
        }
        if self.has_destination() {
            x.state.gpr[RDI] = x.state.gpr[RDI].wrapping_add(distance) & self.mask;
        }
        if self.repeated {
            x.state.gpr[RCX] = x.state.gpr[RCX].wrapping_sub(iterations) & self.mask;
        }
    }

    fn has_source(&self) -> bool {
        matches!(
            self.kind,
            Kind::Move | Kind::Load | Kind::Compare | Kind::Output
        )
    }

    fn has_destination(&self) -> bool {
        matches!(
            self.kind,
            Kind::Move | Kind::Store | Kind::Scan | Kind::Compare | Kind::Input
        )
    }

    fn source(&self, x: &Execution) -> u64 {
        self.source_base.wrapping_add(x.state.gpr[RSI] & self.mask)
    }

    fn destination(&self, x: &Execution) -> u64 {
        x.state.gpr[RDI] & self.mask
    }

    /// Executes at least one and at most `limit` iterations.
    fn span(&mut self, x: &mut Execution, length: u64, limit: u64) -> Result<Span, Exception> {
        match self.kind {
            Kind::Move => self.move_span(x, length, limit),
            Kind::Store => self.store_span(x, length, limit),
            Kind::Load => self.load_span(x, limit),
            Kind::Scan | Kind::Compare => self.compare_span(x, limit),
            Kind::Input => self.input(x),
            Kind::Output => self.output(x),
        }
    }

    /// How many whole elements lie between an address and the end of its page, without wrapping an index; 0 also
    /// when going backward: then one at a time.
    fn room(&self, linear: u64, index: u64) -> u64 {
        if self.backward {
            return 0;
        }
        let in_page = (PAGE - linear % PAGE) / self.size as u64;
        if self.mask == u64::MAX {
            in_page
        } else {
            in_page.min((self.mask - index) / self.size as u64)
        }
    }

    fn crosses(&self, linear: u64) -> bool {
        linear % PAGE + self.size as u64 > PAGE
    }

    /// Translates the source; a non-canonical address in SS is #SS.
    fn walk_source(&self, x: &mut Execution, linear: u64) -> Result<Translation, Exception> {
        let access = Access::read(x.user());
        paging::walk(x.memory, x.state, linear, access).map_err(|e| self.by_segment(e))
    }

    fn by_segment(&self, exception: Exception) -> Exception {
        if self.source_stack {
            operand::as_stack(exception)
        } else {
            exception
        }
    }

    fn move_span(&mut self, x: &mut Execution, length: u64, limit: u64) -> Result<Span, Exception> {
        let (from, to) = (self.source(x), self.destination(x));
        if self.crosses(from) || self.crosses(to) {
            return self.move_across(x, from, to);
        }
        let source = self.walk_source(x, from)?;
        let access = Access::write(x.user());
        let destination = paging::walk(x.memory, x.state, to, access)?;
        if !is_ram(x, &source) || !is_ram(x, &destination) {
            let mut bytes = [0; 8];
            x.read_physical(source.physical, &mut bytes[..self.size]);
            x.write_physical(destination.physical, &bytes[..self.size]);
            return Ok(Span {
                pause: true,
                ..Span::of(1)
            });
        }
        let room = self
            .room(from, x.state.gpr[RSI] & self.mask)
            .min(self.room(to, x.state.gpr[RDI] & self.mask));
        let pause = self.is_fragile(x, length, &[&source, &destination], destination.physical);
        let iterations = if pause { 1 } else { limit.min(room).max(1) };
        copy(
            x,
            source.physical,
            destination.physical,
            iterations as usize * self.size,
            self.size,
        );
        Ok(Span {
            pause,
            ..Span::of(iterations)
        })
    }

    /// Whether stores to this page could change what later iterations see of code or tables.
    fn is_fragile(
        &mut self,
        x: &mut Execution,
        length: u64,
        used: &[&Translation],
        physical: u64,
    ) -> bool {
        let in_use = |t: &&Translation| {
            t.entries[..t.depth]
                .iter()
                .any(|entry| entry / PAGE == physical / PAGE)
        };
        self.repeated && (used.iter().any(in_use) || self.fragile.contains(x, length, physical))
    }

    /// One element that crosses a page.
    fn move_across(&self, x: &mut Execution, from: u64, to: u64) -> Result<Span, Exception> {
        let user = x.user();
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..self.size];
        x.probe(from, self.size, Access::read(user))
            .map_err(|e| self.by_segment(e))?;
        x.probe(to, self.size, Access::write(user))?;
        x.read_bytes(from, bytes, user)
            .map_err(|e| self.by_segment(e))?;
        x.write_bytes(to, bytes, user)?;
        Ok(Span {
            pause: true,
            ..Span::of(1)
        })
    }

    fn store_span(
        &mut self,
        x: &mut Execution,
        length: u64,
        limit: u64,
    ) -> Result<Span, Exception> {
        let to = self.destination(x);
        let element = x.state.gpr[RAX].to_le_bytes();
        let user = x.user();
        if self.crosses(to) {
            x.write_bytes(to, &element[..self.size], user)?;
            return Ok(Span {
                pause: true,
                ..Span::of(1)
            });
        }
        let destination = paging::walk(x.memory, x.state, to, Access::write(user))?;
        if !is_ram(x, &destination) {
            x.write_physical(destination.physical, &element[..self.size]);
            return Ok(Span {
                pause: true,
                ..Span::of(1)
            });
        }
        let pause = self.is_fragile(x, length, &[&destination], destination.physical);
        let room = self.room(to, to);
        let iterations = if pause { 1 } else { limit.min(room).max(1) };
        fill(
            x,
            destination.physical,
            iterations as usize * self.size,
            &element[..self.size],
        );
        Ok(Span {
            pause,
            ..Span::of(iterations)
        })
    }

    fn load_span(&self, x: &mut Execution, limit: u64) -> Result<Span, Exception> {
        let from = self.source(x);
        let (value, span) = if self.crosses(from) {
            (
                x.read(from, self.size).map_err(|e| self.by_segment(e))?,
                Span {
                    pause: x.device,
                    ..Span::of(1)
                },
            )
        } else {
            let source = self.walk_source(x, from)?;
            let pause = !is_ram(x, &source);
            let room = if pause {
                1
            } else {
                self.room(from, x.state.gpr[RSI] & self.mask)
            };
            let iterations = limit.min(room).max(1);
            let last = source.physical + (iterations - 1) * self.size as u64;
            let mut bytes = [0; 8];
            x.read_physical(last, &mut bytes[..self.size]);
            (
                u64::from_le_bytes(bytes),
                Span {
                    pause,
                    ..Span::of(iterations)
                },
            )
        };
        x.set_register(accumulator(self.size), value);
        Ok(span)
    }

    fn compare_span(&self, x: &mut Execution, limit: u64) -> Result<Span, Exception> {
        let (from, to) = (self.source(x), self.destination(x));
        let two = self.kind == Kind::Compare;
        let spans = !self.crosses(to) && !(two && self.crosses(from));
        if !spans {
            return self.compare_across(x, from, to);
        }
        let source = if two {
            Some(self.walk_source(x, from)?)
        } else {
            None
        };
        let access = Access::read(x.user());
        let destination = paging::walk(x.memory, x.state, to, access)?;
        let device =
            !is_ram(x, &destination) || source.as_ref().is_some_and(|source| !is_ram(x, source));
        let mut room = self
            .room(to, x.state.gpr[RDI] & self.mask)
            .min((PIECE / self.size) as u64);
        if two {
            room = room.min(self.room(from, x.state.gpr[RSI] & self.mask));
        }
        let elements = if device { 1 } else { limit.min(room).max(1) } as usize;
        let (mut left, mut right) = ([0; PIECE], [0; PIECE]);
        let bytes = elements * self.size;
        match source {
            Some(source) => x.read_physical(source.physical, &mut left[..bytes]),
            None => self.fill_with_accumulator(x, &mut left[..bytes]),
        }
        x.read_physical(destination.physical, &mut right[..bytes]);
        let span = self.compare(x, &left[..bytes], &right[..bytes]);
        Ok(Span {
            pause: device,
            ..span
        })
    }

    fn fill_with_accumulator(&self, x: &Execution, bytes: &mut [u8]) {
        let value = x.state.gpr[RAX].to_le_bytes();
        bytes
            .chunks_exact_mut(self.size)
            .for_each(|element| element.copy_from_slice(&value[..self.size]));
    }

    fn compare_across(&self, x: &mut Execution, from: u64, to: u64) -> Result<Span, Exception> {
        let user = x.user();
        let (mut left, mut right) = ([0; 8], [0; 8]);
        let (left, right) = (&mut left[..self.size], &mut right[..self.size]);
        if self.kind == Kind::Compare {
            x.probe(from, self.size, Access::read(user))
                .map_err(|e| self.by_segment(e))?;
            x.probe(to, self.size, Access::read(user))?;
            x.read_bytes(from, left, user)
                .map_err(|e| self.by_segment(e))?;
        } else {
            self.fill_with_accumulator(x, left);
        }
        x.read_bytes(to, right, user)?;
        Ok(Span {
            pause: true,
            ..self.compare(x, left, right)
        })
    }

    /// Compares elements in order until the repetition's condition ends it; flags are the last comparison's.
    fn compare(&self, x: &mut Execution, left: &[u8], right: &[u8]) -> Span {
        let pairs = left
            .chunks_exact(self.size)
            .zip(right.chunks_exact(self.size));
        let mut iterations = 0;
        let mut last = (&[][..], &[][..]);
        let mut finished = false;
        for pair in pairs {
            iterations += 1;
            last = pair;
            if (pair.0 == pair.1) == self.until_equal {
                finished = true;
                break;
            }
        }
        let flags = subtraction_flags(little_endian(last.0), little_endian(last.1), self.size);
        x.set_arithmetic_flags(flags);
        Span {
            iterations,
            finished,
            pause: false,
        }
    }

    fn input(&self, x: &mut Execution) -> Result<Span, Exception> {
        let port = x.state.gpr[RDX] as u16;
        io::check(x, port, self.size as u8)?;
        let (to, user) = (self.destination(x), x.user());
        x.probe(to, self.size, Access::write(user))?;
        let value = io::read(x, port, self.size as u8);
        x.write(to, self.size, u64::from(value))?;
        Ok(Span {
            pause: true,
            ..Span::of(1)
        })
    }

    fn output(&self, x: &mut Execution) -> Result<Span, Exception> {
        let port = x.state.gpr[RDX] as u16;
        io::check(x, port, self.size as u8)?;
        let from = self.source(x);
        let value = x.read(from, self.size).map_err(|e| self.by_segment(e))?;
        io::write(x, port, self.size as u8, value as u32);
        Ok(Span {
            pause: true,
            ..Span::of(1)
        })
    }
}

fn is_ram(x: &Execution, translation: &Translation) -> bool {
    x.memory.page_of(translation.physical).is_some()
}

fn accumulator(size: usize) -> Register {
    match size {
        1 => Register::AL,
        2 => Register::AX,
        4 => Register::EAX,
        _ => Register::RAX,
    }
}

fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Copies RAM within two pages as a forward loop over elements would, overlaps included.
fn copy(x: &mut Execution, from: u64, to: u64, length: usize, size: usize) {
    let ahead = to.wrapping_sub(from);
    let piece = if ahead > 0 && ahead < length as u64 {
        (ahead as usize / size * size).clamp(size, PIECE)
    } else {
        PIECE
    };
    let mut buffer = [0; PIECE];
    for start in (0..length).step_by(piece) {
        let bytes = &mut buffer[..piece.min(length - start)];
        x.memory.read(from + start as u64, bytes);
        x.memory.store(to + start as u64, bytes);
    }
}

/// Fills RAM within a page with an element.
fn fill(x: &mut Execution, to: u64, length: usize, element: &[u8]) {
    let mut buffer = [0; PIECE];
    let used = length.min(PIECE);
    buffer[..used]
        .chunks_exact_mut(element.len())
        .for_each(|bytes| bytes.copy_from_slice(element));
    for start in (0..length).step_by(PIECE) {
        x.memory
            .store(to + start as u64, &buffer[..PIECE.min(length - start)]);
    }
}

/// The six flags of `left - right` on elements of `size` bytes.
fn subtraction_flags(left: u64, right: u64, size: usize) -> u64 {
    let bits = 8 * size as u32;
    let mask = u64::MAX >> (64 - bits);
    let result = left.wrapping_sub(right) & mask;
    let sign = 1 << (bits - 1);
    let when = |condition: bool, flag: u64| if condition { flag } else { 0 };
    when(left < right, rflags::CF)
        | when((result as u8).count_ones() % 2 == 0, rflags::PF)
        | when((left ^ right ^ result) & 0x10 != 0, rflags::AF)
        | when(result == 0, rflags::ZF)
        | when(result & sign != 0, rflags::SF)
        | when((left ^ right) & (left ^ result) & sign != 0, rflags::OF)
}

fn kind_and_size(instruction: &Instruction) -> Option<(Kind, usize)> {
    use iced_x86::Code::*;
    Some(match instruction.code() {
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
