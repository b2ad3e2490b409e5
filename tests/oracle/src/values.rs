//! Operand values: mostly those at which instructions behave in a special way.

use crate::random::Random;

/// Integers around every sign, carry and width boundary.
const EDGES: [u64; 28] = [
    0,
    1,
    2,
    3,
    7,
    8,
    15,
    16,
    31,
    32,
    63,
    64,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fffe,
    0xffff_ffff_ffff_ffff,
];

/// Singles: zeros, denormals, ones, limits, infinities, quiet and signalling NaNs, integer limits.
const SINGLES: [u32; 18] = [
    0,
    0x8000_0000,
    1,
    0x007f_ffff,
    0x0080_0000,
    0x3f80_0000,
    0xbf80_0000,
    0x3f00_0000,
    0x7f7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc1_2345,
    0x7f80_0001,
    0xffa5_5555,
    0x4f00_0000,
    0x5f00_0000,
    0x4b00_0001,
];

/// Doubles of the same kinds.
const DOUBLES: [u64; 18] = [
    0,
    0x8000_0000_0000_0000,
    1,
    0x000f_ffff_ffff_ffff,
    0x0010_0000_0000_0000,
    0x3ff0_0000_0000_0000,
    0xbff0_0000_0000_0000,
    0x3fe0_0000_0000_0000,
    0x7fef_ffff_ffff_ffff,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
    0xfff8_1234_5678_9abc,
    0x7ff0_0000_0000_0001,
    0xfff5_5555_5555_5555,
    0x41e0_0000_0000_0000,
    0x43e0_0000_0000_0000,
    0x4330_0000_0000_0001,
];

/// An integer of any width.
pub fn integer(random: &mut Random) -> u64 {
    match random.below(8) {
        0..=2 => random.pick(&EDGES),
        3 => random.pick(&EDGES).wrapping_neg(),
        4 => random.pick(&EDGES).wrapping_add(random.bits() & 3).wrapping_sub(1),
        5 => random.bits() & 0xffff_ffff,
        6 => 1 << random.below(64),
        _ => random.bits(),
    }
}

/// The bits of a single.
pub fn single(random: &mut Random) -> u32 {
    match random.below(4) {
        0 | 1 => random.pick(&SINGLES),
        2 => (random.within(-1000, 1000) as f32 / 8.0).to_bits(),
        _ => random.bits() as u32,
    }
}

/// The bits of a double.
pub fn double(random: &mut Random) -> u64 {
    match random.below(4) {
        0 | 1 => random.pick(&DOUBLES),
        2 => (random.within(-100_000, 100_000) as f64 / 16.0).to_bits(),
        _ => random.bits(),
    }
}

/// Sixteen bytes as integers, text, singles or doubles.
pub fn fill(random: &mut Random, bytes: &mut [u8; 16]) {
    let (low, high) = match random.below(6) {
        0 => (integer(random), integer(random)),
        1 => (random.bits(), random.bits()),
        2 => (random.bits() & 0x0303_0303_0303_0303, random.bits() & 0x0301_0301_0301_0301),
        3 => {
            let mut pair = || u64::from(single(random)) | u64::from(single(random)) << 32;
            (pair(), pair())
        }
        _ => (double(random), double(random)),
    };
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes[8..].copy_from_slice(&high.to_le_bytes());
}

/// An 80-bit x87 value: normal, special, denormal or one of the unsupported encodings.
pub fn extended(random: &mut Random) -> [u8; 10] {
    let exponent: u16 = match random.below(6) {
        0 => 0,
        1 => 0x7fff,
        2 => random.within(0x3ff0, 0x4050) as u16,
        3 => 0x3fff,
        _ => random.bits() as u16 & 0x7fff,
    };
    let mantissa = match random.below(5) {
        0 => 0x8000_0000_0000_0000,
        1 => 0xc000_0000_0000_0000,
        2 => integer(random),
        _ => random.bits() | 1 << 63,
    };
    let sign = (random.bits() as u16 & 1) << 15;
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&mantissa.to_le_bytes());
    bytes[8..].copy_from_slice(&(exponent | sign).to_le_bytes());
    bytes
}

/// An FXSAVE image: usual control words most of the time, otherwise any that FXRSTOR accepts.
pub fn floating_point(random: &mut Random) -> [u8; 512] {
    let mut area = [0; 512];
    let usual = random.percent(70);
    let control = if usual { 0x037f } else { 0x0340 & random.bits() as u16 | 0x40 | random.bits() as u16 & 0x0c3f };
    let top = if random.percent(50) { 0 } else { random.below(8) as u16 };
    let flags = if usual { 0 } else { random.bits() as u16 & 0x003f };
    let pending = if flags & !control & 0x3f != 0 { 0x8080 } else { 0 };
    let status = top << 11 | flags | pending | random.bits() as u16 & 0x4700;
    area[0..2].copy_from_slice(&control.to_le_bytes());
    area[2..4].copy_from_slice(&status.to_le_bytes());
    area[4] = random.pick(&[0u8, 0xff, 0xff, random.clone().bits() as u8]);
    area[24..28].copy_from_slice(&mxcsr(random).to_le_bytes());
    for register in 0..8 {
        let value = extended(random);
        area[32 + 16 * register..][..10].copy_from_slice(&value);
    }
    for register in 0..16 {
        let mut value = [0; 16];
        fill(random, &mut value);
        area[160 + 16 * register..][..16].copy_from_slice(&value);
    }
    area
}

/// MXCSR: the default mostly, or any rounding, masks, flags, FTZ and DAZ.
fn mxcsr(random: &mut Random) -> u32 {
    match random.below(10) {
        0..=5 => 0x1f80,
        6 | 7 => 0x1f80 | random.bits() as u32 & 0xe07f,
        _ => random.bits() as u32 & 0xffff,
    }
}
