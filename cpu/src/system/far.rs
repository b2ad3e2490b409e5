//! Far JMP, CALL and RET in 64-bit mode (APM vol. 2 §4.7, §4.11): straight to code, or through a call gate.

use super::segments::{self, Descriptor};
use super::{Flow, deliver, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::is_canonical;
use crate::state::gpr::RSP;
use crate::state::{Segment, segment};
use iced_x86::{Code, Instruction, Mnemonic};

const CALL_GATE: u8 = 12;

/// Executes a far transfer.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    use Code::*;
    match instruction.code() {
        Retfw | Retfw_imm16 => far_return(x, instruction, 2),
        Retfd | Retfd_imm16 => far_return(x, instruction, 4),
        Retfq | Retfq_imm16 => far_return(x, instruction, 8),
        Jmp_m1616 | Call_m1616 => transfer(x, instruction, 2),
        Jmp_m1632 | Call_m1632 => transfer(x, instruction, 4),
        Jmp_m1664 | Call_m1664 => transfer(x, instruction, 8),
        _ => Err(Exception::invalid_opcode()),
    }
}

/// JMP or CALL to the far pointer in memory.
fn transfer(x: &mut Execution, instruction: &Instruction, size: usize) -> Result<Flow, Exception> {
    let mut pointer = [0; 10];
    operand::read_bytes(x, instruction, 0, &mut pointer[..size + 2])?;
    let mut offset = [0; 8];
    offset[..size].copy_from_slice(&pointer[..size]);
    let offset = u64::from_le_bytes(offset);
    let selector = u16::from_le_bytes([pointer[size], pointer[size + 1]]);
    if segments::is_null(selector) {
        return Err(Exception::general_protection(0));
    }
    let call = instruction.mnemonic() == Mnemonic::Call;
    let found = segments::fetch(x, selector, Exception::general_protection)?;
    if found.is_code() {
        direct(x, instruction, &found, selector, offset, call.then_some(size))
    } else if !found.is_user() && found.kind() == CALL_GATE {
        through_gate(x, instruction, &found, selector, call)
    } else {
        Err(Exception::general_protection(segments::error_code(selector)))
    }
}

fn direct(
    x: &mut Execution,
    instruction: &Instruction,
    code: &Descriptor,
    selector: u16,
    offset: u64,
    push_size: Option<usize>,
) -> Result<Flow, Exception> {
    let error = segments::error_code(selector);
    let cpl = x.state.cpl;
    let allowed =
        if code.is_conforming() { code.dpl() <= cpl } else { code.dpl() == cpl && segments::rpl(selector) <= cpl };
    if !allowed || code.is_long() && code.is_big() {
        return Err(Exception::general_protection(error));
    }
    if !code.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    check_offset(code, offset)?;
    let loaded = segments::access(x, code, selector & !3 | u16::from(cpl))?;
    if let Some(size) = push_size {
        let frame = [instruction.next_ip(), u64::from(x.state.segments[segment::CS].selector)];
        let rsp = x.state.gpr[RSP];
        x.state.gpr[RSP] = push_words(x, rsp, size, &frame, cpl)?;
    }
    x.state.segments[segment::CS] = loaded;
    x.state.rip = offset;
    Ok(Flow::Jump)
}

/// Writes `words` of `size` bytes below `rsp`, lowest first, with the privilege of `cpl`; returns the new RSP.
fn push_words(x: &mut Execution, rsp: u64, size: usize, words: &[u64], cpl: u8) -> Result<u64, Exception> {
    let mut frame = [0; 32];
    for (bytes, word) in frame.chunks_exact_mut(size).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes()[..size]);
    }
    let length = words.len() * size;
    let rsp = rsp.wrapping_sub(length as u64);
    x.write_bytes(rsp, &frame[..length], cpl == 3).map_err(operand::as_stack)?;
    Ok(rsp)
}

/// The instruction pointer must fit the code segment: canonical for 64-bit code, within the limit otherwise.
pub(super) fn check_offset(code: &Descriptor, offset: u64) -> Result<(), Exception> {
    let fits = if code.is_long() { is_canonical(offset) } else { offset <= u64::from(code.limit()) };
    if fits { Ok(()) } else { Err(Exception::general_protection(0)) }
}

/// A 64-bit call gate; CALL may raise privilege and then takes the stack from the TSS.
fn through_gate(
    x: &mut Execution,
    instruction: &Instruction,
    gate: &Descriptor,
    selector: u16,
    call: bool,
) -> Result<Flow, Exception> {
    let error = segments::error_code(selector);
    let cpl = x.state.cpl;
    if gate.dpl() < cpl.max(segments::rpl(selector)) {
        return Err(Exception::general_protection(error));
    }
    if !gate.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    let (target, offset) = (gate.gate_selector(), gate.gate_offset());
    let code = gate_target(x, target, call)?;
    check_offset(&code, offset)?;
    let inner = call && !code.is_conforming() && code.dpl() < cpl;
    let new_cpl = if inner { code.dpl() } else { cpl };
    let loaded = segments::access(x, &code, target & !3 | u16::from(new_cpl))?;
    if call {
        let top = if inner { deliver::task_stack(x, 4 + 8 * u32::from(new_cpl))? } else { x.state.gpr[RSP] };
        let [cs, ss] = [segment::CS, segment::SS].map(|register| u64::from(x.state.segments[register].selector));
        let words = [instruction.next_ip(), cs, x.state.gpr[RSP], ss];
        let words = if inner { &words[..] } else { &words[..2] };
        x.state.gpr[RSP] = push_words(x, top, 8, words, new_cpl)?;
    }
    if inner {
        x.state.segments[segment::SS] = segments::null(u16::from(new_cpl));
    }
    x.state.cpl = new_cpl;
    x.state.segments[segment::CS] = loaded;
    x.state.rip = offset;
    Ok(Flow::Jump)
}

fn gate_target(x: &mut Execution, selector: u16, call: bool) -> Result<Descriptor, Exception> {
    if segments::is_null(selector) {
        return Err(Exception::general_protection(0));
    }
    let error = segments::error_code(selector);
    let code = segments::fetch(x, selector, Exception::general_protection)?;
    let cpl = x.state.cpl;
    let level = if call || code.is_conforming() { code.dpl() <= cpl } else { code.dpl() == cpl };
    if !code.is_code() || !code.is_long() || code.is_big() || !level {
        return Err(Exception::general_protection(error));
    }
    if code.is_present() { Ok(code) } else { Err(Exception::segment_not_present(error)) }
}

/// RETF, to the same or an outer level.
fn far_return(x: &mut Execution, instruction: &Instruction, size: usize) -> Result<Flow, Exception> {
    let released = if instruction.op_count() == 1 { u64::from(instruction.immediate16()) } else { 0 };
    let word = size as u64;
    let rip = operand::peek(x, 0, size)?;
    let selector = operand::peek(x, word, size)? as u16;
    let code = return_code(x, selector, rip)?;
    let level = segments::rpl(selector);
    if level == x.state.cpl {
        let loaded = segments::access(x, &code, selector)?;
        operand::drop(x, 2 * word + released);
        x.state.segments[segment::CS] = loaded;
    } else {
        let rsp = operand::peek(x, 2 * word + released, size)?;
        let ss = operand::peek(x, 3 * word + released, size)? as u16;
        let stack = return_stack(x, ss, level, code.is_long())?;
        let loaded = segments::access(x, &code, selector)?;
        x.state.segments[segment::CS] = loaded;
        x.state.segments[segment::SS] = stack;
        x.state.gpr[RSP] = rsp.wrapping_add(released);
        x.state.cpl = level;
        segments::drop_inner(x);
    }
    x.state.rip = rip;
    Ok(Flow::Jump)
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
    if !code.is_code() || level < x.state.cpl || !matches || code.is_long() && code.is_big() {
        return Err(Exception::general_protection(error));
    }
    if !code.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    check_offset(&code, rip)?;
    Ok(code)
}

/// Checks and prepares the stack segment that RETF or IRET returns to; null is fine for 64-bit code above ring 3.
pub(super) fn return_stack(x: &mut Execution, selector: u16, level: u8, long: bool) -> Result<Segment, Exception> {
    if segments::is_null(selector) {
        let allowed = long && level < 3 && segments::rpl(selector) == level;
        return if allowed { Ok(segments::null(selector)) } else { Err(Exception::general_protection(0)) };
    }
    segments::stack_segment(x, selector, level, Exception::general_protection)
}
