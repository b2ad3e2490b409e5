//! Delivery through the 64-bit IDT (APM vol. 2 §8.9).

use super::Event;
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::is_canonical;
use crate::state::gpr::RSP;
use crate::state::{Segment, rflags, segment};
use crate::system::segments::{self, Descriptor};

/// The handler, checked.
struct Target {
    code: Descriptor,
    selector: u16,
    offset: u64,
    stack_index: u8,
    masks: bool,
    cpl: u8,
}

/// Enters the handler.
pub fn enter(x: &mut Execution, event: &Event) -> Result<(), Exception> {
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
pub fn task_stack(x: &mut Execution, offset: u32) -> Result<u64, Exception> {
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
    if !is_canonical(rsp) || !is_canonical(rsp.wrapping_add(frame.len() as u64 - 1)) {
        return Err(Exception::stack(0));
    }
    x.write_bytes(rsp, frame, target.cpl == 3)?;
    Ok(rsp)
}
