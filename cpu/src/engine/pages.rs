//! Which blocks begin where in a page, and which of its pieces are code.

use super::blocks::NONE;
use super::tlb::Tlb;
use crate::memory::{CODE, Memory, PAGE, pieces};

/// Pieces of a page: one bit each of [`Memory::code`].
const PIECES: usize = 64;
const PIECE: u64 = PAGE / PIECES as u64;
/// Bytes that a block takes at most.
const LONGEST: u64 = super::translate::LONGEST_FETCH as u64;

struct CodePage {
    page: u32,
    /// The first of the blocks that begin in a piece; each has the next.
    firsts: [u32; PIECES],
    /// How many blocks cover a piece.
    covers: [u32; PIECES],
    /// How many blocks cover any.
    blocks: u32,
    /// Blocks that begin in the page before.
    crossing: Vec<u32>,
}

/// See the module.
#[derive(Default)]
pub struct CodePages {
    /// For each page of memory, one more than its place in `all`; 0: no block covers it.
    places: Vec<u32>,
    all: Vec<CodePage>,
    free: Vec<u32>,
}

impl CodePages {
    fn get(&self, page: usize) -> Option<&CodePage> {
        let place = *self.places.get(page)?;
        (place != 0).then(|| &self.all[place as usize - 1])
    }

    fn get_mut(&mut self, page: usize) -> &mut CodePage {
        if page >= self.places.len() {
            self.places.resize(page + 1, 0);
        }
        if self.places[page] == 0 {
            let place = self.free.pop().unwrap_or_else(|| {
                let fresh =
                    CodePage { page: 0, firsts: [NONE; PIECES], covers: [0; PIECES], blocks: 0, crossing: Vec::new() };
                self.all.push(fresh);
                self.all.len() as u32 - 1
            });
            self.all[place as usize].page = page as u32;
            self.places[page] = place + 1;
        }
        &mut self.all[self.places[page] as usize - 1]
    }

    /// The first block that begins in the same piece of a page as an offset.
    #[inline]
    pub fn first(&self, page: usize, offset: u64) -> u32 {
        self.get(page).map_or(NONE, |found| found.firsts[(offset / PIECE) as usize])
    }

    /// Sets it.
    pub fn set_first(&mut self, page: usize, offset: u64, number: u32) {
        self.get_mut(page).firsts[(offset / PIECE) as usize] = number;
    }

    /// Adds a block that begins at an offset; gives the one that it must have as its next.
    pub fn add(&mut self, page: usize, offset: u64, number: u32) -> u32 {
        std::mem::replace(&mut self.get_mut(page).firsts[(offset / PIECE) as usize], number)
    }

    /// The first blocks of all pieces in which a block can begin that covers some of `from..to`.
    pub fn firsts(&self, page: usize, from: u64, to: u64) -> impl Iterator<Item = u32> + use<> {
        let range = (from.saturating_sub(LONGEST) / PIECE) as usize..((to - 1) / PIECE) as usize + 1;
        let all = self.get(page).map_or([NONE; PIECES], |found| found.firsts);
        range.map(move |piece| all[piece])
    }

    /// Blocks that begin in the page before.
    pub fn crossing(&self, page: usize) -> &[u32] {
        self.get(page).map_or(&[], |found| &found.crossing)
    }

    /// Adds one.
    pub fn add_crossing(&mut self, page: usize, number: u32) {
        self.get_mut(page).crossing.push(number);
    }

    /// Removes one.
    pub fn remove_crossing(&mut self, page: usize, number: u32) {
        self.get_mut(page).crossing.retain(|&one| one != number);
    }

    /// A block covers `length` bytes of a page from now on.
    pub fn cover(&mut self, memory: &mut Memory, tlb: &mut Tlb, page: usize, start: u64, length: u64, whole: bool) {
        let found = self.get_mut(page);
        found.blocks += 1;
        let mask = pieces(start, length);
        each(mask, |piece| found.covers[piece] += 1);
        tlb.track(memory, page, CODE);
        memory.set_code(page, if whole { u64::MAX } else { memory.code(page) | mask });
    }

    /// A block covers them no more.
    pub fn uncover(&mut self, memory: &mut Memory, page: usize, start: u64, length: u64, whole: bool) {
        let found = self.get_mut(page);
        let mut gone = 0;
        each(pieces(start, length), |piece| {
            found.covers[piece] -= 1;
            gone |= u64::from(found.covers[piece] == 0) << piece;
        });
        found.blocks -= 1;
        if found.blocks == 0 {
            memory.set_code(page, 0);
            self.free.push(self.places[page] - 1);
            self.places[page] = 0;
        } else if gone != 0 && !whole {
            memory.set_code(page, memory.code(page) & !gone);
        }
    }

    /// No block covers anything.
    pub fn clear(&mut self, memory: &mut Memory) {
        for found in self.all.iter().filter(|found| found.blocks != 0) {
            memory.set_code(found.page as usize, 0);
            self.places[found.page as usize] = 0;
        }
        self.all.clear();
        self.free.clear();
    }
}

/// Calls `action` for each bit.
fn each(mut mask: u64, mut action: impl FnMut(usize)) {
    while mask != 0 {
        action(mask.trailing_zeros() as usize);
        mask &= mask - 1;
    }
}
