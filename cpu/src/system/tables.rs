//! Descriptor-table registers and questions about descriptors: LGDT, SGDT, LIDT, SIDT, LLDT, SLDT, LTR, STR, LAR, LSL,
//! VERR, VERW, ARPL (APM vol. 3).

use super::segments::{self, Descriptor};
use super::{Flow, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::is_canonical;
use crate::state::{TableRegister, rflags};
use iced_x86::{Code, Instruction, Mnemonic};

const SMALL_TSS: u8 = 1;
const LDT: u8 = 2;
const AVAILABLE_TSS: u8 = 9;
const BUSY_TSS: u8 = 11;
/// What makes an available TSS a busy one.
const BUSY: u8 = 2;
/// Descriptor bits that LAR shows: this vendor's processors include those of the limit.
const ACCESS_RIGHTS: u64 = 0x00ff_ff00;

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    if !matches!(instruction.mnemonic(), Mnemonic::Lgdt | Mnemonic::Lidt | Mnemonic::Sgdt | Mnemonic::Sidt) {
        operand::require_descriptors(x)?;
    }
    match instruction.mnemonic() {
        Mnemonic::Lgdt => x.state.gdtr = load_table(x, instruction)?,
        Mnemonic::Lidt => x.state.idtr = load_table(x, instruction)?,
        Mnemonic::Sgdt => store_table(x, instruction, x.state.gdtr)?,
        Mnemonic::Sidt => store_table(x, instruction, x.state.idtr)?,
        Mnemonic::Lldt => load_local(x, instruction)?,
        Mnemonic::Ltr => load_task(x, instruction)?,
        Mnemonic::Sldt => operand::write(x, instruction, 0, 2, u64::from(x.state.ldtr.selector))?,
        Mnemonic::Str => operand::write(x, instruction, 0, 2, u64::from(x.state.tr.selector))?,
        Mnemonic::Lar => answer(x, instruction, access_rights)?,
        Mnemonic::Lsl => answer(x, instruction, limit)?,
        Mnemonic::Verr => verify(x, instruction, Descriptor::is_readable)?,
        Mnemonic::Verw => verify(x, instruction, Descriptor::is_writable_data)?,
        Mnemonic::Arpl => adjust_privilege(x, instruction)?,
        _ => return Err(Exception::invalid_opcode()),
    }
    Ok(Flow::Next)
}

/// Bytes of a table register's base that are loaded, and that lie in memory.
fn base_sizes(instruction: &Instruction) -> (usize, usize) {
    match instruction.code() {
        Code::Lgdt_m1632_16 | Code::Lidt_m1632_16 => (3, 4),
        Code::Lgdt_m1664 | Code::Lidt_m1664 | Code::Sgdt_m1664 | Code::Sidt_m1664 => (8, 8),
        _ => (4, 4),
    }
}

fn load_table(x: &mut Execution, instruction: &Instruction) -> Result<TableRegister, Exception> {
    operand::require_ring_0(x)?;
    let (used, present) = base_sizes(instruction);
    let mut bytes = [0; 10];
    operand::read_bytes(x, instruction, 0, &mut bytes[..2 + present])?;
    bytes[2 + used..].fill(0);
    let [l0, l1, base @ ..] = bytes;
    let base = u64::from_le_bytes(base);
    if !is_canonical(base) {
        return Err(Exception::general_protection(0));
    }
    Ok(TableRegister { base, limit: u16::from_le_bytes([l0, l1]) })
}

fn store_table(x: &mut Execution, instruction: &Instruction, table: TableRegister) -> Result<(), Exception> {
    let mut bytes = [0; 10];
    bytes[..2].copy_from_slice(&table.limit.to_le_bytes());
    bytes[2..].copy_from_slice(&table.base.to_le_bytes());
    operand::write_bytes(x, instruction, 0, &bytes[..2 + base_sizes(instruction).1])
}

/// Fetches a system descriptor of one of some types from the GDT.
fn system_descriptor(x: &mut Execution, selector: u16, kinds: &[u8]) -> Result<Descriptor, Exception> {
    let refused = Err(Exception::general_protection(segments::error_code(selector)));
    if selector & 4 != 0 {
        return refused;
    }
    let found = segments::fetch(x, selector, Exception::general_protection)?;
    if found.is_user() || !kinds.contains(&found.kind()) {
        return refused;
    }
    if !found.is_present() {
        return Err(Exception::segment_not_present(segments::error_code(selector)));
    }
    if !x.state.is_long_active() || is_canonical(found.segment(selector).base) { Ok(found) } else { refused }
}

fn load_local(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    operand::require_ring_0(x)?;
    let selector = operand::read(x, instruction, 0, 2)? as u16;
    x.state.ldtr = if segments::is_null(selector) {
        segments::null(selector)
    } else {
        system_descriptor(x, selector, &[LDT])?.segment(selector)
    };
    Ok(())
}

fn load_task(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    operand::require_ring_0(x)?;
    let selector = operand::read(x, instruction, 0, 2)? as u16;
    if segments::is_null(selector) {
        return Err(Exception::general_protection(0));
    }
    let kinds = if x.state.is_long_active() { &[AVAILABLE_TSS][..] } else { &[SMALL_TSS, AVAILABLE_TSS] };
    let mut found = system_descriptor(x, selector, kinds)?;
    found.low |= u64::from(BUSY) << 40;
    let at = segments::table_address(x, found.address, 5);
    x.write_system(at, 1, found.low >> 40 & 0xff)?;
    x.state.tr = found.segment(selector);
    Ok(())
}

/// The descriptor a program may ask about; `None` where the answer is ZF clear.
fn visible(x: &mut Execution, selector: u16) -> Result<Option<Descriptor>, Exception> {
    if segments::is_null(selector) {
        return Ok(None);
    }
    let found = match segments::fetch(x, selector, Exception::general_protection) {
        Ok(found) => found,
        Err(fault) if fault.address.is_some() => return Err(fault),
        Err(_) => return Ok(None),
    };
    let privileged = !found.is_conforming() && found.dpl() < x.state.cpl.max(segments::rpl(selector));
    Ok((!privileged).then_some(found))
}

/// LAR: segments, LDTs, TSSs, call gates and, outside long mode, task gates and what is a 286's.
fn access_rights(found: &Descriptor, long: bool) -> Option<u64> {
    let kinds = if long { &[2, 9, 11, 12][..] } else { &[1, 2, 3, 4, 5, 9, 11, 12] };
    let shown = found.is_user() || kinds.contains(&found.kind());
    shown.then_some(found.low >> 32 & ACCESS_RIGHTS)
}

/// LSL: segments, LDTs and TSSs.
fn limit(found: &Descriptor, long: bool) -> Option<u64> {
    let kinds = if long { &[LDT, AVAILABLE_TSS, BUSY_TSS][..] } else { &[1, 2, 3, 9, 11] };
    let shown = found.is_user() || kinds.contains(&found.kind());
    shown.then_some(u64::from(found.limit()))
}

/// ARPL: the RPL of the first selector becomes at least the second's; ZF tells whether it changed. It is not written where
/// it does not change.
fn adjust_privilege(x: &mut Execution, instruction: &Instruction) -> Result<(), Exception> {
    let adjusted = operand::read(x, instruction, 0, 2)?;
    let wanted = x.register(instruction.op1_register()) & 3;
    let changes = adjusted & 3 < wanted;
    if changes {
        // A 32-bit form of the register operand exists in the encoding only.
        let value = adjusted & !3 | wanted;
        match operand::is_memory(instruction, 0) {
            true => operand::write(x, instruction, 0, 2, value)?,
            false => {
                let whole = &mut x.state.gpr[instruction.op0_register().full_register().number()];
                operand::set_masked(whole, value, 0xffff);
            }
        }
    }
    set_zero_flag(x, changes);
    Ok(())
}

/// LAR and LSL: the answer goes to the register and ZF is set, or ZF is cleared.
fn answer(
    x: &mut Execution,
    instruction: &Instruction,
    question: fn(&Descriptor, bool) -> Option<u64>,
) -> Result<(), Exception> {
    let selector = operand::read(x, instruction, 1, 2)? as u16;
    let long = x.state.is_long_active();
    let value = visible(x, selector)?.and_then(|found| question(&found, long));
    set_zero_flag(x, value.is_some());
    if let Some(value) = value {
        x.set_register(instruction.op_register(0), value);
    }
    Ok(())
}

fn verify(x: &mut Execution, instruction: &Instruction, question: fn(&Descriptor) -> bool) -> Result<(), Exception> {
    let selector = operand::read(x, instruction, 0, 2)? as u16;
    let allowed = visible(x, selector)?.is_some_and(|found| question(&found));
    set_zero_flag(x, allowed);
    Ok(())
}

fn set_zero_flag(x: &mut Execution, on: bool) {
    if on {
        x.state.rflags |= rflags::ZF;
    } else {
        x.state.rflags &= !rflags::ZF;
    }
}
