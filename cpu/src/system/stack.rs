//! PUSH and POP with a memory operand, ENTER, PUSHA and POPA, with every size of operand and stack (APM vol. 3).

use super::frame::Stack;
use super::operand::{self, set_masked};
use super::{Flow, near};
use crate::exception::Exception;
use crate::execution::{Execution, linear_address};
use crate::paging::Access;
use crate::state::gpr::{RBP, RSP};
use crate::state::segment::SS;
use iced_x86::{Code, Instruction, Mnemonic};

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    match instruction.mnemonic() {
        Mnemonic::Push => push(x, instruction)?,
        Mnemonic::Pop => pop(x, instruction)?,
        Mnemonic::Enter => enter(x, instruction)?,
        Mnemonic::Pusha => push_all(x, 2)?,
        Mnemonic::Pushad => push_all(x, 4)?,
        Mnemonic::Popa => pop_all(x, 2)?,
        Mnemonic::Popad => pop_all(x, 4)?,
        _ => return Err(Exception::invalid_opcode()),
    }
    Ok(Flow::Next)
}

/// Bytes moved; `None` for other codes.
pub fn size(code: Code) -> Option<usize> {
    match code {
        Code::Push_rm16 | Code::Pop_rm16 | Code::Enterw_imm16_imm8 => Some(2),
        Code::Push_rm32 | Code::Pop_rm32 | Code::Enterd_imm16_imm8 => Some(4),
        Code::Push_rm64 | Code::Pop_rm64 | Code::Enterq_imm16_imm8 => Some(8),
        _ => None,
    }
}

/// PUSH of any operand but a segment register.
fn push(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let size = near::stack_size(instruction);
    let value = match instruction.try_immediate(0) {
        Ok(value) => value,
        Err(_) => operand::read(x, instruction, 0, size)?,
    };
    operand::push(x, size, value)
}

/// POP computes its address with RSP already past what it pops, and writes RSP itself last when that is the operand.
fn pop(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let size = near::stack_size(instruction);
    let value = operand::peek(x, 0, size)?;
    let rsp = x.state.gpr[RSP];
    operand::drop(x, size as u64);
    operand::write(x, instruction, 0, size, value).inspect_err(|_| x.state.gpr[RSP] = rsp)
}

/// ENTER: a frame with `level` copied frame pointers and `locals` bytes.
fn enter(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let size = size(instruction.code()).ok_or(Exception::invalid_opcode())?;
    let locals = u64::from(instruction.immediate16());
    let level = u64::from(instruction.immediate8_2nd() % 32);
    let (old_rbp, mask) = (x.state.gpr[RBP], x.state.stack_mask());
    let mut stack = Stack::current(x);
    let mut bottom = stack;
    bottom.release((size as u64 * (1 + level) + locals).wrapping_neg());
    let last = linear_address(x.state, SS, bottom.pointer & mask, 1, true)?;
    let user = x.user();
    x.probe(last, 1, Access::write(user))?;
    stack.push(x, size, old_rbp)?;
    let frame = stack.pointer;
    let mut outer = stack;
    outer.pointer = old_rbp;
    for index in 1..=level {
        let value = if index == level {
            frame
        } else {
            outer.release((size as u64).wrapping_neg());
            let mut top = outer;
            top.pop(x, size)?
        };
        stack.push(x, size, value)?;
    }
    set_masked(&mut x.state.gpr[RBP], frame, if size == 8 { u64::MAX } else { (1 << (8 * size)) - 1 });
    bottom.commit(x);
    Ok(())
}

/// PUSHA, PUSHAD: all eight, rSP as it was before.
fn push_all(x: &mut Execution, size: usize) -> Result<(), Exception> {
    let mut stack = Stack::current(x);
    for number in 0..8 {
        let value = x.state.gpr[number];
        stack.push(x, size, value)?;
    }
    stack.commit(x);
    Ok(())
}

/// POPA, POPAD: the same but for rSP, whose value is skipped.
fn pop_all(x: &mut Execution, size: usize) -> Result<(), Exception> {
    let mut stack = Stack::current(x);
    let mut values = [0; 8];
    for value in values.iter_mut().rev() {
        *value = stack.pop(x, size)?;
    }
    stack.commit(x);
    for (number, value) in values.into_iter().enumerate().filter(|(number, _)| *number != RSP) {
        set_masked(&mut x.state.gpr[number], value, if size == 2 { 0xffff } else { 0xffff_ffff });
    }
    Ok(())
}
