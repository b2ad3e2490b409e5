//! Near jumps, calls, returns and the stack: the instructions whose effect on RIP or RSP is emitted by hand.

use super::builder::{Builder, Place, host};
use super::cold::Cold;
use super::sites::AccessSite;
use super::trampolines::{HOMES, host_register};
use crate::exception::Exception;
use crate::state::gpr;
use iced_x86::{Code, FlowControl, Instruction, MemoryOperand, Mnemonic, OpAccess, OpKind, Register};

fn operand(place: Place) -> MemoryOperand {
    let register = |number: u8| Register::RAX + u32::from(number);
    let index = place.index.map_or(Register::None, register);
    MemoryOperand::new(register(place.base), index, 1, place.displacement.into(), 1, false, Register::None)
}

fn stack_site(size: u8, write: bool) -> AccessSite {
    AccessSite { size, read: !write, write, stack: true, plain: write, ..AccessSite::default() }
}

impl Builder<'_> {
    /// MOV register, [place], zero-extended.
    fn take(&mut self, register: u8, size: u8, place: Place) {
        let (code, width) = match size {
            2 => (Code::Movzx_r32_rm16, 4),
            4 => (Code::Mov_r32_rm32, 4),
            _ => (Code::Mov_r64_rm64, 8),
        };
        let load = Instruction::with2(code, host_register(register, width), operand(place)).expect("a valid form");
        self.instruction(&load);
    }

    /// MOV [place], register.
    fn put(&mut self, register: u8, size: u8, place: Place) {
        let (code, width) = match size {
            2 => (Code::Mov_rm16_r16, 2),
            4 => (Code::Mov_rm32_r32, 4),
            _ => (Code::Mov_rm64_r64, 8),
        };
        let store = Instruction::with2(code, operand(place), host_register(register, width)).expect("a valid form");
        self.instruction(&store);
    }

    /// Stores what `value` puts into the register it returns (RCX is free) below RSP, then moves RSP.
    fn push_value(&mut self, size: u8, value: impl FnOnce(&mut Self) -> u8) {
        if let Some(place) = self.checked_stack(-i32::from(size)) {
            let register = value(self);
            self.put(register, size, place);
            self.adjust_stack(-i32::from(size));
            return;
        }
        self.stack_pointer(-i32::from(size));
        let mut site = stack_site(size, true);
        self.stack_segment(&mut site);
        self.access(site, |builder| {
            let register = value(builder);
            builder.put(register, size, Place::FOUND);
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

    /// Loads a memory operand of `size` bytes into R10.
    fn take_operand(&mut self, instruction: &Instruction, size: u8) {
        if let Some(place) = self.checked_operand(instruction) {
            return self.take(host::R10, size, place);
        }
        let mut site = self.access_site(instruction, size as usize, OpAccess::Read);
        if let Some(address) = self.constant_address(instruction, size.into()) {
            return self.access_at(address, site, |builder, place| builder.take(host::R10, size, place));
        }
        self.address(instruction);
        self.segment(instruction, &mut site);
        self.access(site, |builder| builder.take(host::R10, size, Place::FOUND));
    }

    /// Pushes what the frame's temporary holds.
    pub(super) fn push_temporary(&mut self, size: u8) {
        self.push_value(size, |builder| {
            builder.load(host::RCX, super::frame::displacement!(temporary));
            host::RCX
        });
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
                self.store(host::R10, super::frame::displacement!(temporary));
                self.push_temporary(size);
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
        self.take_from_stack(size);
        self.adjust_stack(i32::from(size));
        self.set_from_r10(guest, size);
    }

    /// Loads the top of the stack into R10 (RCX does not outlive a slow access).
    fn take_from_stack(&mut self, size: u8) {
        if let Some(place) = self.checked_stack(0) {
            return self.take(host::R10, size, place);
        }
        match self.mode.stack_bits() {
            64 => self.copy(host::R10, host::R15),
            _ => self.stack_pointer(0),
        }
        self.access_stack(size);
    }

    /// Loads what lies on the stack at the offset in R10 into R10.
    fn access_stack(&mut self, size: u8) {
        let mut site = stack_site(size, false);
        self.stack_segment(&mut site);
        self.access(site, |builder| builder.take(host::R10, size, Place::FOUND));
    }

    /// Writes R10, or its low 16 bits, to a guest register.
    fn set_from_r10(&mut self, guest: usize, size: u8) {
        if size != 2 {
            self.store_guest(guest, host::R10);
        } else {
            self.load_guest(host::RCX, guest);
            self.bytes(&[0x66, 0x44, 0x89, 0xd1]); // mov cx, r10w
            self.store_guest(guest, host::RCX);
        }
    }

    /// LEAVE.
    pub fn leave_frame(&mut self, instruction: &Instruction) {
        let size = match instruction.code() {
            Code::Leavew => 2,
            Code::Leaved => 4,
            _ => 8,
        };
        self.load_guest(host::R10, gpr::RBP);
        match self.mode.stack_bits() {
            64 => {}
            32 => self.lea(host::R10, Some(host::R10), None, 0, false),
            _ => self.narrow(),
        }
        self.access_stack(size);
        self.load_guest(host::RCX, gpr::RBP);
        match self.mode.stack_bits() {
            16 => self.bytes(&[0x66, 0x41, 0x89, 0xcf]), // mov r15w, cx
            _ => self.copy(host::R15, host::RCX),
        }
        self.adjust_stack(i32::from(size));
        self.set_from_r10(gpr::RBP, size);
    }

    /// Emits a near transfer of control; false if this is none.
    pub fn transfer(&mut self, instruction: &Instruction) -> bool {
        let next = instruction.next_ip();
        match instruction.flow_control() {
            FlowControl::UnconditionalBranch => self.branch_at(instruction.near_branch_target()),
            FlowControl::ConditionalBranch => {
                let condition = instruction.condition_code() as u8 - 1;
                self.bytes(&[0x0f, 0x80 | condition, 0, 0, 0, 0]);
                let jump = self.out.len() - 4;
                let target = instruction.near_branch_target();
                self.leave(jump, target);
                if self.is_last() {
                    self.continue_at(next);
                } else {
                    self.spend(self.index + 1);
                }
            }
            FlowControl::Call => {
                self.push_return_address(instruction);
                self.continue_at(instruction.near_branch_target());
            }
            FlowControl::IndirectBranch => {
                self.target_operand(instruction);
                self.branch_to_r10(0);
            }
            FlowControl::IndirectCall => {
                self.target_operand(instruction);
                self.store(host::R10, super::frame::displacement!(temporary));
                self.require_canonical();
                self.push_return_address(instruction);
                self.load(host::R10, super::frame::displacement!(temporary));
                self.jump_to_r10();
            }
            FlowControl::Return => self.near_return(instruction),
            _ => return false,
        }
        true
    }

    fn push_return_address(&mut self, instruction: &Instruction) {
        let size = instruction.stack_pointer_increment().unsigned_abs() as u8;
        self.push_value(size, |builder| {
            builder.code_address(host::RCX, instruction.next_ip());
            host::RCX
        });
    }

    /// R10 = the target of an indirect branch.
    fn target_operand(&mut self, instruction: &Instruction) {
        if instruction.op0_kind() == OpKind::Memory {
            self.take_operand(instruction, instruction.memory_size().size() as u8);
        } else {
            let register = instruction.op0_register();
            let value = self.value_of(register, host::R10);
            self.copy(host::R10, value);
            match register.size() {
                2 => self.narrow(),
                4 => self.lea(host::R10, Some(host::R10), None, 0, false),
                _ => {}
            }
        }
    }

    /// Raises #GP(0) unless R10 is canonical. A call must know before it pushes.
    fn require_canonical(&mut self) {
        if !self.mode.long() {
            return;
        }
        self.resident = None;
        self.copy(host::RCX, host::R10);
        self.constant(host::R13, 16);
        self.bytes(&[0xc4, 0x42, 0x91, 0xf7, 0xd2]); // shlx r10, r10, r13
        self.bytes(&[0xc4, 0x42, 0x92, 0xf7, 0xd2]); // sarx r10, r10, r13
        self.bytes(&[0x49, 0xf7, 0xd2]); // not r10
        self.lea(host::RCX, Some(host::RCX), Some((host::R10, 1)), 2, true);
        let jump = self.unless_one();
        self.cold.push_back(Cold::Raise { jump, index: self.index, exception: Exception::general_protection(0) });
    }

    fn near_return(&mut self, instruction: &Instruction) {
        let size = match instruction.code() {
            Code::Retnw | Code::Retnw_imm16 => 2,
            Code::Retnd | Code::Retnd_imm16 => 4,
            _ => 8,
        };
        self.take_from_stack(size);
        let extra = if instruction.op_count() == 1 { instruction.immediate16() } else { 0 };
        let moved = i32::from(size) + i32::from(extra);
        self.adjust_stack(moved);
        self.branch_to_r10(moved);
    }
}

/// Whether this is a near transfer or a stack instruction with a 64-bit form that [`Builder`] emits by hand.
pub fn is_stack(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Push | Mnemonic::Pop | Mnemonic::Leave)
}
