//! Which slots hold a page for stores: when one becomes code or a page table, not all slots need to be looked through.

use super::Tlb;
use crate::engine::frame::SLOTS;
use crate::memory::Memory;

/// Bits of what is noted of a slot: its number, above it the privilege, and one more than both together.
const BITS: u32 = 20;
/// Slots that are noted of a page.
const NOTED: u32 = 3;
/// There have been more.
const MANY: u64 = 1 << 63;

/// Of one page, the slots that may hold it for stores.
#[derive(Clone, Copy, Default)]
pub(super) struct Writers(u64);

impl Writers {
    fn all(self) -> impl Iterator<Item = (usize, usize)> {
        let numbers = (0..NOTED).map(move |place| (self.0 >> (place * BITS)) as usize & ((1 << BITS) - 1));
        numbers.filter(|&number| number != 0).map(|number| ((number - 1) / SLOTS, (number - 1) % SLOTS))
    }

    fn add(self, user: usize, slot: usize) -> Writers {
        if self.0 & MANY != 0 || self.all().any(|one| one == (user, slot)) {
            return self;
        }
        let number = (user * SLOTS + slot + 1) as u64;
        let free = (0..NOTED).map(|place| place * BITS).find(|place| self.0 >> place & ((1 << BITS) - 1) == 0);
        Writers(free.map_or(MANY, |place| self.0 | number << place))
    }
}

impl Tlb {
    /// A slot holds a page for stores from now on.
    pub(super) fn note_writer(&mut self, memory: &Memory, page: usize, user: usize, slot: usize) {
        if self.writers.len() < memory.pages() {
            self.writers.resize(memory.pages(), Writers::default());
        }
        let noted = self.writers[page];
        let mut now = noted.add(user, slot);
        if now.0 == MANY && noted.0 != MANY {
            // Most are of the past.
            now = Writers::default().add(user, slot);
            for (user, slot) in noted.all() {
                if self.written_page(memory, user, slot) == Some(page) {
                    now = now.add(user, slot);
                }
            }
        }
        self.writers[page] = now;
    }

    /// No slot holds a page for stores any more.
    pub(super) fn drop_writers(&mut self, memory: &Memory, page: usize) {
        let noted = std::mem::take(&mut self.writers[page]);
        if noted.0 == MANY || !self.knows_writers {
            return self.drop_write_entries(memory, |found| found == page);
        }
        for (user, slot) in noted.all() {
            if self.written_page(memory, user, slot) == Some(page) {
                self.drop_write_entry(user, slot);
            }
        }
    }
}
