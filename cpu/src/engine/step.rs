//! An instruction of a block, with what several parts of translation ask about it, found out once.

use super::blocks::Mode;
use crate::exception::Exception;
use crate::system;
use iced_x86::{
    Code, CpuidFeature, EncodingKind, FlowControl, Instruction, InstructionInfoFactory, InstructionInfoOptions,
    Mnemonic, OpAccess, Register,
};

/// See the module.
pub struct Step {
    /// The instruction.
    pub instruction: Instruction,
    /// What it raises whatever its operands.
    pub raises: Option<Exception>,
    /// It is executed in Rust.
    pub rust: bool,
    /// How it uses each operand.
    pub accesses: [OpAccess; 5],
    /// The general registers it may write, a bit each.
    pub written: u16,
}

/// Whether an access may write.
pub fn is_write(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

impl Step {
    /// Looks at an instruction.
    pub fn new(instruction: Instruction, mode: Mode, factory: &mut InstructionInfoFactory) -> Step {
        let raises = always_raises(&instruction, mode);
        let rust = raises.is_none() && is_left_to_rust(&instruction, mode);
        let mut step = Step { instruction, raises, rust, accesses: [OpAccess::None; 5], written: 0 };
        if raises.is_none() && !rust {
            let info = factory.info_options(&instruction, InstructionInfoOptions::NO_MEMORY_USAGE);
            step.accesses = std::array::from_fn(|operand| info.op_access(operand as u32));
            for used in info.used_registers().iter().filter(|used| is_write(used.access())) {
                let register = used.register().full_register();
                if register.is_gpr() {
                    step.written |= 1 << (register as u32 - Register::RAX as u32);
                }
            }
        }
        step
    }

    /// It raises, or is executed in Rust: nothing is emitted for it.
    pub fn is_opaque(&self) -> bool {
        self.rust || self.raises.is_some()
    }

    /// Its own code uses x87 or SSE registers.
    pub fn uses_fpu(&self) -> bool {
        !self.is_opaque() && uses_fpu(&self.instruction)
    }

    /// A jump forward that arithmetic flags decide: the block may go on where it is not taken. Backward ones mostly are.
    pub fn is_side_exit(&self) -> bool {
        let one = &self.instruction;
        one.is_jcc_short_or_near() && !self.is_opaque() && one.near_branch_target() > one.ip()
    }

    /// Nothing can follow in the same block, unless it is a side exit.
    pub fn ends_block(&self) -> bool {
        let one = &self.instruction;
        let repeats = one.has_rep_prefix() || one.has_repne_prefix();
        self.raises.is_some() || one.flow_control() != FlowControl::Next || repeats && one.is_string_instruction()
    }

    /// Its own code decides where execution goes on.
    pub fn is_transfer(&self) -> bool {
        self.instruction.flow_control() != FlowControl::Next && !self.rust
    }
}

fn uses_fpu(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    if matches!(
        instruction.mnemonic(),
        Lfence
            | Mfence
            | Sfence
            | Movnti
            | Pause
            | Prefetchnta
            | Prefetcht0
            | Prefetcht1
            | Prefetcht2
            | Prefetchw
            | Clflush
    ) {
        return false;
    }
    instruction.mnemonic() == Wait
        || instruction.cpuid_features().iter().any(|&feature| is_fpu(feature) || is_sse(feature))
}

fn is_fpu(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    matches!(feature, FPU | FPU287 | FPU287XL_ONLY | FPU387 | FPU387SL_ONLY | MMX)
}

fn is_sse(feature: CpuidFeature) -> bool {
    use CpuidFeature::*;
    matches!(feature, SSE | SSE2 | SSE3 | SSSE3 | SSE4_1 | SSE4_2)
}

/// What an instruction raises whatever its operands, in this mode.
fn always_raises(instruction: &Instruction, mode: Mode) -> Option<Exception> {
    if instruction.is_invalid()
        || instruction.encoding() != EncodingKind::Legacy
        || instruction.flow_control() == FlowControl::Exception
        || !system::cpuid::accepts(instruction)
    {
        return Some(Exception::invalid_opcode());
    }
    if mode.0 & (Mode::FPU_TRAP | Mode::SSE_OFF) != 0 && uses_fpu(instruction) && !system::handles(instruction) {
        let sse = instruction.cpuid_features().iter().any(|feature| is_sse(*feature));
        if mode.0 & Mode::SSE_OFF != 0 && sse {
            return Some(Exception::invalid_opcode());
        }
        if mode.0 & Mode::FPU_TRAP != 0 {
            return Some(Exception::device_not_available());
        }
    }
    None
}

/// Whether the instruction is executed in Rust. So are calls where the code segment has a limit: they must look at their
/// target before they push. PUSH of a memory operand is not in 64-bit mode.
fn is_left_to_rust(instruction: &Instruction, mode: Mode) -> bool {
    let calls = matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall);
    let pushes = mode.long() && matches!(instruction.code(), Code::Push_rm64 | Code::Push_rm16);
    system::handles(instruction) && !pushes || calls && !mode.flat()
}
