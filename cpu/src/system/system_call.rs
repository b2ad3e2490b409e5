//! SYSCALL, SYSRET, SWAPGS, and outside long mode SYSENTER and SYSEXIT, as this vendor has them (APM vol. 3; vol. 2
//! §6.1).

use super::{Flow, operand, segments};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::gpr::{R11, RCX, RDX, RSP};
use crate::state::{control, rflags, segment};
use iced_x86::{Instruction, Mnemonic};

/// Flags that SYSRET takes from R11.
const RETURNED: u64 = 0x3c_7fd7;

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    match instruction.mnemonic() {
        Mnemonic::Syscall => call(x, operand::next(instruction)),
        Mnemonic::Sysenter => enter(x),
        Mnemonic::Sysexit => exit(x),
        Mnemonic::Sysret => system_return(x, false),
        Mnemonic::Sysretq => system_return(x, true),
        Mnemonic::Swapgs => swap_gs(x),
        _ => Err(Exception::invalid_opcode()),
    }
}

fn call(x: &mut Execution, next: u64) -> Result<Flow, Exception> {
    if x.state.efer & control::EFER_SCE == 0 {
        return Err(Exception::invalid_opcode());
    }
    if !x.state.is_long_active() {
        x.state.gpr[RCX] = next;
        let (selector, target) = ((x.state.star >> 32) as u16, x.state.star & 0xffff_ffff);
        enter_flat(x, selector, target);
        return Ok(Flow::Jump);
    }
    let state = &mut *x.state;
    state.gpr[RCX] = next;
    state.gpr[R11] = state.rflags & !rflags::RF;
    state.rip = if state.is_long() { state.lstar } else { state.cstar };
    let selector = (state.star >> 32) as u16 & 0xfffc;
    state.segments[segment::CS] = segments::flat_code(selector, 0, true);
    state.segments[segment::SS] = segments::flat_data(selector.wrapping_add(8), 0);
    state.rflags = state.rflags & !state.sfmask & !rflags::RF | rflags::FIXED;
    state.cpl = 0;
    Ok(Flow::Jump)
}

/// SYSRET leaves the hidden part of SS as it is, as this vendor does.
fn system_return(x: &mut Execution, long: bool) -> Result<Flow, Exception> {
    if x.state.efer & control::EFER_SCE == 0 {
        return Err(Exception::invalid_opcode());
    }
    require_protected_ring_0(x)?;
    let state = &mut *x.state;
    let from_64 = state.is_long();
    let base = (state.star >> 48) as u16;
    let selector = if long { base.wrapping_add(16) | 3 } else { base | 3 };
    state.segments[segment::CS] = segments::flat_code(selector, 3, long);
    state.segments[segment::SS].selector = base.wrapping_add(8);
    state.rip = if long { state.gpr[RCX] } else { state.gpr[RCX] & 0xffff_ffff };
    state.rflags = if from_64 { state.gpr[R11] & RETURNED & !rflags::RF } else { state.rflags | rflags::IF };
    state.rflags |= rflags::FIXED;
    state.cpl = 3;
    Ok(Flow::Jump)
}

/// To flat 32-bit code and the stack segment after it, at CPL 0, interrupts off.
fn enter_flat(x: &mut Execution, selector: u16, target: u64) {
    let state = &mut *x.state;
    state.segments[segment::CS] = segments::flat_code(selector & 0xfffc, 0, false);
    state.segments[segment::SS] = segments::flat_data((selector & 0xfffc).wrapping_add(8), 0);
    state.rflags &= !(rflags::IF | rflags::RF | rflags::VM);
    state.rip = target;
    state.cpl = 0;
}

/// #GP(0) in real and virtual-8086 mode too.
fn require_protected_ring_0(x: &Execution) -> Result<(), Exception> {
    if x.state.is_real() { Err(Exception::general_protection(0)) } else { operand::require_ring_0(x) }
}

/// Both are invalid in long mode, and need protected mode and a code segment.
fn check_fast_call(x: &Execution) -> Result<(), Exception> {
    if x.state.is_long_active() {
        return Err(Exception::invalid_opcode());
    }
    if x.state.is_real() || segments::is_null(x.state.sysenter_cs as u16) {
        return Err(Exception::general_protection(0));
    }
    Ok(())
}

fn enter(x: &mut Execution) -> Result<Flow, Exception> {
    check_fast_call(x)?;
    x.state.gpr[RSP] = x.state.sysenter_esp & 0xffff_ffff;
    let (selector, target) = (x.state.sysenter_cs as u16, x.state.sysenter_eip & 0xffff_ffff);
    enter_flat(x, selector, target);
    Ok(Flow::Jump)
}

fn exit(x: &mut Execution) -> Result<Flow, Exception> {
    check_fast_call(x)?;
    operand::require_ring_0(x)?;
    let state = &mut *x.state;
    let base = state.sysenter_cs as u16 & 0xfffc;
    state.segments[segment::CS] = segments::flat_code(base.wrapping_add(16) | 3, 3, false);
    state.segments[segment::SS] = segments::flat_data(base.wrapping_add(24) | 3, 3);
    state.gpr[RSP] = state.gpr[RCX] & 0xffff_ffff;
    state.rip = state.gpr[RDX] & 0xffff_ffff;
    state.cpl = 3;
    Ok(Flow::Jump)
}

fn swap_gs(x: &mut Execution) -> Result<Flow, Exception> {
    operand::require_ring_0(x)?;
    let state = &mut *x.state;
    std::mem::swap(&mut state.segments[segment::GS].base, &mut state.kernel_gs_base);
    Ok(Flow::Next)
}
