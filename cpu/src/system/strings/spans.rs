//! Iterations done at once: whole elements within a page of RAM, or a single one where anything is out of the ordinary.

use super::elements::{PIECE, accumulator, copy, fill, is_ram, little_endian, subtraction_flags};
use super::{Kind, Operation, Span};
use crate::exception::Exception;
use crate::execution::{Execution, room};
use crate::memory::PAGE;
use crate::paging::{self, Access, Translation};
use crate::state::gpr::{RAX, RDI, RDX, RSI};
use crate::state::segment::ES;
use crate::system::io;

impl Operation {
    /// Executes at least one and at most `limit` iterations.
    pub(super) fn span(&mut self, x: &mut Execution, length: u64, limit: u64) -> Result<Span, Exception> {
        match self.kind {
            Kind::Move => self.move_span(x, length, limit),
            Kind::Store => self.store_span(x, length, limit),
            Kind::Load => self.load_span(x, limit),
            Kind::Scan | Kind::Compare => self.compare_span(x, limit),
            Kind::Input => self.input(x, length, limit),
            Kind::Output => self.output(x, limit),
        }
    }

    /// How many whole elements lie between an address and the end of its page or segment, without wrapping an index; 0
    /// also when going backward: then one at a time.
    fn room(&self, x: &Execution, linear: u64, register: usize) -> u64 {
        if self.backward {
            return 0;
        }
        let segment = if register == RSI { self.source_segment } else { ES };
        let index = x.state.gpr[register] & self.mask;
        let bytes = (PAGE - linear % PAGE).min(room(x.state, segment, index)).min(self.mask - index);
        bytes / self.size as u64
    }

    /// Whether an element must be accessed on its own: above all where it crosses a page.
    fn crosses(&self, linear: u64) -> bool {
        self.careful || linear % PAGE + self.size as u64 > PAGE
    }

    fn walk_source(&self, x: &mut Execution, linear: u64) -> Result<Translation, Exception> {
        let access = Access::read(x.user());
        paging::walk(x.memory, x.state, linear, access)
    }

    fn probe_source(&self, x: &mut Execution, linear: u64) -> Result<(), Exception> {
        let access = Access::read(x.user());
        x.probe(linear, self.size, access)
    }

    fn move_span(&mut self, x: &mut Execution, length: u64, limit: u64) -> Result<Span, Exception> {
        let from = self.source(x)?;
        let to = match self.destination(x) {
            Ok(to) => to,
            // The source is translated first: what it raises comes first.
            Err(fault) => return Err(self.probe_source(x, from).err().unwrap_or(fault)),
        };
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
            return Ok(Span { pause: true, ..Span::of(1) });
        }
        let room = self.room(x, from, RSI).min(self.room(x, to, RDI));
        let pause = self.is_fragile(x, length, &[&source, &destination], destination.physical);
        let iterations = if pause { 1 } else { limit.min(room).max(1) };
        copy(x, source.physical, destination.physical, iterations as usize * self.size, self.size);
        Ok(Span { pause, ..Span::of(iterations) })
    }

    /// Whether stores to this page could change what later iterations see of code or tables.
    fn is_fragile(&mut self, x: &mut Execution, length: u64, used: &[&Translation], physical: u64) -> bool {
        let in_use = |t: &&Translation| t.entries[..t.depth].iter().any(|entry| entry / PAGE == physical / PAGE);
        self.repeated && (used.iter().any(in_use) || self.fragile.contains(x, length, physical))
    }

    /// One element that crosses a page.
    fn move_across(&self, x: &mut Execution, from: u64, to: u64) -> Result<Span, Exception> {
        let user = x.user();
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..self.size];
        x.probe(from, self.size, Access::read(user))?;
        x.probe(to, self.size, Access::write(user))?;
        x.read_bytes(from, bytes, user)?;
        x.write_bytes(to, bytes, user)?;
        Ok(Span { pause: true, ..Span::of(1) })
    }

    fn store_span(&mut self, x: &mut Execution, length: u64, limit: u64) -> Result<Span, Exception> {
        let to = self.destination(x)?;
        let element = x.state.gpr[RAX].to_le_bytes();
        let user = x.user();
        if self.crosses(to) {
            x.write_bytes(to, &element[..self.size], user)?;
            return Ok(Span { pause: true, ..Span::of(1) });
        }
        let destination = paging::walk(x.memory, x.state, to, Access::write(user))?;
        if !is_ram(x, &destination) {
            x.write_physical(destination.physical, &element[..self.size]);
            return Ok(Span { pause: true, ..Span::of(1) });
        }
        let pause = self.is_fragile(x, length, &[&destination], destination.physical);
        let room = self.room(x, to, RDI);
        let iterations = if pause { 1 } else { limit.min(room).max(1) };
        fill(x, destination.physical, iterations as usize * self.size, &element[..self.size]);
        Ok(Span { pause, ..Span::of(iterations) })
    }

    fn load_span(&self, x: &mut Execution, limit: u64) -> Result<Span, Exception> {
        let from = self.source(x)?;
        let (value, span) = if self.crosses(from) {
            (x.read(from, self.size)?, Span { pause: x.device || self.careful, ..Span::of(1) })
        } else {
            let source = self.walk_source(x, from)?;
            let pause = !is_ram(x, &source);
            let room = if pause { 1 } else { self.room(x, from, RSI) };
            let iterations = limit.min(room).max(1);
            let last = source.physical + (iterations - 1) * self.size as u64;
            let mut bytes = [0; 8];
            x.read_physical(last, &mut bytes[..self.size]);
            (u64::from_le_bytes(bytes), Span { pause, ..Span::of(iterations) })
        };
        x.set_register(accumulator(self.size), value);
        Ok(span)
    }

    fn compare_span(&self, x: &mut Execution, limit: u64) -> Result<Span, Exception> {
        let two = self.kind == Kind::Compare;
        let from = if two { self.source(x)? } else { 0 };
        let to = match self.destination(x) {
            Ok(to) => to,
            Err(fault) if two => return Err(self.probe_source(x, from).err().unwrap_or(fault)),
            Err(fault) => return Err(fault),
        };
        if self.crosses(to) || two && self.crosses(from) {
            return self.compare_across(x, from, to);
        }
        let source = if two { Some(self.walk_source(x, from)?) } else { None };
        let access = Access::read(x.user());
        let destination = paging::walk(x.memory, x.state, to, access)?;
        let device = !is_ram(x, &destination) || source.as_ref().is_some_and(|source| !is_ram(x, source));
        let mut room = self.room(x, to, RDI).min((PIECE / self.size) as u64);
        if two {
            room = room.min(self.room(x, from, RSI));
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
        Ok(Span { pause: device, ..span })
    }

    fn fill_with_accumulator(&self, x: &Execution, bytes: &mut [u8]) {
        let value = x.state.gpr[RAX].to_le_bytes();
        bytes.chunks_exact_mut(self.size).for_each(|element| element.copy_from_slice(&value[..self.size]));
    }

    fn compare_across(&self, x: &mut Execution, from: u64, to: u64) -> Result<Span, Exception> {
        let user = x.user();
        let (mut left, mut right) = ([0; 8], [0; 8]);
        let (left, right) = (&mut left[..self.size], &mut right[..self.size]);
        if self.kind == Kind::Compare {
            x.probe(from, self.size, Access::read(user))?;
            x.probe(to, self.size, Access::read(user))?;
            x.read_bytes(from, left, user)?;
        } else {
            self.fill_with_accumulator(x, left);
        }
        x.read_bytes(to, right, user)?;
        Ok(Span { pause: true, ..self.compare(x, left, right) })
    }

    /// Compares elements in order until the repetition's condition ends it; flags are the last comparison's.
    fn compare(&self, x: &mut Execution, left: &[u8], right: &[u8]) -> Span {
        let pairs = left.chunks_exact(self.size).zip(right.chunks_exact(self.size));
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
        Span { iterations, finished, pause: false }
    }

    fn input(&mut self, x: &mut Execution, length: u64, limit: u64) -> Result<Span, Exception> {
        let port = x.state.gpr[RDX] as u16;
        io::check(x, port, self.size as u8)?;
        let (to, user) = (self.destination(x)?, x.user());
        x.probe(to, self.size, Access::write(user))?;
        if self.repeated && !self.crosses(to) {
            let destination = paging::walk(x.memory, x.state, to, Access::write(user))?;
            let elements = limit.min(self.room(x, to, RDI)).min((PIECE / self.size) as u64) as usize;
            if is_ram(x, &destination) && !self.is_fragile(x, length, &[&destination], destination.physical) {
                let mut bytes = [0; PIECE];
                let wanted = &mut bytes[..elements * self.size];
                let filled = x.bus.port_read_row(port, self.size as u8, wanted);
                if filled > 0 {
                    x.memory.store(destination.physical, &bytes[..filled]);
                    return Ok(Span::of((filled / self.size) as u64));
                }
            }
        }
        let value = io::read(x, port, self.size as u8);
        x.write(to, self.size, u64::from(value))?;
        Ok(Span { pause: true, ..Span::of(1) })
    }

    fn output(&self, x: &mut Execution, limit: u64) -> Result<Span, Exception> {
        let port = x.state.gpr[RDX] as u16;
        io::check(x, port, self.size as u8)?;
        let from = self.source(x)?;
        if self.repeated && !self.crosses(from) {
            let source = paging::walk(x.memory, x.state, from, Access::read(x.user()))?;
            let elements = limit.min(self.room(x, from, RSI)).min((PIECE / self.size) as u64) as usize;
            if is_ram(x, &source) {
                let mut bytes = [0; PIECE];
                let bytes = &mut bytes[..elements * self.size];
                x.memory.read(source.physical, bytes);
                let taken = x.bus.port_write_row(port, self.size as u8, bytes);
                if taken > 0 {
                    return Ok(Span::of((taken / self.size) as u64));
                }
            }
        }
        let value = x.read(from, self.size)?;
        io::write(x, port, self.size as u8, value as u32);
        Ok(Span { pause: true, ..Span::of(1) })
    }
}
