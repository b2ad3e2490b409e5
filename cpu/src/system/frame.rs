//! A stack being pushed to or popped from: the current one, or one that a transfer is about to switch to (APM vol. 2
//! §4.7.4). RSP and SS change only when the transfer is certain.

use super::{operand, segments};
use crate::exception::Exception;
use crate::execution::{Execution, linear_in};
use crate::paging::is_canonical;
use crate::state::gpr::RSP;
use crate::state::{Segment, segment};

/// The stack. Its pointer wraps to the stack's size.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    segment: Segment,
    /// Top: all of rSP; as many bits as `mask` has count.
    pub pointer: u64,
    mask: u64,
    user: bool,
    long: bool,
    error: u32,
}

impl Stack {
    /// SS:rSP.
    pub fn current(x: &Execution) -> Stack {
        Stack {
            segment: x.state.segments[segment::SS],
            pointer: x.state.gpr[RSP],
            mask: x.state.stack_mask(),
            user: x.user(),
            long: x.state.is_long(),
            error: 0,
        }
    }

    /// A stack of privilege level `cpl` outside 64-bit mode; faults name its selector.
    pub fn switched(loaded: Segment, pointer: u64, cpl: u8) -> Stack {
        let (mask, error) = (loaded.offset_mask(), segments::error_code(loaded.selector));
        Stack { segment: loaded, pointer, mask, user: cpl == 3, long: false, error }
    }

    /// The stack that the TSS holds for an inner level, and its segment, outside long mode (APM vol. 2 §12.2.3).
    ///
    /// # Errors
    /// #TS for the TSS and what it names, #SS for a segment that is absent, #PF.
    pub fn inner(x: &mut Execution, level: u8) -> Result<(Stack, Segment), Exception> {
        let task = x.state.tr;
        let size: usize = if task.attributes & 8 != 0 { 4 } else { 2 };
        let offset = size as u32 * (1 + 2 * u32::from(level));
        if task.attributes & Segment::PRESENT == 0 || offset + size as u32 + 1 > task.limit {
            return Err(Exception::invalid_tss(segments::error_code(task.selector)));
        }
        let at = |offset: u64| task.base.wrapping_add(offset) & 0xffff_ffff;
        let pointer = x.read_system(at(u64::from(offset)), size)?;
        let selector = x.read_system(at(u64::from(offset) + size as u64), 2)? as u16;
        if segments::is_null(selector) {
            return Err(Exception::invalid_tss(0));
        }
        let loaded = segments::stack_segment(x, selector, level, Exception::invalid_tss)?;
        Ok((Stack::switched(loaded, pointer, level), loaded))
    }

    /// A stack of 64-bit mode.
    pub fn long(x: &Execution, pointer: u64, cpl: u8) -> Stack {
        let segment = x.state.segments[segment::SS];
        Stack { segment, pointer, mask: u64::MAX, user: cpl == 3, long: true, error: 0 }
    }

    fn linear(&self, offset: u64, size: usize) -> Result<u64, Exception> {
        let found = if self.long {
            let last = offset.wrapping_add(size as u64 - 1);
            (is_canonical(offset) && is_canonical(last)).then_some(offset)
        } else {
            linear_in(&self.segment, offset, size as u32)
        };
        found.ok_or(Exception::stack(self.error))
    }

    /// Pushes a value of 2, 4 or 8 bytes.
    pub fn push(&mut self, x: &mut Execution, size: usize, value: u64) -> Result<(), Exception> {
        let top = self.pointer.wrapping_sub(size as u64) & self.mask;
        let linear = self.linear(top, size)?;
        x.write_bytes(linear, &value.to_le_bytes()[..size], self.user)?;
        self.release((size as u64).wrapping_neg());
        Ok(())
    }

    /// Pops a value of 2, 4 or 8 bytes, zero-extended.
    pub fn pop(&mut self, x: &mut Execution, size: usize) -> Result<u64, Exception> {
        let linear = self.linear(self.pointer & self.mask, size)?;
        let mut bytes = [0; 8];
        x.read_bytes(linear, &mut bytes[..size], self.user)?;
        self.release(size as u64);
        Ok(u64::from_le_bytes(bytes))
    }

    /// Drops bytes.
    pub fn release(&mut self, bytes: u64) {
        let to = self.pointer.wrapping_add(bytes);
        operand::set_masked(&mut self.pointer, to, self.mask);
    }

    /// Makes the pointer the CPU's; SS is the caller's.
    pub fn commit(&self, x: &mut Execution) {
        x.state.gpr[RSP] = self.pointer;
    }
}
