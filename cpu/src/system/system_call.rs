//! SYSCALL, SYSRET, SWAPGS; SYSENTER and SYSEXIT are invalid in long mode (APM vol. 3; vol. 2 §6.1).

use super::{Flow, operand, segments};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::gpr::{R11, RCX};
use crate::state::{control, rflags, segment};
use iced_x86::{Instruction, Mnemonic};

/// Flags that SYSRET takes from R11.
const RETURNED: u64 = 0x3c_7fd7;

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    match instruction.mnemonic() {
        Mnemonic::Syscall => call(x, instruction.next_ip()),
        Mnemonic::Sysret => system_return(x, false),
        Mnemonic::Sysretq => system_return(x, true),
        Mnemonic::Swapgs => swap_gs(x),
        _ => Err(Exception::invalid_opcode()),
    }
}

fn call(x: &mut Execution, next: u64) -> Result<Flow, Exception> {
    const LONG: u64 = control::EFER_SCE | control::EFER_LMA;
    if x.state.efer & LONG != LONG {
        return Err(Exception::invalid_opcode());
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
    operand::require_ring_0(x)?;
    let state = &mut *x.state;
    let base = (state.star >> 48) as u16;
    let selector = if long { base.wrapping_add(16) | 3 } else { base | 3 };
    state.segments[segment::CS] = segments::flat_code(selector, 3, long);
    state.segments[segment::SS].selector = base.wrapping_add(8);
    state.rip = if long { state.gpr[RCX] } else { state.gpr[RCX] & 0xffff_ffff };
    state.rflags = state.gpr[R11] & RETURNED & !rflags::RF | rflags::FIXED;
    state.cpl = 3;
    Ok(Flow::Jump)
}

fn swap_gs(x: &mut Execution) -> Result<Flow, Exception> {
    operand::require_ring_0(x)?;
    let state = &mut *x.state;
    std::mem::swap(&mut state.segments[segment::GS].base, &mut state.kernel_gs_base);
    Ok(Flow::Next)
}
