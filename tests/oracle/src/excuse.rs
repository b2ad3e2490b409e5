//! Where the engine and the host's silicon may differ, as data with reasons. All of it is about how an instruction
//! that faults does so; none of it can be seen by a program that does not examine its own faults.

use crate::case::{Outcome, Program};
use crate::compare::Excused;
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// One excuse: instructions, the vector they ended with on the host, what may differ.
struct Excuse {
    mnemonics: &'static [Mnemonic],
    vectors: &'static [u8],
    excused: Excused,
    #[allow(dead_code)]
    reason: &'static str,
}

const NOTHING: Excused = Excused {
    flags: 0,
    error: false,
    user: false,
    address: false,
    floating_status: false,
    x87: false,
    tags: false,
    memory: false,
    vector: false,
};

const EXCUSES: &[Excuse] = &[
    Excuse {
        mnemonics: &[
            Mnemonic::Fxsave,
            Mnemonic::Fxsave64,
            Mnemonic::Fxrstor,
            Mnemonic::Fxrstor64,
            Mnemonic::Fnsave,
            Mnemonic::Frstor,
            Mnemonic::Fnstenv,
            Mnemonic::Fldenv,
            Mnemonic::Fbld,
            Mnemonic::Fbstp,
            Mnemonic::Fld,
            Mnemonic::Fstp,
        ],
        vectors: &[12, 13, 14],
        excused: Excused { address: true, error: true, memory: true, vector: true, ..NOTHING },
        reason: "microcode touches the operand in another order; one with two bad ends faults at the other",
    },
    Excuse {
        mnemonics: &[Mnemonic::Enter],
        vectors: &[12, 14],
        excused: Excused { address: true, error: true, memory: true, vector: true, ..NOTHING },
        reason: "microcode stores and loads frame pointers in another order before it checks the end of the frame",
    },
    Excuse {
        mnemonics: &[Mnemonic::Maskmovq, Mnemonic::Maskmovdqu],
        vectors: &[13, 14],
        excused: Excused { address: true, tags: true, vector: true, ..NOTHING },
        reason: "microcode enters MMX state before it faults, and reports the first byte of the operand",
    },
    Excuse {
        mnemonics: &[Mnemonic::Cmpsb, Mnemonic::Cmpsw, Mnemonic::Cmpsd, Mnemonic::Cmpsq],
        vectors: &[13, 14],
        excused: Excused { address: true, error: true, vector: true, ..NOTHING },
        reason: "of two bad operands some processors report the second one",
    },
    Excuse {
        mnemonics: &[Mnemonic::Call],
        vectors: &[12, 14],
        excused: Excused { vector: true, ..NOTHING },
        reason: "a stack that faults comes before a target that is not canonical",
    },
];

/// Whether the engine refuses an MXCSR that the host takes: bit 17, misaligned mode, is not in the guest's model.
pub fn refuses_mxcsr(program: &Program, engine: &Outcome) -> bool {
    let loads = [Mnemonic::Ldmxcsr, Mnemonic::Fxrstor, Mnemonic::Fxrstor64];
    engine.vector == 13 && instruction_at(program, engine).is_some_and(|one| loads.contains(&one.mnemonic()))
}

/// Whether the host refuses an FS or GS operand whose offset is not canonical, as AMD's processors do even where the sum
/// with the base is; the engine looks at the sum alone, as Intel's do.
pub fn refuses_offset(program: &Program, host: &Outcome) -> bool {
    let Some(instruction) = instruction_at(program, host).filter(|_| matches!(host.vector, 12 | 13)) else {
        return false;
    };
    let operand = (0..instruction.op_count()).find(|&operand| instruction.op_kind(operand) == OpKind::Memory);
    let segmented = matches!(instruction.segment_prefix(), Register::FS | Register::GS);
    let offset = operand.filter(|_| segmented).and_then(|operand| {
        instruction.virtual_address(operand, 0, |register, _, _| match register {
            _ if register.is_segment_register() => Some(0),
            _ if register.is_gpr64() => Some(host.registers.gpr[register.number()]),
            _ => None,
        })
    });
    offset.is_some_and(|offset| (offset as i64) << 16 >> 16 != offset as i64)
}

/// The instruction at which a run ended.
fn instruction_at(program: &Program, outcome: &Outcome) -> Option<Instruction> {
    let offset = outcome.registers.rip.wrapping_sub(program.address) as usize;
    let bytes = program.bytes.get(offset..)?;
    Some(Decoder::with_ip(64, bytes, outcome.registers.rip, DecoderOptions::AMD).decode())
}

/// What may differ from this outcome of the host.
pub fn excuse(program: &Program, host: &Outcome) -> Excused {
    let Some(instruction) = instruction_at(program, host) else { return NOTHING };
    if instruction.mnemonic() == Mnemonic::Cmpsd && !instruction.is_string_instruction() {
        return NOTHING;
    }
    EXCUSES
        .iter()
        .find(|excuse| excuse.mnemonics.contains(&instruction.mnemonic()) && excuse.vectors.contains(&host.vector))
        .map_or(NOTHING, |excuse| excuse.excused)
}
