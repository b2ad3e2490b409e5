//! Near CALL, RET, JMP, LEAVE, PUSH and POP in Rust, for stacks and code segments that translated code does not know
//! (APM vol. 3). The translator emits them itself wherever it can.

use super::Flow;
use super::branches::check_target;
use super::frame::Stack;
use super::operand::{self, set_masked};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::gpr::{RBP, RSP};
use crate::state::rflags;
use iced_x86::{Code, ConditionCode, Instruction, Mnemonic, OpKind};

/// Whether this is one of them.
pub fn is_near(instruction: &Instruction) -> bool {
    match instruction.mnemonic() {
        Mnemonic::Call | Mnemonic::Jmp | Mnemonic::Ret | Mnemonic::Leave | Mnemonic::Push | Mnemonic::Pop => true,
        _ => instruction.is_jcc_short_or_near(),
    }
}

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Pop => super::stack::execute(x, instruction),
        Mnemonic::Call => call(x, instruction),
        Mnemonic::Jmp => {
            let target = target(x, instruction)?;
            jump(x, target)
        }
        Mnemonic::Ret => near_return(x, instruction),
        Mnemonic::Leave => leave(x, instruction),
        _ if holds(x, instruction.condition_code()) => jump(x, instruction.near_branch_target()),
        _ => Ok(Flow::Next),
    }
}

/// Bytes that an instruction pushes or pops, RET's immediate aside.
pub fn stack_size(instruction: &Instruction) -> usize {
    use Code::*;
    match instruction.code() {
        Call_rel16 | Call_rm16 | Retnw | Retnw_imm16 | Leavew => 2,
        Call_rel32_32 | Call_rm32 | Retnd | Retnd_imm16 | Leaved => 4,
        Call_rel32_64 | Call_rm64 | Retnq | Retnq_imm16 | Leaveq => 8,
        _ => instruction.stack_pointer_increment().unsigned_abs() as usize,
    }
}

/// Bytes of an indirect target.
fn target_size(instruction: &Instruction) -> usize {
    match instruction.code() {
        Code::Jmp_rm16 | Code::Call_rm16 => 2,
        Code::Jmp_rm32 | Code::Call_rm32 => 4,
        _ => 8,
    }
}

fn target(x: &mut Execution, instruction: &Instruction) -> Result<u64, Exception> {
    match instruction.op0_kind() {
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => Ok(instruction.near_branch_target()),
        _ => operand::read(x, instruction, 0, target_size(instruction)),
    }
}

fn jump(x: &mut Execution, target: u64) -> Result<Flow, Exception> {
    check_target(x, target)?;
    x.state.rip = target;
    Ok(Flow::Jump)
}

fn call(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    let target = target(x, instruction)?;
    check_target(x, target)?;
    operand::push(x, stack_size(instruction), operand::next(instruction))?;
    x.state.rip = target;
    Ok(Flow::Jump)
}

fn near_return(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    let mut stack = Stack::current(x);
    let target = stack.pop(x, stack_size(instruction))?;
    check_target(x, target)?;
    if instruction.op_count() == 1 {
        stack.release(u64::from(instruction.immediate16()));
    }
    stack.commit(x);
    x.state.rip = target;
    Ok(Flow::Jump)
}

/// LEAVE: rSP = rBP as wide as the stack, then POP rBP.
fn leave(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    let size = stack_size(instruction);
    let mut stack = Stack::current(x);
    let mut pointer = x.state.gpr[RSP];
    set_masked(&mut pointer, x.state.gpr[RBP], x.state.stack_mask());
    stack.pointer = pointer;
    let value = stack.pop(x, size)?;
    set_masked(&mut x.state.gpr[RBP], value, if size == 8 { u64::MAX } else { (1 << (8 * size)) - 1 });
    stack.commit(x);
    Ok(Flow::Next)
}

/// Whether a condition holds for the flags.
fn holds(x: &Execution, condition: ConditionCode) -> bool {
    let flag = |bit| x.flag(bit);
    let less = flag(rflags::SF) != flag(rflags::OF);
    match condition {
        ConditionCode::o => flag(rflags::OF),
        ConditionCode::no => !flag(rflags::OF),
        ConditionCode::b => flag(rflags::CF),
        ConditionCode::ae => !flag(rflags::CF),
        ConditionCode::e => flag(rflags::ZF),
        ConditionCode::ne => !flag(rflags::ZF),
        ConditionCode::be => flag(rflags::CF) || flag(rflags::ZF),
        ConditionCode::a => !flag(rflags::CF) && !flag(rflags::ZF),
        ConditionCode::s => flag(rflags::SF),
        ConditionCode::ns => !flag(rflags::SF),
        ConditionCode::p => flag(rflags::PF),
        ConditionCode::np => !flag(rflags::PF),
        ConditionCode::l => less,
        ConditionCode::ge => !less,
        ConditionCode::le => less || flag(rflags::ZF),
        ConditionCode::g => !less && !flag(rflags::ZF),
        ConditionCode::None => false,
    }
}
