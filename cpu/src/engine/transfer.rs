//! Near jumps, calls, returns and the stack: the instructions whose effect on RIP or RSP is emitted by hand.

use super::builder::{Builder, host};
use super::sites::AccessSite;
use super::trampolines::{HOMES, host_register};
use crate::state::gpr;
use iced_x86::{Code, FlowControl, Instruction, MemoryOperand, Mnemonic, OpAccess, OpKind, Register};

/// [R10+R13], where an access finds its bytes.
fn place() -> MemoryOperand {
    MemoryOperand::with_base_index(Register::R10, Register::R13)
}

fn stack_site(size: u8, write: bool) -> AccessSite {
    AccessSite { size, read: !write, write, stack: true, plain: write, ..AccessSite::default() }
}

impl Builder<'_> {
    /// MOV register, [R10+R13], zero-extended.
    fn take(&mut self, register: u8, size: u8) {
        let (code, width) = match size {
            2 => (Code::Movzx_r32_rm16, 4),
            _ => (Code::Mov_r64_rm64, 8),
        };
        let load = Instruction::with2(code, host_register(register, width), place()).expect("a valid form");
        self.instruction(&load);
    }

    /// MOV [R10+R13], register.
    fn put(&mut self, register: u8, size: u8) {
        let (code, width) = if size == 2 { (Code::Mov_rm16_r16, 2) } else { (Code::Mov_rm64_r64, 8) };
        let store = Instruction::with2(code, place(), host_register(register, width)).expect("a valid form");
        self.instruction(&store);
    }

    /// Moves guest RSP.
    fn adjust_stack(&mut self, by: i32) {
        self.lea(host::R15, Some(host::R15), None, by, true);
    }

    /// Stores what `value` puts into the register it returns (RCX is free) below RSP, then moves RSP.
    fn push_value(&mut self, size: u8, value: impl FnOnce(&mut Self) -> u8) {
        self.lea(host::R10, Some(host::R15), None, -i32::from(size), true);
        self.access(stack_site(size, true), |builder| {
            let register = value(builder);
            builder.put(register, size);
        });
        self.adjust_stack(-i32::from(size));
    }

    /// The value of a register operand in some host register.
    fn value_of(&mut self, register: Register, scratch: u8) -> u8 {
        let guest = register.full_register().number();
        HOMES[guest].unwrap_or_else(|| {
            self.load_guest(scratch, guest);
            scratch
        })
    }

    /// Loads a memory operand of `size` bytes into RCX.
    fn take_operand(&mut self, instruction: &Instruction, size: u8) {
        self.address(instruction, true);
        let site = self.access_site(instruction, size as usize, OpAccess::Read);
        self.access(site, |builder| builder.take(host::RCX, size));
    }

    /// PUSH of a register, an immediate or memory.
    pub fn push(&mut self, instruction: &Instruction) {
        let size = instruction.stack_pointer_increment().unsigned_abs() as u8;
        match instruction.op0_kind() {
            OpKind::Register => {
                let register = instruction.op0_register();
                self.push_value(size, |builder| builder.value_of(register, host::RCX));
            }
            OpKind::Memory => {
                self.take_operand(instruction, size);
                self.store(host::RCX, super::frame::displacement!(temporary));
                self.push_value(size, |builder| {
                    builder.load(host::RCX, super::frame::displacement!(temporary));
                    host::RCX
                });
            }
            _ => {
                let value = instruction.immediate(0);
                self.push_value(size, |builder| {
                    builder.constant(host::RCX, value);
                    host::RCX
                });
            }
        }
    }

    /// POP of a register.
    pub fn pop(&mut self, instruction: &Instruction) {
        let size = instruction.stack_pointer_increment().unsigned_abs() as u8;
        let guest = instruction.op0_register().full_register().number();
        self.copy(host::R10, host::R15);
        self.access(stack_site(size, false), |builder| builder.take(host::RCX, size));
        self.adjust_stack(i32::from(size));
        if size == 8 {
            self.store_guest(guest, host::RCX);
        } else {
            self.load_guest(host::R10, guest);
            self.bytes(&[0x66, 0x41, 0x89, 0xca]); // mov r10w, cx
            self.store_guest(guest, host::R10);
        }
    }

    /// LEAVE.
    pub fn leave_frame(&mut self) {
        self.load_guest(host::R10, gpr::RBP);
        self.access(stack_site(8, false), |builder| builder.take(host::RCX, 8));
        self.lea(host::R15, Some(5), None, 8, true);
        self.store_guest(gpr::RBP, host::RCX);
    }

    /// Emits a near transfer of control; false if this is none.
    pub fn transfer(&mut self, instruction: &Instruction) -> bool {
        let next = instruction.next_ip();
        match instruction.flow_control() {
            FlowControl::UnconditionalBranch => self.continue_at(instruction.near_branch_target()),
            FlowControl::ConditionalBranch => {
                let condition = instruction.condition_code() as u8 - 1;
                self.bytes(&[0x0f, 0x80 | condition, 0, 0, 0, 0]);
                let jump = self.out.len() - 4;
                self.leave(jump, instruction.near_branch_target());
                self.continue_at(next);
            }
            FlowControl::Call => {
                self.push_return_address(next);
                self.continue_at(instruction.near_branch_target());
            }
            FlowControl::IndirectBranch => {
                self.target_operand(instruction);
                self.copy(host::R10, host::RCX);
                self.jump_to_r10();
            }
            FlowControl::IndirectCall => {
                self.target_operand(instruction);
                self.store(host::RCX, super::frame::displacement!(temporary));
                self.push_return_address(next);
                self.load(host::R10, super::frame::displacement!(temporary));
                self.jump_to_r10();
            }
            FlowControl::Return => self.near_return(instruction),
            _ => return false,
        }
        true
    }

    fn push_return_address(&mut self, next: u64) {
        self.push_value(8, |builder| {
            builder.constant(host::RCX, next);
            host::RCX
        });
    }

    /// RCX = the target of an indirect branch.
    fn target_operand(&mut self, instruction: &Instruction) {
        if instruction.op0_kind() == OpKind::Memory {
            self.take_operand(instruction, 8);
        } else {
            let register = instruction.op0_register();
            let value = self.value_of(register, host::RCX);
            self.copy(host::RCX, value);
        }
    }

    fn near_return(&mut self, instruction: &Instruction) {
        self.copy(host::R10, host::R15);
        self.access(stack_site(8, false), |builder| builder.take(host::RCX, 8));
        let extra = if instruction.op_count() == 1 { instruction.immediate16() } else { 0 };
        self.adjust_stack(8 + i32::from(extra));
        self.copy(host::R10, host::RCX);
        self.jump_to_r10();
    }
}

/// Whether this is a near transfer or a stack instruction with a 64-bit form that [`Builder`] emits by hand.
pub fn is_stack(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Pop | Mnemonic::Leave)
}
