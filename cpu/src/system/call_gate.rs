//! Call gates (APM vol. 2 §4.11.2): CALL may raise privilege, and then takes the stack from the TSS and, outside long mode,
//! copies parameters to it.

use super::far::{check_offset, is_long};
use super::frame::Stack;
use super::operand::next;
use super::segments::{self, Descriptor};
use super::{Flow, deliver};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::{Segment, segment};
use iced_x86::Instruction;

/// JMP or CALL through `gate`, which `selector` names.
pub fn execute(
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
    let code = target_code(x, target, call)?;
    check_offset(x, &code, offset)?;
    let inner = call && !code.is_conforming() && code.dpl() < cpl;
    let new_cpl = if inner { code.dpl() } else { cpl };
    let return_rip = next(instruction);
    let new_stack = match (call, inner) {
        (false, _) => None,
        (true, false) => Some((same_level(x, gate, return_rip)?, x.state.segments[segment::SS])),
        (true, true) => Some(inner_level(x, gate, new_cpl, return_rip)?),
    };
    let loaded = segments::access(x, &code, target & !3 | u16::from(new_cpl))?;
    if let Some((stack, segment)) = new_stack {
        stack.commit(x);
        x.state.segments[segment::SS] = segment;
    }
    x.state.cpl = new_cpl;
    x.state.segments[segment::CS] = loaded;
    x.state.rip = offset;
    Ok(Flow::Jump)
}

fn target_code(x: &mut Execution, selector: u16, call: bool) -> Result<Descriptor, Exception> {
    if segments::is_null(selector) {
        return Err(Exception::general_protection(0));
    }
    let error = segments::error_code(selector);
    let code = segments::fetch(x, selector, Exception::general_protection)?;
    let cpl = x.state.cpl;
    let level = if call || code.is_conforming() { code.dpl() <= cpl } else { code.dpl() == cpl };
    let wrong_size = x.state.is_long_active() && (!is_long(x, &code) || code.is_big());
    if !code.is_code() || wrong_size || !level {
        return Err(Exception::general_protection(error));
    }
    if code.is_present() { Ok(code) } else { Err(Exception::segment_not_present(error)) }
}

/// Bytes of a word that the gate pushes.
fn word_size(x: &Execution, gate: &Descriptor) -> usize {
    match gate.is_wide() {
        _ if x.state.is_long_active() => 8,
        true => 4,
        false => 2,
    }
}

fn return_selector(x: &Execution, register: usize) -> u64 {
    u64::from(x.state.segments[register].selector)
}

fn same_level(x: &mut Execution, gate: &Descriptor, return_rip: u64) -> Result<Stack, Exception> {
    let size = word_size(x, gate);
    let mut stack = Stack::current(x);
    if x.state.is_long_active() {
        stack = Stack::long(x, stack.pointer, x.state.cpl);
    }
    let cs = return_selector(x, segment::CS);
    stack.push(x, size, cs)?;
    stack.push(x, size, return_rip)?;
    Ok(stack)
}

fn inner_level(
    x: &mut Execution,
    gate: &Descriptor,
    level: u8,
    return_rip: u64,
) -> Result<(Stack, Segment), Exception> {
    let size = word_size(x, gate);
    let mut old = Stack::current(x);
    let long = x.state.is_long_active();
    let (mut stack, loaded) = if long {
        let top = deliver::task_stack(x, 4 + 8 * u32::from(level))?;
        (Stack::long(x, top, level), segments::null(u16::from(level)))
    } else {
        Stack::inner(x, level)?
    };
    let (cs, ss) = (return_selector(x, segment::CS), return_selector(x, segment::SS));
    let pointer = old.pointer;
    stack.push(x, size, ss)?;
    stack.push(x, size, pointer)?;
    let count = if long { 0 } else { (gate.low >> 32 & 31) as usize };
    let mut parameters = [0; 31];
    for parameter in &mut parameters[..count] {
        *parameter = old.pop(x, size)?;
    }
    for &parameter in parameters[..count].iter().rev() {
        stack.push(x, size, parameter)?;
    }
    stack.push(x, size, cs)?;
    stack.push(x, size, return_rip)?;
    Ok((stack, loaded))
}
