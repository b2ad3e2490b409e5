//! Breakpoints of the debug registers, and checked alignment (SDM vol. 3 §17.2, §17.3, §6.15; APM vol. 2 §13.1, §8.2.18).
//!
//! What an access or an instruction matches is a set of DR6 bits. Data and port breakpoints are traps: their bits wait in
//! [`State::debug_pending`] until the instruction is complete. Only enabled breakpoints report; lengths align addresses.

use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::{State, control, rflags};

/// DR6.BS, a single step.
pub const SINGLE_STEP: u16 = 1 << 14;
/// DR7.GD: accesses to debug registers trap.
pub const GENERAL_DETECT: u64 = 1 << 13;
/// DR7.L0 to G3.
const ENABLED: u64 = 0xff;

/// DR7.R/W: what a breakpoint looks at.
const EXECUTE: u64 = 0;
const WRITE: u64 = 1;
const PORT: u64 = 2;
const READ_WRITE: u64 = 3;

/// Whether any breakpoint is enabled.
#[inline]
pub fn is_armed(state: &State) -> bool {
    state.dr[7] & ENABLED != 0
}

/// Whether accesses are checked for alignment: CR0.AM, RFLAGS.AC, CPL 3.
#[inline]
pub fn checks_alignment(state: &State) -> bool {
    state.rflags & rflags::AC != 0 && state.cpl == 3 && state.cr0 & control::CR0_AM != 0
}

/// The enabled breakpoints whose kind is wanted: number, address, bytes.
fn enabled(state: &State, wanted: impl Fn(u64) -> bool) -> impl Iterator<Item = (usize, u64, u64)> {
    (0..4).filter_map(move |number| {
        let (on, kind) = (state.dr[7] >> (2 * number) & 3, state.dr[7] >> (16 + 4 * number) & 3);
        let length = [1, 2, 8, 4][(state.dr[7] >> (18 + 4 * number) & 3) as usize];
        (on != 0 && wanted(kind)).then_some((number, state.dr[number] & !(length - 1), length))
    })
}

fn hits(found: impl Iterator<Item = (usize, u64, u64)>, first: u64, length: u64) -> u16 {
    found
        .filter(|(_, base, bytes)| first.wrapping_sub(*base) < *bytes || base.wrapping_sub(first) < length)
        .fold(0, |bits, (number, ..)| bits | 1 << number)
}

/// Where breakpoints for instructions are.
pub fn code_addresses(state: &State) -> [Option<u64>; 4] {
    let mut found = [None; 4];
    enabled(state, |kind| kind == EXECUTE).for_each(|(number, ..)| found[number] = Some(state.dr[number]));
    found
}

/// Where breakpoints for data are. None crosses a page.
pub fn data_addresses(state: &State) -> [Option<u64>; 4] {
    let mut found = [None; 4];
    enabled(state, |kind| kind & 1 != 0).for_each(|(number, base, _)| found[number] = Some(base));
    found
}

/// Whether a breakpoint for instructions is enabled; only then does RF stay set.
pub fn is_armed_for_code(state: &State) -> bool {
    is_armed(state) && enabled(state, |kind| kind == EXECUTE).next().is_some()
}

/// What an instruction at a linear address matches.
pub fn code_hits(state: &State, linear: u64) -> u16 {
    let addresses = code_addresses(state);
    (0..4).filter(|number| addresses[*number] == Some(linear)).fold(0, |bits, number| bits | 1 << number)
}

/// What a data access of `length` bytes (at least 1) matches.
pub fn data_hits(state: &State, linear: u64, length: u64, write: bool) -> u16 {
    hits(enabled(state, |kind| kind == READ_WRITE || write && kind == WRITE), linear, length)
}

/// What an access to `size` ports matches; CR4.DE must be set.
pub fn port_hits(state: &State, port: u16, size: u8) -> u16 {
    if !is_armed(state) || state.cr4 & control::CR4_DE == 0 {
        return 0;
    }
    hits(enabled(state, |kind| kind == PORT), port.into(), size.into())
}

/// Whether an access breaks the alignment that its size asks for (SDM vol. 3 table 6-7).
pub fn is_misaligned(linear: u64, length: usize) -> bool {
    let unit = match length {
        2 | 14 | 94 => 2,
        4 | 28 | 108 => 4,
        8 | 10 => 8,
        16 => 16,
        _ => 1,
    };
    !linear.is_multiple_of(unit)
}

impl Execution<'_> {
    /// Looks at a data access that the page tables allow.
    ///
    /// # Errors
    /// #AC(0).
    pub fn inspect(&mut self, linear: u64, length: usize, write: bool, user: bool) -> Result<(), Exception> {
        if user && checks_alignment(self.state) && is_misaligned(linear, length) {
            return Err(Exception::alignment_check(0));
        }
        if is_armed(self.state) {
            self.state.debug_pending |= data_hits(self.state, linear, length.max(1) as u64, write);
        }
        Ok(())
    }

    /// RF of an image that IRET or a task switch loads, with operands wider than 16 bits.
    pub fn restore_resume_flag(&mut self, image: u64) {
        if image & rflags::RF != 0 && is_armed_for_code(self.state) {
            self.state.rflags |= rflags::RF;
        }
    }
}
