//! Elements in bulk: copying, filling, and the flags of a comparison.

use crate::execution::Execution;
use crate::paging::Translation;
use crate::state::rflags;
use iced_x86::Register;

/// Bytes moved at a time through a buffer of ours.
pub const PIECE: usize = 512;

pub fn is_ram(x: &Execution, translation: &Translation) -> bool {
    x.memory.page_of(translation.physical).is_some()
}

pub fn accumulator(size: usize) -> Register {
    match size {
        1 => Register::AL,
        2 => Register::AX,
        4 => Register::EAX,
        _ => Register::RAX,
    }
}

pub fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Copies RAM within two pages as a forward loop over elements would, overlaps included.
pub fn copy(x: &mut Execution, from: u64, to: u64, length: usize, size: usize) {
    let ahead = to.wrapping_sub(from);
    let piece =
        if ahead > 0 && ahead < length as u64 { (ahead as usize / size * size).clamp(size, PIECE) } else { PIECE };
    let mut buffer = [0; PIECE];
    for start in (0..length).step_by(piece) {
        let bytes = &mut buffer[..piece.min(length - start)];
        x.memory.read(from + start as u64, bytes);
        x.memory.store(to + start as u64, bytes);
    }
}

/// Fills RAM within a page with an element.
pub fn fill(x: &mut Execution, to: u64, length: usize, element: &[u8]) {
    let mut buffer = [0; PIECE];
    let used = length.min(PIECE);
    buffer[..used].chunks_exact_mut(element.len()).for_each(|bytes| bytes.copy_from_slice(element));
    for start in (0..length).step_by(PIECE) {
        x.memory.store(to + start as u64, &buffer[..PIECE.min(length - start)]);
    }
}

/// The six flags of `left - right` on elements of `size` bytes.
pub fn subtraction_flags(left: u64, right: u64, size: usize) -> u64 {
    let bits = 8 * size as u32;
    let mask = u64::MAX >> (64 - bits);
    let result = left.wrapping_sub(right) & mask;
    let sign = 1 << (bits - 1);
    let when = |condition: bool, flag: u64| if condition { flag } else { 0 };
    when(left < right, rflags::CF)
        | when((result as u8).count_ones().is_multiple_of(2), rflags::PF)
        | when((left ^ right ^ result) & 0x10 != 0, rflags::AF)
        | when(result == 0, rflags::ZF)
        | when(result & sign != 0, rflags::SF)
        | when((left ^ right) & (left ^ result) & sign != 0, rflags::OF)
}
