//! The part of a block that lies apart from what mostly runs: ways out to other pages, and then what is reached rarely, slow
//! paths, jumps not linked yet, exceptions known in advance.

use super::builder::{Builder, host};
use super::frame::displacement;
use super::plan::Check;
use super::sites::{AccessSite, Site};
use super::translate::LARGEST_PART;
use crate::exception::Exception;
use iced_x86::Instruction;

/// Code that is placed apart.
pub enum Cold {
    /// The slow path of a memory access.
    Access {
        /// Instruction of the block.
        index: u8,
        /// The hot jump's displacement to patch.
        jump: usize,
        /// Start of the lookup.
        retry: usize,
        /// The operation on [R10+R13], to be repeated on the bounce buffer.
        operation: std::ops::Range<usize>,
        /// What the service function must know.
        site: AccessSite,
    },
    /// A jump within the page, patched to the target once it is known.
    Link {
        /// The hot jump's displacement.
        jump: usize,
        /// Linear target.
        target: u64,
    },
    /// A jump to another page: the jump cache each time.
    Far {
        /// The hot jump's displacement.
        jump: usize,
        /// Linear target.
        target: u64,
    },
    /// A jump to another page that is linked to a block.
    FarLink {
        /// What is added to the jump cache's entry.
        check: usize,
        /// The hot jump's displacement.
        jump: usize,
        /// The linked jump's displacement.
        link: usize,
        /// Linear target.
        target: u64,
    },
    /// The instruction raises.
    Raise {
        /// The hot jump's displacement.
        jump: usize,
        /// Instruction of the block.
        index: u8,
        /// What it raises.
        exception: Exception,
    },
    /// The instruction is executed in Rust after all.
    System {
        /// Instruction of the block.
        index: u8,
        /// The hot jump's displacement.
        jump: usize,
        /// The instruction.
        instruction: Instruction,
        /// Host address of the next one.
        after: u64,
    },
    /// The stack is in another page than remembered.
    StackPage {
        /// Instruction of the block.
        index: u8,
        /// The hot jump's displacement.
        jump: usize,
        /// Where the block goes on.
        back: usize,
        /// What is to be found there.
        check: Check,
        /// Which of the pages remembered.
        page: usize,
    },
    /// An access is not where it was looked for: on in the general translation.
    General {
        /// Instruction of the block.
        index: u8,
        /// The hot jump's displacement.
        jump: usize,
    },
    /// x87/SSE registers are in memory at block entry.
    LoadFpu {
        /// The hot jump's displacement.
        jump: usize,
        /// Where the block goes on.
        back: usize,
    },
}

impl Builder<'_> {
    /// Emits everything that is reached rarely. `entered_apart`: so is the entry from another page.
    pub fn finish(&mut self, entered_apart: bool) {
        assert!(self.out.len() <= LARGEST_PART, "a block larger than any can be");
        self.parts.length = self.out.len() as u16;
        if entered_apart {
            self.movable_entry();
            self.jump_to(self.parts.hot);
        }
        // Where segments have limits, only the last instruction of a block jumps.
        let last = self.index;
        while let Some(one) = self.cold.pop_front() {
            match one {
                Cold::Access { index, jump, retry, operation, site } => {
                    self.cold_access(index, jump, retry, operation, site);
                }
                Cold::Link { jump, target } => {
                    self.aim_here(jump);
                    if jump + 4 == usize::from(self.parts.length) {
                        self.open_end = Some((self.next_site(), target));
                    }
                    let jump = self.address_at(jump);
                    self.service(Site::Link { target, movable: self.movable, jump, stub: self.here() });
                }
                Cold::Far { jump, target } if self.mode.flat() => {
                    self.aim_here(jump);
                    self.continue_at(target);
                }
                Cold::FarLink { check, jump, link, target } => {
                    self.aim_here(jump);
                    let (position, stub) = (self.sites.len(), self.here());
                    self.service(Site::Miss);
                    let at = |place: usize| self.address_at(place);
                    let (check, jump, link, unlinked) = (at(check), at(jump), at(link), self.here());
                    self.sites[position] = Site::FarLink { target, check, jump, stub, link, unlinked };
                    self.constant(host::R10, target);
                    self.jump_to_r10();
                }
                Cold::Far { jump, target } => {
                    self.aim_here(jump);
                    self.constant(host::R10, target);
                    let index = std::mem::replace(&mut self.index, last);
                    self.branch_to_r10(0);
                    self.index = index;
                }
                Cold::Raise { jump, index, exception } => {
                    self.aim_here(jump);
                    let block = self.block;
                    self.service(Site::Raise { block, index, exception });
                }
                Cold::StackPage { index, jump, back, check, page } => {
                    self.cold_stack_page(index, jump, back, check, page);
                }
                Cold::General { index, jump } => self.cold_general(index, jump),
                Cold::System { index, jump, instruction, after } => {
                    self.aim_here(jump);
                    self.service(Site::System { block: self.block, index, instruction, after });
                }
                Cold::LoadFpu { jump, back } => {
                    self.aim_here(jump);
                    self.constant(host::RCX, self.address_at(back));
                    self.store(host::RCX, displacement!(resume));
                    self.jump_to(self.trampolines.load_fpu);
                }
            }
        }
        assert!(self.out.len() - usize::from(self.parts.length) <= LARGEST_PART, "a block larger than any can be");
    }

    fn cold_access(
        &mut self,
        index: u8,
        jump: usize,
        retry: usize,
        operation: std::ops::Range<usize>,
        mut site: AccessSite,
    ) {
        self.index = index;
        self.mark();
        self.aim_here(jump);
        if let Some(address) = site.constant {
            self.constant(host::R10, i64::from(address) as u64);
        }
        let number = self.next_site();
        self.service_number(number);
        site.block = self.block;
        site.index = index;
        site.retry = self.address_at(retry);
        // Something always follows what mostly runs of an access: the way to the next instruction, or out.
        debug_assert!(operation.end < self.parts.length.into());
        site.after = self.address_at(operation.end);
        site.bounce = self.here();
        self.sites.push(Site::Access(site));
        self.out.extend_from_within(operation);
        if site.write {
            self.service_number(number | super::sites::COMMIT);
        } else {
            self.jump_to(site.after);
        }
    }
}
