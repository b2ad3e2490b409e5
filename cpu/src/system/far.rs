//! Far JMP, CALL and RET (APM vol. 2 §1.2.4, §4.7, §4.11): straight to code, through a gate, or to another task.

use super::frame::Stack;
use super::operand::{self, next, set_stack_pointer};
use super::segments::{self, Descriptor};
use super::task::{self, Cause};
use super::{Flow, call_gate};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::is_canonical;
use crate::state::{Segment, segment};
use iced_x86::{Code, Instruction, Mnemonic, OpKind};

const TASK_GATE: u8 = 5;

/// A far pointer and the size of what it is made of, in bytes.
#[derive(Clone, Copy)]
pub struct Pointer {
    /// Selector or paragraph.
    pub selector: u16,
    /// Offset, zero-extended.
    pub offset: u64,
    /// Operand size: 2, 4 or 8.
    pub size: usize,
}

/// Executes a far transfer.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    use Code::*;
    let size = match instruction.code() {
        Retfw | Retfw_imm16 | Jmp_m1616 | Call_m1616 | Jmp_ptr1616 | Call_ptr1616 => 2,
        Retfd | Retfd_imm16 | Jmp_m1632 | Call_m1632 | Jmp_ptr1632 | Call_ptr1632 => 4,
        Retfq | Retfq_imm16 | Jmp_m1664 | Call_m1664 => 8,
        _ => return Err(Exception::invalid_opcode()),
    };
    if instruction.mnemonic() == Mnemonic::Retf {
        let released = if instruction.op_count() == 1 { u64::from(instruction.immediate16()) } else { 0 };
        return far_return(x, released, size);
    }
    let pointer = pointer(x, instruction, size)?;
    let call = instruction.mnemonic() == Mnemonic::Call;
    if x.state.has_paragraphs() {
        return to_paragraph(x, instruction, pointer, call);
    }
    transfer(x, instruction, pointer, call)
}

/// The target, from memory or from the instruction.
fn pointer(x: &mut Execution, instruction: &Instruction, size: usize) -> Result<Pointer, Exception> {
    match instruction.op0_kind() {
        OpKind::FarBranch16 => {
            let offset = u64::from(instruction.far_branch16());
            return Ok(Pointer { selector: instruction.far_branch_selector(), offset, size });
        }
        OpKind::FarBranch32 => {
            let offset = u64::from(instruction.far_branch32());
            return Ok(Pointer { selector: instruction.far_branch_selector(), offset, size });
        }
        _ => {}
    }
    let [offset, selector] = operand::read_parts(x, instruction, 0, size, 2)?;
    Ok(Pointer { selector: selector as u16, offset, size })
}

/// In real and virtual-8086 mode the hidden limit is all there is to check.
fn to_paragraph(x: &mut Execution, instruction: &Instruction, pointer: Pointer, call: bool) -> Result<Flow, Exception> {
    let loaded = segments::paragraph(x, segment::CS, pointer.selector);
    check_limit(&loaded, pointer.offset)?;
    if call {
        push_return(x, instruction, pointer.size)?;
    }
    x.state.segments[segment::CS] = loaded;
    x.state.rip = pointer.offset;
    Ok(Flow::Jump)
}

fn check_limit(code: &Segment, offset: u64) -> Result<(), Exception> {
    if offset <= u64::from(code.limit) { Ok(()) } else { Err(Exception::general_protection(0)) }
}

/// CS and the address behind the CALL.
fn push_return(x: &mut Execution, instruction: &Instruction, size: usize) -> Result<(), Exception> {
    let mut stack = Stack::current(x);
    let selector = x.state.segments[segment::CS].selector;
    stack.push(x, size, u64::from(selector))?;
    stack.push(x, size, next(instruction))?;
    stack.commit(x);
    Ok(())
}

/// JMP or CALL by descriptor.
fn transfer(x: &mut Execution, instruction: &Instruction, pointer: Pointer, call: bool) -> Result<Flow, Exception> {
    let selector = pointer.selector;
    if segments::is_null(selector) {
        return Err(Exception::general_protection(0));
    }
    let error = segments::error_code(selector);
    let found = segments::fetch(x, selector, Exception::general_protection)?;
    if found.is_code() {
        return direct(x, instruction, &found, pointer, call);
    }
    let long = x.state.is_long_active();
    let privileged = found.dpl() < x.state.cpl.max(segments::rpl(selector));
    match found.kind() {
        _ if found.is_user() => return Err(Exception::general_protection(error)),
        4 if long => return Err(Exception::general_protection(error)),
        4 | 12 => return call_gate::execute(x, instruction, &found, selector, call),
        _ if long || privileged => return Err(Exception::general_protection(error)),
        _ => {}
    }
    let cause = if call { Cause::Call } else { Cause::Jump };
    if found.kind() == TASK_GATE {
        if !found.is_present() {
            return Err(Exception::segment_not_present(error));
        }
        task::through_gate(x, &found, cause, next(instruction))?;
    } else {
        task::switch(x, selector, &found, cause, next(instruction))?;
    }
    Ok(Flow::Jump)
}

fn direct(
    x: &mut Execution,
    instruction: &Instruction,
    code: &Descriptor,
    pointer: Pointer,
    call: bool,
) -> Result<Flow, Exception> {
    let error = segments::error_code(pointer.selector);
    let cpl = x.state.cpl;
    let requested = segments::rpl(pointer.selector);
    let allowed = if code.is_conforming() { code.dpl() <= cpl } else { code.dpl() == cpl && requested <= cpl };
    if !allowed || is_long(x, code) && code.is_big() {
        return Err(Exception::general_protection(error));
    }
    if !code.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    check_offset(x, code, pointer.offset)?;
    let loaded = segments::access(x, code, pointer.selector & !3 | u16::from(cpl))?;
    if call {
        push_return(x, instruction, pointer.size)?;
    }
    x.state.segments[segment::CS] = loaded;
    x.state.rip = pointer.offset;
    Ok(Flow::Jump)
}

/// Whether it is 64-bit code: the L bit counts in long mode only.
pub(super) fn is_long(x: &Execution, code: &Descriptor) -> bool {
    x.state.is_long_active() && code.is_long()
}

/// The instruction pointer must fit the code segment: canonical for 64-bit code, within the limit otherwise.
pub(super) fn check_offset(x: &Execution, code: &Descriptor, offset: u64) -> Result<(), Exception> {
    let fits = if is_long(x, code) { is_canonical(offset) } else { offset <= u64::from(code.limit()) };
    if fits { Ok(()) } else { Err(Exception::general_protection(0)) }
}

/// RETF, to the same or an outer level.
fn far_return(x: &mut Execution, released: u64, size: usize) -> Result<Flow, Exception> {
    let mut stack = Stack::current(x);
    let rip = stack.pop(x, size)?;
    let selector = stack.pop(x, size)? as u16;
    if x.state.has_paragraphs() {
        let loaded = segments::paragraph(x, segment::CS, selector);
        check_limit(&loaded, rip)?;
        stack.release(released);
        stack.commit(x);
        x.state.segments[segment::CS] = loaded;
        x.state.rip = rip;
        return Ok(Flow::Jump);
    }
    let code = return_code(x, selector, rip)?;
    let level = segments::rpl(selector);
    stack.release(released);
    if level == x.state.cpl {
        x.state.segments[segment::CS] = segments::access(x, &code, selector)?;
        stack.commit(x);
        x.state.rip = rip;
        return Ok(Flow::Jump);
    }
    let rsp = stack.pop(x, size)?;
    let ss = stack.pop(x, size)? as u16;
    to_outer(x, &code, selector, rip, (ss, rsp))?;
    operand::drop(x, released);
    Ok(Flow::Jump)
}

/// Leaves for an outer level whose stack is `ss:rsp`.
pub(super) fn to_outer(
    x: &mut Execution,
    code: &Descriptor,
    selector: u16,
    rip: u64,
    (ss, rsp): (u16, u64),
) -> Result<(), Exception> {
    let level = segments::rpl(selector);
    let long = is_long(x, code);
    let stack = return_stack(x, ss, level, long)?;
    let loaded = segments::access(x, code, selector)?;
    x.state.segments[segment::CS] = loaded;
    x.state.segments[segment::SS] = stack;
    set_stack_pointer(x, rsp);
    x.state.rip = rip;
    if level != x.state.cpl {
        x.state.cpl = level;
        segments::drop_inner(x);
    }
    Ok(())
}

/// Checks the code segment that RETF or IRET returns to.
pub(super) fn return_code(x: &mut Execution, selector: u16, rip: u64) -> Result<Descriptor, Exception> {
    if segments::is_null(selector) {
        return Err(Exception::general_protection(0));
    }
    let error = segments::error_code(selector);
    let code = segments::fetch(x, selector, Exception::general_protection)?;
    let level = segments::rpl(selector);
    let matches = if code.is_conforming() { code.dpl() <= level } else { code.dpl() == level };
    if !code.is_code() || level < x.state.cpl || !matches || is_long(x, &code) && code.is_big() {
        return Err(Exception::general_protection(error));
    }
    if !code.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    check_offset(x, &code, rip)?;
    Ok(code)
}

/// Checks and prepares the stack segment that RETF or IRET returns to; null is fine for 64-bit code above ring 3.
fn return_stack(x: &mut Execution, selector: u16, level: u8, long: bool) -> Result<Segment, Exception> {
    if segments::is_null(selector) {
        let allowed = long && level < 3 && segments::rpl(selector) == level;
        return if allowed { Ok(segments::null(selector)) } else { Err(Exception::general_protection(0)) };
    }
    segments::stack_segment(x, selector, level, Exception::general_protection)
}
