//! Relocation: a guest instruction re-encoded with host registers and a translated memory operand.
//!
//! One path serves every instruction that the host executes as the guest would: integer, x87, MMX and SSE alike.
//! Registers that live in the frame are brought into scratch registers around it.

use super::builder::{Builder, Place, host};
use super::sites::AccessSite;
use super::step::is_write;
use super::trampolines::{HOMES, host_register};
use crate::state::gpr;
use iced_x86::{Code, CpuidFeature, Instruction, Mnemonic, OpAccess, OpKind, Register};

/// A guest register that an instruction names, standing in a scratch register.
#[derive(Clone, Copy, Default)]
struct Substitute {
    guest: usize,
    scratch: u8,
    written: bool,
}

/// Host RSI, lent for one instruction next to a high byte.
const BORROWED: u8 = 6;

/// Scratch registers, and the one that is lent.
const SUBSTITUTES: usize = 4;

/// How one instruction's registers are mapped.
#[derive(Default)]
struct Mapping {
    substitutes: [Substitute; SUBSTITUTES],
    used: usize,
    high_byte: bool,
    /// Host RCX must hold guest RCX.
    count_register: bool,
    /// Host RCX holds a new guest RCX afterwards.
    count_written: bool,
}

impl Mapping {
    fn substitutes(&self) -> &[Substitute] {
        &self.substitutes[..self.used]
    }

    fn substitute(&mut self, guest: usize, scratch: u8, written: bool) {
        self.substitutes[self.used] = Substitute { guest, scratch, written };
        self.used += 1;
    }
}

fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}

fn is_read(access: OpAccess) -> bool {
    matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}

/// The operand number of the memory operand.
fn memory_operand(instruction: &Instruction) -> Option<u32> {
    (0..instruction.op_count()).find(|&operand| instruction.op_kind(operand) == OpKind::Memory)
}

/// Whether a 16-byte operand must be aligned (APM vol. 1 §4.3.2).
fn needs_alignment(mnemonic: Mnemonic) -> bool {
    use Mnemonic::*;
    !matches!(
        mnemonic,
        Movups | Movupd | Movdqu | Lddqu | Pcmpestri | Pcmpestri64 | Pcmpestrm | Pcmpestrm64 | Pcmpistri | Pcmpistrm
    )
}

/// Whether a pending x87 exception is raised before the instruction does anything.
fn waits_for_x87(instruction: &Instruction) -> bool {
    use CpuidFeature::{FPU, FPU287, FPU387, MMX};
    let x87 = instruction.cpuid_features().iter().any(|feature| matches!(feature, FPU | FPU287 | FPU387 | MMX));
    let uses_mmx = (0..instruction.op_count()).any(|operand| instruction.op_register(operand).is_mm());
    let waits = !matches!(instruction.mnemonic(), Mnemonic::Fnstcw | Mnemonic::Fnstsw);
    (x87 || uses_mmx) && waits
}

/// Forms that cannot stand in 64-bit code with a base register: an accumulator with an absolute address, one-byte INC
/// and DEC, and 82h, which was another name of 80h.
fn general_form(code: Code) -> Code {
    match code {
        Code::Inc_r16 => Code::Inc_rm16,
        Code::Inc_r32 => Code::Inc_rm32,
        Code::Dec_r16 => Code::Dec_rm16,
        Code::Dec_r32 => Code::Dec_rm32,
        Code::Add_rm8_imm8_82 => Code::Add_rm8_imm8,
        Code::Or_rm8_imm8_82 => Code::Or_rm8_imm8,
        Code::Adc_rm8_imm8_82 => Code::Adc_rm8_imm8,
        Code::Sbb_rm8_imm8_82 => Code::Sbb_rm8_imm8,
        Code::And_rm8_imm8_82 => Code::And_rm8_imm8,
        Code::Sub_rm8_imm8_82 => Code::Sub_rm8_imm8,
        Code::Xor_rm8_imm8_82 => Code::Xor_rm8_imm8,
        Code::Cmp_rm8_imm8_82 => Code::Cmp_rm8_imm8,
        Code::Mov_AL_moffs8 => Code::Mov_r8_rm8,
        Code::Mov_AX_moffs16 => Code::Mov_r16_rm16,
        Code::Mov_EAX_moffs32 => Code::Mov_r32_rm32,
        Code::Mov_RAX_moffs64 => Code::Mov_r64_rm64,
        Code::Mov_moffs8_AL => Code::Mov_rm8_r8,
        Code::Mov_moffs16_AX => Code::Mov_rm16_r16,
        Code::Mov_moffs32_EAX => Code::Mov_rm32_r32,
        Code::Mov_moffs64_RAX => Code::Mov_rm64_r64,
        other => other,
    }
}

fn shifts_by_cl(instruction: &Instruction) -> bool {
    use Mnemonic::*;
    let last = instruction.op_count().wrapping_sub(1);
    matches!(instruction.mnemonic(), Shl | Sal | Shr | Sar | Rol | Ror | Rcl | Rcr | Shld | Shrd)
        && instruction.op_kind(last) == OpKind::Register
        && instruction.op_register(last) == Register::CL
}

impl Builder<'_> {
    /// Emits R10 = offset of the memory operand in its segment.
    pub fn address(&mut self, instruction: &Instruction) {
        let base = instruction.memory_base();
        let index = instruction.memory_index();
        let displacement = instruction.memory_displacement64();
        if instruction.is_ip_rel_memory_operand() {
            let wide = base == Register::RIP;
            self.code_address(host::R10, displacement);
            if !wide {
                self.lea(host::R10, Some(host::R10), None, 0, false);
            }
        } else if base == Register::None && index == Register::None {
            self.constant(host::R10, displacement);
        } else {
            let wide = base.size() == 8 || index.size() == 8;
            let base = (base != Register::None).then(|| self.address_register(base, host::R10));
            let index = (index != Register::None)
                .then(|| (self.address_register(index, host::R13), instruction.memory_index_scale() as u8));
            let displacement = displacement as u32 as i32;
            match (base, index, displacement, wide) {
                (Some(base), None, 0, true) => self.copy(host::R10, base),
                _ => self.lea(host::R10, base, index, displacement, wide),
            }
            if instruction.memory_base().size() == 2 || instruction.memory_index().size() == 2 {
                self.narrow();
            }
        }
    }

    /// The linear address of `size` bytes within a page that the instruction always reaches, if the host can encode it.
    pub fn constant_address(&self, instruction: &Instruction, size: usize) -> Option<i32> {
        let absolute = instruction.memory_base() == Register::None || instruction.memory_base() == Register::RIP;
        let based = instruction.memory_segment().number() >= crate::state::segment::FS;
        let moves = self.movable && instruction.is_ip_rel_memory_operand();
        if !absolute || moves || instruction.memory_index() != Register::None || based || !self.mode.long() {
            return None;
        }
        let address = i32::try_from(instruction.memory_displacement64() as i64).ok()?;
        // The check of a page subtracts almost a page more from it.
        (address as usize % 4096 + size <= 4096 && address >= i32::MIN + 4096).then_some(address)
    }

    /// The host register with a guest address register's value; `scratch` if it lives in the frame.
    fn address_register(&mut self, register: Register, scratch: u8) -> u8 {
        let guest = register.full_register().number();
        HOMES[guest].unwrap_or_else(|| {
            self.load_guest(scratch, guest);
            scratch
        })
    }

    /// What the service function must know about the memory operand.
    pub fn access_site(&self, instruction: &Instruction, size: usize, access: OpAccess) -> AccessSite {
        let stack = crate::system::operand::is_stack(instruction);
        AccessSite {
            size: size as u8,
            // An x87 store that meets an unmasked exception leaves memory alone: the bounce buffer must hold it.
            read: is_read(access) || waits_for_x87(instruction),
            write: is_write(access),
            stack,
            aligned: size == 16 && needs_alignment(instruction.mnemonic()),
            x87: waits_for_x87(instruction),
            plain: access == OpAccess::Write && instruction.mnemonic() == Mnemonic::Mov,
            ..AccessSite::default()
        }
    }

    /// Emits a relocated instruction.
    pub fn relocate(&mut self, instruction: &Instruction, accesses: &[OpAccess; 5]) {
        use Mnemonic::*;
        match instruction.mnemonic() {
            Nop | Reservednop | Pause | Lfence | Mfence | Sfence | Endbr32 | Endbr64 | Rdsspd | Rdsspq | Cldemote
            | Prefetch | Prefetchw | Prefetchwt1 | Prefetchnta | Prefetcht0 | Prefetcht1 | Prefetcht2 | Prefetchit0
            | Prefetchit1 => {}
            Lea => self.load_effective_address(instruction),
            _ => match memory_operand(instruction) {
                Some(operand) => self.relocate_with_memory(instruction, accesses, operand),
                None => self.relocate_registers(instruction, accesses),
            },
        }
    }

    fn load_effective_address(&mut self, instruction: &Instruction) {
        self.address(instruction);
        let register = instruction.op0_register();
        let guest = register.full_register().number();
        match register.size() {
            8 => self.store_guest(guest, host::R10),
            4 => {
                self.lea(host::R10, Some(host::R10), None, 0, false);
                self.store_guest(guest, host::R10);
            }
            _ => {
                self.load_guest(host::RCX, guest);
                self.bytes(&[0x66, 0x44, 0x89, 0xd1]); // mov cx, r10w
                self.store_guest(guest, host::RCX);
            }
        }
    }

    fn relocate_registers(&mut self, instruction: &Instruction, accesses: &[OpAccess; 5]) {
        let mapping = map_registers(instruction, accesses, &[host::R10, host::R13, host::RCX]);
        self.emit_mapped(instruction, &mapping, None);
    }

    fn relocate_with_memory(&mut self, instruction: &Instruction, accesses: &[OpAccess; 5], operand: u32) {
        let mapping = map_registers(instruction, accesses, &[host::RCX, host::R13]);
        if let Some(place) = self.checked_operand(instruction) {
            return self.emit_mapped(instruction, &mapping, Some(place));
        }
        let size = match instruction.code() {
            // AMD's processors load four bytes for it.
            Code::Movsxd_r16_rm16 => 4,
            _ => instruction.memory_size().size(),
        };
        let mut site = self.access_site(instruction, size, accesses[operand as usize]);
        if let Some(address) = self.constant_address(instruction, size) {
            return self
                .access_at(address, site, |builder, place| builder.emit_mapped(instruction, &mapping, Some(place)));
        }
        self.address(instruction);
        self.segment(instruction, &mut site);
        self.access(site, |builder| builder.emit_mapped(instruction, &mapping, Some(Place::FOUND)));
    }

    /// Emits the instruction with its substitutes loaded before and stored after, and its memory operand at `place`.
    fn emit_mapped(&mut self, instruction: &Instruction, mapping: &Mapping, mut place: Option<Place>) {
        let takes_r13 = mapping.substitutes().iter().any(|substitute| substitute.scratch == host::R13);
        let mut borrowed = None;
        if let Some(place) = place.as_mut().filter(|_| mapping.high_byte) {
            // No REX: the address goes to a register that needs none.
            if mapping.count_register {
                self.store(BORROWED, displacement_of_temporary());
                self.address_of(BORROWED, place);
                borrowed = Some(BORROWED);
            } else {
                self.address_of(host::RCX, place);
            }
        } else if let Some(place) = place.as_mut().filter(|_| takes_r13) {
            self.address_of(host::R10, place);
        } else if mapping.substitutes().iter().any(|substitute| substitute.scratch == BORROWED) {
            self.store(BORROWED, displacement_of_temporary());
            borrowed = Some(BORROWED);
        }
        if mapping.count_register {
            self.copy(host::RCX, host::R11);
        }
        for substitute in mapping.substitutes() {
            self.load_guest(substitute.scratch, substitute.guest);
        }
        let changed = rewrite(instruction, mapping, place);
        self.instruction(&changed);
        for substitute in mapping.substitutes() {
            if substitute.written {
                self.store_guest(substitute.guest, substitute.scratch);
            }
        }
        if mapping.count_written {
            self.copy(host::R11, host::RCX);
        }
        if let Some(register) = borrowed {
            self.load(register, displacement_of_temporary());
        }
    }
}

impl Builder<'_> {
    /// Puts the address of a place into a register, which is the place from then on.
    fn address_of(&mut self, register: u8, place: &mut Place) {
        self.lea(register, Some(place.base), place.index.map(|index| (index, 1)), place.displacement, true);
        *place = Place { base: register, index: None, displacement: 0 };
    }
}

fn displacement_of_temporary() -> i32 {
    super::frame::displacement!(temporary)
}

/// Decides where each general register operand stands. `scratch`: registers free for substitutes, in order of
/// preference.
fn map_registers(instruction: &Instruction, accesses: &[OpAccess; 5], scratch: &[u8]) -> Mapping {
    use Mnemonic::*;
    let mut mapping = Mapping::default();
    let registers = || {
        (0..instruction.op_count())
            .filter(|&operand| instruction.op_kind(operand) == OpKind::Register)
            .map(|operand| (operand, instruction.op_register(operand)))
            .filter(|(_, register)| register.is_gpr())
    };
    mapping.high_byte = registers().any(|(_, register)| is_high_byte(register));
    mapping.count_register = shifts_by_cl(instruction)
        || matches!(instruction.mnemonic(), Cmpxchg16b | Cmpxchg8b)
        || mapping.high_byte && registers().any(|(_, register)| register.full_register() == Register::RCX);
    mapping.count_written = matches!(instruction.mnemonic(), Pcmpistri | Pcmpestri | Pcmpestri64);
    let busy = mapping.count_register || mapping.count_written;
    let high_byte = mapping.high_byte;
    // Next to a high byte no register that needs REX can stand: MOVZX of it into RSP goes through RCX.
    let mut free = scratch
        .iter()
        .copied()
        .filter(|&register| if high_byte { register == host::RCX } else { register != host::RCX || !busy });
    for (operand, register) in registers() {
        let guest = register.full_register().number();
        let written = is_write(accesses[operand as usize]);
        if guest == gpr::RCX && mapping.high_byte {
            mapping.count_written |= written;
            continue;
        }
        let needs = HOMES[guest].is_none() || mapping.high_byte && guest == gpr::RSP;
        if !needs {
            continue;
        }
        match mapping.substitutes[..mapping.used].iter_mut().find(|known| known.guest == guest) {
            Some(known) => known.written |= written,
            // CH in host CH leaves no scratch register that needs no REX.
            None if mapping.high_byte && busy => mapping.substitute(guest, BORROWED, written),
            None => {
                let scratch = free.next().expect("no instruction names more registers than there are scratch ones");
                mapping.substitute(guest, scratch, written);
            }
        }
    }
    mapping
}

/// The instruction with host registers, and its memory operand at `place`.
fn rewrite(instruction: &Instruction, mapping: &Mapping, place: Option<Place>) -> Instruction {
    let mut changed = *instruction;
    changed.set_code(general_form(instruction.code()));
    changed.set_has_lock_prefix(false);
    // What was ignored when decoded (REP BSF is BSF here) must not become a meaning on the host.
    changed.set_has_rep_prefix(false);
    changed.set_has_repne_prefix(false);
    if shifts_by_cl(instruction) {
        // The count stays CL: host RCX holds guest RCX.
        for operand in 0..instruction.op_count() - 1 {
            rewrite_register(&mut changed, mapping, operand);
        }
    } else {
        for operand in 0..instruction.op_count() {
            rewrite_register(&mut changed, mapping, operand);
        }
    }
    if let Some(Place { base, index, displacement }) = place {
        changed.set_segment_prefix(Register::None);
        changed.set_memory_base(Register::RAX + u32::from(base));
        changed.set_memory_index(index.map_or(Register::None, |index| Register::RAX + u32::from(index)));
        changed.set_memory_index_scale(1);
        changed.set_memory_displ_size(u32::from(displacement != 0));
        changed.set_memory_displacement64(i64::from(displacement) as u64);
    }
    changed
}

fn rewrite_register(changed: &mut Instruction, mapping: &Mapping, operand: u32) {
    if changed.op_kind(operand) != OpKind::Register {
        return;
    }
    let register = changed.op_register(operand);
    if !register.is_gpr() || is_high_byte(register) {
        return;
    }
    let guest = register.full_register().number();
    let number = match mapping.substitutes().iter().find(|known| known.guest == guest) {
        Some(known) => known.scratch,
        None if guest == gpr::RCX && mapping.high_byte => host::RCX,
        None => HOMES[guest].expect("registers without a home have a substitute"),
    };
    changed.set_op_register(operand, host_register(number, register.size()));
}
