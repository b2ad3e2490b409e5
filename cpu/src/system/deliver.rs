//! Delivery of exceptions and interrupts (APM vol. 2 §8): through the IVT of real mode, the IDT of protected mode, or that
//! of long mode; which priority faults on the way have.
//!
//! Everything is computed and the whole frame written before a register changes, so that a fault on the way leaves
//! the interrupted state intact for what follows: the other exception, #DF, or shutdown. A task gate is the exception:
//! what goes wrong behind it goes wrong in the new task.
//!
//! RF is set only while instruction breakpoints are armed, which it suppresses; else it exists in pushed images alone.

mod long;
mod protected;
mod real;

pub(super) use long::task_stack;

use super::{Shutdown, debug};
use crate::exception::Exception;
use crate::execution::Execution;

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
            Ok(()) => {
                if current.vector == DEBUG {
                    x.state.dr[7] &= !debug::GENERAL_DETECT;
                }
                return Ok(());
            }
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

/// Enters the handler, by the mode that is left. Faults on the way carry the EXT bit.
fn enter(x: &mut Execution, event: &Event) -> Result<(), Exception> {
    let entered = if x.state.is_real() {
        real::enter(x, event)
    } else if x.state.is_long_active() {
        long::enter(x, event)
    } else {
        protected::enter(x, event)
    };
    x.state.halted &= entered.is_err();
    x.state.interrupt_shadow &= entered.is_err();
    entered.map_err(|mut fault| {
        if (10..=13).contains(&fault.vector) {
            fault.error = fault.error.map(|code| code | u32::from(event.external));
        }
        fault
    })
}
