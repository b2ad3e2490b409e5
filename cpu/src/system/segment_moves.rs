//! Loads and stores of segment registers: MOV, PUSH, POP, LDS, LES, LSS, LFS, LGS (APM vol. 3).

use super::frame::Stack;
use super::{Flow, operand, segments};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::segment;
use iced_x86::{Code, Instruction, Mnemonic, Register};

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    use Code::*;
    match instruction.code() {
        Mov_Sreg_rm16 | Mov_Sreg_r32m16 | Mov_Sreg_r64m16 => {
            let selector = operand::read(x, instruction, 1, 2)? as u16;
            load(x, instruction.op0_register(), selector)?;
        }
        Mov_rm16_Sreg | Mov_r32m16_Sreg | Mov_r64m16_Sreg => {
            let selector = selector(x, instruction.op1_register())?;
            operand::write(x, instruction, 0, 2, u64::from(selector))?;
        }
        code => match stack_size(code) {
            Some((true, size)) => push(x, instruction, size)?,
            Some((false, size)) => pop(x, instruction, size)?,
            None => load_far(x, instruction)?,
        },
    }
    Ok(Flow::Next)
}

/// Whether this MOV concerns a segment register.
pub fn is_move(code: Code) -> bool {
    use Code::*;
    matches!(
        code,
        Mov_Sreg_rm16 | Mov_Sreg_r32m16 | Mov_Sreg_r64m16 | Mov_rm16_Sreg | Mov_r32m16_Sreg | Mov_r64m16_Sreg
    )
}

/// Whether this PUSH or POP concerns a segment register.
pub fn is_stack(code: Code) -> bool {
    stack_size(code).is_some()
}

/// Whether it is a PUSH, and how many bytes it moves.
fn stack_size(code: Code) -> Option<(bool, usize)> {
    use Code::*;
    Some(match code {
        Pushw_ES | Pushw_CS | Pushw_SS | Pushw_DS | Pushw_FS | Pushw_GS => (true, 2),
        Pushd_ES | Pushd_CS | Pushd_SS | Pushd_DS | Pushd_FS | Pushd_GS => (true, 4),
        Pushq_FS | Pushq_GS => (true, 8),
        Popw_ES | Popw_SS | Popw_DS | Popw_FS | Popw_GS => (false, 2),
        Popd_ES | Popd_SS | Popd_DS | Popd_FS | Popd_GS => (false, 4),
        Popq_FS | Popq_GS => (false, 8),
        _ => return None,
    })
}

fn index(register: Register) -> Result<usize, Exception> {
    if register.is_segment_register() { Ok(register.number()) } else { Err(Exception::invalid_opcode()) }
}

fn selector(x: &Execution, register: Register) -> Result<u16, Exception> {
    Ok(x.state.segments[index(register)?].selector)
}

/// A load of SS holds interrupts and debug traps off for one instruction; CS cannot be loaded.
fn load(x: &mut Execution, register: Register, selector: u16) -> Result<(), Exception> {
    let index = index(register)?;
    if index == segment::CS {
        return Err(Exception::invalid_opcode());
    }
    segments::load(x, index, selector)?;
    if index == segment::SS {
        (x.state.interrupt_shadow, x.state.debug_shadow) = (true, true);
    }
    Ok(())
}

fn push(x: &mut Execution, instruction: &Instruction, size: usize) -> Result<(), Exception> {
    let selector = selector(x, instruction.op0_register())?;
    operand::push(x, size, u64::from(selector))
}

fn pop(x: &mut Execution, instruction: &Instruction, size: usize) -> Result<(), Exception> {
    let mut stack = Stack::current(x);
    let selector = stack.pop(x, size)? as u16;
    load(x, instruction.op0_register(), selector)?;
    stack.commit(x);
    Ok(())
}

/// LDS, LES, LSS, LFS, LGS: an offset, then a selector.
fn load_far(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let segment = match instruction.mnemonic() {
        Mnemonic::Lds => Register::DS,
        Mnemonic::Les => Register::ES,
        Mnemonic::Lss => Register::SS,
        Mnemonic::Lfs => Register::FS,
        Mnemonic::Lgs => Register::GS,
        _ => return Err(Exception::invalid_opcode()),
    };
    let register = instruction.op0_register();
    let [offset, selector] = operand::read_parts(x, instruction, 1, register.size(), 2)?;
    load(x, segment, selector as u16)?;
    x.set_register(register, offset);
    Ok(())
}
