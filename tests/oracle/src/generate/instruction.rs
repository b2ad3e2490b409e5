//! One random instruction: its operands by the kinds the database names, and values that make it do something.

use super::builder::Builder;
use super::memory;
use crate::case::{Item, encode};
use crate::catalogue::USER;
use crate::values;
use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpCodeOperandKind as Kind, OpKind, Register};

/// Appends one random instruction with what it needs before it. `alone`: nothing follows that could read what it
/// stored, so images with host pointers are allowed.
pub fn push(builder: &mut Builder, alone: bool) {
    for _ in 0..20 {
        let number = builder.random.below(USER.by_mnemonic.len());
        let wanted = |group: &&Vec<Code>| Some(group[0].mnemonic()) == builder.only;
        let group = USER.by_mnemonic.iter().find(wanted).unwrap_or(&USER.by_mnemonic[number]);
        let code = builder.random.pick(group);
        if !alone && stores_pointers(code) {
            continue;
        }
        let length = builder.case.items.len();
        let written = builder.written;
        if let Some(instruction) = random(builder, code) {
            match builder.random.percent(4).then(|| mangled(builder, &instruction)).flatten() {
                Some(bytes) => {
                    builder.push(instruction);
                    builder.case.items.pop();
                    builder.case.items.push(Item::Raw(bytes));
                }
                None => builder.push(instruction),
            }
            return;
        }
        // What it wanted before it failed stays harmless, but is in nobody's interest.
        builder.case.items.truncate(length);
        builder.written = written;
    }
}

/// FIP, FDP and FOP are always zero in the guest.
fn stores_pointers(code: Code) -> bool {
    matches!(code.mnemonic(), Mnemonic::Fnstenv | Mnemonic::Fnsave | Mnemonic::Fxsave | Mnemonic::Fxsave64)
}

/// An instruction of this code, or `None` if it has an operand of a kind that cannot occur here.
fn random(builder: &mut Builder, code: Code) -> Option<Instruction> {
    let op_code = code.op_code();
    if op_code.op_kinds().iter().any(|kind| {
        matches!(kind, Kind::br16_1 | Kind::br32_1 | Kind::br64_1 | Kind::br16_2 | Kind::br32_4 | Kind::br64_4)
    }) {
        return None;
    }
    let mut instruction = Instruction::new();
    instruction.set_code(code);
    let mut reached = None;
    for (number, kind) in op_code.op_kinds().iter().enumerate() {
        set_operand(builder, &mut instruction, number as u32, *kind, &mut reached)?;
    }
    prefixes(builder, &mut instruction);
    special_values(builder, &instruction, reached);
    let bytes = encode(&instruction, crate::layout::CODE)?;
    // The encoder trusts the caller with odd operands; only what decodes to the same code counts.
    let decoded = Decoder::with_ip(64, &bytes, crate::layout::CODE, DecoderOptions::AMD).decode();
    (decoded.code() == code).then_some(instruction)
}

/// Sets one operand; `reached` receives the address of a memory operand.
fn set_operand(
    builder: &mut Builder,
    instruction: &mut Instruction,
    number: u32,
    kind: Kind,
    reached: &mut Option<u64>,
) -> Option<()> {
    let memory_percent = 60;
    let register = match kind {
        Kind::mem | Kind::mem_offs => return memory_operand(builder, instruction, number, kind, reached),
        Kind::r8_or_mem
        | Kind::r16_or_mem
        | Kind::r32_or_mem
        | Kind::r64_or_mem
        | Kind::mm_or_mem
        | Kind::xmm_or_mem
            if builder.random.percent(memory_percent) =>
        {
            return memory_operand(builder, instruction, number, kind, reached);
        }
        Kind::r8_or_mem | Kind::r8_reg | Kind::r8_opcode => byte_register(builder),
        Kind::r16_or_mem | Kind::r16_reg | Kind::r16_rm | Kind::r16_opcode => general(builder, Register::AX),
        Kind::r32_or_mem | Kind::r32_reg | Kind::r32_rm | Kind::r32_opcode => general(builder, Register::EAX),
        Kind::r64_or_mem | Kind::r64_reg | Kind::r64_rm | Kind::r64_opcode => general(builder, Register::RAX),
        Kind::mm_or_mem | Kind::mm_reg | Kind::mm_rm => Register::MM0 + builder.random.below(8) as u32,
        Kind::xmm_or_mem | Kind::xmm_reg | Kind::xmm_rm => Register::XMM0 + builder.random.below(16) as u32,
        Kind::seg_reg => Register::ES + builder.random.below(6) as u32,
        Kind::cr_reg => {
            builder.random.pick(&[Register::CR0, Register::CR2, Register::CR3, Register::CR4, Register::CR8])
        }
        Kind::dr_reg => Register::DR0 + builder.random.below(8) as u32,
        Kind::es => Register::ES,
        Kind::cs => Register::CS,
        Kind::ss => Register::SS,
        Kind::ds => Register::DS,
        Kind::fs => Register::FS,
        Kind::gs => Register::GS,
        Kind::al => Register::AL,
        Kind::cl => Register::CL,
        Kind::ax => Register::AX,
        Kind::dx => Register::DX,
        Kind::eax => Register::EAX,
        Kind::rax => Register::RAX,
        Kind::st0 => Register::ST0,
        Kind::sti_opcode => Register::ST0 + builder.random.below(8) as u32,
        _ => return immediate_or_string(builder, instruction, number, kind, reached),
    };
    instruction.set_op_kind(number, OpKind::Register);
    instruction.set_op_register(number, register);
    Some(())
}

/// Any general register of a size, the stack pointer seldom.
fn general(builder: &mut Builder, first: Register) -> Register {
    let number = builder.random.below(16);
    let number = if number == 4 && builder.random.percent(70) { 0 } else { number };
    first + number as u32
}

/// Any byte register, high bytes included.
fn byte_register(builder: &mut Builder) -> Register {
    Register::AL + builder.random.below(20) as u32
}

fn memory_operand(
    builder: &mut Builder,
    instruction: &mut Instruction,
    number: u32,
    kind: Kind,
    reached: &mut Option<u64>,
) -> Option<()> {
    let size = instruction.code().op_code().memory_size().size().max(1) as u64;
    let target = memory::target(builder, size);
    if kind == Kind::mem_offs {
        instruction.set_op_kind(number, OpKind::Memory);
        let narrow = target >> 32 == 0 && builder.random.percent(30);
        instruction.set_memory_displacement64(target);
        instruction.set_memory_displ_size(if narrow { 4 } else { 8 });
    } else {
        memory::operand(builder, instruction, number, target);
    }
    if builder.random.percent(40) {
        let mut bytes = [0; 16];
        values::fill(&mut builder.random, &mut bytes);
        builder.patch(target, bytes);
    }
    *reached = Some(target);
    Some(())
}

fn immediate_or_string(
    builder: &mut Builder,
    instruction: &mut Instruction,
    number: u32,
    kind: Kind,
    reached: &mut Option<u64>,
) -> Option<()> {
    let value = if builder.random.percent(50) { values::integer(&mut builder.random) } else { builder.random.bits() };
    let second = instruction.op_count() > 0
        && (0..number).any(|earlier| matches!(instruction.op_kind(earlier), OpKind::Immediate8 | OpKind::Immediate16));
    match kind {
        Kind::imm8 if second => {
            instruction.set_op_kind(number, OpKind::Immediate8_2nd);
            instruction.set_immediate8_2nd(value as u8 & 0x27);
        }
        Kind::imm8 => {
            instruction.set_op_kind(number, OpKind::Immediate8);
            instruction.set_immediate8(value as u8);
        }
        Kind::imm8_const_1 => {
            instruction.set_op_kind(number, OpKind::Immediate8);
            instruction.set_immediate8(1);
        }
        Kind::imm8sex16 => {
            instruction.set_op_kind(number, OpKind::Immediate8to16);
            instruction.set_immediate8to16(i16::from(value as i8));
        }
        Kind::imm8sex32 => {
            instruction.set_op_kind(number, OpKind::Immediate8to32);
            instruction.set_immediate8to32(i32::from(value as i8));
        }
        Kind::imm8sex64 => {
            instruction.set_op_kind(number, OpKind::Immediate8to64);
            instruction.set_immediate8to64(i64::from(value as i8));
        }
        Kind::imm16 => {
            instruction.set_op_kind(number, OpKind::Immediate16);
            let stack = matches!(instruction.mnemonic(), Mnemonic::Enter | Mnemonic::Ret);
            instruction.set_immediate16(if stack { value as u16 & 0x3f } else { value as u16 });
        }
        Kind::imm32 => {
            instruction.set_op_kind(number, OpKind::Immediate32);
            instruction.set_immediate32(value as u32);
        }
        Kind::imm32sex64 => {
            instruction.set_op_kind(number, OpKind::Immediate32to64);
            instruction.set_immediate32to64(i64::from(value as i32));
        }
        Kind::imm64 => {
            instruction.set_op_kind(number, OpKind::Immediate64);
            instruction.set_immediate64(value);
        }
        Kind::seg_rSI => string(builder, instruction, number, OpKind::MemorySegRSI, OpKind::MemorySegESI, 6, reached),
        Kind::es_rDI => string(builder, instruction, number, OpKind::MemoryESRDI, OpKind::MemoryESEDI, 7, reached),
        Kind::seg_rDI => string(builder, instruction, number, OpKind::MemorySegRDI, OpKind::MemorySegEDI, 7, reached),
        Kind::seg_rBX_al => {
            instruction.set_op_kind(number, OpKind::Memory);
            instruction.set_memory_base(Register::RBX);
            instruction.set_memory_index(Register::AL);
            instruction.set_memory_index_scale(1);
            let target = memory::target(builder, 1);
            builder.want(3, target);
        }
        _ => return None,
    }
    Some(())
}

/// A string operand through RSI or RDI; both of an instruction have the same address size.
fn string(
    builder: &mut Builder,
    instruction: &mut Instruction,
    number: u32,
    wide: OpKind,
    narrow: OpKind,
    register: usize,
    reached: &mut Option<u64>,
) {
    let narrow_already = (0..number).any(|earlier| {
        matches!(instruction.op_kind(earlier), OpKind::MemorySegESI | OpKind::MemoryESEDI | OpKind::MemorySegEDI)
    });
    let wide_already = (0..number).any(|earlier| {
        matches!(instruction.op_kind(earlier), OpKind::MemorySegRSI | OpKind::MemoryESRDI | OpKind::MemorySegRDI)
    });
    let is_narrow = narrow_already || (!wide_already && builder.random.percent(15));
    instruction.set_op_kind(number, if is_narrow { narrow } else { wide });
    let mut target = memory::target(builder, 8);
    let offset = target.wrapping_sub(builder.case.registers.fs_base);
    let overridable = !matches!(wide, OpKind::MemoryESRDI) && memory::fits_segment(offset, target);
    if overridable && builder.random.percent(15) {
        instruction.set_segment_prefix(Register::FS);
        target = offset;
    }
    if is_narrow {
        target = target & 0xffff_ffff | builder.random.bits() << 32;
    }
    builder.want(register, target);
    *reached = Some(target);
}

/// REP and LOCK where they are allowed.
fn prefixes(builder: &mut Builder, instruction: &mut Instruction) {
    let op_code = instruction.code().op_code();
    if op_code.can_use_lock_prefix() && instruction.op0_kind() == OpKind::Memory && builder.random.percent(40) {
        instruction.set_has_lock_prefix(true);
    }
    if instruction.is_string_instruction() && op_code.can_use_rep_prefix() && builder.random.percent(60) {
        if builder.random.percent(60) || !op_code.can_use_repne_prefix() {
            instruction.set_has_rep_prefix(true);
        } else {
            instruction.set_has_repne_prefix(true);
        }
        let narrow = matches!(instruction.op0_kind(), OpKind::MemoryESEDI | OpKind::MemorySegESI)
            || matches!(instruction.op1_kind(), OpKind::MemoryESEDI | OpKind::MemorySegESI);
        let count = match builder.random.below(4) {
            0 => builder.random.below(3) as u64,
            1 | 2 => builder.random.below(12) as u64,
            _ => builder.random.below(300) as u64,
        };
        let rubbish = if narrow { builder.random.bits() << 32 } else { 0 };
        builder.want(1, count | rubbish);
    }
}

/// Values without which an instruction only ever faults or does nothing.
fn special_values(builder: &mut Builder, instruction: &Instruction, reached: Option<u64>) {
    const RAX: usize = 0;
    const RCX: usize = 1;
    const RDX: usize = 2;
    const RBP: usize = 5;
    let small = builder.random.bits() & 0x7f;
    match instruction.mnemonic() {
        Mnemonic::Div | Mnemonic::Idiv => {
            builder.wish(70, RAX, if instruction.memory_size().size() == 1 { small } else { builder.case.seed });
            builder.wish(70, RDX, if small & 1 == 0 { 0 } else { small });
        }
        Mnemonic::Bt | Mnemonic::Bts | Mnemonic::Btr | Mnemonic::Btc
            if instruction.op1_kind() == OpKind::Register && reached.is_some() =>
        {
            let bit = builder.random.within(-70_000, 70_000) as u64;
            builder.wish(85, instruction.op1_register().full_register().number(), bit);
        }
        Mnemonic::Pcmpestri | Mnemonic::Pcmpestrm | Mnemonic::Pcmpestri64 | Mnemonic::Pcmpestrm64 => {
            let (first, second) = (builder.random.within(-20, 20) as u64, builder.random.within(-20, 20) as u64);
            builder.wish(70, RAX, first);
            builder.wish(70, RDX, second);
        }
        Mnemonic::Leave | Mnemonic::Enter => {
            let frame = builder.case.registers.gpr[4].wrapping_add(builder.random.bits() & 0x78);
            builder.wish(80, RBP, frame);
        }
        Mnemonic::Cmpxchg | Mnemonic::Cmpxchg8b | Mnemonic::Cmpxchg16b if builder.random.percent(50) => {
            if let (Some(low), Some(high), Some(target)) = (builder.known(RAX), builder.known(RDX), reached) {
                let mut bytes = [0; 16];
                let half = if instruction.mnemonic() == Mnemonic::Cmpxchg8b { 4 } else { 8 };
                bytes[..8].copy_from_slice(&low.to_le_bytes());
                bytes[half..half + 8].copy_from_slice(&high.to_le_bytes());
                builder.patch(target, bytes);
            }
        }
        Mnemonic::Ldmxcsr => patch_mxcsr(builder, reached, 0),
        Mnemonic::Fxrstor | Mnemonic::Fxrstor64 => patch_mxcsr(builder, reached, 24),
        mnemonic if stores_pointers(instruction.code()) => {
            let target = reached.unwrap_or_default();
            match mnemonic {
                Mnemonic::Fxsave | Mnemonic::Fxsave64 => {
                    builder.ignore(target.wrapping_add(6), 18);
                    builder.ignore(target.wrapping_add(28), 4);
                }
                _ if instruction.memory_size().size() < 28
                    || matches!(instruction.code(), Code::Fnstenv_m14byte | Code::Fnsave_m94byte) =>
                {
                    builder.ignore(target.wrapping_add(6), 8);
                }
                _ => builder.ignore(target.wrapping_add(12), 16),
            }
        }
        _ if (0..instruction.op_count()).any(|number| {
            instruction.op_kind(number) == OpKind::Register && instruction.op_register(number) == Register::CL
        }) =>
        {
            builder.wish(70, RCX, small);
        }
        _ => {}
    }
}

/// MXCSR bit 17 is AMD's misaligned mode, which the guest's model does not have: it is never loaded.
fn patch_mxcsr(builder: &mut Builder, reached: Option<u64>, offset: u64) {
    let Some(target) = reached else { return };
    let mut bytes = [0; 16];
    let reserved = if builder.random.percent(10) { 1 << builder.random.pick(&[16, 18, 31]) } else { 0 };
    let value = builder.random.bits() as u32 & 0xffff | if builder.random.percent(70) { 0x1f80 } else { 0 } | reserved;
    bytes[..4].copy_from_slice(&value.to_le_bytes());
    builder.patch(target.wrapping_add(offset), bytes);
}

/// The instruction's bytes with a superfluous or wrong prefix, if the result is still something to test.
fn mangled(builder: &mut Builder, instruction: &Instruction) -> Option<Vec<u8>> {
    const PREFIXES: [u8; 18] =
        [0x66, 0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65, 0x40, 0x41, 0x42, 0x44, 0x48, 0x4f];
    if instruction.is_ip_rel_memory_operand() {
        return None;
    }
    let mut bytes = encode(instruction, crate::layout::CODE)?;
    let at = builder.random.below(3.min(bytes.len()));
    bytes.insert(at, builder.random.pick(&PREFIXES));
    let mut decoder = Decoder::with_ip(64, &bytes, crate::layout::CODE, DecoderOptions::AMD);
    let decoded = decoder.decode();
    let usable = decoded.len() == bytes.len()
        && USER.contains(decoded.code())
        && !decoded.is_ip_rel_memory_operand()
        && !stores_pointers(decoded.code())
        && !matches!(decoded.mnemonic(), Mnemonic::Ldmxcsr | Mnemonic::Fxrstor | Mnemonic::Fxrstor64)
        // A repeat count that nobody chose runs for minutes.
        && !decoded.is_string_instruction()
        && !decoded.is_jmp_short_or_near();
    usable.then_some(bytes)
}
