//! Delivery through the interrupt vector table of real mode (APM vol. 2 §8.6): far pointers, three words pushed, no error
//! codes. IDTR says where the table is and how long.

use super::Event;
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::{rflags, segment};
use crate::system::frame::Stack;
use crate::system::segments;

/// Enters the handler.
pub fn enter(x: &mut Execution, event: &Event) -> Result<(), Exception> {
    let offset = u64::from(event.vector) * 4;
    if offset + 3 > u64::from(x.state.idtr.limit) {
        return Err(Exception::general_protection(u32::from(event.vector) * 8 + 2));
    }
    let pointer = x.read_system(x.state.idtr.base.wrapping_add(offset) & 0xffff_ffff, 4)?;
    let (offset, selector) = (pointer & 0xffff, (pointer >> 16) as u16);
    let code = segments::paragraph(x, segment::CS, selector);
    if offset > u64::from(code.limit) {
        return Err(Exception::general_protection(0));
    }
    let mut stack = Stack::current(x);
    for value in [x.state.rflags, u64::from(x.state.segments[segment::CS].selector), event.return_rip] {
        stack.push(x, 2, value)?;
    }
    stack.commit(x);
    x.state.segments[segment::CS] = code;
    x.state.rip = offset;
    x.state.rflags &= !(rflags::IF | rflags::TF | rflags::AC | rflags::RF);
    Ok(())
}
