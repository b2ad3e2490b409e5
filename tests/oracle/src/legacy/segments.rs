//! The local descriptor table that silicon and engine share: one of everything that user mode can ask Linux for.

use super::{CODE, Part};
use crate::random::Random;
use std::sync::LazyLock;

/// Descriptors in it, the first of which is not used.
pub const COUNT: usize = 256;
/// The first numbers are code segments to start in: 32-bit flat, 32-bit, 16-bit, and those with small limits.
pub const CODES: [usize; 5] = [1, 2, 3, 4, 5];
/// Flat data.
pub const FLAT: usize = 6;
/// Data that can be a stack follows, then everything.
pub const STACKS: std::ops::Range<usize> = 6..96;
/// All but code to start in.
pub const ALL: std::ops::Range<usize> = 6..COUNT;

/// Present, DPL 3, a segment.
const ACCESS: u8 = 0xf1;

/// The segments by number.
pub static PARTS: LazyLock<Vec<Part>> = LazyLock::new(|| {
    let mut random = Random::new(0x1d7);
    (0..COUNT).map(|number| part(&mut random, number)).collect()
});

/// The selector of a number: local, RPL 3.
pub fn selector(number: usize) -> u16 {
    (number * 8 + 7) as u16
}

/// The table's bytes.
pub fn table() -> Vec<u8> {
    let descriptors = PARTS.iter().enumerate().map(|(number, part)| if number == 0 { 0 } else { part.descriptor() });
    descriptors.flat_map(|descriptor| descriptor.to_le_bytes()).collect()
}

fn part(random: &mut Random, number: usize) -> Part {
    let (readable, writable) = (ACCESS | 0xa, ACCESS | 2);
    match number {
        1 => Part { base: 0, limit: u32::MAX, big: true, access: readable },
        2 => Part { base: CODE, limit: 0xffff, big: true, access: readable },
        3 => Part { base: CODE, limit: 0xffff, big: false, access: readable },
        4 => Part { base: CODE, limit: 0xffff, big: true, access: ACCESS | 8 },
        5 => Part { base: CODE, limit: 0xffff, big: false, access: ACCESS | 8 },
        FLAT => Part { base: 0, limit: u32::MAX, big: true, access: writable },
        _ => {
            let base = 0x2_0000 + random.below(0x6_0000) as u64;
            let limit = match random.below(6) {
                0 => random.below(0x1000) as u32,
                1 => random.below(0x1_0000) as u32,
                2 => 0xffff,
                3 => 0x1_ffff,
                4 => 0xf_ffff,
                _ => random.below(0x20) as u32,
            };
            let kind = match number {
                _ if STACKS.contains(&number) => random.pick(&[2, 2, 2, 6]),
                _ => random.pick(&[2, 2, 0, 6, 4, 8, 10]),
            };
            let present = STACKS.contains(&number) || random.percent(92);
            let access = if present { ACCESS | kind } else { ACCESS & 0x7f | kind };
            Part { base, limit, big: random.percent(50), access }
        }
    }
}
