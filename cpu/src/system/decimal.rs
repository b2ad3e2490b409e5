//! What 64-bit mode lacks: AAA, AAS, AAM, AAD, DAA, DAS, SALC and BOUND (APM vol. 3). Flags that the manual leaves undefined
//! are as this vendor's processors have them: those of the addition or subtraction that corrects.

use super::{Flow, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::gpr::RAX;
use crate::state::rflags;
use iced_x86::{Instruction, Mnemonic};

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    match instruction.mnemonic() {
        Mnemonic::Aaa => adjust_ascii(x, false),
        Mnemonic::Aas => adjust_ascii(x, true),
        Mnemonic::Aam => divide(x, instruction.immediate8())?,
        Mnemonic::Aad => multiply(x, instruction.immediate8()),
        Mnemonic::Daa => adjust_decimal(x, false),
        Mnemonic::Das => adjust_decimal(x, true),
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

/// SF, ZF, PF and OF of `result`, which is `bits` wide; OF where it has another sign than both of `signs`.
fn result_flags(result: u16, bits: u32, signs: [u16; 2]) -> u64 {
    let sign = 1 << (bits - 1);
    let overflow = (result ^ signs[0]) & (result ^ signs[1]) & sign != 0;
    when((result as u8).count_ones().is_multiple_of(2), rflags::PF)
        | when(result & (sign << 1).wrapping_sub(1) == 0, rflags::ZF)
        | when(result & sign != 0, rflags::SF)
        | when(overflow, rflags::OF)
}

fn when(condition: bool, flag: u64) -> u64 {
    if condition { flag } else { 0 }
}

/// AAA and AAS: AL becomes one digit, with a carry to or from AH. The flags are those before AL loses its upper half.
fn adjust_ascii(x: &mut Execution, subtracts: bool) {
    let old = accumulator(x);
    let adjusts = old & 0xf > 9 || x.flag(rflags::AF);
    let correction: u16 = if adjusts { 0x106 } else { 0 };
    let (new, signs) = match subtracts {
        false => (old.wrapping_add(correction), [old, correction]),
        true => (old.wrapping_sub(correction), [old, !correction]),
    };
    set_accumulator(x, new & 0xff0f);
    let carries = when(adjusts, rflags::CF | rflags::AF);
    x.set_arithmetic_flags(carries | result_flags(new, 16, signs));
}

/// AAM: AH and AL are quotient and remainder of AL.
fn divide(x: &mut Execution, base: u8) -> Result<(), Exception> {
    let low = accumulator(x) as u8;
    let quotient = low.checked_div(base).ok_or(Exception::divide_error())?;
    let rest = u16::from(low % base);
    set_accumulator(x, u16::from(quotient) << 8 | rest);
    x.set_arithmetic_flags(result_flags(rest, 8, [rest, rest]));
    Ok(())
}

/// AAD: AL is AL + AH * base.
fn multiply(x: &mut Execution, base: u8) {
    let [low, high] = accumulator(x).to_le_bytes();
    let tens = high.wrapping_mul(base);
    let (sum, carry) = low.overflowing_add(tens);
    set_accumulator(x, u16::from(sum));
    let carries = when(carry, rflags::CF) | when((low ^ tens ^ sum) & 0x10 != 0, rflags::AF);
    x.set_arithmetic_flags(carries | result_flags(sum.into(), 8, [low.into(), tens.into()]));
}

/// DAA and DAS: AL becomes two digits.
fn adjust_decimal(x: &mut Execution, subtracts: bool) {
    let old = accumulator(x) as u8;
    let old_carry = x.flag(rflags::CF);
    let auxiliary = old & 0xf > 9 || x.flag(rflags::AF);
    let upper = old > 0x99 || old_carry;
    let correction = if auxiliary { 6 } else { 0 } | if upper { 0x60 } else { 0 };
    let borrows = subtracts && auxiliary && old < 6;
    let (new, signs) = match subtracts {
        false => (old.wrapping_add(correction), [old, correction]),
        true => (old.wrapping_sub(correction), [old, !correction]),
    };
    let high = accumulator(x) & 0xff00;
    set_accumulator(x, high | u16::from(new));
    let carries = when(upper || borrows, rflags::CF) | when(auxiliary, rflags::AF);
    x.set_arithmetic_flags(carries | result_flags(new.into(), 8, signs.map(u16::from)));
}

/// BOUND: #BR unless the signed index lies between two bounds in memory.
fn bound(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let register = instruction.op0_register();
    let size = register.size();
    let bounds = operand::read_parts(x, instruction, 1, size, size)?;
    let signed = |value: u64| if size == 2 { i64::from(value as i16) } else { i64::from(value as i32) };
    let [lower, upper] = bounds.map(signed);
    let index = signed(x.register(register));
    if (lower..=upper).contains(&index) { Ok(()) } else { Err(Exception::bound_range()) }
}
