//! Where Unicorn 2.1 (QEMU 5.0) is known to be wrong, or defines what the architecture does not: as data, with reasons.
//! The host's CPU, asked about the same programs, sides with the engine wherever user mode can ask it.

use crate::case::{Case, Item, Outcome, Program};
use crate::compare::Excused;
use iced_x86::{CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

/// What is known about one comparison.
pub struct Facts<'a> {
    /// The case.
    pub case: &'a Case,
    /// Its instructions.
    pub instructions: Vec<Instruction>,
    /// The one at which the engine's run ended.
    pub last: Instruction,
    /// The engine's outcome.
    pub engine: &'a Outcome,
}

/// One known error: why, and when a case cannot be compared because of it.
pub struct Known {
    /// The reason.
    pub reason: &'static str,
    /// Whether it concerns this case.
    pub applies: fn(&Facts) -> bool,
}

/// Cases that are not compared.
pub const KNOWN: &[Known] = &[
    Known {
        reason: "x87 results, status and environment are QEMU's own softfloat's; no pending exception is raised",
        applies: |facts| facts.engine.vector == 16 || facts.any(is_x87),
    },
    Known {
        reason: "no SSE instruction sets MXCSR's exception flags, so none raises #XF (tracker 2006)",
        applies: |facts| facts.engine.vector == 19 || facts.names(&[Mnemonic::Stmxcsr, Mnemonic::Ldmxcsr]),
    },
    Known {
        reason: "rounding, FTZ and DAZ reach only some SSE instructions",
        applies: |facts| facts.case.registers.fx[24..28] != 0x1f80u32.to_le_bytes() && facts.any(is_sse),
    },
    Known {
        reason: "SSE operands need no alignment",
        applies: |facts| facts.engine.vector == 13 && is_sse(&facts.last) && has_memory(&facts.last),
    },
    Known { reason: "a stack address that is not canonical raises #GP", applies: |facts| facts.engine.vector == 12 },
    Known {
        reason: "CMPXCHG8B and CMPXCHG16B lose flags, and across two bad pages check in another order",
        applies: |facts| facts.names(&[Mnemonic::Cmpxchg8b, Mnemonic::Cmpxchg16b]),
    },
    Known {
        reason: "IN and OUT look neither at IOPL nor at the bitmap",
        applies: |facts| facts.any(|one| one.code().op_code().is_input_output()),
    },
    Known {
        reason: "branch targets are not checked: the fetch faults instead of the branch",
        applies: |facts| facts.engine.vector == 13 && facts.last.flow_control() != iced_x86::FlowControl::Next,
    },
    Known {
        reason: "66h does not make near branches narrow, as on Intel's CPUs",
        applies: |facts| facts.any(|one| one.flow_control() != iced_x86::FlowControl::Next && has_operand_prefix(one)),
    },
    Known {
        reason: "BSF and BSR of zero, and other results the architecture leaves open",
        applies: |facts| {
            facts.names(&[
                Mnemonic::Bsf,
                Mnemonic::Bsr,
                Mnemonic::Bswap,
                Mnemonic::Shld,
                Mnemonic::Shrd,
                Mnemonic::Rcpps,
                Mnemonic::Rcpss,
                Mnemonic::Rsqrtps,
                Mnemonic::Rsqrtss,
            ])
        },
    },
    Known {
        reason: "string comparisons of SSE4.2 are wrong in ECX and CF",
        applies: |facts| {
            facts.names(&[
                Mnemonic::Pcmpistri,
                Mnemonic::Pcmpistrm,
                Mnemonic::Pcmpestri,
                Mnemonic::Pcmpestrm,
                Mnemonic::Pcmpestri64,
                Mnemonic::Pcmpestrm64,
            ])
        },
    },
    Known {
        reason: "undefined flags are read by a later instruction",
        applies: |facts| facts.undefined_flags() & facts.flags_read() != 0,
    },
    Known {
        reason: "an equal CMPXCHG of 32 bits clears the upper half of RAX",
        applies: |facts| facts.names(&[Mnemonic::Cmpxchg]),
    },
    Known {
        reason: "LTR accepts a null selector, and segments of a 32-bit TSS",
        applies: |facts| facts.engine.vector == 13 && facts.last_is(&[Mnemonic::Ltr]),
    },
    Known {
        reason: "SS accepts a null selector of any RPL at CPL 0 (so does AMD's manual, Intel's does not)",
        applies: |facts| facts.engine.vector == 13 && facts.last.op0_register() == Register::SS,
    },
    Known {
        reason: "an access of 16 bytes is two of 8: the first half is done when the second faults",
        applies: |facts| facts.engine.vector == 14 && has_memory(&facts.last) && facts.last.memory_size().size() > 8,
    },
    Known {
        reason: "an access across two bad pages faults at the second",
        applies: |facts| {
            facts.engine.vector == 14
                && has_memory(&facts.last)
                && facts.engine.cr2 % 4096 > 4096 - facts.last.memory_size().size() as u64
        },
    },
    Known {
        reason: "a block's second page is fetched before its first instruction runs",
        applies: |facts| {
            let fetch = facts.engine.vector == 14 && facts.engine.cr2 == facts.engine.registers.rip;
            let end = facts.instructions.last().map_or(0, Instruction::next_ip);
            fetch || end % 4096 == 0 || !facts.case.items.iter().any(|item| matches!(item, Item::End))
        },
    },
    Known {
        reason: "the flags before a store that rewrites its own block are lost",
        applies: |facts| facts.case.rewrites,
    },
    Known {
        reason: "of two prefixes, or two segments, another one counts",
        applies: |facts| facts.case.system.is_none() && facts.case.items.iter().any(is_mangled),
    },
    Known {
        reason: "of two NaNs another one is the result; conversions and horizontal additions differ too",
        applies: |facts| facts.any(|one| is_sse(one) && computes_floats(one)),
    },
    Known {
        reason: "horizontal additions of a register to itself read what they have written",
        applies: |facts| {
            let horizontal = [Mnemonic::Phaddw, Mnemonic::Phaddd, Mnemonic::Phaddsw];
            let differences = [Mnemonic::Phsubw, Mnemonic::Phsubd, Mnemonic::Phsubsw];
            facts.names(&horizontal) || facts.names(&differences)
        },
    },
    Known {
        reason: "ENTER with 66h writes all of RBP",
        applies: |facts| facts.any(|one| one.code() == iced_x86::Code::Enterw_imm16_imm8),
    },
    Known {
        reason: "CMPS reads its destination first",
        applies: |facts| facts.engine.vector != 3 && is_compare_string(&facts.last),
    },
    Known {
        reason: "RCL and RCR of no whole rotation set OF",
        applies: |facts| facts.names(&[Mnemonic::Rcl, Mnemonic::Rcr]),
    },
    Known {
        reason: "LAR hides the upper bits of the limit, as on Intel's CPUs",
        applies: |facts| facts.names(&[Mnemonic::Lar]),
    },
    Known { reason: "CLFLUSH never faults", applies: |facts| facts.names(&[Mnemonic::Clflush]) },
    Known {
        reason: "LOCK NEG sets wrong flags",
        applies: |facts| facts.any(|one| one.mnemonic() == Mnemonic::Neg && one.has_lock_prefix()),
    },
    Known {
        reason: "only the first byte's address is checked for being canonical",
        applies: |facts| {
            let memory = has_memory(&facts.last) || facts.last.is_string_instruction();
            facts.engine.vector == 13 && memory && facts.last.memory_size().size() > 1
        },
    },
    Known {
        reason: "predicates and opcodes that silicon accepts are #UD",
        applies: |facts| {
            let reserved = |one: &Instruction| match one.mnemonic() {
                Mnemonic::Cmpps | Mnemonic::Cmppd | Mnemonic::Cmpss | Mnemonic::Cmpsd => {
                    !one.is_string_instruction() && one.immediate8() > 7
                }
                Mnemonic::Test => one.code().op_code().group_index() == 1,
                _ => false,
            };
            facts.any(reserved)
        },
    },
    Known {
        reason: "ENTER, CALL and far pointers store before every check is done",
        applies: |facts| {
            facts.engine.vector != 3 && facts.last_is(&[Mnemonic::Enter, Mnemonic::Call, Mnemonic::Maskmovdqu])
        },
    },
    Known {
        reason: "TF: the exception hook comes at another time",
        applies: |facts| facts.case.registers.rflags & 0x100 != 0,
    },
];

impl<'a> Facts<'a> {
    /// The facts of a case that the engine has run.
    pub fn of(case: &'a Case, program: &Program, engine: &'a Outcome) -> Facts<'a> {
        let mut decoder = Decoder::with_ip(64, &program.bytes, program.address, DecoderOptions::AMD);
        let instructions: Vec<Instruction> = decoder.iter().collect();
        let rip = engine.registers.rip;
        let last = instructions.iter().find(|one| one.ip() == rip).copied().unwrap_or_default();
        Facts { case, instructions, last, engine }
    }

    /// The first reason not to compare.
    pub fn reason(&self) -> Option<&'static str> {
        KNOWN.iter().find(|known| (known.applies)(self)).map(|known| known.reason)
    }

    /// What may differ all the same: flags that the architecture leaves undefined, what Unicorn does not tell.
    pub fn excused(&self) -> Excused {
        Excused {
            // Where a fault interrupts a block, flags may be those of an earlier instruction.
            flags: if self.engine.vector == 3 { u64::from(self.undefined_flags()) } else { 0x8d5 },
            error: true,
            floating_status: true,
            x87: true,
            ..Excused::default()
        }
    }

    fn any(&self, test: impl FnMut(&Instruction) -> bool) -> bool {
        self.instructions.iter().any(test)
    }

    fn names(&self, mnemonics: &[Mnemonic]) -> bool {
        self.any(|one| mnemonics.contains(&one.mnemonic()))
    }

    fn last_is(&self, mnemonics: &[Mnemonic]) -> bool {
        mnemonics.contains(&self.last.mnemonic())
    }

    /// Undefined arithmetic flags of all instructions, as RFLAGS bits.
    fn undefined_flags(&self) -> u32 {
        self.flags(|one| one.rflags_undefined())
    }

    fn flags_read(&self) -> u32 {
        let pushes = |one: &Instruction| matches!(one.mnemonic(), Mnemonic::Pushf | Mnemonic::Pushfq | Mnemonic::Lahf);
        let all = if self.any(pushes) { !0 } else { 0 };
        all | self.flags(|one| one.rflags_read())
    }

    fn flags(&self, of: impl Fn(&Instruction) -> u32) -> u32 {
        use iced_x86::RflagsBits;
        let bits = [
            (RflagsBits::CF, 0),
            (RflagsBits::PF, 2),
            (RflagsBits::AF, 4),
            (RflagsBits::ZF, 6),
            (RflagsBits::SF, 7),
            (RflagsBits::OF, 11),
        ];
        let named = self.instructions.iter().fold(0, |named, one| named | of(one));
        bits.iter().filter(|(bit, _)| named & bit != 0).fold(0, |flags, (_, shift)| flags | 1 << shift)
    }
}

fn is_x87(instruction: &Instruction) -> bool {
    use CpuidFeature::{FPU, FPU287, FPU387, FXSR, MMX};
    let names_mmx = (0..instruction.op_count()).any(|operand| instruction.op_register(operand).is_mm());
    names_mmx || instruction.cpuid_features().iter().any(|one| matches!(one, FPU | FPU287 | FPU387 | FXSR | MMX))
}

fn is_sse(instruction: &Instruction) -> bool {
    use CpuidFeature::{SSE, SSE2, SSE3, SSE4_1, SSE4_2, SSSE3};
    instruction.cpuid_features().iter().any(|one| matches!(one, SSE | SSE2 | SSE3 | SSSE3 | SSE4_1 | SSE4_2))
}

fn is_compare_string(instruction: &Instruction) -> bool {
    let compares = [Mnemonic::Cmpsb, Mnemonic::Cmpsw, Mnemonic::Cmpsd, Mnemonic::Cmpsq];
    instruction.is_string_instruction() && compares.contains(&instruction.mnemonic())
}

/// Whether an item is an instruction with a superfluous prefix.
fn is_mangled(item: &Item) -> bool {
    matches!(item, Item::Raw(bytes) if bytes[0] != 0x68)
}

fn computes_floats(instruction: &Instruction) -> bool {
    let name = format!("{:?}", instruction.mnemonic()).to_lowercase();
    let kinds = ["add", "sub", "mul", "div", "min", "max", "sqrt", "cvt", "dp", "hadd", "hsub", "round", "cmp"];
    let floats = ["ps", "pd", "ss", "sd", "pi"].iter().any(|suffix| name.ends_with(suffix));
    (floats || name.starts_with("cvt")) && kinds.iter().any(|kind| name.starts_with(kind))
}

fn has_memory(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
}

fn has_operand_prefix(instruction: &Instruction) -> bool {
    let narrow = |operand: u32| matches!(instruction.op_kind(operand), OpKind::NearBranch16);
    (0..instruction.op_count()).any(narrow)
        || instruction.op0_register().size() == 2 && instruction.op0_register() != Register::None
        || instruction.code().op_code().operand_size() == 16
}
