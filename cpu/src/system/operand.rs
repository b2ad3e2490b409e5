//! Operands of instructions written in Rust: memory or register by index, and the stack (APM vol. 1 §2.2, §2.4).
//!
//! What cannot be addressed is #GP(0), but #SS(0) where SS is the segment: by override or default outside 64-bit mode, for a
//! base of RSP or RBP within it, and for every implicit stack access. 64-bit mode ignores overrides but FS and GS.

use super::frame::Stack;
use crate::exception::Exception;
use crate::execution::{Execution, linear_address};
use crate::state::gpr::RSP;
use crate::state::segment::{DS, FS, GS, SS};
use iced_x86::{CodeSize, Instruction, OpKind, Register};

/// A memory operand before segmentation.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Segment register.
    pub segment: usize,
    /// Offset in it, within `mask`.
    pub offset: u64,
    /// Address size.
    pub mask: u64,
}

impl Place {
    /// The place of an instruction's memory operand.
    pub fn of(x: &Execution, instruction: &Instruction, operand: u32) -> Place {
        let offset = instruction
            .virtual_address(operand, 0, |register, _, _| {
                Some(if register.is_segment_register() { 0 } else { x.register(register) })
            })
            .expect("every register of an address is known");
        let mask = address_mask(instruction, operand);
        Place { segment: segment(x, instruction), offset: offset & mask, mask }
    }

    /// The place so many bytes away, wrapped to the address size.
    pub fn plus(self, delta: i64) -> Place {
        Place { offset: self.offset.wrapping_add_signed(delta) & self.mask, ..self }
    }

    /// Its linear address, checked for `size` bytes.
    pub fn linear(self, x: &Execution, size: usize, write: bool) -> Result<u64, Exception> {
        linear_address(x.state, self.segment, self.offset, size as u32, write)
    }

    /// Reads a value of 1, 2, 4 or 8 bytes, zero-extended.
    pub fn read(self, x: &mut Execution, size: usize) -> Result<u64, Exception> {
        let linear = self.linear(x, size, false)?;
        x.read(linear, size)
    }

    /// Writes a value of 1, 2, 4 or 8 bytes.
    pub fn write(self, x: &mut Execution, size: usize, value: u64) -> Result<(), Exception> {
        let linear = self.linear(x, size, true)?;
        x.write(linear, size, value)
    }
}

/// The address size of an operand, as a mask.
fn address_mask(instruction: &Instruction, operand: u32) -> u64 {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let size = match instruction.op_kind(operand) {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => 2,
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => 4,
        OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => 8,
        _ if base != Register::None => base.size(),
        _ if index != Register::None => index.size(),
        _ => match (instruction.memory_displ_size(), instruction.code_size()) {
            (size @ (2 | 4 | 8), _) => size as usize,
            (_, CodeSize::Code16) => 2,
            (_, CodeSize::Code32) => 4,
            _ => 8,
        },
    };
    if size == 8 { u64::MAX } else { (1 << (8 * size)) - 1 }
}

/// The segment register that counts for the memory operand: one without a base in 64-bit mode is named by the fault
/// that a bad address raises.
fn segment(x: &Execution, instruction: &Instruction) -> usize {
    let named = instruction.memory_segment();
    if !x.state.is_long() {
        return if named.is_segment_register() { named.number() } else { DS };
    }
    match named {
        Register::FS => FS,
        Register::GS => GS,
        _ if is_stack(instruction) => SS,
        _ => DS,
    }
}

/// Whether a bad address of the memory operand is a stack fault in 64-bit mode.
pub fn is_stack(instruction: &Instruction) -> bool {
    let based_on_stack =
        matches!(instruction.memory_base(), Register::RSP | Register::RBP | Register::ESP | Register::EBP);
    based_on_stack && !matches!(instruction.segment_prefix(), Register::FS | Register::GS)
}

/// Whether the operand is in memory.
pub fn is_memory(instruction: &Instruction, operand: u32) -> bool {
    instruction.op_kind(operand) == OpKind::Memory
}

/// The offset of the next instruction.
pub fn next(instruction: &Instruction) -> u64 {
    match instruction.code_size() {
        CodeSize::Code64 => instruction.next_ip(),
        _ => instruction.next_ip() & 0xffff_ffff,
    }
}

/// Reads a register or `size` bytes of memory, zero-extended.
pub fn read(x: &mut Execution, instruction: &Instruction, operand: u32, size: usize) -> Result<u64, Exception> {
    if is_memory(instruction, operand) {
        Place::of(x, instruction, operand).read(x, size)
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
        Place::of(x, instruction, operand).write(x, size, value)
    } else {
        x.set_register(instruction.op_register(operand), value);
        Ok(())
    }
}

/// Reads the bytes of a memory operand.
pub fn read_bytes(
    x: &mut Execution,
    instruction: &Instruction,
    operand: u32,
    bytes: &mut [u8],
) -> Result<(), Exception> {
    let linear = Place::of(x, instruction, operand).linear(x, bytes.len(), false)?;
    let user = x.user();
    x.read_bytes(linear, bytes, user)
}

/// Reads the parts of a far pointer or of a pair in memory: `first` bytes, then `second`, each at an address of its own
/// that wraps to the address size.
pub fn read_parts(
    x: &mut Execution,
    instruction: &Instruction,
    operand: u32,
    first: usize,
    second: usize,
) -> Result<[u64; 2], Exception> {
    let place = Place::of(x, instruction, operand);
    Ok([place.read(x, first)?, place.plus(first as i64).read(x, second)?])
}

/// Writes the bytes of a memory operand.
pub fn write_bytes(x: &mut Execution, instruction: &Instruction, operand: u32, bytes: &[u8]) -> Result<(), Exception> {
    let linear = Place::of(x, instruction, operand).linear(x, bytes.len(), true)?;
    let user = x.user();
    x.write_bytes(linear, bytes, user)
}

/// Pushes a value of 2, 4 or 8 bytes.
pub fn push(x: &mut Execution, size: usize, value: u64) -> Result<(), Exception> {
    let mut stack = Stack::current(x);
    stack.push(x, size, value)?;
    stack.commit(x);
    Ok(())
}

/// Reads the value `offset` bytes above the top of the stack, without popping it.
pub fn peek(x: &mut Execution, offset: u64, size: usize) -> Result<u64, Exception> {
    let mut stack = Stack::current(x);
    stack.release(offset);
    stack.pop(x, size)
}

/// Drops bytes from the stack.
pub fn drop(x: &mut Execution, bytes: u64) {
    let to = x.state.gpr[RSP].wrapping_add(bytes);
    set_stack_pointer(x, to);
}

/// Moves the top of the stack, as wide as the stack is.
pub fn set_stack_pointer(x: &mut Execution, value: u64) {
    let mask = x.state.stack_mask();
    set_masked(&mut x.state.gpr[RSP], value, mask);
}

/// Writes a register with the width of `mask`: 16 bits keep the rest, 32 bits clear it.
pub fn set_masked(register: &mut u64, value: u64, mask: u64) {
    *register = if mask == 0xffff { *register & !mask | value & mask } else { value & mask };
}

/// #GP(0) unless at privilege level 0.
pub fn require_ring_0(x: &Execution) -> Result<(), Exception> {
    if x.state.cpl == 0 { Ok(()) } else { Err(Exception::general_protection(0)) }
}

/// #UD in real and virtual-8086 mode, where selectors name no descriptors.
pub fn require_descriptors(x: &Execution) -> Result<(), Exception> {
    if x.state.has_paragraphs() { Err(Exception::invalid_opcode()) } else { Ok(()) }
}

/// #GP(0) in virtual-8086 mode unless IOPL is 3.
pub fn require_io_privilege_in_virtual_8086(x: &Execution) -> Result<(), Exception> {
    let refused = x.state.is_virtual_8086() && super::flags::io_privilege(x) < 3;
    if refused { Err(Exception::general_protection(0)) } else { Ok(()) }
}
