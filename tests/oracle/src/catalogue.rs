//! Which instructions are tested: everything in iced-x86's database that the guest's CPU model has in 64-bit mode,
//! but for what one of the oracles cannot execute, listed here with the reason.

use iced_x86::{Code, CpuidFeature, Decoder, DecoderOptions, EncodingKind, Mnemonic, OpCodeOperandKind};
use std::collections::HashSet;
use std::sync::LazyLock;

/// CPUID features of the guest's model that have instructions (x86-64-v2).
const MODEL: &[CpuidFeature] = &[
    CpuidFeature::INTEL8086,
    CpuidFeature::INTEL186,
    CpuidFeature::INTEL286,
    CpuidFeature::INTEL386,
    CpuidFeature::INTEL486,
    CpuidFeature::X64,
    CpuidFeature::CET_IBT,
    CpuidFeature::CLFSH,
    CpuidFeature::CMOV,
    CpuidFeature::CMPXCHG16B,
    CpuidFeature::CPUID,
    CpuidFeature::CX8,
    CpuidFeature::FPU,
    CpuidFeature::FPU287,
    CpuidFeature::FPU387,
    CpuidFeature::FXSR,
    CpuidFeature::MMX,
    CpuidFeature::MSR,
    CpuidFeature::MULTIBYTENOP,
    CpuidFeature::PAUSE,
    CpuidFeature::POPCNT,
    CpuidFeature::SEP,
    CpuidFeature::SSE,
    CpuidFeature::SSE2,
    CpuidFeature::SSE3,
    CpuidFeature::SSE4_1,
    CpuidFeature::SSE4_2,
    CpuidFeature::SSSE3,
    CpuidFeature::SYSCALL,
    CpuidFeature::TSC,
];

/// What the host's user mode cannot be asked, and why.
pub const NOT_ON_THE_HOST: &[(Mnemonic, &str)] = &[
    (Mnemonic::Cpuid, "the guest has a model of its own"),
    (Mnemonic::Rdtsc, "the guest's time is its instruction count"),
    (Mnemonic::Rdpmc, "counters depend on the host's kernel"),
    (Mnemonic::Syscall, "enters the host's kernel"),
    (Mnemonic::Sysenter, "enters the host's kernel"),
    (Mnemonic::Int, "enters the host's kernel for 80h"),
    (Mnemonic::Int1, "the host's kernel takes it for a debugger's"),
    (Mnemonic::Sgdt, "the host's kernel may set UMIP and emulate it"),
    (Mnemonic::Sidt, "the host's kernel may set UMIP and emulate it"),
    (Mnemonic::Sldt, "the host's kernel may set UMIP and emulate it"),
    (Mnemonic::Str, "the host's kernel may set UMIP and emulate it"),
    (Mnemonic::Smsw, "the host's kernel may set UMIP and emulate it"),
    (Mnemonic::Lar, "depends on the host's descriptor table"),
    (Mnemonic::Lsl, "depends on the host's descriptor table"),
    (Mnemonic::Verr, "depends on the host's descriptor table"),
    (Mnemonic::Verw, "depends on the host's descriptor table"),
    (Mnemonic::Lss, "depends on the host's descriptor table"),
    (Mnemonic::Lfs, "depends on the host's descriptor table"),
    (Mnemonic::Lgs, "depends on the host's descriptor table"),
    (Mnemonic::Retf, "depends on the host's descriptor table"),
    (Mnemonic::Iret, "depends on the host's descriptor table"),
    (Mnemonic::Iretd, "depends on the host's descriptor table"),
    (Mnemonic::Iretq, "depends on the host's descriptor table"),
    (Mnemonic::Popf, "loads TF and AC from random bytes; the generator has its own form"),
    (Mnemonic::Popfq, "loads TF and AC from random bytes; the generator has its own form"),
    (Mnemonic::Sysexit, "#UD in AMD's long mode; hypervisors emulate Intel's #GP"),
    (Mnemonic::Sysexitq, "#UD in AMD's long mode; hypervisors emulate Intel's #GP"),
    (Mnemonic::Ud0, "vendors disagree on whether it has a ModRM byte"),
    (Mnemonic::Rsm, "iced knows it, the host's hypervisor may not"),
];

/// Instructions the generator chooses from.
pub struct Catalogue {
    /// All of them.
    pub codes: Vec<Code>,
    /// The same by mnemonic, so that rare forms of common instructions do not crowd out the rest.
    pub by_mnemonic: Vec<Vec<Code>>,
    known: HashSet<Code>,
}

impl Catalogue {
    /// Whether the generator may emit this code.
    pub fn contains(&self, code: Code) -> bool {
        self.known.contains(&code)
    }
}

/// The catalogue for the host and the engine.
pub static USER: LazyLock<Catalogue> = LazyLock::new(|| {
    let codes: Vec<Code> = Code::values().filter(|&code| in_model(code) && on_the_host(code)).collect();
    let mut by_mnemonic: Vec<Vec<Code>> = Vec::new();
    for &code in &codes {
        match by_mnemonic.iter_mut().find(|group| group[0].mnemonic() == code.mnemonic()) {
            Some(group) => group.push(code),
            None => by_mnemonic.push(vec![code]),
        }
    }
    Catalogue { known: codes.iter().copied().collect(), codes, by_mnemonic }
});

/// The mnemonic of that name, if it is in the catalogue.
pub fn mnemonic(name: &str) -> Option<Mnemonic> {
    let mut mnemonics = USER.by_mnemonic.iter().map(|group| group[0].mnemonic());
    mnemonics.find(|mnemonic| format!("{mnemonic:?}").eq_ignore_ascii_case(name))
}

/// Whether a program would do the same at CPL 0, page faults' user bit aside.
pub fn is_unprivileged(program: &crate::case::Program) -> bool {
    let mut decoder = Decoder::with_ip(64, &program.bytes, program.address, DecoderOptions::AMD);
    decoder.iter().all(|one| {
        let op_code = one.code().op_code();
        let names_segment = (0..one.op_count()).any(|operand| one.op_register(operand).is_segment_register());
        let sets_flags = matches!(one.mnemonic(), Mnemonic::Popf | Mnemonic::Popfq | Mnemonic::Sti | Mnemonic::Cli);
        !(op_code.is_privileged()
            || op_code.may_require_cpl0()
            || op_code.is_input_output()
            || op_code.must_be_cpl0()
            || names_segment
            || sets_flags)
    })
}

/// Whether single steps count a program's instructions and change nothing else: it does not see TF, nor hide it.
pub fn is_countable(case: &crate::case::Case, program: &crate::case::Program) -> bool {
    let mut decoder = Decoder::with_ip(64, &program.bytes, program.address, DecoderOptions::AMD);
    let flags = [Mnemonic::Pushf, Mnemonic::Pushfq, Mnemonic::Popf, Mnemonic::Popfq];
    let stack_segment = |one: &iced_x86::Instruction| one.op0_register() == iced_x86::Register::SS;
    case.registers.rflags & 0x100 == 0
        && decoder.iter().all(|one| !flags.contains(&one.mnemonic()) && !stack_segment(&one))
}

/// Whether the guest's CPU has this encoding in 64-bit mode.
pub fn in_model(code: Code) -> bool {
    let op_code = code.op_code();
    op_code.is_instruction()
        && op_code.mode64()
        && op_code.amd_decoder64()
        && op_code.encoding() == EncodingKind::Legacy
        && !op_code.fwait()
        && !op_code.is_reserved_nop()
        && op_code.decoder_option() == 0
        && code.cpuid_features().iter().all(|feature| MODEL.contains(feature))
}

/// Whether the host's user mode can execute it as the guest's would.
fn on_the_host(code: Code) -> bool {
    let op_code = code.op_code();
    let loads_segment = matches!(op_code.op_kinds().first(), Some(OpCodeOperandKind::seg_reg))
        || matches!(code, Code::Popw_FS | Code::Popq_FS | Code::Popw_GS | Code::Popq_GS);
    let far = matches!(code.mnemonic(), Mnemonic::Jmp | Mnemonic::Call)
        && matches!(op_code.op_kinds(), [OpCodeOperandKind::mem]);
    !loads_segment && !far && NOT_ON_THE_HOST.iter().all(|(mnemonic, _)| *mnemonic != code.mnemonic())
}
