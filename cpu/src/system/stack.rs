//! PUSH and POP with a memory operand, and ENTER (APM vol. 3).

use super::{Flow, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::Access;
use crate::state::gpr::{RBP, RSP};
use iced_x86::{Code, Instruction, Mnemonic};

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    match instruction.mnemonic() {
        Mnemonic::Push => push(x, instruction)?,
        Mnemonic::Pop => pop(x, instruction)?,
        Mnemonic::Enter => enter(x, instruction)?,
        _ => return Err(Exception::invalid_opcode()),
    }
    Ok(Flow::Next)
}

/// Bytes moved; `None` for other codes.
pub fn size(code: Code) -> Option<usize> {
    match code {
        Code::Push_rm16 | Code::Pop_rm16 | Code::Enterw_imm16_imm8 => Some(2),
        Code::Push_rm64 | Code::Pop_rm64 | Code::Enterq_imm16_imm8 => Some(8),
        _ => None,
    }
}

fn push(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let size = size(instruction.code()).ok_or(Exception::invalid_opcode())?;
    let value = operand::read(x, instruction, 0, size)?;
    operand::push(x, size, value)
}

/// POP computes its address with RSP already past what it pops, and writes RSP itself last when that is the operand.
fn pop(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let size = size(instruction.code()).ok_or(Exception::invalid_opcode())?;
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
    let word = size as u64;
    let (old_rsp, old_rbp) = (x.state.gpr[RSP], x.state.gpr[RBP]);
    let frame = old_rsp.wrapping_sub(word);
    let bottom = frame.wrapping_sub(level * word).wrapping_sub(locals);
    let user = x.user();
    x.probe(bottom, 1, Access::write(user)).map_err(operand::as_stack)?;
    x.write(frame, size, old_rbp).map_err(operand::as_stack)?;
    for index in 1..=level {
        let value = if index == level {
            frame
        } else {
            x.read(old_rbp.wrapping_sub(index * word), size).map_err(operand::as_stack)?
        };
        x.write(frame.wrapping_sub(index * word), size, value).map_err(operand::as_stack)?;
    }
    x.state.gpr[RBP] = if size == 2 { old_rbp & !0xffff | frame & 0xffff } else { frame };
    x.state.gpr[RSP] = bottom;
    Ok(())
}
