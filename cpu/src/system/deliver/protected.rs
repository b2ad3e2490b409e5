//! Delivery through the IDT of legacy protected mode (APM vol. 2 §8.7): interrupt, trap and task gates, 16- and 32-bit,
//! also out of virtual-8086 mode (§8.7.4).

use super::Event;
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::{Segment, gpr, rflags, segment};
use crate::system::frame::Stack;
use crate::system::segments::{self, Descriptor};
use crate::system::task::{self, Cause};

const TASK_GATE: u8 = 5;

/// Enters the handler.
pub fn enter(x: &mut Execution, event: &Event) -> Result<(), Exception> {
    let gate = gate(x, event)?;
    if gate.kind() == TASK_GATE {
        let cause = Cause::Event { error: event.error, resume: event.resume };
        return task::through_gate(x, &gate, cause, event.return_rip);
    }
    let selector = gate.gate_selector();
    let code = code(x, selector)?;
    let cpl = if code.is_conforming() { x.state.cpl } else { code.dpl() };
    let offset = gate.gate_offset();
    if offset > u64::from(code.limit()) {
        return Err(Exception::general_protection(0));
    }
    let (stack, stack_segment) = push_frame(x, event, &gate, cpl)?;
    let loaded = segments::access(x, &code, selector & !3 | u16::from(cpl))?;
    stack.commit(x);
    let state = &mut *x.state;
    if state.is_virtual_8086() {
        for register in [segment::ES, segment::DS, segment::FS, segment::GS] {
            state.segments[register] = segments::null(0);
        }
    }
    state.segments[segment::SS] = stack_segment;
    state.segments[segment::CS] = loaded;
    state.cpl = cpl;
    state.rip = offset;
    state.rflags &= !(rflags::TF | rflags::NT | rflags::RF | rflags::VM);
    if gate.kind() & 1 == 0 {
        state.rflags &= !rflags::IF;
    }
    Ok(())
}

fn gate(x: &mut Execution, event: &Event) -> Result<Descriptor, Exception> {
    let error = u32::from(event.vector) * 8 + 2;
    let offset = u64::from(event.vector) * 8;
    if offset + 7 > u64::from(x.state.idtr.limit) {
        return Err(Exception::general_protection(error));
    }
    let address = x.state.idtr.base.wrapping_add(offset) & 0xffff_ffff;
    let low = x.read_system(address, 8)?;
    let gate = Descriptor { address, low, high: 0 };
    let refused = event.checked && gate.dpl() < x.state.cpl;
    if gate.is_user() || !matches!(gate.kind(), 5 | 6 | 7 | 14 | 15) || refused {
        return Err(Exception::general_protection(error));
    }
    if !gate.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    Ok(gate)
}

fn code(x: &mut Execution, selector: u16) -> Result<Descriptor, Exception> {
    if segments::is_null(selector) {
        return Err(Exception::general_protection(0));
    }
    let error = segments::error_code(selector);
    let code = segments::fetch(x, selector, Exception::general_protection)?;
    // Virtual-8086 mode is left for ring 0 only.
    let level = match x.state.is_virtual_8086() {
        true => !code.is_conforming() && code.dpl() == 0,
        false => code.dpl() <= x.state.cpl,
    };
    if !code.is_code() || !level {
        return Err(Exception::general_protection(error));
    }
    if code.is_present() { Ok(code) } else { Err(Exception::segment_not_present(error)) }
}

/// Writes the frame to the stack of level `cpl`; gives that stack and its segment.
fn push_frame(x: &mut Execution, event: &Event, gate: &Descriptor, cpl: u8) -> Result<(Stack, Segment), Exception> {
    let size = if gate.is_wide() { 4 } else { 2 };
    let selector = |x: &Execution, register: usize| u64::from(x.state.segments[register].selector);
    let (mut stack, stack_segment) = if cpl == x.state.cpl {
        (Stack::current(x), x.state.segments[segment::SS])
    } else {
        let (mut stack, loaded) = Stack::inner(x, cpl)?;
        let virtual_8086 = [segment::GS, segment::FS, segment::DS, segment::ES];
        let count = if x.state.is_virtual_8086() { 4 } else { 0 };
        for &register in virtual_8086.iter().take(count) {
            let value = selector(x, register);
            stack.push(x, size, value)?;
        }
        let (ss, rsp) = (selector(x, segment::SS), x.state.gpr[gpr::RSP]);
        stack.push(x, size, ss)?;
        stack.push(x, size, rsp)?;
        (stack, loaded)
    };
    let resume = if event.resume { rflags::RF } else { 0 };
    let (flags, cs) = (x.state.rflags | resume, selector(x, segment::CS));
    for value in [flags, cs, event.return_rip] {
        stack.push(x, size, value)?;
    }
    if let Some(error) = event.error {
        stack.push(x, size, u64::from(error))?;
    }
    Ok((stack, stack_segment))
}
