//! Which slots hold a page for stores: when one becomes code or a page table, not all slots need to be looked through.

use super::Tlb;
use crate::engine::frame::SLOTS;
use crate::memory::Memory;

/// Slots that are noted of a page.
const NOTED: usize = 3;

/// Of one page, the slots that may hold it for stores: each as one more than its number among those of both privileges; 0
/// where none is noted.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Writers([u32; NOTED]);

impl Writers {
    /// There have been more than can be noted.
    const MANY: Writers = Writers([u32::MAX; NOTED]);

    fn all(self) -> impl Iterator<Item = (usize, usize)> {
        let numbers = self.0.into_iter().filter(|&number| number != 0);
        numbers.map(|number| ((number - 1) as usize / SLOTS, (number - 1) as usize % SLOTS))
    }

    fn add(mut self, user: usize, slot: usize) -> Writers {
        let number = (user * SLOTS + slot + 1) as u32;
        if self == Writers::MANY || self.0.contains(&number) {
            return self;
        }
        match self.0.iter_mut().find(|noted| **noted == 0) {
            Some(free) => *free = number,
            None => return Writers::MANY,
        }
        self
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
        if now == Writers::MANY && noted != Writers::MANY {
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
        if noted == Writers::MANY || !self.knows_writers {
            return self.drop_write_entries(memory, |found| found == page);
        }
        for (user, slot) in noted.all() {
            if self.written_page(memory, user, slot) == Some(page) {
                self.drop_write_entry(user, slot);
            }
        }
    }
}
