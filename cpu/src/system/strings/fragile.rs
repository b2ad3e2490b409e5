//! Pages that a span of iterations must not store to: what the instruction is fetched from.

use crate::execution::Execution;
use crate::memory::PAGE;
use crate::paging::{self, Access, Translation};

/// Guest-physical pages of the instruction's bytes and of the table entries that map them.
#[derive(Default)]
pub struct Fragile {
    pages: [u64; 10],
    count: usize,
    known: bool,
}

impl Fragile {
    fn add(&mut self, translation: &Translation) {
        let entries = &translation.entries[..translation.depth];
        for address in entries.iter().chain([&translation.physical]) {
            self.pages[self.count] = address / PAGE;
            self.count += 1;
        }
    }

    /// Whether a store to this page could change how the instruction is fetched again.
    ///
    /// Finds the pages at the first use; the instruction has just been fetched, so the walks change nothing.
    pub fn contains(&mut self, x: &mut Execution, length: u64, physical: u64) -> bool {
        if !self.known {
            self.known = true;
            let first = x.state.code_address(x.state.rip);
            let last = first.wrapping_add(length - 1);
            let access = Access::fetch(x.user());
            let ends = if first / PAGE == last / PAGE { &[first][..] } else { &[first, last][..] };
            for &linear in ends {
                if let Ok(translation) = paging::walk(x.memory, x.state, linear, access) {
                    self.add(&translation);
                }
            }
        }
        self.pages[..self.count].contains(&(physical / PAGE))
    }
}
