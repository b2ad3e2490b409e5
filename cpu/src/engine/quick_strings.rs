//! String instructions between pages the TLB knows, host page to host page. All else is left to [`crate::system`]: what
//! goes backward, crosses a page, wraps, faults, meets a device, or a page something is derived from.
//!
//! A page with a write entry is neither code nor a table in use, so no iteration can change what a later one sees of
//! either: pages at a time are as good as one element after the other.
#![allow(unsafe_code)]

use super::Engine;
use super::blocks::Mode;
use super::frame::pack_flags;
use super::options::Optimisation;
use crate::memory::PAGE;
use crate::paging::{self, Access};
use crate::state::gpr::{RAX, RCX, RDI, RSI};
use crate::state::rflags;
use crate::system::strings::{Kind, kind_and_size, subtraction_flags};
use iced_x86::{Instruction, OpKind, Register};

/// What has been done.
pub(super) struct Done {
    /// Iterations; 1 for a repetition of none.
    pub count: u64,
    /// Nothing is left to do.
    pub finished: bool,
}

struct Operation {
    kind: Kind,
    size: usize,
    mask: u64,
    repeated: bool,
    until_equal: bool,
}

impl Operation {
    /// `None` where segments or addresses are not those of flat memory.
    fn of(mode: Mode, instruction: &Instruction) -> Option<Operation> {
        let (kind, size) =
            kind_and_size(instruction.code()).filter(|(kind, _)| !matches!(kind, Kind::Input | Kind::Output))?;
        let mut mask = 0;
        for index in 0..instruction.op_count() {
            match instruction.op_kind(index) {
                OpKind::MemorySegRSI | OpKind::MemoryESRDI if mode.long() => mask = u64::MAX,
                OpKind::MemorySegESI | OpKind::MemoryESEDI if mode.flat() => mask = 0xffff_ffff,
                OpKind::Register => {}
                _ => return None,
            }
        }
        let based = matches!(instruction.segment_prefix(), Register::FS | Register::GS | Register::CS);
        (!based && mask != 0).then_some(Operation {
            kind,
            size,
            mask,
            repeated: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
            until_equal: instruction.has_repne_prefix(),
        })
    }

    /// Elements from an address to the end of its page; none near the end of the address space.
    fn room(&self, address: u64) -> u64 {
        if self.mask - address < PAGE { 0 } else { (PAGE - address % PAGE) / self.size as u64 }
    }
}

impl Engine {
    /// Executes as many iterations as can be, `allowance` (at least 1) at most. `None`: not even one.
    pub(super) fn quick_string(&mut self, mode: Mode, instruction: &Instruction, allowance: u64) -> Option<Done> {
        let operation = Operation::of(mode, instruction)?;
        let state = self.state();
        if state.rflags & rflags::DF != 0 {
            return None;
        }
        let wanted = if operation.repeated { state.gpr[RCX] & operation.mask } else { 1 };
        if wanted == 0 {
            return Some(Done { count: 1, finished: true });
        }
        let limit = wanted.min(allowance);
        let (mut count, mut ended) = (0, false);
        while count < limit && !ended {
            let Some((iterations, last)) = self.quick_span(mode.user(), &operation, limit - count) else { break };
            self.advance(&operation, iterations);
            (count, ended) = (count + iterations, last);
        }
        (count > 0).then_some(Done { count, finished: ended || count == wanted })
    }

    /// Iterations within a page; and whether a comparison ended the repetition.
    fn quick_span(&mut self, user: bool, operation: &Operation, limit: u64) -> Option<(u64, bool)> {
        let state = self.state();
        let (from, to) = (state.gpr[RSI] & operation.mask, state.gpr[RDI] & operation.mask);
        let mut room = limit;
        if operation.kind.has_source() {
            room = room.min(operation.room(from));
        }
        if operation.kind.has_destination() {
            room = room.min(operation.room(to));
        }
        if room == 0 {
            return None;
        }
        let source = if operation.kind.has_source() { self.host_of(user, from, false)? } else { std::ptr::null_mut() };
        let destination = if operation.kind.has_destination() {
            self.host_of(user, to, operation.kind.writes())?
        } else {
            std::ptr::null_mut()
        };
        let (size, accumulator) = (operation.size, self.state().gpr[RAX]);
        // SAFETY: both addresses are those of RAM the engine owns, `room` elements of `size` bytes lie within their
        // pages, and nothing refers to RAM meanwhile.
        unsafe {
            match operation.kind {
                Kind::Move => copy(source, destination, room as usize, size),
                Kind::Store => fill(destination, accumulator, room as usize, size),
                Kind::Load => {
                    let value = element(source, room as usize - 1, size);
                    let whole = &mut self.frame().state.gpr[RAX];
                    *whole = match size {
                        8 | 4 => value,
                        _ => *whole & !ones(size) | value,
                    };
                }
                Kind::Scan | Kind::Compare => {
                    return Some(self.compare(operation, source, destination, room as usize));
                }
                Kind::Input | Kind::Output => return None,
            }
        }
        Some((room, false))
    }

    /// Compares elements in order until one ends the repetition; flags are the last comparison's.
    ///
    /// # Safety
    /// As many elements can be read at both addresses; the source may be null for a scan.
    unsafe fn compare(&mut self, operation: &Operation, source: *mut u8, other: *mut u8, room: usize) -> (u64, bool) {
        let size = operation.size;
        let accumulator = self.state().gpr[RAX] & ones(size);
        let mut done = 0;
        loop {
            // SAFETY: the caller's promise.
            let (left, right) = unsafe {
                (if source.is_null() { accumulator } else { element(source, done, size) }, element(other, done, size))
            };
            done += 1;
            let ended = (left == right) == operation.until_equal;
            if ended || done == room {
                self.frame().packed_flags = pack_flags(subtraction_flags(left, right, size));
                return (done as u64, ended && operation.repeated);
            }
        }
    }

    /// Host address of a byte, by the TLB; a page that it does not know is walked once.
    fn host_of(&mut self, user: bool, linear: u64, write: bool) -> Option<*mut u8> {
        if let Some(host) = self.tlb.host(user, linear, write) {
            return Some(host);
        }
        if !self.optimisations.has(Optimisation::InlineLookup) {
            return None;
        }
        // SAFETY: the state lives in the frame, apart from the memory borrowed here.
        let state = unsafe { &(*self.mapping.get()).state };
        let found = paging::walk(&mut self.memory, state, linear, Access { write, user, fetch: false }).ok()?;
        self.tlb.fill(&mut self.memory, user, linear, &found, write);
        // Bits set in a page with code must be followed up first.
        if self.memory.has_touched() { None } else { self.tlb.host(user, linear, write) }
    }

    fn advance(&mut self, operation: &Operation, iterations: u64) {
        let gpr = &mut self.frame().state.gpr;
        let distance = iterations * operation.size as u64;
        if operation.kind.has_source() {
            gpr[RSI] = gpr[RSI].wrapping_add(distance) & operation.mask;
        }
        if operation.kind.has_destination() {
            gpr[RDI] = gpr[RDI].wrapping_add(distance) & operation.mask;
        }
        if operation.repeated {
            gpr[RCX] = gpr[RCX].wrapping_sub(iterations) & operation.mask;
        }
    }
}

fn ones(size: usize) -> u64 {
    u64::MAX >> (64 - 8 * size)
}

/// # Safety
/// The element can be read.
unsafe fn element(base: *const u8, index: usize, size: usize) -> u64 {
    // SAFETY: the caller's promise.
    unsafe {
        let at = base.add(index * size);
        match size {
            1 => u64::from(at.read()),
            2 => u64::from(at.cast::<u16>().read_unaligned()),
            4 => u64::from(at.cast::<u32>().read_unaligned()),
            _ => at.cast::<u64>().read_unaligned(),
        }
    }
}

/// Copies element after element: where the destination begins inside of the source, what was copied is copied again.
///
/// # Safety
/// As many elements can be read and written.
unsafe fn copy(from: *const u8, to: *mut u8, count: usize, size: usize) {
    let bytes = count * size;
    let ahead = (to as usize).wrapping_sub(from as usize);
    // SAFETY: the caller's promise.
    unsafe {
        if ahead == 0 || ahead >= bytes {
            return std::ptr::copy(from, to, bytes);
        }
        for index in 0..count {
            let mut value = [0; 8];
            std::ptr::copy_nonoverlapping(from.add(index * size), value.as_mut_ptr(), size);
            std::ptr::copy_nonoverlapping(value.as_ptr(), to.add(index * size), size);
        }
    }
}

/// # Safety
/// As many elements can be written.
unsafe fn fill(to: *mut u8, value: u64, count: usize, size: usize) {
    let bytes = value.to_le_bytes();
    // SAFETY: the caller's promise.
    unsafe {
        if bytes[..size].iter().all(|byte| *byte == bytes[0]) {
            return std::ptr::write_bytes(to, bytes[0], count * size);
        }
        for index in 0..count {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.add(index * size), size);
        }
    }
}
