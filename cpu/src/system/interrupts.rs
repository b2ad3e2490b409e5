//! INT n, INT3, INT1 and IRET (APM vol. 3), and the interrupt flag: CLI, STI.

use super::{Flow, deliver, far, operand, segments};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::gpr::RSP;
use crate::state::{rflags, segment};
use iced_x86::{Instruction, Mnemonic};

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    let next = instruction.next_ip();
    match instruction.mnemonic() {
        Mnemonic::Int => deliver::software(x, instruction.immediate8(), true, next)?,
        Mnemonic::Int3 => deliver::software(x, 3, true, next)?,
        Mnemonic::Int1 => deliver::software(x, 1, false, next)?,
        Mnemonic::Into => return into(x, next),
        Mnemonic::Iret => interrupt_return(x, 2)?,
        Mnemonic::Iretd => interrupt_return(x, 4)?,
        Mnemonic::Iretq => interrupt_return(x, 8)?,
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
    if x.state.cpl > super::flags::io_privilege(x) {
        return Err(Exception::general_protection(0));
    }
    if on {
        x.state.interrupt_shadow = !x.flag(rflags::IF);
        x.state.rflags |= rflags::IF;
    } else {
        x.state.rflags &= !rflags::IF;
    }
    Ok(Flow::Next)
}

/// IRET in 64-bit mode: always takes five words, whatever the level.
fn interrupt_return(x: &mut Execution, size: usize) -> Result<(), Exception> {
    if x.flag(rflags::NT) {
        return Err(Exception::general_protection(0)); // Task returns do not exist in long mode.
    }
    let mut words = [0; 5];
    for (index, word) in words.iter_mut().enumerate() {
        *word = operand::peek(x, (index * size) as u64, size)?;
    }
    let [rip, cs, flags, rsp, ss] = words;
    let selector = cs as u16;
    let code = far::return_code(x, selector, rip)?;
    let level = segments::rpl(selector);
    let stack = far::return_stack(x, ss as u16, level, code.is_long())?;
    let loaded = segments::access(x, &code, selector)?;
    super::flags::load(x, flags, size);
    let outer = level > x.state.cpl;
    x.state.segments[segment::CS] = loaded;
    x.state.segments[segment::SS] = stack;
    x.state.gpr[RSP] = rsp;
    x.state.rip = rip;
    x.state.cpl = level;
    if outer {
        segments::drop_inner(x);
    }
    x.state.nmi_blocked = false;
    Ok(())
}
