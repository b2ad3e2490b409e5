//! Which pages hold tables in use, what they map, and what is left of it when CR3 changes.

use super::Tlb;
use crate::memory::{Memory, PAGE, TABLE};
use crate::paging::{Format, Translation};

/// Where a page of tables stands in the linear space: its entries, at `level` (1 is the lowest), begin to map at `base`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct TableUse {
    format: Format,
    level: u32,
    base: u64,
}

impl TableUse {
    /// The use that a walk for `linear` made of the page around the entry at `entry`.
    fn of(format: Format, linear: u64, level: u32, entry: u64) -> TableUse {
        let shift = format.shift(level);
        let index = entry % PAGE / format.entry_bytes;
        // In long mode the topmost table spans what is sign-extended, too.
        let linear = if level == 4 { linear & 0xffff_ffff_ffff } else { linear };
        TableUse { format, level, base: (linear >> shift << shift).wrapping_sub(index << shift) }
    }

    /// The entries in `length` (at least 1) bytes at guest-physical `address`.
    fn entries(&self, address: u64, length: u32) -> std::ops::RangeInclusive<u64> {
        let bytes = self.format.entry_bytes;
        address % PAGE / bytes..=(address % PAGE + u64::from(length) - 1) / bytes
    }

    /// What an entry begins to map.
    fn linear(&self, entry: u64) -> u64 {
        let base = self.base.wrapping_add(entry << self.format.shift(self.level));
        ((base as i64) << 16 >> 16) as u64
    }
}

impl Tlb {
    /// Marks the pages of tables that a walk went through.
    pub(super) fn note_tables(&mut self, memory: &mut Memory, linear: u64, found: &Translation) {
        for (depth, &entry) in found.entries[..found.depth].iter().enumerate() {
            let Some(page) = memory.page_of(entry) else { continue };
            let usage = TableUse::of(self.format, linear, self.format.levels - depth as u32, entry);
            if depth == 0 {
                self.set_root(memory, Some((page, usage)));
                continue;
            }
            let uses = self.tables[self.format.half(linear)].entry(page).or_default();
            if !uses.contains(&usage) {
                uses.push(usage);
            }
            self.track(memory, page, TABLE);
        }
    }

    /// Notes where the topmost table is.
    pub(super) fn set_root(&mut self, memory: &mut Memory, root: Option<(usize, TableUse)>) {
        if self.root == root {
            return;
        }
        let old = std::mem::replace(&mut self.root, root);
        if let Some((page, _)) = root {
            self.track(memory, page, TABLE);
        }
        if let Some((page, _)) = old {
            self.untrack(memory, page);
        }
    }

    /// A page holds no table any more, unless it has another use.
    fn untrack(&self, memory: &mut Memory, page: usize) {
        let is_root = self.root.is_some_and(|(root, _)| root == page);
        if !is_root && self.tables.iter().all(|tables| !tables.contains_key(&page)) {
            memory.unmark(page, TABLE);
        }
    }

    /// Drops what was derived from the table entries in `length` bytes at guest-physical `address`. The tables below them are
    /// none any more, as far as is known: a page that the guest frees and fills with data is not asked for tables again.
    pub fn table_changed(&mut self, memory: &mut Memory, address: u64, length: u32) {
        let Some(page) = memory.page_of(address) else { return };
        let uses: Vec<TableUse> = self.uses_of(page).copied().collect();
        for usage in uses {
            for entry in usage.entries(address, length) {
                let (start, size) = (usage.linear(entry), 1u64 << usage.format.shift(usage.level));
                self.drop_range(start, size);
                if usage.level > 1 {
                    self.untrack_tables(memory, self.format.half(start), |_, below| {
                        below.level < usage.level && below.base.wrapping_sub(start) < size
                    });
                }
            }
        }
    }

    /// Whether nothing but translations of data can have been derived from the table entries in `length` bytes at
    /// guest-physical `address`: all are of the lowest level, and no instruction was fetched from what they map.
    pub fn maps_only_data(&self, memory: &Memory, address: u64, length: u32) -> bool {
        let Some(page) = memory.page_of(address) else { return false };
        self.uses_of(page).all(|usage| {
            let mut pages = usage.entries(address, length).map(|entry| usage.linear(entry));
            let fetched = |linear: u64| {
                let half = self.format.half(linear);
                self.executable.iter().any(|halves| halves[half].contains_key(&linear))
            };
            usage.level == 1 && usage.format == self.format && !pages.any(fetched)
        })
    }

    /// What a page of tables is used for.
    fn uses_of(&self, page: usize) -> impl Iterator<Item = &TableUse> {
        let below = self.tables.iter().filter_map(move |tables| tables.get(&page)).flatten();
        below.chain(self.root.iter().filter(move |(root, _)| *root == page).map(|(_, usage)| usage))
    }

    /// Forgets which pages are tables, for those that map a half and whose every use `matches`. Their translations must
    /// be gone.
    pub(super) fn untrack_tables(
        &mut self,
        memory: &mut Memory,
        half: usize,
        mut matches: impl FnMut(&Memory, &TableUse) -> bool,
    ) {
        let mut gone = Vec::new();
        self.tables[half].retain(|&page, uses| {
            uses.retain(|usage| !matches(memory, usage));
            if uses.is_empty() {
                gone.push(page);
            }
            !uses.is_empty()
        });
        for page in gone {
            self.untrack(memory, page);
        }
    }

    /// CR3 changed: keeps the translations below top-level entries that both tables share.
    pub fn switch_space(&mut self, memory: &mut Memory, old: u64, new: u64) {
        const PRESENT_AND_USED: u64 = 1 | 1 << 5;
        let format = self.format;
        let (old, new) = (memory.gated(format.root(old)), memory.gated(format.root(new)));
        if old == new {
            return;
        }
        let (shift, bytes) = (format.shift(format.levels), format.entry_bytes);
        // The pointers of PAE have no accessed bit.
        let needed = if format.levels == 3 { 1 } else { PRESENT_AND_USED };
        let shared = |memory: &Memory, index: u64| {
            let entry = memory.load_entry(new + bytes * index, bytes);
            entry & needed == needed && entry == memory.load_entry(old + bytes * index, bytes)
        };
        let mut verdicts = [None; 1024];
        let mut keeps = |memory: &Memory, linear: u64| {
            let index = linear >> shift & (format.root_entries() - 1);
            *verdicts[index as usize].get_or_insert_with(|| shared(memory, index))
        };
        for half in 0..2 {
            // Operating systems have one half in all their spaces: a look at its entries spares one at what they map.
            let first = format.root_entries() * format.border(half) / 1024;
            let end = format.root_entries() * format.border(half + 1) / 1024;
            if (first..end).all(|index| {
                let at = bytes * index;
                memory.load_entry(new + at, bytes) == memory.load_entry(old + at, bytes)
            }) {
                continue;
            }
            self.drop_where(half, |linear| !keeps(memory, linear));
            self.untrack_tables(memory, half, |memory, usage| !keeps(memory, usage.base));
        }
        let root = memory.page_of(new).map(|page| (page, TableUse::of(format, 0, format.levels, new)));
        self.set_root(memory, root);
    }
}
