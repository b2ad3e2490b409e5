//! Operands of instructions written in Rust: memory or register by index, and the stack (APM vol. 1 §2.2, §2.4).
//!
//! A non-canonical address is #GP(0), but #SS(0) where SS is the segment: for a base of RSP or RBP, and for every
//! implicit stack access. 64-bit mode ignores overrides but FS and GS here too.

use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::gpr::RSP;
use iced_x86::{Instruction, OpKind, Register};

/// What a non-canonical address raises where the stack segment is used.
pub fn as_stack(exception: Exception) -> Exception {
    if exception == Exception::general_protection(0) { Exception::stack(0) } else { exception }
}

/// The exception, as a stack fault where the memory operand is on the stack.
pub fn by_segment(instruction: &Instruction, exception: Exception) -> Exception {
    if is_stack(instruction) { as_stack(exception) } else { exception }
}

/// Whether a bad address of the memory operand is a stack fault.
pub fn is_stack(instruction: &Instruction) -> bool {
    let based_on_stack =
        matches!(instruction.memory_base(), Register::RSP | Register::RBP | Register::ESP | Register::EBP);
    based_on_stack && !matches!(instruction.segment_prefix(), Register::FS | Register::GS)
}

/// Whether the operand is in memory.
pub fn is_memory(instruction: &Instruction, operand: u32) -> bool {
    instruction.op_kind(operand) == OpKind::Memory
}

/// Reads a register or `size` bytes of memory, zero-extended.
pub fn read(x: &mut Execution, instruction: &Instruction, operand: u32, size: usize) -> Result<u64, Exception> {
    if is_memory(instruction, operand) {
        let linear = x.linear_address(instruction, operand);
        read_at(x, instruction, linear, size)
    } else {
        Ok(x.register(instruction.op_register(operand)))
    }
}

/// Writes a register (with its own width) or `size` bytes of memory.
pub fn write(
    x: &mut Execution,
    instruction: &Instruction,
    operand: u32,
    size: usize,
    value: u64,
) -> Result<(), Exception> {
    if is_memory(instruction, operand) {
        let linear = x.linear_address(instruction, operand);
        write_at(x, instruction, linear, size, value)
    } else {
        x.set_register(instruction.op_register(operand), value);
        Ok(())
    }
}

/// The linear address `delta` bytes from a memory operand, wrapped to the instruction's address size.
pub fn address_with_delta(x: &Execution, instruction: &Instruction, operand: u32, delta: i64) -> u64 {
    let offset = instruction
        .virtual_address(operand, 0, |register, _, _| {
            Some(if register.is_segment_register() { 0 } else { x.register(register) })
        })
        .expect("every register of an address is known")
        .wrapping_add_signed(delta);
    let narrow = [instruction.memory_base(), instruction.memory_index()].iter().any(|r| r.is_gpr32());
    let offset = if narrow { offset & 0xffff_ffff } else { offset };
    offset.wrapping_add(x.register(instruction.memory_segment()))
}

/// Reads memory at an address derived from the instruction's memory operand.
pub fn read_at(x: &mut Execution, instruction: &Instruction, linear: u64, size: usize) -> Result<u64, Exception> {
    x.read(linear, size).map_err(|e| by_segment(instruction, e))
}

/// Writes memory at an address derived from the instruction's memory operand.
pub fn write_at(
    x: &mut Execution,
    instruction: &Instruction,
    linear: u64,
    size: usize,
    value: u64,
) -> Result<(), Exception> {
    x.write(linear, size, value).map_err(|e| by_segment(instruction, e))
}

/// Reads the bytes of a memory operand.
pub fn read_bytes(
    x: &mut Execution,
    instruction: &Instruction,
    operand: u32,
    bytes: &mut [u8],
) -> Result<(), Exception> {
    let linear = x.linear_address(instruction, operand);
    let user = x.user();
    x.read_bytes(linear, bytes, user).map_err(|e| by_segment(instruction, e))
}

/// Writes the bytes of a memory operand.
pub fn write_bytes(x: &mut Execution, instruction: &Instruction, operand: u32, bytes: &[u8]) -> Result<(), Exception> {
    let linear = x.linear_address(instruction, operand);
    let user = x.user();
    x.write_bytes(linear, bytes, user).map_err(|e| by_segment(instruction, e))
}

/// Pushes a value of 2, 4 or 8 bytes.
pub fn push(x: &mut Execution, size: usize, value: u64) -> Result<(), Exception> {
    let rsp = x.state.gpr[RSP].wrapping_sub(size as u64);
    x.write(rsp, size, value).map_err(as_stack)?;
    x.state.gpr[RSP] = rsp;
    Ok(())
}

/// Reads the value `offset` bytes above the top of the stack, without popping it.
pub fn peek(x: &mut Execution, offset: u64, size: usize) -> Result<u64, Exception> {
    let at = x.state.gpr[RSP].wrapping_add(offset);
    x.read(at, size).map_err(as_stack)
}

/// Drops bytes from the stack.
pub fn drop(x: &mut Execution, bytes: u64) {
    x.state.gpr[RSP] = x.state.gpr[RSP].wrapping_add(bytes);
}

/// #GP(0) unless at privilege level 0.
pub fn require_ring_0(x: &Execution) -> Result<(), Exception> {
    if x.state.cpl == 0 { Ok(()) } else { Err(Exception::general_protection(0)) }
}
