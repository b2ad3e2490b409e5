//! MOV to and from CR0-CR4, CR8 and the debug registers; LMSW, SMSW, CLTS (APM vol. 2 §3.1, §13.1).

use super::{Flow, debug, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::PHYSICAL_BITS;
use crate::state::{State, control::*};
use iced_x86::{Code, Instruction, Mnemonic, Register};

pub(super) const CR0_DEFINED: u64 =
    CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG;
/// PCE besides those with names elsewhere: what the CPUID model offers.
const CR4_PCE: u64 = 1 << 8;
pub(super) const CR4_DEFINED: u64 =
    CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT;
const DR6_FIXED: u64 = 0xffff_0ff0;
const DR6_WRITABLE: u64 = 0xe00f;
const DR6_ACCESS_DETECTED: u64 = 1 << 13;
const DR7_FIXED: u64 = 0x400;
const DR7_WRITABLE: u64 = 0xffff_2bff;

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    match instruction.mnemonic() {
        Mnemonic::Smsw => {
            let value = x.state.cr0;
            operand::write(x, instruction, 0, 2, value)?;
            return Ok(Flow::Next);
        }
        Mnemonic::Lmsw => load_machine_status(x, instruction)?,
        Mnemonic::Clts => {
            operand::require_ring_0(x)?;
            x.state.cr0 &= !CR0_TS;
        }
        _ => move_register(x, instruction)?,
    }
    Ok(Flow::Next)
}

/// LMSW: the low four bits of CR0; PE can only be set.
fn load_machine_status(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    operand::require_ring_0(x)?;
    let value = operand::read(x, instruction, 0, 2)? & 0xf;
    let kept = x.state.cr0 & !(CR0_MP | CR0_EM | CR0_TS);
    write_cr0(x.state, kept | value)
}

fn move_register(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    use Code::*;
    operand::require_ring_0(x)?;
    let (first, second) = (instruction.op_register(0), instruction.op_register(1));
    match instruction.code() {
        Mov_r32_cr | Mov_r64_cr => {
            let value = read_control(x, second)?;
            x.set_register(first, value);
        }
        Mov_cr_r32 | Mov_cr_r64 => {
            let value = x.register(second);
            write_control(x, first, value)?;
        }
        Mov_r32_dr | Mov_r64_dr => {
            let index = debug_index(x, second)?;
            let value = x.state.dr[index];
            x.set_register(first, value);
        }
        Mov_dr_r32 | Mov_dr_r64 => {
            let index = debug_index(x, first)?;
            let value = x.register(second);
            write_debug(x.state, index, value)?;
        }
        _ => return Err(Exception::invalid_opcode()),
    }
    Ok(())
}

fn read_control(x: &mut Execution, register: Register) -> Result<u64, Exception> {
    Ok(match register {
        Register::CR0 => x.state.cr0,
        Register::CR2 => x.state.cr2,
        Register::CR3 => x.state.cr3,
        Register::CR4 => x.state.cr4,
        Register::CR8 => u64::from(x.bus.task_priority()),
        _ => return Err(Exception::invalid_opcode()),
    })
}

fn write_control(x: &mut Execution, register: Register, value: u64) -> Result<(), Exception> {
    match register {
        Register::CR0 => write_cr0(x.state, value),
        Register::CR2 => {
            x.state.cr2 = value;
            Ok(())
        }
        Register::CR3 => write_cr3(x.state, value),
        Register::CR4 => write_cr4(x.state, value),
        Register::CR8 => {
            if value > 15 {
                return Err(Exception::general_protection(0));
            }
            x.device = true; // A lower class may let an interrupt through.
            x.bus.set_task_priority(x.now, value as u8);
            Ok(())
        }
        _ => Err(Exception::invalid_opcode()),
    }
}

/// CR0 with its consistency rules; turning paging on with EFER.LME set activates long mode.
fn write_cr0(state: &mut State, value: u64) -> Result<(), Exception> {
    let refused = Err(Exception::general_protection(0));
    let paging = value & CR0_PG != 0;
    if value >> 32 != 0 || paging && value & CR0_PE == 0 || value & CR0_NW != 0 && value & CR0_CD == 0 {
        return refused;
    }
    let was_paging = state.cr0 & CR0_PG != 0;
    if paging && !was_paging && state.efer & EFER_LME != 0 {
        let long_code = state.segments[crate::state::segment::CS].attributes & crate::state::Segment::LONG != 0;
        if state.cr4 & CR4_PAE == 0 || long_code {
            return refused;
        }
        state.efer |= EFER_LMA;
    }
    if !paging && was_paging && state.efer & EFER_LMA != 0 {
        if state.is_long() {
            return refused;
        }
        state.efer &= !EFER_LMA;
    }
    state.cr0 = value & CR0_DEFINED | CR0_ET;
    Ok(())
}

fn write_cr3(state: &mut State, value: u64) -> Result<(), Exception> {
    if value >> PHYSICAL_BITS != 0 {
        return Err(Exception::general_protection(0));
    }
    state.cr3 = value;
    Ok(())
}

fn write_cr4(state: &mut State, value: u64) -> Result<(), Exception> {
    let leaves_pae = state.efer & EFER_LMA != 0 && value & CR4_PAE == 0;
    if value & !CR4_DEFINED != 0 || leaves_pae {
        return Err(Exception::general_protection(0));
    }
    state.cr4 = value;
    Ok(())
}

/// Which debug register is meant: DR4 and DR5 are DR6 and DR7, unless CR4.DE makes them invalid. DR7.GD traps every
/// access.
fn debug_index(x: &mut Execution, register: Register) -> Result<usize, Exception> {
    let index = match register.number() {
        4 | 5 if x.state.cr4 & CR4_DE != 0 => return Err(Exception::invalid_opcode()),
        4 => 6,
        5 => 7,
        index if index < 8 => index,
        _ => return Err(Exception::invalid_opcode()),
    };
    if x.state.dr[7] & debug::GENERAL_DETECT != 0 {
        x.state.dr[6] |= DR6_ACCESS_DETECTED;
        return Err(Exception::debug());
    }
    Ok(index)
}

/// What can be written is kept; [`super::debug`] says what it does.
fn write_debug(state: &mut State, index: usize, value: u64) -> Result<(), Exception> {
    if index >= 6 && value >> 32 != 0 {
        return Err(Exception::general_protection(0));
    }
    state.dr[index] = match index {
        6 => value & DR6_WRITABLE | DR6_FIXED,
        7 => value & DR7_WRITABLE | DR7_FIXED,
        _ => value,
    };
    Ok(())
}
