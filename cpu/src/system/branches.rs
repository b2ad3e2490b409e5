//! LOOP, LOOPE, LOOPNE and JCXZ, JECXZ, JRCXZ (APM vol. 3): counting branches that change no flag.

use super::Flow;
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::is_canonical;
use crate::state::{rflags, segment};
use iced_x86::{Instruction, Mnemonic, Register};

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    let counter = counter(instruction);
    let count = x.register(counter);
    let zero = x.flag(rflags::ZF);
    let left = match counter {
        Register::ECX => count.wrapping_sub(1) & 0xffff_ffff,
        Register::CX => count.wrapping_sub(1) & 0xffff,
        _ => count.wrapping_sub(1),
    };
    let (taken, counts) = match condition(instruction) {
        Mnemonic::Loop => (left != 0, true),
        Mnemonic::Loope => (left != 0 && zero, true),
        Mnemonic::Loopne => (left != 0 && !zero, true),
        _ => (count == 0, false),
    };
    let target = instruction.near_branch_target();
    if taken {
        check_target(x, target)?;
    }
    if counts {
        x.set_register(counter, left);
    }
    if !taken {
        return Ok(Flow::Next);
    }
    x.state.rip = target;
    Ok(Flow::Jump)
}

/// A repeat prefix decides the condition of LOOPE and LOOPNE, as on this vendor's processors.
fn condition(instruction: &Instruction) -> Mnemonic {
    match instruction.mnemonic() {
        Mnemonic::Loope | Mnemonic::Loopne if instruction.has_repne_prefix() => Mnemonic::Loopne,
        Mnemonic::Loope | Mnemonic::Loopne if instruction.has_rep_prefix() => Mnemonic::Loope,
        mnemonic => mnemonic,
    }
}

/// A near target must be canonical in 64-bit mode, elsewhere within CS.
pub fn check_target(x: &Execution, target: u64) -> Result<(), Exception> {
    let limit = u64::from(x.state.segments[segment::CS].limit);
    let fits = if x.state.is_long() { is_canonical(target) } else { target <= limit };
    if fits { Ok(()) } else { Err(Exception::general_protection(0)) }
}

/// The counter has the address size.
fn counter(instruction: &Instruction) -> Register {
    use iced_x86::Code::*;
    match instruction.code() {
        Loop_rel8_16_CX | Loop_rel8_32_CX | Loope_rel8_16_CX | Loope_rel8_32_CX | Loopne_rel8_16_CX
        | Loopne_rel8_32_CX | Jcxz_rel8_16 | Jcxz_rel8_32 => Register::CX,
        Loop_rel8_16_ECX | Loop_rel8_32_ECX | Loop_rel8_64_ECX | Loope_rel8_16_ECX | Loope_rel8_32_ECX
        | Loope_rel8_64_ECX | Loopne_rel8_16_ECX | Loopne_rel8_32_ECX | Loopne_rel8_64_ECX | Jecxz_rel8_16
        | Jecxz_rel8_32 | Jecxz_rel8_64 => Register::ECX,
        _ => Register::RCX,
    }
}
