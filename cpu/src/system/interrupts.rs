//! INT n, INT3, INT1, INTO and IRET (APM vol. 3), and the interrupt flag: CLI, STI.

use super::frame::Stack;
use super::{Flow, deliver, far, flags, operand, segments, task};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::{rflags, segment};
use iced_x86::{Instruction, Mnemonic};

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    let next = operand::next(instruction);
    match instruction.mnemonic() {
        Mnemonic::Int => {
            operand::require_io_privilege_in_virtual_8086(x)?;
            deliver::software(x, instruction.immediate8(), true, next)?;
        }
        Mnemonic::Int3 => deliver::software(x, 3, true, next)?,
        Mnemonic::Int1 => deliver::software(x, 1, false, next)?,
        Mnemonic::Into => return into(x, next),
        Mnemonic::Iret => interrupt_return(x, 2, next)?,
        Mnemonic::Iretd => interrupt_return(x, 4, next)?,
        Mnemonic::Iretq => interrupt_return(x, 8, next)?,
        Mnemonic::Cli => return change_interrupt_flag(x, false),
        Mnemonic::Sti => return change_interrupt_flag(x, true),
        _ => return Err(Exception::invalid_opcode()),
    }
    Ok(Flow::Jump)
}

fn into(x: &mut Execution, next: u64) -> Result<Flow, Exception> {
    if !x.flag(rflags::OF) {
        return Ok(Flow::Next);
    }
    deliver::software(x, 4, true, next)?;
    Ok(Flow::Jump)
}

fn change_interrupt_flag(x: &mut Execution, on: bool) -> Result<Flow, Exception> {
    if x.state.cpl > flags::io_privilege(x) {
        return Err(Exception::general_protection(0));
    }
    if on {
        (x.state.interrupt_shadow, x.state.debug_shadow) = (!x.flag(rflags::IF), false);
        x.state.rflags |= rflags::IF;
    } else {
        x.state.rflags &= !rflags::IF;
    }
    Ok(Flow::Next)
}

/// IRET by mode. `next` is where this task goes on if NT leads to another.
fn interrupt_return(x: &mut Execution, size: usize, next: u64) -> Result<(), Exception> {
    operand::require_io_privilege_in_virtual_8086(x)?;
    if x.state.has_paragraphs() {
        return_to_paragraph(x, size)?;
    } else if !x.flag(rflags::NT) {
        protected_return(x, size)?;
    } else if x.state.is_long_active() {
        return Err(Exception::general_protection(0));
    } else {
        task::return_to_outer(x, next)?;
    }
    x.state.nmi_blocked = false;
    Ok(())
}

/// Flags as IRET loads them: RF too, where the image has it.
fn load_flags(x: &mut Execution, image: u64, size: usize) {
    flags::load(x, image, size);
    if size > 2 {
        x.restore_resume_flag(image);
    }
}

/// In real and virtual-8086 mode: IP, CS, FLAGS. IOPL can change in real mode, VM never.
fn return_to_paragraph(x: &mut Execution, size: usize) -> Result<(), Exception> {
    let mut stack = Stack::current(x);
    let rip = stack.pop(x, size)?;
    let selector = stack.pop(x, size)? as u16;
    let image = stack.pop(x, size)?;
    let code = segments::paragraph(x, segment::CS, selector);
    if rip > u64::from(code.limit) {
        return Err(Exception::general_protection(0));
    }
    load_flags(x, image, size);
    stack.commit(x);
    x.state.segments[segment::CS] = code;
    x.state.rip = rip;
    Ok(())
}

/// In protected mode. 64-bit mode always takes five words, the others take the stack only where privilege changes.
fn protected_return(x: &mut Execution, size: usize) -> Result<(), Exception> {
    let mut stack = Stack::current(x);
    let rip = stack.pop(x, size)?;
    let selector = stack.pop(x, size)? as u16;
    let image = stack.pop(x, size)?;
    if image & rflags::VM != 0 && x.state.cpl == 0 && size == 4 && !x.state.is_long_active() {
        return return_to_virtual_8086(x, stack, rip, selector, image);
    }
    let always = x.state.is_long();
    let frame = if always { Some((stack.pop(x, size)?, stack.pop(x, size)?)) } else { None };
    let code = far::return_code(x, selector, rip)?;
    let outer = segments::rpl(selector) > x.state.cpl;
    let frame = match frame {
        None if outer => Some((stack.pop(x, size)?, stack.pop(x, size)?)),
        frame => frame,
    };
    // Flags change with the old privilege, and only when nothing can fail any more.
    let cpl = x.state.cpl;
    if let Some((rsp, ss)) = frame {
        far::to_outer(x, &code, selector, rip, (ss as u16, rsp))?;
    } else {
        x.state.segments[segment::CS] = segments::access(x, &code, selector)?;
        x.state.rip = rip;
        stack.commit(x);
    }
    let level = std::mem::replace(&mut x.state.cpl, cpl);
    load_flags(x, image, size);
    x.state.cpl = level;
    Ok(())
}

fn return_to_virtual_8086(
    x: &mut Execution,
    mut stack: Stack,
    rip: u64,
    selector: u16,
    image: u64,
) -> Result<(), Exception> {
    let rsp = stack.pop(x, 4)?;
    let mut selectors = [0; 6];
    for register in [segment::SS, segment::ES, segment::DS, segment::FS, segment::GS] {
        selectors[register] = stack.pop(x, 4)? as u16;
    }
    if rip > 0xffff {
        return Err(Exception::general_protection(0));
    }
    selectors[segment::CS] = selector;
    load_flags(x, image, 4);
    x.state.rflags |= rflags::VM;
    x.state.segments = selectors.map(segments::virtual_8086);
    x.state.gpr[crate::state::gpr::RSP] = rsp;
    x.state.rip = rip;
    x.state.cpl = 3;
    Ok(())
}
