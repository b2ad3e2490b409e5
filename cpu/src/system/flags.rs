//! RFLAGS as a whole: PUSHF, POPF, CLD, STD (APM vol. 3), and what may change at which privilege. In virtual-8086 mode
//! IOPL must be 3; the model has no VME.

use super::{Flow, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::rflags;
use iced_x86::{Instruction, Mnemonic};

/// What POPF and IRET may always change.
const FREE: u64 = rflags::ARITHMETIC | rflags::TF | rflags::DF | rflags::NT | rflags::AC | rflags::ID;

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    match instruction.mnemonic() {
        Mnemonic::Pushf => push(x, 2)?,
        Mnemonic::Pushfd => push(x, 4)?,
        Mnemonic::Pushfq => push(x, 8)?,
        Mnemonic::Popf => pop(x, 2)?,
        Mnemonic::Popfd => pop(x, 4)?,
        Mnemonic::Popfq => pop(x, 8)?,
        Mnemonic::Cld => x.state.rflags &= !rflags::DF,
        Mnemonic::Std => x.state.rflags |= rflags::DF,
        _ => return Err(Exception::invalid_opcode()),
    }
    Ok(Flow::Next)
}

/// IOPL, 0 to 3.
pub fn io_privilege(x: &Execution) -> u8 {
    (x.state.rflags >> 12 & 3) as u8
}

fn push(x: &mut Execution, size: usize) -> Result<(), Exception> {
    operand::require_io_privilege_in_virtual_8086(x)?;
    let image = x.state.rflags & !(rflags::RF | rflags::VM);
    operand::push(x, size, image)
}

fn pop(x: &mut Execution, size: usize) -> Result<(), Exception> {
    operand::require_io_privilege_in_virtual_8086(x)?;
    let image = operand::peek(x, 0, size)?;
    operand::drop(x, size as u64);
    load(x, image, size);
    Ok(())
}

/// Loads flags as POPF and IRET do: IOPL changes only at CPL 0, IF only where IOPL allows; the rest is kept, VM too. RF
/// ends up clear. `size` is that of the image in bytes.
pub fn load(x: &mut Execution, image: u64, size: usize) {
    let mut changeable = FREE;
    if x.state.cpl == 0 {
        changeable |= rflags::IOPL;
    }
    if x.state.cpl <= io_privilege(x) {
        changeable |= rflags::IF;
    }
    if size == 2 {
        changeable &= 0xffff;
    }
    let kept = x.state.rflags & !changeable & !rflags::RF;
    x.state.rflags = kept | image & changeable | rflags::FIXED;
}
