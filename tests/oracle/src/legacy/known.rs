//! Where Unicorn 2.1 (QEMU 5.0) is known to be wrong in these modes, or cannot be asked: as data, with reasons.

use super::compare::undefined_flags;
use super::{CODE, Case, DATA, Mode, Outcome};
use iced_x86::{CpuidFeature, FlowControl, Instruction, Mnemonic, OpKind};

/// Reasons that the instructions alone give.
const EXCLUDED: &[(&str, &[Mnemonic])] = &[
    (
        "IN and OUT look neither at IOPL nor at the bitmap",
        &[
            Mnemonic::In,
            Mnemonic::Out,
            Mnemonic::Insb,
            Mnemonic::Insw,
            Mnemonic::Insd,
            Mnemonic::Outsb,
            Mnemonic::Outsw,
            Mnemonic::Outsd,
        ],
    ),
    (
        "the machine's own registers, times and counters are not equal",
        &[
            Mnemonic::Cpuid,
            Mnemonic::Rdtsc,
            Mnemonic::Rdtscp,
            Mnemonic::Rdpmc,
            Mnemonic::Rdmsr,
            Mnemonic::Wrmsr,
            Mnemonic::Sgdt,
            Mnemonic::Sidt,
            Mnemonic::Sldt,
            Mnemonic::Str,
            Mnemonic::Smsw,
            Mnemonic::Lmsw,
            Mnemonic::Clts,
            Mnemonic::Lgdt,
            Mnemonic::Lidt,
            Mnemonic::Lldt,
            Mnemonic::Ltr,
            Mnemonic::Hlt,
            Mnemonic::Syscall,
            Mnemonic::Sysret,
            Mnemonic::Sysenter,
            Mnemonic::Sysexit,
            Mnemonic::Invlpg,
            Mnemonic::Monitor,
            Mnemonic::Mwait,
            Mnemonic::Rsm,
        ],
    ),
    (
        "interrupts end in the hook, without the checks of a gate",
        &[Mnemonic::Int, Mnemonic::Int1, Mnemonic::Int3, Mnemonic::Into, Mnemonic::Bound],
    ),
];

fn is_floating(instruction: &Instruction) -> bool {
    use CpuidFeature::{FPU, FPU287, FPU387, FXSR, MMX, SSE, SSE2, SSE3, SSE4_1, SSE4_2, SSSE3};
    let features = [FPU, FPU287, FPU387, FXSR, MMX, SSE, SSE2, SSE3, SSE4_1, SSE4_2, SSSE3];
    instruction.cpuid_features().iter().any(|feature| features.contains(feature))
}

/// Why a case is not worth running.
pub fn before(instructions: &[Instruction]) -> Option<&'static str> {
    if instructions.iter().any(is_floating) {
        return Some("x87, MMX and SSE do the same in every mode");
    }
    let system_register = |register: iced_x86::Register| register.is_cr() || register.is_dr() || register.is_tr();
    if instructions.iter().any(|one| system_register(one.op0_register()) || system_register(one.op1_register())) {
        return Some("the machine's own registers, times and counters are not equal");
    }
    let names = |mnemonics: &[Mnemonic]| instructions.iter().any(|one| mnemonics.contains(&one.mnemonic()));
    EXCLUDED.iter().find(|(_, mnemonics)| names(mnemonics)).map(|(reason, _)| *reason)
}

/// Why what came of it cannot be compared.
pub fn after(case: &Case, instructions: &[Instruction], engine: &Outcome, reference: &Outcome) -> Option<&'static str> {
    if !(CODE as u32..DATA as u32).contains(&engine.linear) || reference.vector > Some(31) {
        return Some("it left the code segment");
    }
    if case.mode.bits() == 16 && engine.registers.ip > 0xffff {
        return Some("it left the code segment");
    }
    if case.mode.bits() == 32 && instructions.iter().any(|one| one.op0_kind() == OpKind::NearBranch16) {
        return Some("it left the code segment");
    }
    if reference.vector == Some(1) || engine.vector == Some(1) {
        return Some("TF: the exception hook comes at another time");
    }
    if instructions.iter().any(|one| one.code().op_code().is_reserved_nop()) {
        return Some("reserved NOPs are #UD");
    }
    let far = engine.registers.selectors[1] != case.registers.selectors[1];
    if far && (engine.vector != Some(3) || engine.changes.len() > 8) {
        return Some("a far transfer led to random bytes");
    }
    if instructions.iter().any(|one| one.mnemonic() == Mnemonic::Test && one.code().op_code().group_index() == 1) {
        return Some("TEST as /1 is #UD");
    }
    if case.mode == Mode::Virtual8086 && instructions.iter().any(|one| one.mnemonic() == Mnemonic::Pushfd) {
        return Some("PUSHFD shows VM");
    }
    let loops = |one: &Instruction| matches!(one.mnemonic(), Mnemonic::Loope | Mnemonic::Loopne);
    if instructions.iter().any(|one| loops(one) && (one.has_rep_prefix() || one.has_repne_prefix())) {
        return Some("a repeat prefix does not decide the condition of LOOPE and LOOPNE");
    }
    if case.mode.bits() == 16 && instructions.iter().any(|one| one.mnemonic() == Mnemonic::Popcnt) {
        return Some("POPCNT of 16-bit code counts 32 bits");
    }
    if instructions.iter().any(|one| one.mnemonic() == Mnemonic::Enter) {
        return Some("ENTER writes as much of EBP as the stack is wide, not the operand");
    }
    if instructions.iter().any(|one| matches!(one.mnemonic(), Mnemonic::Rcl | Mnemonic::Rcr)) {
        return Some("RCL and RCR of no whole rotation set OF");
    }
    let releases = |one: &Instruction| matches!(one.mnemonic(), Mnemonic::Ret | Mnemonic::Retf) && one.op_count() == 1;
    if instructions.iter().any(|one| releases(one) && one.immediate16() >= 0x8000) {
        return Some("what RET releases has a sign");
    }
    let stops = matches!(engine.vector, Some(12 | 13) | None);
    let elsewhere = engine.vector != reference.vector || engine.registers.ip != reference.registers.ip;
    if stops && elsewhere && breaks_a_rule(case, instructions, engine) {
        return Some("neither limits nor types of segments are checked");
    }
    let pushes = |one: &Instruction| {
        matches!(one.mnemonic(), Mnemonic::Pushf | Mnemonic::Pushfd | Mnemonic::Lahf) || one.rflags_read() != 0
    };
    if undefined_flags(instructions) != 0 && instructions.iter().skip(1).any(pushes) {
        return Some("undefined flags are read by a later instruction");
    }
    let open = [Mnemonic::Bsf, Mnemonic::Bsr, Mnemonic::Bswap, Mnemonic::Shld, Mnemonic::Shrd];
    if instructions.iter().any(|one| open.contains(&one.mnemonic())) {
        return Some("BSF and BSR of zero, and other results the architecture leaves open");
    }
    None
}

/// Whether a fault of the engine's that Unicorn does not know has a reason: the operand does not fit its segment, or it
/// is about the stack, the code segment or a selector.
fn breaks_a_rule(case: &Case, instructions: &[Instruction], engine: &Outcome) -> bool {
    let Some(one) = instructions.iter().find(|one| one.ip() == u64::from(engine.registers.ip)) else { return true };
    let plain = (0..one.op_count()).find(|&operand| one.op_kind(operand) == OpKind::Memory);
    let other = one.stack_pointer_increment() != 0
        || one.flow_control() != FlowControl::Next
        || one.is_string_instruction()
        || (0..one.op_count()).any(|operand| one.op_register(operand).is_segment_register());
    let Some(operand) = plain.filter(|_| !other) else { return true };
    let loads = |one: &Instruction| {
        let changes_segment = matches!(one.mnemonic(), Mnemonic::Lds | Mnemonic::Les | Mnemonic::Lfs | Mnemonic::Lgs);
        changes_segment || one.op0_register().is_segment_register()
    };
    if instructions.iter().take_while(|earlier| earlier.ip() < one.ip()).any(loads) {
        return true;
    }
    let offset = one.virtual_address(operand, 0, |register, _, _| {
        let number = if register.is_gpr() { register.full_register32().number() } else { 0 };
        let value = u64::from(engine.registers.gpr[number]);
        Some(match register {
            _ if register.is_segment_register() => 0,
            _ if register.size() == 1 => value & 0xff,
            _ if register.size() == 2 => value & 0xffff,
            _ => value,
        })
    });
    let (segment, size) = (one.memory_segment().number(), one.memory_size().size().max(1) as u64);
    let bit_string = matches!(one.mnemonic(), Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc);
    let part = &case.parts[segment];
    let beyond = offset.is_none_or(|offset| offset + size - 1 > u64::from(part.limit));
    let writes_code = segment == 1 && !case.mode.has_paragraphs();
    beyond || bit_string || writes_code || one.mnemonic() == Mnemonic::Cmpxchg8b
}
