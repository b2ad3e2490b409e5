//! Where code may run, and the jump caches: which blocks jumps find without the dispatcher.

use super::Tlb;
use crate::engine::blocks::Mode;
use crate::engine::frame::{JUMP_SLOTS, Jump, JumpTable, jump_slot};
use crate::engine::regions::region_of;
use crate::memory::{Memory, PAGE};
use crate::paging::Translation;

/// A linear page whose instructions may run: where it lies, and which jump cache slots lead into it.
pub(super) struct ExecutablePage {
    physical: u64,
    slots: Vec<u32>,
}

/// The slots of both privileges that lead into one region of the code cache, and some that did once.
#[derive(Default)]
pub(super) struct Entrances {
    slots: Vec<u32>,
    /// So many are looked through for those of the past.
    most: usize,
}

/// So many slots are noted of a region before any is looked at again.
const FEW_ENTRANCES: usize = 4096;

/// A tag that no address of this slot can match in any mode, canonical or not: jumps are looked up before that is asked.
fn invalid_jump(slot: usize) -> u64 {
    (slot as u64 | 0x3ff << 22 | 1 << 55).wrapping_neg()
}

impl Tlb {
    fn jumps(&mut self, user: usize) -> &mut JumpTable {
        // SAFETY: as above.
        self.table(|frame| unsafe { &raw mut (*frame).jumps[user] })
    }

    /// The tables are too large to be written at the beginning: for one address of each mode the zeros in them are a tag.
    pub(super) fn prepare_jumps(&mut self, user: usize) {
        for mode in 0..Mode::GENERAL {
            let address = u64::from(Mode(mode).jump_distance()).wrapping_neg();
            self.clear_jump(user, jump_slot(address));
        }
    }

    fn clear_jump(&mut self, user: usize, slot: usize) {
        self.jumps(user)[slot] = Jump { tag: invalid_jump(slot), entry: 0 };
    }

    pub(super) fn drop_executable(&mut self, user: usize, linear: u64) {
        if let Some(page) = self.executable[user][self.format.half(linear)].remove(&linear) {
            for slot in page.slots {
                self.clear_jump(user, slot as usize);
            }
        }
    }

    /// The guest-physical page of a linear page whose instructions may run, if cached.
    pub fn executable(&self, user: bool, linear: u64) -> Option<u64> {
        let page = self.executable[usize::from(user)][self.format.half(linear)].get(&(linear & !(PAGE - 1)))?;
        Some(page.physical | (linear % PAGE))
    }

    /// Caches an instruction page just walked.
    pub fn fill_executable(&mut self, memory: &mut Memory, user: bool, linear: u64, found: &Translation) {
        self.note_tables(memory, linear, found);
        let page = ExecutablePage { physical: found.physical & !(PAGE - 1), slots: Vec::new() };
        self.executable[usize::from(user)][self.format.half(linear)].insert(linear & !(PAGE - 1), page);
    }

    /// The block that jumps to an address find without the dispatcher.
    pub fn jump_block(&mut self, mode: Mode, rip: u64) -> Option<u32> {
        let user = usize::from(mode.user());
        let slot = jump_slot(rip);
        (self.jumps(user)[slot].tag == mode.jump_tag(rip)).then(|| self.jump_blocks[user][slot])
    }

    /// Lets jumps of the same mode find a block without the dispatcher. `last` is the address of its last byte.
    pub fn fill_jump(&mut self, mode: Mode, rip: u64, last: u64, entry: u64, block: u32) {
        let user = usize::from(mode.user());
        let slot = jump_slot(rip);
        for linear in [rip, last] {
            let half = self.format.half(linear);
            let Some(page) = self.executable[user][half].get_mut(&(linear & !(PAGE - 1))) else { return };
            if page.slots.last() != Some(&(slot as u32)) {
                page.slots.push(slot as u32);
            }
            if page.slots.len() > PAGE as usize / 2 {
                page.slots.sort_unstable();
                page.slots.dedup();
            }
        }
        self.jumps(user)[slot] = Jump { tag: mode.jump_tag(rip), entry };
        self.jump_blocks[user][slot] = block;
        self.note_entrance(region_of(block), user, slot);
    }

    fn note_entrance(&mut self, region: usize, user: usize, slot: usize) {
        if self.entrances.len() <= region {
            self.entrances.resize_with(region + 1, Entrances::default);
        }
        let mut noted = std::mem::take(&mut self.entrances[region]);
        noted.slots.push((user * JUMP_SLOTS + slot) as u32);
        if noted.slots.len() > noted.most.max(FEW_ENTRANCES) {
            noted.slots.sort_unstable();
            noted.slots.dedup();
            noted.slots.retain(|&number| self.leads_into(region, number));
            noted.most = noted.slots.len() * 2;
        }
        self.entrances[region] = noted;
    }

    /// Whether a noted slot leads into a region now.
    fn leads_into(&mut self, region: usize, number: u32) -> bool {
        let (user, slot) = (number as usize / JUMP_SLOTS, number as usize % JUMP_SLOTS);
        region_of(self.jump_blocks[user][slot]) == region && self.jumps(user)[slot].entry != 0
    }

    /// A block is gone.
    pub fn forget_jump(&mut self, mode: Mode, rip: u64) {
        let user = usize::from(mode.user());
        let slot = jump_slot(rip);
        if self.jumps(user)[slot].tag == mode.jump_tag(rip) {
            self.clear_jump(user, slot);
        }
    }

    /// A block is gone that may have run wherever its first byte's page is mapped.
    pub fn forget_jumps_to(&mut self, mode: Mode, physical: u64) {
        let (page, offset) = (physical & !(PAGE - 1), physical % PAGE);
        let halves = &self.executable[usize::from(mode.user())];
        let mapped = halves.iter().flatten().filter(|(_, found)| found.physical == page);
        let addresses: Vec<u64> = mapped.map(|(linear, _)| linear | offset).collect();
        for rip in addresses {
            self.forget_jump(mode, rip);
        }
    }

    /// All blocks of a region of the code cache are gone.
    pub fn forget_jumps_into(&mut self, region: usize) {
        let Some(noted) = self.entrances.get_mut(region).map(std::mem::take) else { return };
        for number in noted.slots {
            if self.leads_into(region, number) {
                self.clear_jump(number as usize / JUMP_SLOTS, number as usize % JUMP_SLOTS);
            }
        }
    }

    /// All blocks are gone.
    pub fn forget_jumps(&mut self) {
        self.entrances.clear();
        for user in 0..2 {
            let pages = std::mem::take(&mut self.executable[user]);
            for slot in pages.iter().flat_map(|half| half.values()).flat_map(|page| &page.slots) {
                self.clear_jump(user, *slot as usize);
            }
        }
    }
}

#[cfg(test)]
mod tests;
