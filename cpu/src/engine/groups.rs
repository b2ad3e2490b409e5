//! Accesses off one pointer: one look-up for all that a block makes of them.
//!
//! The accesses of a block at constant distances from a register are checked together, before the first of them; each then
//! only adds what leads from linear to host addresses. For most registers the check is the general look-up, made wider.
//! RSP, and an RBP that is a frame pointer, are checked against the page they last pointed into, which the frame remembers
//! for each privilege if it may be read and written: no table stands on the way from the stack pointer to the bytes.
//!
//! Where a check fails the block goes on in its general translation ([`Mode::GENERAL`]) at the same instruction. What
//! drops a page in between poisons what was found: an access that was already checked faults on the host, and its
//! instruction is repeated alone.
//!
//! [`Mode::GENERAL`]: super::blocks::Mode::GENERAL

use super::builder::{Builder, Place, host};
use super::cold::Cold;
use super::frame::{StackPage, base_displacement};
use super::plan::{Check, Found};
use super::sites::Site;
use super::trampolines::HOMES;
use crate::state::gpr;
use iced_x86::{Instruction, OpKind, Register};
use std::mem::offset_of;

impl Builder<'_> {
    /// Where the memory operand is, if it has been checked.
    pub fn checked_operand(&mut self, instruction: &Instruction) -> Option<Place> {
        let guest = super::plan::pointer_of(instruction)?;
        self.checked(guest, instruction.memory_displacement64() as i32)
    }

    /// The bytes at a distance from RSP, if they have been checked.
    pub fn checked_stack(&mut self, displacement: i32) -> Option<Place> {
        self.checked(gpr::RSP, displacement)
    }

    /// Brings what leads from linear to host addresses to R13.
    fn checked(&mut self, guest: usize, displacement: i32) -> Option<Place> {
        let found = self.plan.found(self.index.into(), guest)?;
        if self.resident != Some(guest) {
            let addend = match found {
                Found::Stack(page) => self.tables.page(page, offset_of!(StackPage, addend)),
                Found::Table => base_displacement(guest),
            };
            self.load(host::R13, addend);
            self.resident = Some(guest);
        }
        let index = self.value_of_pointer(guest);
        // With R13 as the base a fault is #GP on the host, whatever the other register.
        Some(Place { base: host::R13, index: Some(index), displacement })
    }

    /// The host register with a guest register's value: R10 if it lives in the frame.
    fn value_of_pointer(&mut self, guest: usize) -> u8 {
        HOMES[guest].unwrap_or_else(|| {
            self.load_guest(host::R10, guest);
            host::R10
        })
    }

    /// Whether R13 outlives an instruction whose memory operand, if any, has been checked.
    pub fn spares_r13(&self, instruction: &Instruction) -> bool {
        let homed = |register: Register| !register.is_gpr() || HOMES[register.full_register().number()].is_some();
        let operands = (0..instruction.op_count()).all(|operand| match instruction.op_kind(operand) {
            OpKind::Register => homed(instruction.op_register(operand)),
            OpKind::Memory => {
                let pointer = super::plan::pointer_of(instruction);
                let found = |guest| self.plan.found(self.index.into(), guest).is_some() && HOMES[guest].is_some();
                pointer.is_some_and(found)
            }
            OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => false,
            _ => true,
        });
        operands && !super::transfer::is_stack(instruction) && instruction.op_count() > 0
    }

    /// Emits the checks before an instruction.
    pub fn check_pointers(&mut self) {
        for number in 0..self.plan.checks.len() {
            let (index, check) = self.plan.checks[number];
            match check.found {
                _ if index != usize::from(self.index) => {}
                Found::Stack(page) => self.check_stack(check, page),
                Found::Table => self.check_table(check),
            }
        }
    }

    fn check_table(&mut self, check: Check) {
        let pointer = self.value_of_pointer(check.guest);
        self.lea(host::R10, Some(pointer), None, check.low, true);
        let jump = self.look_up(if check.writes { self.tables.write } else { self.tables.read }, check.length);
        self.cold.push_back(Cold::General { index: self.index, jump });
        self.load_indexed(host::R13, self.tables.addend);
        self.store(host::R13, base_displacement(check.guest));
        self.resident = Some(check.guest);
    }

    fn check_stack(&mut self, check: Check, page: usize) {
        let pointer = HOMES[check.guest].map(|home| (home, 1));
        self.load(host::RCX, self.tables.page(page, offset_of!(StackPage, tag)));
        // The page is not chosen by the address: both ends may lie beyond it.
        self.lea(host::R10, Some(host::RCX), pointer, check.low, true);
        self.lea(host::RCX, Some(host::RCX), pointer, check.low + check.length - 1, true);
        self.bytes(&[0xc4, 0x42, 0xdb, 0xf7, 0xd2]); // shrx r10, r10, rsp (12)
        self.bytes(&[0xc4, 0xe2, 0xdb, 0xf7, 0xc9]); // shrx rcx, rcx, rsp (12)
        self.lea(host::RCX, Some(host::RCX), Some((host::R10, 1)), -1, true);
        let jump = self.unless_one();
        let back = self.out.len();
        self.cold.push_back(Cold::StackPage { index: self.index, jump, back, check, page });
        self.resident = None;
    }

    /// The page is another one than the last: takes it from the tables, or goes on in the general translation.
    pub(super) fn cold_stack_page(&mut self, index: u8, jump: usize, back: usize, check: Check, page: usize) {
        self.index = index;
        self.mark();
        self.aim_here(jump);
        self.lea(host::R10, HOMES[check.guest], None, check.low, true);
        let general = self.look_up(self.tables.write, check.length);
        self.bytes(&[0x4a, 0x8b, 0x8c, 0xec]); // mov rcx, [rsp+r13*8+write]
        self.bytes(&self.tables.write.to_le_bytes());
        self.store(host::RCX, self.tables.page(page, offset_of!(StackPage, tag)));
        self.store(host::R13, self.tables.page(page, offset_of!(StackPage, slot)));
        self.load_indexed(host::R13, self.tables.addend);
        self.store(host::R13, self.tables.page(page, offset_of!(StackPage, addend)));
        self.jump_to(self.address_at(back));
        self.cold_general(index, general);
    }

    /// Goes on in the general translation.
    pub(super) fn cold_general(&mut self, index: u8, jump: usize) {
        self.index = index;
        self.mark();
        let stub = self.here();
        self.aim(jump, stub);
        self.service(Site::General { block: self.block, index, jump: self.address_at(jump), stub });
    }
}
