//! Cases from seeds: bytes that decode to what the model has, registers that mostly lead to RAM.

use super::{CASE_SELECTOR, CODE, Case, Mode, Part, Registers, TABLES, known};
use crate::random::Random;
use ftemu_cpu::system::cpuid;
use iced_x86::{Decoder, DecoderOptions, EncodingKind, Instruction};

/// The case of a seed.
pub fn case(seed: u64) -> Case {
    let mut random = Random::new(seed);
    let mode = match random.below(8) {
        0 | 1 => Mode::Real,
        2 => Mode::Virtual8086,
        3 => Mode::Protected { bits: 16, user: random.percent(50) },
        _ => Mode::Protected { bits: 32, user: random.percent(50) },
    };
    let mut parts = [Part::default(); 6];
    for (number, part) in parts.iter_mut().enumerate() {
        *part = if number == 1 { code(&mut random, mode) } else { data(&mut random, mode, number == 2) };
    }
    let mut bytes = Vec::new();
    for _ in 0..1 + random.below(3) {
        bytes.extend(instruction(&mut random, mode.bits(), |one| known::before(&[*one]).is_some()));
    }
    Case { mode, bytes, registers: registers(&mut random, mode, &parts), parts, patch: None }
}

fn code(random: &mut Random, mode: Mode) -> Part {
    match mode {
        Mode::Protected { bits: 32, .. } if random.percent(50) => {
            Part { base: 0, limit: u32::MAX, big: true, ..Part::default() }
        }
        Mode::Protected { bits, .. } => Part { base: CODE, limit: 0xffff, big: bits == 32, ..Part::default() },
        _ => Part { base: CODE, limit: 0xffff, ..Part::default() },
    }
}

fn data(random: &mut Random, mode: Mode, stack: bool) -> Part {
    let base = 0x2_0000 + 16 * random.below(0x6000) as u64;
    match mode {
        Mode::Protected { bits: 32, .. } if random.percent(60) => {
            Part { base: 0, limit: u32::MAX, big: true, ..Part::default() }
        }
        Mode::Protected { .. } if random.percent(70) => {
            let limit = random.pick(&[0xffff, 0x1_ffff, 0xf_ffff, u32::MAX]);
            Part { base: base + random.below(16) as u64, limit, big: stack && random.percent(50), ..Part::default() }
        }
        _ => Part { base, limit: 0xffff, ..Part::default() },
    }
}

fn registers(random: &mut Random, mode: Mode, parts: &[Part; 6]) -> Registers {
    let gpr = std::array::from_fn(|_| value(random, mode.bits()));
    let mut registers = Registers { gpr, ..Registers::default() };
    let stack = &parts[2];
    let top = if stack.base == 0 { 0x3_0000 } else { 0x400 } + random.below(0x4000) as u32;
    registers.gpr[4] = if random.percent(95) { top } else { random.bits() as u32 & 0xffff };
    // IRET to an outer level leaves the upper half alone where the stack has 16 bits: it is that of the stub's.
    if matches!(mode, Mode::Protected { user: true, .. }) && !stack.big {
        registers.gpr[4] = registers.gpr[4] & 0xffff | TABLES as u32 & 0xffff_0000;
    } else if random.percent(20) {
        registers.gpr[4] = registers.gpr[4] & 0xffff | random.bits() as u32 & 0xffff_0000;
    }
    let start = if parts[1].base == 0 { CODE as u32 } else { 0 };
    registers.ip = start + 0x100 + random.below(0xfd00) as u32;
    let io_privilege = if random.percent(50) { 0x3000 } else { 0 };
    registers.flags = random.bits() as u32 & 0xcd5 | 2 | io_privilege | (random.bits() as u32 & 0x200);
    registers.flags |= if mode == Mode::Virtual8086 { 1 << 17 } else { 0 };
    let user = matches!(mode, Mode::Protected { user: true, .. });
    for (number, (selector, part)) in registers.selectors.iter_mut().zip(parts).enumerate() {
        *selector = match mode.has_paragraphs() {
            true => (part.base >> 4) as u16,
            false => CASE_SELECTOR + 8 * number as u16 + if user { 3 } else { 0 },
        };
    }
    registers
}

/// What a register holds.
pub fn value(random: &mut Random, bits: u32) -> u32 {
    match random.below(10) {
        0 => random.bits() as u32,
        1 => random.pick(&[0, 1, 0xffff, 0x8000, 0xffff_ffff, 0x7fff_ffff, 0x80]),
        2 => random.bits() as u32 & 0xff,
        3 => random.bits() as u32 & 0xffff_0000 | 0x100,
        4 | 5 if bits == 32 => 0x2_0000 + random.below(0x8_0000) as u32,
        _ => random.bits() as u32 & 0xffff,
    }
}

/// One instruction's bytes.
pub fn instruction(random: &mut Random, bits: u32, refuses: fn(&Instruction) -> bool) -> Vec<u8> {
    loop {
        let bytes = guess(random);
        let mut decoder = Decoder::with_ip(bits, &bytes, 0, DecoderOptions::AMD | DecoderOptions::NO_PAUSE);
        let decoded = decoder.decode();
        if decoded.is_invalid() || decoded.encoding() != EncodingKind::Legacy || !cpuid::accepts(&decoded) {
            continue;
        }
        if refuses(&decoded) {
            continue;
        }
        let mut bytes = bytes[..decoded.len()].to_vec();
        shorten(&decoder, &decoded, &mut bytes, random);
        return bytes;
    }
}

fn guess(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for prefix in [0x66, 0x67] {
        if random.percent(25) {
            bytes.push(prefix);
        }
    }
    if random.percent(20) {
        bytes.push(random.pick(&[0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]));
    }
    if random.percent(15) {
        bytes.push(random.pick(&[0xf2, 0xf3]));
    }
    if random.percent(25) {
        bytes.push(0x0f);
    }
    for _ in 0..12 {
        bytes.push(random.bits() as u8);
    }
    bytes
}

/// Makes a 32-bit displacement lead to RAM.
fn shorten(decoder: &Decoder, decoded: &Instruction, bytes: &mut [u8], random: &mut Random) {
    let constants = decoder.get_constant_offsets(decoded);
    if constants.has_displacement() && constants.displacement_size() == 4 {
        let value = 0x2_0000 + random.below(0x4_0000) as u32;
        let value = if decoded.memory_base() == iced_x86::Register::None { value } else { value & 0xffff };
        bytes[constants.displacement_offset()..][..4].copy_from_slice(&value.to_le_bytes());
    }
}
