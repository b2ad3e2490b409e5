//! IN and OUT, and who may use which port: IOPL and the TSS's I/O permission bitmap (APM vol. 2 §12.2.4).

use super::{Flow, debug, flags, segments};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::gpr::RAX;
use crate::state::{Segment, gpr};
use iced_x86::{Code, Instruction};

/// Where 32- and 64-bit TSSs keep the offset of their bitmap; a 286's has none.
const BITMAP_OFFSET: u64 = 0x66;
/// Attribute bit of a TSS that is not a 286's.
const WIDE: u16 = 8;

/// Executes IN or OUT.
pub fn execute(x: &mut Execution, instruction: &Instruction) -> Result<Flow, Exception> {
    use Code::*;
    let (input, size) = match instruction.code() {
        In_AL_imm8 | In_AL_DX => (true, 1),
        In_AX_imm8 | In_AX_DX => (true, 2),
        In_EAX_imm8 | In_EAX_DX => (true, 4),
        Out_imm8_AL | Out_DX_AL => (false, 1),
        Out_imm8_AX | Out_DX_AX => (false, 2),
        Out_imm8_EAX | Out_DX_EAX => (false, 4),
        _ => return Err(Exception::invalid_opcode()),
    };
    let immediate =
        matches!(instruction.code(), In_AL_imm8 | In_AX_imm8 | In_EAX_imm8 | Out_imm8_AL | Out_imm8_AX | Out_imm8_EAX);
    let port = if immediate { u16::from(instruction.immediate8()) } else { x.state.gpr[gpr::RDX] as u16 };
    check(x, port, size)?;
    if input {
        let value = u64::from(read(x, port, size));
        let old = x.state.gpr[RAX];
        x.state.gpr[RAX] = match size {
            1 => old & !0xff | value & 0xff,
            2 => old & !0xffff | value & 0xffff,
            _ => value,
        };
    } else {
        let value = x.state.gpr[RAX] as u32;
        write(x, port, size, value);
    }
    Ok(Flow::Next)
}

/// Reads a port of the board.
pub fn read(x: &mut Execution, port: u16, size: u8) -> u32 {
    x.device = true;
    x.state.debug_pending |= debug::port_hits(x.state, port, size);
    x.bus.port_read(x.memory, x.now, port, size)
}

/// Writes a port of the board; bits above `size` bytes are cleared first.
pub fn write(x: &mut Execution, port: u16, size: u8, value: u32) {
    x.device = true;
    x.state.debug_pending |= debug::port_hits(x.state, port, size);
    let value = if size == 4 { value } else { value & ((1 << (8 * size)) - 1) };
    x.bus.port_write(x.memory, x.now, port, size, value);
}

/// Whether the program may use all ports from `port` to `port + size - 1`.
///
/// # Errors
/// #GP(0) where not; #PF when the bitmap is not mapped.
pub fn check(x: &mut Execution, port: u16, size: u8) -> Result<(), Exception> {
    if x.state.is_real() || x.state.cpl <= flags::io_privilege(x) && !x.state.is_virtual_8086() {
        return Ok(());
    }
    let refused = Exception::general_protection(0);
    let task = x.state.tr;
    let wide = task.attributes & WIDE != 0;
    if task.attributes & Segment::PRESENT == 0 || !wide || task.limit < 0x67 {
        return Err(refused);
    }
    let bitmap = x.read_system(segments::table_address(x, task.base, BITMAP_OFFSET), 2)?;
    let byte = bitmap + u64::from(port / 8);
    if byte + 1 > u64::from(task.limit) {
        return Err(refused);
    }
    let bits = x.read_system(segments::table_address(x, task.base, byte), 2)? >> (port % 8);
    if bits & ((1 << size) - 1) == 0 { Ok(()) } else { Err(refused) }
}
