//! Room for translated code: the oldest region goes when the one being filled is full. Blocks that are still wanted are
//! translated again.

use super::Engine;
use super::sites::Site;
use super::translate::LARGEST_PART;

impl Engine {
    /// Whether any block fits. What is known about the blocks of a region takes no more than their code may.
    pub(super) fn has_room(&self) -> bool {
        let known = self.blocks.bytes(self.buffer.current());
        self.buffer.has_room(LARGEST_PART) && known < self.buffer.region_bytes()
    }

    /// Makes room for a block. Not while a block that goes on is running.
    pub(super) fn make_room(&mut self) {
        if self.has_room() {
            return;
        }
        let region = self.buffer.advance();
        self.open_end = None;
        if self.blocks.next_number(region) != self.blocks.first_number(region) {
            self.tally.evictions += 1;
            self.generation += 1;
            self.blocks.evict(region, &mut self.memory, &mut self.tlb, &mut self.buffer);
        }
    }

    /// Points the jump of a site at a block, unless the block also depends on the mapping of a second page.
    pub(super) fn link(&mut self, site: u32, number: u32) {
        let block = *self.block(number);
        match self.blocks.site(site) {
            // What falls through into the block needs no jump, and is noted.
            Site::Link { jump, .. } if block.stands_over(jump) => return,
            Site::Link { jump, .. } if block.second_page().is_none() => {
                self.buffer.patch(jump, block.near());
                self.tally.chains += 1;
            }
            Site::FarLink { check, jump, link, unlinked, .. } => {
                if !block.movable {
                    self.buffer.patch_far(check, link, block.entry());
                }
                self.buffer.patch(jump, unlinked);
            }
            _ => return,
        }
        self.blocks.note_link(site, number);
    }
}
