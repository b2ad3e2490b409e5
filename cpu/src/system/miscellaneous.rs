//! HLT, time stamps, counters, caches, XLAT, and opcodes that are invalid on purpose (APM vol. 3).

use super::{Flow, cpuid, management, msr, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::control;
use crate::state::gpr::{RAX, RCX, RDX};
use iced_x86::{Instruction, Mnemonic, Register};

/// CR4.PCE: RDPMC at every privilege.
const CR4_PCE: u64 = 1 << 8;
/// Performance counters the model has; none ever counts.
const COUNTERS: u64 = 4;

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    match instruction.mnemonic() {
        Mnemonic::Cpuid => cpuid::execute(x),
        Mnemonic::Rdtsc => read_time_stamp(x)?,
        Mnemonic::Rdtscp => {
            read_time_stamp(x)?;
            x.state.gpr[RCX] = x.state.tsc_aux & 0xffff_ffff;
        }
        Mnemonic::Rdpmc => read_counter(x)?,
        Mnemonic::Hlt => {
            operand::require_ring_0(x)?;
            x.state.halted = true;
            return Ok(Flow::Halt);
        }
        // Caches and the TLB are invisible: only the right to ask is checked.
        Mnemonic::Invd | Mnemonic::Wbinvd | Mnemonic::Wbnoinvd | Mnemonic::Invlpg => operand::require_ring_0(x)?,
        // CLFLUSH is checked like a load of a byte.
        Mnemonic::Clflush => {
            let linear = operand::Place::of(x, instruction, 0).linear(x, 1, false)?;
            let access = crate::paging::Access::read(x.user());
            x.probe(linear, 1, access)?;
        }
        Mnemonic::Xlatb => {
            let value = operand::Place::of(x, instruction, 0).read(x, 1)?;
            x.set_register(Register::AL, value);
        }
        Mnemonic::Rsm => return management::resume(x),
        // Hints of later parts.
        Mnemonic::Rdsspd
        | Mnemonic::Rdsspq
        | Mnemonic::Cldemote
        | Mnemonic::Prefetchwt1
        | Mnemonic::Prefetchit0
        | Mnemonic::Prefetchit1 => {}
        _ => return Err(Exception::invalid_opcode()),
    }
    Ok(Flow::Next)
}

fn read_time_stamp(x: &mut Execution) -> Result<(), Exception> {
    if x.state.cr4 & control::CR4_TSD != 0 && x.state.cpl != 0 {
        return Err(Exception::general_protection(0));
    }
    set_pair(x, msr::time_stamp(x));
    Ok(())
}

fn read_counter(x: &mut Execution) -> Result<(), Exception> {
    let allowed = x.state.cpl == 0 || x.state.cr4 & CR4_PCE != 0;
    if !allowed || x.state.gpr[RCX] & 0xffff_ffff >= COUNTERS {
        return Err(Exception::general_protection(0));
    }
    set_pair(x, 0);
    Ok(())
}

/// EDX:EAX.
fn set_pair(x: &mut Execution, value: u64) {
    x.state.gpr[RAX] = value & 0xffff_ffff;
    x.state.gpr[RDX] = value >> 32;
}
