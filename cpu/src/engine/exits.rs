//! The ways out of a block: linked jumps within its page, linked jumps to other pages, and the jump cache.

use super::buffer::NOT_LINKED;
use super::builder::{Builder, host};
use super::cold::Cold;
use super::frame::{displacement, jump_slot};
use super::sites::Site;
use super::translate::LONGEST_INSTRUCTION;
use crate::memory::PAGE;

impl Builder<'_> {
    /// Continues at the offset in R10, through the jump cache.
    pub fn jump_to_r10(&mut self) {
        if self.alone {
            self.service_number(super::sites::LEAVE);
            return;
        }
        if self.cached {
            self.look_up_jump();
        }
        self.service_number(super::sites::MISS);
    }

    /// As [`Builder::jump_to_r10`], for a target that the guest computed. `moved`: what has been added to RSP.
    pub fn branch_to_r10(&mut self, moved: i32) {
        if self.cached {
            self.look_up_jump();
        }
        let site = Site::Branch { block: self.block, index: self.index, moved };
        self.service(site);
    }

    /// Jumps to the block for R10 if the jump cache has it.
    fn look_up_jump(&mut self) {
        self.bytes(&[0xc4, 0x43, 0x7b, 0xf0, 0xea, 22]); // rorx r13d, r10d, 22
        self.lea(host::R13, Some(host::R13), Some((host::R10, 1)), 0, false);
        self.bytes(&[0xc4, 0x42, 0x5b, 0xf7, 0xed]); // shrx r13d, r13d, esp (12)
        self.lea(host::R13, Some(host::R13), Some((host::R13, 1)), 0, false);
        self.bytes(&[0x4a, 0x8b, 0x8c, 0xec]); // mov rcx, [rsp+r13*8+tag]
        self.bytes(&self.tables.jump_tag.to_le_bytes());
        self.bytes(&[0x4a, 0x8d, 0x8c, 0x11]); // lea rcx, [rcx+r10+mode+1]
        self.bytes(&(self.mode.jump_distance() + 1).to_le_bytes());
        let jump = self.unless_one();
        self.bytes(&[0x42, 0xff, 0xa4, 0xec]); // jmp [rsp+r13*8+entry]
        self.bytes(&self.tables.jump_entry.to_le_bytes());
        self.aim_here(jump);
    }

    /// Whether jumps to a target may be linked for good: it lies within the page, and so do all its bytes. A block with
    /// bytes in the next page is found by the jump cache, which knows when that is mapped elsewhere.
    fn is_near(&self, target: u64) -> bool {
        self.chain && (target ^ self.rip) >> 12 == 0 && target % PAGE + LONGEST_INSTRUCTION as u64 <= PAGE
    }

    /// What a jump with displacement at `jump` to a constant target becomes.
    pub fn leave(&mut self, jump: usize, target: u64) {
        if self.is_near(target) {
            self.cold.push_back(Cold::Link { jump, target });
        } else {
            // Apart, but not rare: before all that is.
            self.cold.push_front(Cold::Far { jump, target });
        }
    }

    /// Whether nothing follows the instruction in its block.
    pub fn is_last(&self) -> bool {
        self.index + 1 == self.count
    }

    /// The instruction goes to a constant target.
    pub fn branch_at(&mut self, target: u64) {
        if self.mode.flat() {
            self.continue_at(target);
        } else {
            self.constant(host::R10, target);
            self.branch_to_r10(0);
        }
    }

    /// Continues at a constant offset in the code segment.
    pub fn continue_at(&mut self, target: u64) {
        if self.is_near(target) {
            let jump = self.jump();
            self.leave(jump, target);
        } else if self.chain && self.cached && self.low && !self.movable {
            self.jump_far(target);
        } else {
            self.code_address(host::R10, target);
            self.jump_to_r10();
        }
    }

    /// Register = an address in or relative to the block's code. May use R13 where that is far away.
    pub fn code_address(&mut self, register: u8, address: u64) {
        if !self.movable {
            return self.constant(register, address);
        }
        self.load(register, displacement!(code_base));
        match i32::try_from(address as i64) {
            Ok(distance) => self.lea(register, Some(register), None, distance, true),
            Err(_) => {
                self.resident = None;
                self.constant(host::R13, address);
                self.lea(register, Some(register), Some((host::R13, 1)), 0, true);
            }
        }
    }

    /// The entry of a movable block: its first instruction's address is in R10.
    pub fn movable_entry(&mut self) {
        self.lea(host::RCX, Some(host::R10), None, -(self.rip as i32), true);
        self.store(host::RCX, displacement!(code_base));
    }

    /// Continues in another page: with the block linked here, as long as that is the one the jump cache has.
    pub fn jump_far(&mut self, target: u64) {
        self.load(host::RCX, self.tables.jump_entry + 16 * jump_slot(target) as i32);
        self.bytes(&[0x48, 0x8d, 0x89]); // lea rcx, [rcx-entry+1]
        let check = self.out.len();
        self.bytes(&NOT_LINKED.to_le_bytes());
        let jump = self.unless_one();
        let link = self.jump();
        self.cold.push_back(Cold::FarLink { check, jump, link, target });
    }
}
