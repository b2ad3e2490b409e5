//! BT, BTS, BTR, BTC whose memory operand is a bit string indexed by a register (APM vol. 3): the bit offset is signed
//! and may lie far from the address. CF is the old bit; the other flags stay.

use super::{Flow, operand};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::rflags;
use iced_x86::{Code, Instruction, Mnemonic};

/// Whether this is one of them, with the operand in memory.
pub fn is_bit_string(instruction: &Instruction) -> bool {
    size(instruction.code()).is_some() && operand::is_memory(instruction, 0)
}

fn size(code: Code) -> Option<usize> {
    use Code::*;
    match code {
        Bt_rm16_r16 | Bts_rm16_r16 | Btr_rm16_r16 | Btc_rm16_r16 => Some(2),
        Bt_rm32_r32 | Bts_rm32_r32 | Btr_rm32_r32 | Btc_rm32_r32 => Some(4),
        Bt_rm64_r64 | Bts_rm64_r64 | Btr_rm64_r64 | Btc_rm64_r64 => Some(8),
        _ => None,
    }
}

/// Executes one of them.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    let size = size(instruction.code()).ok_or(Exception::invalid_opcode())?;
    let bits = 8 * size as u32;
    let index = x.register(instruction.op1_register());
    let index = (index << (64 - bits)) as i64 >> (64 - bits);
    let element = index >> bits.trailing_zeros();
    let place = operand::Place::of(x, instruction, 0).plus(element.wrapping_mul(size as i64));
    let bit = 1 << (index as u32 % bits);
    let writes = instruction.mnemonic() != Mnemonic::Bt;
    if writes {
        // A locked or plain read-modify-write needs the right to write before it reads.
        let linear = place.linear(x, size, true)?;
        let access = crate::paging::Access::write(x.user());
        x.probe(linear, size, access)?;
    }
    let old = place.read(x, size)?;
    let new = match instruction.mnemonic() {
        Mnemonic::Bts => old | bit,
        Mnemonic::Btr => old & !bit,
        _ => old ^ bit,
    };
    if writes {
        place.write(x, size, new)?;
    }
    x.state.rflags = x.state.rflags & !rflags::CF | u64::from(old & bit != 0);
    Ok(Flow::Next)
}
