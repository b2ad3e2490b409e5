//! Delivery of exceptions and interrupts through the 64-bit IDT (APM vol. 2 §8.7-8.9).
//!
//! Everything is computed and the whole frame written before a register changes, so that a fault on the way leaves
//! the interrupted state intact for what follows: the other exception, #DF, or shutdown.
//!
//! RF exists only in pushed images: the model has no instruction breakpoints that it could suppress.

use super::Shutdown;
use super::operand::as_stack;
use super::segments::{self, Descriptor};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::is_canonical;
use crate::state::gpr::RSP;
use crate::state::{Segment, control, rflags, segment};

const DEBUG: u8 = 1;
const NON_MASKABLE: u8 = 2;
const DOUBLE_FAULT: u8 = 8;
const PAGE_FAULT: u8 = 14;

/// What is delivered.
struct Event {
    vector: u8,
    error: Option<u32>,
    /// INT n, INT3, INTO: the gate's DPL must allow it.
    checked: bool,
    /// EXT bit of error codes for faults on the way: not caused by the program itself.
    external: bool,
    /// Where the handler returns to.
    return_rip: u64,
    /// RF in the pushed image.
    resume: bool,
}

/// Delivers an exception at `state.rip`. What goes wrong on the way is delivered instead, or becomes #DF.
///
/// # Errors
/// [`Shutdown`] when #DF cannot be delivered either.
pub fn exception(x: &mut Execution, exception: Exception) -> Result<(), Shutdown> {
    let mut current = exception;
    loop {
        if x.state.efer & control::EFER_LMA == 0 {
            return Err(Shutdown); // Gates of legacy modes are not executed.
        }
        if let Some(address) = current.address {
            x.state.cr2 = address;
        }
        let event = Event {
            vector: current.vector,
            error: current.error,
            checked: false,
            external: true,
            return_rip: x.state.rip,
            resume: is_fault(current.vector),
        };
        match enter(x, &event) {
            Ok(()) => return Ok(()),
            Err(nested) => current = combine(x, current, nested)?,
        }
    }
}

/// Delivers a maskable interrupt from outside; wakes a halted CPU.
///
/// # Errors
/// [`Shutdown`].
pub fn interrupt(x: &mut Execution, vector: u8) -> Result<(), Shutdown> {
    let event = Event { vector, error: None, checked: false, external: true, return_rip: x.state.rip, resume: false };
    x.state.halted = false;
    enter(x, &event).or_else(|nested| exception(x, nested))
}

/// Delivers an NMI; no other is delivered before the next IRET.
///
/// # Errors
/// [`Shutdown`].
pub fn non_maskable(x: &mut Execution) -> Result<(), Shutdown> {
    x.state.nmi_blocked = true;
    interrupt(x, NON_MASKABLE)
}

/// INT n, INT3, INTO (`checked`) and INT1: a trap that returns to `next`.
///
/// # Errors
/// The fault met on the way; the state is then as before.
pub fn software(x: &mut Execution, vector: u8, checked: bool, next: u64) -> Result<(), Exception> {
    let event = Event { vector, error: None, checked, external: !checked, return_rip: next, resume: false };
    enter(x, &event)
}

/// Faults set RF in the image they push; traps and aborts do not.
fn is_fault(vector: u8) -> bool {
    !matches!(vector, DEBUG | NON_MASKABLE | 3 | 4 | DOUBLE_FAULT | 18)
}

fn is_contributory(vector: u8) -> bool {
    matches!(vector, 0 | 10..=13)
}

/// What a fault during the delivery of another one becomes (APM vol. 2 §8.2.9).
fn combine(x: &mut Execution, first: Exception, second: Exception) -> Result<Exception, Shutdown> {
    if first.vector == DOUBLE_FAULT {
        return Err(Shutdown);
    }
    let severe = is_contributory(second.vector) || second.vector == PAGE_FAULT;
    let double =
        is_contributory(first.vector) && is_contributory(second.vector) || first.vector == PAGE_FAULT && severe;
    if !double {
        return Ok(second);
    }
    if let Some(address) = second.address {
        x.state.cr2 = address;
    }
    Ok(Exception { vector: DOUBLE_FAULT, error: Some(0), address: None })
}

/// The handler, checked.
struct Target {
    code: Descriptor,
    selector: u16,
    offset: u64,
    stack_index: u8,
    masks: bool,
    cpl: u8,
}

fn enter(x: &mut Execution, event: &Event) -> Result<(), Exception> {
    try_enter(x, event).map_err(|mut fault| {
        if (10..=13).contains(&fault.vector) {
            fault.error = fault.error.map(|code| code | u32::from(event.external));
        }
        fault
    })
}

fn try_enter(x: &mut Execution, event: &Event) -> Result<(), Exception> {
    let target = target(x, event)?;
    let stack = stack(x, &target)?;
    let code = segments::access(x, &target.code, target.selector & !3 | u16::from(target.cpl))?;
    let rsp = push_frame(x, event, &target, stack)?;
    let state = &mut *x.state;
    if target.cpl != state.cpl {
        state.segments[segment::SS] = segments::null(u16::from(target.cpl));
    }
    state.segments[segment::CS] = Segment { base: 0, ..code };
    state.cpl = target.cpl;
    state.gpr[RSP] = rsp;
    state.rip = target.offset;
    state.rflags &= !(rflags::TF | rflags::NT | rflags::RF | rflags::VM);
    if target.masks {
        state.rflags &= !rflags::IF;
    }
    state.halted = false;
    state.interrupt_shadow = false;
    Ok(())
}

fn target(x: &mut Execution, event: &Event) -> Result<Target, Exception> {
    let gate = gate(x, event)?;
    let selector = gate.gate_selector();
    if segments::is_null(selector) {
        return Err(Exception::general_protection(0));
    }
    let error = segments::error_code(selector);
    let code = segments::fetch(x, selector, Exception::general_protection)?;
    if !code.is_code() || code.dpl() > x.state.cpl || !code.is_long() || code.is_big() {
        return Err(Exception::general_protection(error));
    }
    if !code.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    let offset = gate.gate_offset();
    if !is_canonical(offset) {
        return Err(Exception::general_protection(0));
    }
    let cpl = if code.is_conforming() { x.state.cpl } else { code.dpl() };
    let stack_index = (gate.low >> 32 & 7) as u8;
    Ok(Target { code, selector, offset, stack_index, masks: gate.kind() == 14, cpl })
}

fn gate(x: &mut Execution, event: &Event) -> Result<Descriptor, Exception> {
    let error = u32::from(event.vector) * 8 + 2;
    let offset = u64::from(event.vector) * 16;
    if offset + 15 > u64::from(x.state.idtr.limit) {
        return Err(Exception::general_protection(error));
    }
    let address = x.state.idtr.base.wrapping_add(offset);
    let low = x.read_system(address, 8)?;
    let high = x.read_system(address.wrapping_add(8), 8)? & 0xffff_ffff;
    let gate = Descriptor { address, low, high };
    let refused = event.checked && gate.dpl() < x.state.cpl;
    if gate.is_user() || !matches!(gate.kind(), 14 | 15) || refused {
        return Err(Exception::general_protection(error));
    }
    if !gate.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    Ok(gate)
}

fn stack(x: &mut Execution, target: &Target) -> Result<u64, Exception> {
    if target.stack_index != 0 {
        task_stack(x, 0x1c + 8 * u32::from(target.stack_index))
    } else if target.cpl < x.state.cpl {
        task_stack(x, 4 + 8 * u32::from(target.cpl))
    } else {
        Ok(x.state.gpr[RSP])
    }
}

/// Reads a stack pointer from the 64-bit TSS (APM vol. 2 §12.2.5).
pub(super) fn task_stack(x: &mut Execution, offset: u32) -> Result<u64, Exception> {
    let task = x.state.tr;
    if offset + 7 > task.limit || task.attributes & Segment::PRESENT == 0 {
        return Err(Exception::invalid_tss(segments::error_code(task.selector)));
    }
    let rsp = x.read_system(task.base.wrapping_add(u64::from(offset)), 8)?;
    if is_canonical(rsp) { Ok(rsp) } else { Err(Exception::stack(0)) }
}

/// Writes the frame below `top`, aligned to 16; returns the new RSP.
fn push_frame(x: &mut Execution, event: &Event, target: &Target, top: u64) -> Result<u64, Exception> {
    let resume = if event.resume { rflags::RF } else { 0 };
    let words = [
        u64::from(event.error.unwrap_or(0)),
        event.return_rip,
        u64::from(x.state.segments[segment::CS].selector),
        x.state.rflags | resume,
        x.state.gpr[RSP],
        u64::from(x.state.segments[segment::SS].selector),
    ];
    let mut frame = [0; 48];
    for (bytes, word) in frame.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let frame = if event.error.is_some() { &frame[..] } else { &frame[8..] };
    let rsp = (top & !15).wrapping_sub(frame.len() as u64);
    x.write_bytes(rsp, frame, target.cpl == 3).map_err(as_stack)?;
    Ok(rsp)
}
