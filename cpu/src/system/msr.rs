//! RDMSR and WRMSR (APM vol. 2 appendix A): the CPU's own registers, the few constants that kernels read on this
//! vendor's parts, and for the rest the board. What nobody knows is #GP.

use super::{Flow, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::{PHYSICAL_BITS, is_canonical};
use crate::state::gpr::{RAX, RCX, RDX};
use crate::state::{State, control, segment};
use iced_x86::{Instruction, Mnemonic};

/// EFER.AIBRSE, automatic IBRS: accepted, there is nothing to restrict.
const EFER_AUTOMATIC_IBRS: u64 = 1 << 21;
pub(super) const EFER_WRITABLE: u64 = control::EFER_SCE | control::EFER_LME | control::EFER_NXE | EFER_AUTOMATIC_IBRS;
/// Eight variable ranges, fixed ranges, write-combining.
const MTRR_CAPABILITIES: u64 = 0x508;
const MTRR_FIXED: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
/// What the microcode of the modelled part calls itself.
const PATCH_LEVEL: u64 = 0x0b00_ffff;

/// Executes RDMSR or WRMSR.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    operand::require_ring_0(x)?;
    let register = x.state.gpr[RCX] as u32;
    let refused = Exception::general_protection(0);
    if instruction.mnemonic() == Mnemonic::Rdmsr {
        let value = read(x, register).ok_or(refused)?;
        x.state.gpr[RAX] = value & 0xffff_ffff;
        x.state.gpr[RDX] = value >> 32;
    } else {
        let value = x.state.gpr[RDX] << 32 | x.state.gpr[RAX] & 0xffff_ffff;
        write(x, register, value).ok_or(refused)?;
    }
    Ok(Flow::Next)
}

/// The virtual time stamp counter as the guest set it.
pub fn time_stamp(x: &Execution) -> u64 {
    x.bus.time_stamp(x.now).wrapping_add(x.state.tsc_offset)
}

fn read(x: &mut Execution, register: u32) -> Option<u64> {
    if register == 0x10 {
        return Some(time_stamp(x));
    }
    if let Some(value) = constant(register) {
        return Some(value);
    }
    if let Some(value) = own(x.state, register) {
        return Some(*value);
    }
    x.device = true;
    x.bus.msr_read(x.now, register)
}

/// Registers that always read the same.
fn constant(register: u32) -> Option<u64> {
    Some(match register {
        0x8b => PATCH_LEVEL,
        0xfe => MTRR_CAPABILITIES,
        // MCG_CAP: no machine-check banks; MCG_STATUS.
        0x179 | 0x17a => 0,
        // DEBUGCTL and the last-branch registers.
        0x1d9 | 0x1db..=0x1de => 0,
        // Legacy performance counters and their controls: they never count.
        0xc001_0000..=0xc001_0007 => 0,
        // SYSCFG, IORR base and mask.
        0xc001_0010 | 0xc001_0016..=0xc001_0019 => 0,
        // HWCR: TscFreqSel, the TSC counts at the P0 frequency.
        0xc001_0015 => 1 << 24,
        // TOP_MEM, TOP_MEM2.
        0xc001_001a => crate::memory::LOW_END,
        0xc001_001d => 0,
        // NB_CFG: extended configuration cycles on; INTPEND_MSG, MMIO configuration base: off.
        0xc001_001f => 1 << 46,
        0xc001_0055 | 0xc001_0058 => 0,
        // VM_CR: SVM locked off.
        0xc001_0114 => 0x18,
        // LS_CFG, IC_CFG, DC_CFG, BU_CFG and their kin.
        0xc001_1020..=0xc001_1023 | 0xc001_102a..=0xc001_102d => 0,
        // DE_CFG: LFENCE is serializing.
        0xc001_1029 => 1 << 1,
        _ => return None,
    })
}

/// Whether writes to a constant register are accepted and ignored.
fn ignores_writes(register: u32) -> bool {
    matches!(
        register,
        0x1d9
            | 0xc001_0000..=0xc001_0007
            | 0xc001_0010
            | 0xc001_0015..=0xc001_001a
            | 0xc001_001d
            | 0xc001_001f
            | 0xc001_0055
            | 0xc001_0058
            | 0xc001_1020..=0xc001_1023
            | 0xc001_1029..=0xc001_102d
    )
}

/// The field of the state that holds a register.
fn own(state: &mut State, register: u32) -> Option<&mut u64> {
    Some(match register {
        0x174 => &mut state.sysenter_cs,
        0x175 => &mut state.sysenter_esp,
        0x176 => &mut state.sysenter_eip,
        0x200..=0x20f => &mut state.mtrr_variable[(register - 0x200) as usize],
        0x277 => &mut state.pat,
        0x2ff => &mut state.mtrr_def_type,
        0xc000_0080 => &mut state.efer,
        0xc000_0081 => &mut state.star,
        0xc000_0082 => &mut state.lstar,
        0xc000_0083 => &mut state.cstar,
        0xc000_0084 => &mut state.sfmask,
        0xc000_0100 => &mut state.segments[segment::FS].base,
        0xc000_0101 => &mut state.segments[segment::GS].base,
        0xc000_0102 => &mut state.kernel_gs_base,
        0xc000_0103 => &mut state.tsc_aux,
        _ => {
            let index = MTRR_FIXED.iter().position(|&number| number == register)?;
            &mut state.mtrr_fixed[index]
        }
    })
}

/// Writes a register; `None` is #GP.
fn write(x: &mut Execution, register: u32, value: u64) -> Option<()> {
    match register {
        0x10 => {
            x.state.tsc_offset = value.wrapping_sub(x.bus.time_stamp(x.now));
            return Some(());
        }
        0x17a => return (value == 0).then_some(()),
        0xc000_0080 => return write_efer(x.state, value),
        _ => {}
    }
    if constant(register).is_some() {
        return ignores_writes(register).then_some(());
    }
    let accepted = accepted(register, value)?;
    if let Some(field) = own(x.state, register) {
        *field = accepted;
        return Some(());
    }
    x.device = true;
    x.bus.msr_write(x.now, register, value).then_some(())
}

/// What a register of ours takes of a value; `None` is #GP.
fn accepted(register: u32, value: u64) -> Option<u64> {
    let valid = match register {
        0x175 | 0x176 | 0xc000_0082 | 0xc000_0083 | 0xc000_0100..=0xc000_0102 => is_canonical(value),
        0x277 => value.to_le_bytes().into_iter().all(is_page_type),
        0x2ff => value & !0xcff == 0 && is_range_type(value as u8),
        0x200..=0x20f if register.is_multiple_of(2) => {
            value >> PHYSICAL_BITS == 0 && value & 0xf00 == 0 && is_range_type(value as u8)
        }
        0x200..=0x20f => value >> PHYSICAL_BITS == 0 && value & 0x7ff == 0,
        _ if MTRR_FIXED.contains(&register) => value.to_le_bytes().into_iter().all(is_range_type),
        0xc000_0103 => value >> 32 == 0,
        0xc000_0084 => return Some(value & 0xffff_ffff),
        _ => true,
    };
    valid.then_some(value)
}

/// UC, WC, WT, WP, WB.
fn is_range_type(kind: u8) -> bool {
    matches!(kind, 0 | 1 | 4..=6)
}

/// The same and UC-.
fn is_page_type(kind: u8) -> bool {
    is_range_type(kind) || kind == 7
}

/// LMA follows CR0.PG; LME may not change while paging is on.
fn write_efer(state: &mut State, value: u64) -> Option<()> {
    let value = value & !control::EFER_LMA;
    let changes_mode = (value ^ state.efer) & control::EFER_LME != 0 && state.cr0 & control::CR0_PG != 0;
    if value & !EFER_WRITABLE != 0 || changes_mode {
        return None;
    }
    state.efer = value | state.efer & control::EFER_LMA;
    Some(())
}
