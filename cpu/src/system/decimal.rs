//! What 64-bit mode lacks: AAA, AAS, AAM, AAD, DAA, DAS, SALC and BOUND (APM vol. 3). Flags that the manual leaves undefined
//! follow the result as after a logical operation, as processors have them.

use super::{Flow, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::gpr::RAX;
use crate::state::rflags;
use iced_x86::{Instruction, Mnemonic};

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    match instruction.mnemonic() {
        Mnemonic::Aaa => adjust_ascii(x, 0x106),
        Mnemonic::Aas => adjust_ascii(x, 0x106_u16.wrapping_neg()),
        Mnemonic::Aam => divide(x, instruction.immediate8())?,
        Mnemonic::Aad => multiply(x, instruction.immediate8()),
        Mnemonic::Daa => adjust_decimal(x, u8::wrapping_add, |low| low > 0xf9),
        Mnemonic::Das => adjust_decimal(x, u8::wrapping_sub, |low| low < 6),
        Mnemonic::Salc => {
            let low = if x.flag(rflags::CF) { 0xff } else { 0 };
            let high = accumulator(x) & 0xff00;
            set_accumulator(x, high | low);
        }
        Mnemonic::Bound => bound(x, instruction)?,
        _ => return Err(Exception::invalid_opcode()),
    }
    Ok(Flow::Next)
}

/// AX.
fn accumulator(x: &Execution) -> u16 {
    x.state.gpr[RAX] as u16
}

fn set_accumulator(x: &mut Execution, value: u16) {
    operand::set_masked(&mut x.state.gpr[RAX], u64::from(value), 0xffff);
}

/// SF, ZF and PF of AL, and CF and AF; OF is clear.
fn set_flags(x: &mut Execution, carry: bool, auxiliary: bool) {
    let low = accumulator(x) as u8;
    let when = |condition: bool, flag: u64| if condition { flag } else { 0 };
    let flags = when(carry, rflags::CF)
        | when(auxiliary, rflags::AF)
        | when(low.count_ones().is_multiple_of(2), rflags::PF)
        | when(low == 0, rflags::ZF)
        | when(low & 0x80 != 0, rflags::SF);
    x.set_arithmetic_flags(flags);
}

/// AAA and AAS: AL becomes one digit, with a carry to or from AH.
fn adjust_ascii(x: &mut Execution, correction: u16) {
    let old = accumulator(x);
    let adjusts = old & 0xf > 9 || x.flag(rflags::AF);
    let new = if adjusts { old.wrapping_add(correction) } else { old };
    set_accumulator(x, new & 0xff0f);
    set_flags(x, adjusts, adjusts);
}

/// AAM: AH and AL are quotient and remainder of AL.
fn divide(x: &mut Execution, base: u8) -> Result<(), Exception> {
    let low = accumulator(x) as u8;
    let quotient = low.checked_div(base).ok_or(Exception::divide_error())?;
    set_accumulator(x, u16::from(quotient) << 8 | u16::from(low % base));
    set_flags(x, false, false);
    Ok(())
}

/// AAD: AL is AH * base + AL.
fn multiply(x: &mut Execution, base: u8) {
    let [low, high] = accumulator(x).to_le_bytes();
    set_accumulator(x, u16::from(high.wrapping_mul(base).wrapping_add(low)));
    set_flags(x, false, false);
}

/// DAA and DAS: AL becomes two digits. `carries` tells whether the first correction carries.
fn adjust_decimal(x: &mut Execution, correct: fn(u8, u8) -> u8, carries: fn(u8) -> bool) {
    let old = accumulator(x) as u8;
    let old_carry = x.flag(rflags::CF);
    let auxiliary = old & 0xf > 9 || x.flag(rflags::AF);
    let (mut new, mut carry) = (old, false);
    if auxiliary {
        carry = old_carry || carries(old);
        new = correct(new, 6);
    }
    if old > 0x99 || old_carry {
        new = correct(new, 0x60);
        carry = true;
    }
    let high = accumulator(x) & 0xff00;
    set_accumulator(x, high | u16::from(new));
    set_flags(x, carry, auxiliary);
}

/// BOUND: #BR unless the signed index lies between two bounds in memory.
fn bound(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let register = instruction.op0_register();
    let size = register.size();
    let mut bytes = [0; 8];
    operand::read_bytes(x, instruction, 1, &mut bytes[..2 * size])?;
    let signed = |value: u64| if size == 2 { i64::from(value as i16) } else { i64::from(value as i32) };
    let bounds = u64::from_le_bytes(bytes);
    let (lower, upper) = (signed(bounds), signed(bounds >> (8 * size)));
    let index = signed(x.register(register));
    if (lower..=upper).contains(&index) { Ok(()) } else { Err(Exception::bound_range()) }
}
