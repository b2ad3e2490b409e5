//! x87 and SSE state as a whole: FXSAVE, FXRSTOR, FNSAVE, FRSTOR, FNSTENV, FLDENV, LDMXCSR, STMXCSR (APM vol. 2 §11.4).
//!
//! FOP, FIP and FDP are always zero and MXCSR_MASK is that of the model, whatever the host's.

use super::{Flow, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::{FxArea, control};
use iced_x86::{Code, Instruction, Mnemonic};

/// MXCSR bits the model has.
pub const MXCSR_MASK: u32 = 0xffff;
/// Bytes of the FXSAVE image that FXSAVE writes; the rest is the program's own.
const FX_WRITTEN: usize = 416;
const MXCSR: usize = 24;
const REGISTERS: usize = 32;
const XMM: usize = 160;
const EMPTY_TAGS: u16 = 0xffff;

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    check_available(x, instruction)?;
    match instruction.mnemonic() {
        Mnemonic::Fxsave | Mnemonic::Fxsave64 => fx_save(x, instruction)?,
        Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => fx_restore(x, instruction)?,
        Mnemonic::Ldmxcsr => load_mxcsr(x, instruction)?,
        Mnemonic::Stmxcsr => operand::write(x, instruction, 0, 4, u64::from(field(&x.state.fx, MXCSR)))?,
        Mnemonic::Fnstenv => store_environment(x, instruction)?,
        Mnemonic::Fldenv => load_environment(x, instruction)?,
        Mnemonic::Fnsave => save(x, instruction)?,
        Mnemonic::Frstor => restore(x, instruction)?,
        _ => return Err(Exception::invalid_opcode()),
    }
    Ok(Flow::Next)
}

/// #UD and #NM as CR0 and CR4 demand.
fn check_available(x: &Execution, instruction: &Instruction) -> Result<(), Exception> {
    let emulated = x.state.cr0 & control::CR0_EM != 0;
    if matches!(instruction.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Stmxcsr)
        && (emulated || x.state.cr4 & control::CR4_OSFXSR == 0)
    {
        return Err(Exception::invalid_opcode());
    }
    if emulated || x.state.cr0 & control::CR0_TS != 0 {
        return Err(Exception::device_not_available());
    }
    Ok(())
}

fn field(area: &FxArea, offset: usize) -> u32 {
    u32::from_le_bytes([area.0[offset], area.0[offset + 1], area.0[offset + 2], area.0[offset + 3]])
}

fn word(area: &FxArea, offset: usize) -> u16 {
    u16::from_le_bytes([area.0[offset], area.0[offset + 1]])
}

fn set_word(area: &mut FxArea, offset: usize, value: u16) {
    area.0[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
}

/// Makes an image canonical: the fields that would hold host addresses, host capabilities or nothing at all are
/// fixed, so that equal guests have equal bytes.
pub fn canonicalize(area: &mut FxArea) {
    area.0[5] = 0;
    area.0[6..MXCSR].fill(0);
    area.0[28..REGISTERS].copy_from_slice(&MXCSR_MASK.to_le_bytes());
    for register in 0..8 {
        area.0[REGISTERS + 16 * register + 10..][..6].fill(0);
    }
    area.0[FX_WRITTEN..].fill(0);
}

/// Bytes of the image that hold registers: XMM8-15 only in 64-bit mode.
fn written(x: &Execution) -> usize {
    if x.state.is_long() { FX_WRITTEN } else { XMM + 8 * 16 }
}

fn aligned_operand(x: &Execution, instruction: &Instruction, write: bool) -> Result<u64, Exception> {
    let linear = operand::Place::of(x, instruction, 0).linear(x, 1, write)?;
    if linear.is_multiple_of(16) { Ok(linear) } else { Err(Exception::general_protection(0)) }
}

fn fx_save(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    aligned_operand(x, instruction, true)?;
    let mut image = x.state.fx;
    canonicalize(&mut image);
    operand::write_bytes(x, instruction, 0, &image.0[..written(x)])
}

fn fx_restore(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    aligned_operand(x, instruction, false)?;
    let mut image = FxArea([0; 512]);
    operand::read_bytes(x, instruction, 0, &mut image.0)?;
    if field(&image, MXCSR) & !MXCSR_MASK != 0 {
        return Err(Exception::general_protection(0));
    }
    canonicalize(&mut image);
    let control = word(&image, 0) & 0x1f7f | 0x40;
    set_word(&mut image, 0, control);
    update_summary(&mut image);
    let kept = written(x);
    image.0[kept..].copy_from_slice(&x.state.fx.0[kept..]);
    x.state.fx = image;
    Ok(())
}

fn load_mxcsr(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let value = operand::read(x, instruction, 0, 4)? as u32;
    if value & !MXCSR_MASK != 0 {
        return Err(Exception::general_protection(0));
    }
    x.state.fx.0[MXCSR..MXCSR + 4].copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// ES and B follow from unmasked pending exceptions.
fn update_summary(area: &mut FxArea) {
    let (control, status) = (word(area, 0), word(area, 2));
    let pending = status & !control & 0x3f != 0;
    set_word(area, 2, if pending { status | 0x8080 } else { status & !0x8080 });
}

/// The 10 bytes of physical register `register`; the image keeps them in stack order.
fn physical(area: &FxArea, register: u16) -> &[u8] {
    let top = word(area, 2) >> 11 & 7;
    let slot = usize::from(register.wrapping_sub(top) & 7);
    &area.0[REGISTERS + 16 * slot..][..10]
}

/// The full tag word from the abridged one and what the registers hold (APM vol. 2 §11.4.4).
fn full_tags(area: &FxArea) -> u16 {
    (0..8).fold(0, |tags, register| {
        let used = area.0[4] >> register & 1 != 0;
        let tag = if used { tag_of(physical(area, register)) } else { 3 };
        tags | tag << (2 * register)
    })
}

/// 0 valid, 1 zero, 2 special.
fn tag_of(bytes: &[u8]) -> u16 {
    let exponent = u16::from_le_bytes([bytes[8], bytes[9]]) & 0x7fff;
    let integer = bytes[7] & 0x80 != 0;
    let zero = bytes[..8].iter().all(|&byte| byte == 0);
    match exponent {
        0 if zero => 1,
        0 | 0x7fff => 2,
        _ if integer => 0,
        _ => 2,
    }
}

fn abridged_tags(full: u16) -> u8 {
    (0..8).fold(0, |tags, register| tags | u8::from(full >> (2 * register) & 3 != 3) << register)
}

/// The environment in its 14- or 28-byte form, and how long it is.
fn environment(x: &Execution, wide: bool) -> ([u8; 28], usize) {
    let area = &x.state.fx;
    let mut image = [0; 28];
    let words = [word(area, 0), word(area, 2), full_tags(area)];
    let step = if wide { 4 } else { 2 };
    for (index, value) in words.into_iter().enumerate() {
        image[index * step..][..2].copy_from_slice(&value.to_le_bytes());
        if wide {
            image[index * step + 2..][..2].fill(0xff);
        }
    }
    // Protected mode has a selector there, the others a linear address.
    if wide && !x.state.has_paragraphs() {
        image[26..28].fill(0xff);
    }
    (image, 7 * step)
}

fn is_wide(instruction: &Instruction) -> bool {
    use Code::*;
    matches!(instruction.code(), Fnstenv_m28byte | Fldenv_m28byte | Fnsave_m108byte | Frstor_m108byte)
}

/// FNSTENV also masks all exceptions.
fn store_environment(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let (image, length) = environment(x, is_wide(instruction));
    operand::write_bytes(x, instruction, 0, &image[..length])?;
    let control = word(&x.state.fx, 0) | 0x3f;
    set_word(&mut x.state.fx, 0, control);
    update_summary(&mut x.state.fx);
    Ok(())
}

/// Takes control, status and tags from an environment image.
fn set_environment(area: &mut FxArea, image: &[u8], wide: bool) {
    let step = if wide { 4 } else { 2 };
    let at = |index: usize| u16::from_le_bytes([image[index * step], image[index * step + 1]]);
    set_word(area, 0, at(0) & 0x1f7f | 0x40);
    set_word(area, 2, at(1));
    area.0[4] = abridged_tags(at(2));
    update_summary(area);
}

/// FLDENV may move TOP: the physical registers keep their contents.
fn load_environment(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    check_pending(x)?;
    let wide = is_wide(instruction);
    let mut image = [0; 28];
    let length = if wide { 28 } else { 14 };
    operand::read_bytes(x, instruction, 0, &mut image[..length])?;
    let old = x.state.fx;
    set_environment(&mut x.state.fx, &image, wide);
    let top = word(&x.state.fx, 2) >> 11 & 7;
    for slot in 0..8 {
        let bytes = physical(&old, (top + slot) & 7);
        x.state.fx.0[REGISTERS + 16 * usize::from(slot)..][..10].copy_from_slice(bytes);
    }
    Ok(())
}

/// FNSAVE: environment and registers in stack order, then FNINIT.
fn save(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let (environment, length) = environment(x, is_wide(instruction));
    let mut image = [0; 108];
    image[..length].copy_from_slice(&environment[..length]);
    for slot in 0..8 {
        image[length + 10 * slot..][..10].copy_from_slice(&x.state.fx.0[REGISTERS + 16 * slot..][..10]);
    }
    operand::write_bytes(x, instruction, 0, &image[..length + 80])?;
    // TOP becomes 0: register 0 is then ST(0).
    let old = x.state.fx;
    set_environment(&mut x.state.fx, &[0x7f, 3, 0, 0, EMPTY_TAGS as u8, (EMPTY_TAGS >> 8) as u8], false);
    for register in 0..8 {
        let bytes = physical(&old, register);
        x.state.fx.0[REGISTERS + 16 * usize::from(register)..][..10].copy_from_slice(bytes);
    }
    Ok(())
}

fn restore(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    check_pending(x)?;
    let wide = is_wide(instruction);
    let length = if wide { 28 } else { 14 };
    let mut image = [0; 108];
    operand::read_bytes(x, instruction, 0, &mut image[..length + 80])?;
    set_environment(&mut x.state.fx, &image, wide);
    for slot in 0..8 {
        x.state.fx.0[REGISTERS + 16 * slot..][..10].copy_from_slice(&image[length + 10 * slot..][..10]);
    }
    Ok(())
}

/// MASKMOVDQU and MASKMOVQ: the bytes of the first register whose mask byte has its top bit set go to DS:rDI. All of the
/// operand must be writable, even with an empty mask, as on AMD's processors.
pub fn masked_move(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    let emulated = x.state.cr0 & control::CR0_EM != 0;
    let wide = instruction.mnemonic() == Mnemonic::Maskmovdqu;
    if emulated || wide && x.state.cr4 & control::CR4_OSFXSR == 0 {
        return Err(Exception::invalid_opcode());
    }
    if x.state.cr0 & control::CR0_TS != 0 {
        return Err(Exception::device_not_available());
    }
    let length = if wide { 16 } else { 8 };
    if !wide {
        check_pending(x)?;
    }
    let [data, mask] = [1, 2].map(|index| vector(&x.state.fx, instruction.op_register(index).number(), wide));
    let linear = operand::Place::of(x, instruction, 0).linear(x, length, true)?;
    store_masked(x, linear, &data[..length], &mask[..length])?;
    if !wide {
        enter_mmx(&mut x.state.fx);
    }
    Ok(Flow::Next)
}

fn check_pending(x: &Execution) -> Result<(), Exception> {
    if word(&x.state.fx, 2) & 0x80 != 0 { Err(Exception::x87_floating_point()) } else { Ok(()) }
}

fn vector(area: &FxArea, number: usize, wide: bool) -> [u8; 16] {
    let mut bytes = [0; 16];
    if wide {
        bytes.copy_from_slice(&area.0[XMM + 16 * (number & 15)..][..16]);
    } else {
        bytes[..8].copy_from_slice(&physical(area, number as u16)[..8]);
    }
    bytes
}

fn store_masked(x: &mut Execution, linear: u64, data: &[u8], mask: &[u8]) -> Result<(), Exception> {
    let chosen = |index: &usize| mask[*index] & 0x80 != 0;
    let user = x.user();
    x.probe(linear, mask.len(), crate::paging::Access::write(user))?;
    for index in (0..mask.len()).filter(chosen) {
        x.write_bytes(linear.wrapping_add(index as u64), &data[index..=index], user)?;
    }
    Ok(())
}

/// What every MMX instruction does to the x87 state: TOP 0, all registers in use.
fn enter_mmx(area: &mut FxArea) {
    let old = *area;
    for register in 0..8 {
        area.0[REGISTERS + 16 * usize::from(register)..][..10].copy_from_slice(physical(&old, register));
    }
    let status = word(area, 2) & !0x3800;
    set_word(area, 2, status);
    area.0[4] = 0xff;
}
