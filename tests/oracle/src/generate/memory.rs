//! Memory operands: first the address they shall reach, then one of all the forms that can express it.

use super::builder::{Builder, full};
use crate::layout::{DATA, PAGE};
use iced_x86::{Instruction, OpKind, Register};

/// An address for an access of `size` bytes: mostly fine, sometimes across pages, forbidden, absent or not canonical.
pub fn target(builder: &mut Builder, size: u64) -> u64 {
    let random = &mut builder.random;
    let page = PAGE as u64;
    let size = size.max(1);
    let inside = DATA + random.below(3 * PAGE - 1024) as u64;
    // The last byte of a page is `back` bytes before the end of the access.
    let across = |boundary: u64, back: u64| DATA + boundary * page - back;
    let back = 1 + random.bits() % size.max(2);
    match random.below(100) {
        0..=54 => inside & !15,
        55..=66 => inside & !(size.next_power_of_two() - 1).min(0xff),
        67..=78 => inside,
        79..=84 => across(1 + random.bits() % 2, back.min(size - 1)),
        85..=88 => across(random.bits() % 9, back),
        89..=90 => DATA + 3 * page + ((random.bits() % (page - 64)) & !15),
        91..=93 => DATA + 5 * page + random.bits() % (page - 64),
        94..=95 => 0x8000_0000_0000 + (random.bits() & 0xffff_ffff),
        96 => 0xffff_8000_0000_0000 | random.bits() & 0x3fff_ffff_fff0,
        97 => 0x7fff_ffff_fff0 + random.bits() % 16,
        98 => random.bits() % 0x8000,
        _ => 0x4000_0000 + (random.bits() & 0x3fff_fff0),
    }
}

/// Writes a memory operand that reaches `target` into an instruction. `index`: an index register is allowed.
pub fn operand(builder: &mut Builder, instruction: &mut Instruction, operand: u32, target: u64) {
    instruction.set_op_kind(operand, OpKind::Memory);
    let target = segment(builder, instruction, target);
    let low = i64::from(target as i32) as u64 == target;
    let form = builder.random.below(100);
    if form < 12
        && target.wrapping_sub(crate::layout::CODE) as i64 as i32 as i64 as u64
            == target.wrapping_sub(crate::layout::CODE)
        && instruction.segment_prefix() == Register::None
    {
        set(instruction, Register::RIP, Register::None, 1, target, 8);
    } else if form < 18 && low {
        set(instruction, Register::None, Register::None, 1, target, 8);
    } else if form < 28 && target >> 32 == 0 {
        narrow(builder, instruction, target as u32);
    } else if form < 60 {
        based(builder, instruction, target);
    } else {
        indexed(builder, instruction, target, form < 70);
    }
}

/// Adds an FS or GS override sometimes and gives the offset it leaves; or one that 64-bit mode ignores.
///
/// AMD's processors also raise #GP where the offset is not canonical but the sum with the base is; the engine looks at
/// the sum alone (as Intel's do), so that is not tested.
fn segment(builder: &mut Builder, instruction: &mut Instruction, target: u64) -> u64 {
    let kind = builder.random.below(100);
    let (register, base) = match kind {
        0..=6 => (Register::FS, builder.case.registers.fs_base),
        _ => (Register::GS, builder.case.registers.gs_base),
    };
    let offset = target.wrapping_sub(base);
    // The microcode of FXSAVE and FXRSTOR does not like sums that wrap.
    let wraps = (offset ^ target) >> 63 != 0 && instruction.memory_size().size() > 64;
    match kind {
        0..=13 if fits_segment(offset, target) && !wraps => {
            instruction.set_segment_prefix(register);
            offset
        }
        14..=16 => {
            let ignored = [Register::CS, Register::DS, Register::ES, Register::SS];
            instruction.set_segment_prefix(builder.random.pick(&ignored));
            target
        }
        _ => target,
    }
}

/// Whether an offset and the address it leads to are equally canonical.
pub fn fits_segment(offset: u64, target: u64) -> bool {
    let canonical = |address: u64| (address as i64) << 16 >> 16 == address as i64;
    canonical(offset) || !canonical(target)
}

fn set(instruction: &mut Instruction, base: Register, index: Register, scale: u32, displacement: u64, size: u32) {
    instruction.set_memory_base(base);
    instruction.set_memory_index(index);
    instruction.set_memory_index_scale(scale);
    instruction.set_memory_displacement64(displacement);
    instruction.set_memory_displ_size(size);
}

/// A displacement of every size.
fn displacement(builder: &mut Builder) -> (i64, u32) {
    match builder.random.below(4) {
        0 => (0, 0),
        1 | 2 => (builder.random.within(-128, 127), 1),
        _ => (i64::from(builder.random.bits() as i32), 8),
    }
}

/// A base register whose wish costs nothing, or any.
fn free_register(builder: &mut Builder, besides: Option<usize>) -> usize {
    for _ in 0..12 {
        let register = builder.random.below(16);
        if builder.is_free(register) && Some(register) != besides {
            return register;
        }
    }
    loop {
        let register = builder.random.below(16);
        if register != 4 && Some(register) != besides {
            return register;
        }
    }
}

/// `[base + displacement]`, sometimes off a register whose value is known already (the stack pointer too).
fn based(builder: &mut Builder, instruction: &mut Instruction, target: u64) {
    let known = builder.random.below(16);
    if let Some(value) = builder.known(known) {
        let distance = target.wrapping_sub(value) as i64;
        if distance == i64::from(distance as i32) {
            let size = if distance == 0 {
                0
            } else if i64::from(distance as i8) == distance {
                1
            } else {
                8
            };
            set(instruction, full(known), Register::None, 1, distance as u64, size);
            let value = builder.case.registers.gpr[known];
            builder.want(known, value);
            return;
        }
    }
    let (displacement, size) = displacement(builder);
    let base = free_register(builder, None);
    builder.want(base, target.wrapping_sub(displacement as u64));
    set(instruction, full(base), Register::None, 1, displacement as u64, size);
}

/// `[base + index * scale + displacement]` or without a base.
fn indexed(builder: &mut Builder, instruction: &mut Instruction, target: u64, no_base: bool) {
    let scale = builder.random.pick(&[1u64, 2, 4, 8]);
    let index = loop {
        let register = free_register(builder, None);
        if register != 4 {
            break register;
        }
    };
    if no_base {
        let rest = builder.random.bits() as i32 as i64 as u64;
        let value = target.wrapping_sub(rest) / scale;
        let displacement = target.wrapping_sub(value.wrapping_mul(scale));
        if displacement as i64 == i64::from(displacement as i32) {
            builder.want(index, value);
            set(instruction, Register::None, full(index), scale as u32, displacement, 8);
            return;
        }
    }
    let value = match builder.random.below(3) {
        0 => builder.random.below(64) as u64,
        1 => builder.random.within(-4096, 4096) as u64,
        _ => builder.random.bits(),
    };
    let (displacement, size) = displacement(builder);
    builder.want(index, value);
    let base = free_register(builder, Some(index));
    builder.want(base, target.wrapping_sub(displacement as u64).wrapping_sub(value.wrapping_mul(scale)));
    set(instruction, full(base), full(index), scale as u32, displacement as u64, size);
}

/// 32-bit addressing: the upper halves of the registers are rubbish, and the sum wraps.
fn narrow(builder: &mut Builder, instruction: &mut Instruction, target: u32) {
    let rubbish = builder.random.bits() << 32;
    let (displacement, size) = displacement(builder);
    let size = if size == 8 { 4 } else { size };
    let base = free_register(builder, None);
    let rest = target.wrapping_sub(displacement as u32);
    let narrow = |register: usize| Register::EAX + register as u32;
    if builder.random.percent(50) {
        builder.want(base, rubbish | u64::from(rest));
        set(instruction, narrow(base), Register::None, 1, displacement as u64, size);
        return;
    }
    let index = loop {
        let register = free_register(builder, Some(base));
        if register != 4 {
            break register;
        }
    };
    let scale = builder.random.pick(&[1u32, 2, 4, 8]);
    let value = builder.random.bits();
    builder.want(index, value);
    builder.want(base, rubbish | u64::from(rest.wrapping_sub((value as u32).wrapping_mul(scale))));
    set(instruction, narrow(base), narrow(index), scale, displacement as u64, size);
}
