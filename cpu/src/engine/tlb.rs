//! Cached translations that a guest cannot notice.
//!
//! Every page a walk read an entry from is marked [`TABLE`]; a store that changes a present entry in such a page drops
//! exactly the translations derived from it (and a dropped instruction page ends the running block). So the tables
//! behave as if every access walked the guest's page tables: INVLPG has nothing to do, and a CR3 write keeps what the
//! new tables share with the old ones.
#![allow(unsafe_code)]

use super::blocks::Mode;
use super::frame::{Frame, SLOTS, Table};
use super::hasher::Map;
use crate::memory::{CODE, DIRTY, Memory, PAGE, TABLE, WRITE_CACHED};
use crate::paging::{Format, Translation};
use crate::state::State;

/// Where a page of tables stands in the linear space: its entries, at `level` (1 is the lowest), begin to map at `base`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct TableUse {
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
}

/// A linear page whose instructions may run: where it lies, and which jump cache slots lead into it.
struct ExecutablePage {
    physical: u64,
    slots: Vec<u16>,
}

/// Bookkeeping of the tables in the frame.
pub struct Tlb {
    frame: *mut Frame,
    filled: [Vec<u16>; 2],
    listed: [Box<[bool]>; 2],
    tables: Map<usize, Vec<TableUse>>,
    executable: [Map<u64, ExecutablePage>; 2],
    /// The blocks that the slots of the jump caches lead to.
    jump_blocks: [Box<[u32]>; 2],
    format: Format,
    /// Set when an executable page was dropped.
    pub dropped_executable: bool,
}

/// A tag that no address of this slot can match, whatever the access size.
fn invalid_tag(slot: usize) -> u64 {
    (((slot ^ 2) as u64) << 12).wrapping_neg()
}

/// A tag that no canonical address can match.
fn invalid_jump(slot: usize) -> u64 {
    (slot as u64 | 1 << 55).wrapping_neg()
}

fn slot_of(linear: u64) -> usize {
    (linear >> 12) as usize & (SLOTS - 1)
}

impl Tlb {
    /// Empty tables in `frame`, which outlives this.
    pub fn new(frame: *mut Frame) -> Tlb {
        let mut tlb = Tlb {
            frame,
            filled: [Vec::new(), Vec::new()],
            listed: [vec![false; SLOTS].into(), vec![false; SLOTS].into()],
            tables: Map::default(),
            executable: [Map::default(), Map::default()],
            jump_blocks: [vec![0; SLOTS].into(), vec![0; SLOTS].into()],
            format: Format::of(&State::default()),
            dropped_executable: false,
        };
        for user in 0..2 {
            for slot in 0..SLOTS {
                tlb.clear_slot(user, slot);
                tlb.clear_jump(user, slot);
            }
        }
        tlb
    }

    // The tables live in the frame, outside of this struct; translated code reads them only while no Rust runs.
    fn table(&mut self, select: impl FnOnce(*mut Frame) -> *mut Table) -> &mut Table {
        // SAFETY: the frame outlives the Tlb, and the engine makes no other reference to its tables.
        unsafe { &mut *select(self.frame) }
    }

    fn read_tags(&mut self, user: usize) -> &mut Table {
        // SAFETY: only computes an address inside the frame.
        self.table(|frame| unsafe { &raw mut (*frame).data[user].read })
    }

    fn write_tags(&mut self, user: usize) -> &mut Table {
        // SAFETY: as above.
        self.table(|frame| unsafe { &raw mut (*frame).data[user].write })
    }

    fn addends(&mut self, user: usize) -> &mut Table {
        // SAFETY: as above.
        self.table(|frame| unsafe { &raw mut (*frame).data[user].addend })
    }

    fn jump_tags(&mut self, user: usize) -> &mut Table {
        // SAFETY: as above.
        self.table(|frame| unsafe { &raw mut (*frame).jumps[user].tag })
    }

    fn jump_entries(&mut self, user: usize) -> &mut Table {
        // SAFETY: as above.
        self.table(|frame| unsafe { &raw mut (*frame).jumps[user].entry })
    }

    fn clear_slot(&mut self, user: usize, slot: usize) {
        self.read_tags(user)[slot] = invalid_tag(slot);
        self.write_tags(user)[slot] = invalid_tag(slot);
    }

    fn clear_jump(&mut self, user: usize, slot: usize) {
        self.jump_tags(user)[slot] = invalid_jump(slot);
    }

    /// Host address of a byte whose page is cached for loads, or for stores.
    pub fn host(&mut self, user: bool, linear: u64, write: bool) -> Option<*mut u8> {
        let (user, slot) = (usize::from(user), slot_of(linear));
        let tag = if write { self.write_tags(user)[slot] } else { self.read_tags(user)[slot] };
        let known = tag == (linear & !(PAGE - 1)).wrapping_neg();
        known.then(|| self.addends(user)[slot].wrapping_add(linear) as *mut u8)
    }

    /// Caches a data translation of a RAM page just walked for a load or a store.
    pub fn fill(&mut self, memory: &mut Memory, user: bool, linear: u64, found: &Translation, write: bool) {
        let Some(page) = memory.page_of(found.physical) else { return };
        self.note_tables(memory, linear, found);
        let user = usize::from(user);
        let slot = slot_of(linear);
        let start = linear & !(PAGE - 1);
        let flags = memory.flags(page);
        let storable = flags & (CODE | TABLE) == 0 && memory.is_writable(page);
        let writable = found.writable_now && storable && (write || flags & DIRTY != 0);
        self.read_tags(user)[slot] = start.wrapping_neg();
        self.write_tags(user)[slot] = if writable { start.wrapping_neg() } else { invalid_tag(slot) };
        self.addends(user)[slot] = (memory.host(page) as u64).wrapping_sub(start);
        if writable {
            memory.mark(page, WRITE_CACHED | DIRTY);
        }
        if !self.listed[user][slot] {
            self.listed[user][slot] = true;
            self.filled[user].push(slot as u16);
        }
    }

    /// Marks the pages of tables that a walk went through.
    fn note_tables(&mut self, memory: &mut Memory, linear: u64, found: &Translation) {
        for (depth, &entry) in found.entries[..found.depth].iter().enumerate() {
            let Some(page) = memory.page_of(entry) else { continue };
            let usage = TableUse::of(self.format, linear, self.format.levels - depth as u32, entry);
            let uses = self.tables.entry(page).or_default();
            if !uses.contains(&usage) {
                uses.push(usage);
            }
            self.track(memory, page, TABLE);
        }
    }

    /// Marks a page so that stores to it leave the fast path.
    pub fn track(&mut self, memory: &mut Memory, page: usize, flag: u8) {
        let flags = memory.flags(page);
        if flags & flag == 0 {
            memory.mark(page, flag);
            if flags & WRITE_CACHED != 0 {
                memory.unmark(page, WRITE_CACHED);
                self.drop_write_entries(memory, |found| found == page);
            }
        }
    }

    /// Drops write entries of the pages that `matches` accepts.
    fn drop_write_entries(&mut self, memory: &Memory, matches: impl Fn(usize) -> bool) {
        for user in 0..2 {
            for position in 0..self.filled[user].len() {
                let slot = self.filled[user][position] as usize;
                let tag = self.write_tags(user)[slot];
                if tag == invalid_tag(slot) {
                    continue;
                }
                let host = self.addends(user)[slot].wrapping_add(tag.wrapping_neg());
                if matches(memory.page_of_host(host)) {
                    self.write_tags(user)[slot] = invalid_tag(slot);
                }
            }
        }
    }

    /// Drops all write entries, so that the next store to any page marks it dirty.
    pub fn drop_all_writes(&mut self, memory: &mut Memory) {
        self.drop_write_entries(memory, |_| true);
    }

    /// Drops what was derived from the table entries in `length` bytes at guest-physical `address`.
    pub fn table_changed(&mut self, memory: &Memory, address: u64, length: u32) {
        let Some(page) = memory.page_of(address) else { return };
        let Some(uses) = self.tables.get(&page) else { return };
        let uses = uses.clone();
        for usage in &uses {
            let bytes = usage.format.entry_bytes;
            let first = address % PAGE / bytes;
            let last = (address % PAGE + u64::from(length) - 1) / bytes;
            let shift = usage.format.shift(usage.level);
            for entry in first..=last {
                let base = usage.base.wrapping_add(entry << shift);
                self.drop_range(((base as i64) << 16 >> 16) as u64, 1 << shift);
            }
        }
    }

    /// Drops all translations of a linear range whose size is that of a table entry.
    fn drop_range(&mut self, start: u64, size: u64) {
        if size <= 512 * PAGE {
            for linear in (0..size / PAGE).map(|number| start.wrapping_add(number * PAGE)) {
                self.drop_page(linear);
            }
        } else {
            self.drop_where(|linear| linear.wrapping_sub(start) < size);
        }
    }

    fn drop_page(&mut self, linear: u64) {
        let slot = slot_of(linear);
        for user in 0..2 {
            if self.read_tags(user)[slot] == linear.wrapping_neg() {
                self.clear_slot(user, slot);
            }
            self.drop_executable(user, linear);
        }
    }

    fn drop_executable(&mut self, user: usize, linear: u64) {
        if let Some(page) = self.executable[user].remove(&linear) {
            for slot in page.slots {
                self.clear_jump(user, slot as usize);
            }
            self.dropped_executable = true;
        }
    }

    /// Drops every translation whose linear page `matches`.
    fn drop_where(&mut self, mut matches: impl FnMut(u64) -> bool) {
        for user in 0..2 {
            let filled = std::mem::take(&mut self.filled[user]);
            let mut kept = Vec::with_capacity(filled.len());
            for number in filled {
                let slot = number as usize;
                let tag = self.read_tags(user)[slot];
                if tag == invalid_tag(slot) || matches(tag.wrapping_neg()) {
                    self.clear_slot(user, slot);
                    self.listed[user][slot] = false;
                } else {
                    kept.push(number);
                }
            }
            self.filled[user] = kept;
            let pages: Vec<u64> = self.executable[user].keys().copied().filter(|&page| matches(page)).collect();
            for page in pages {
                self.drop_executable(user, page);
            }
        }
    }

    /// Drops everything.
    pub fn flush(&mut self, memory: &mut Memory) {
        self.drop_where(|_| true);
        self.untrack_tables(memory, |_, _| true);
    }

    /// Forgets which pages are tables, for those whose every use `matches`. Their translations must be gone.
    fn untrack_tables(&mut self, memory: &mut Memory, mut matches: impl FnMut(&Memory, &TableUse) -> bool) {
        self.tables.retain(|&page, uses| {
            uses.retain(|usage| !matches(memory, usage));
            if uses.is_empty() {
                memory.unmark(page, TABLE);
            }
            !uses.is_empty()
        });
    }

    /// The tables' format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The tables' format from here on. What was cached under another one must have been dropped.
    pub fn set_format(&mut self, format: Format) {
        self.format = format;
    }

    /// CR3 changed: keeps the translations below top-level entries that both tables share.
    pub fn switch_space(&mut self, memory: &mut Memory, old: u64, new: u64) {
        const PRESENT_AND_USED: u64 = 1 | 1 << 5;
        let format = self.format;
        let (old, new) = (format.root(old), format.root(new));
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
        self.drop_where(|linear| !keeps(memory, linear));
        self.untrack_tables(memory, |memory, usage| usage.level == format.levels || !keeps(memory, usage.base));
        if let Some(page) = memory.page_of(new) {
            let usage = TableUse::of(format, 0, format.levels, new);
            self.tables.entry(page).or_default().push(usage);
            self.track(memory, page, TABLE);
        }
    }

    /// The guest-physical page of a linear page whose instructions may run, if cached.
    pub fn executable(&self, user: bool, linear: u64) -> Option<u64> {
        let page = self.executable[usize::from(user)].get(&(linear & !(PAGE - 1)))?;
        Some(page.physical | (linear % PAGE))
    }

    /// Caches an instruction page just walked.
    pub fn fill_executable(&mut self, memory: &mut Memory, user: bool, linear: u64, found: &Translation) {
        self.note_tables(memory, linear, found);
        let page = ExecutablePage { physical: found.physical & !(PAGE - 1), slots: Vec::new() };
        self.executable[usize::from(user)].insert(linear & !(PAGE - 1), page);
    }

    /// The block that jumps to an address find without the dispatcher.
    pub fn jump_block(&mut self, mode: Mode, rip: u64) -> Option<u32> {
        let user = usize::from(mode.user());
        let slot = rip as usize & (SLOTS - 1);
        (self.jump_tags(user)[slot] == mode.jump_tag(rip)).then(|| self.jump_blocks[user][slot])
    }

    /// Lets jumps of the same mode find a block without the dispatcher. `last` is the address of its last byte.
    pub fn fill_jump(&mut self, mode: Mode, rip: u64, last: u64, entry: u64, block: u32) {
        let user = usize::from(mode.user());
        let slot = rip as usize & (SLOTS - 1);
        for linear in [rip, last] {
            let Some(page) = self.executable[user].get_mut(&(linear & !(PAGE - 1))) else { return };
            if page.slots.last() != Some(&(slot as u16)) {
                page.slots.push(slot as u16);
            }
            if page.slots.len() > 2 * PAGE as usize {
                page.slots.sort_unstable();
                page.slots.dedup();
            }
        }
        self.jump_tags(user)[slot] = mode.jump_tag(rip);
        self.jump_entries(user)[slot] = entry;
        self.jump_blocks[user][slot] = block;
    }

    /// A block is gone.
    pub fn forget_jump(&mut self, mode: Mode, rip: u64) {
        let user = usize::from(mode.user());
        let slot = rip as usize & (SLOTS - 1);
        if self.jump_tags(user)[slot] == mode.jump_tag(rip) {
            self.clear_jump(user, slot);
        }
    }

    /// All blocks are gone.
    pub fn forget_jumps(&mut self) {
        for user in 0..2 {
            let pages = std::mem::take(&mut self.executable[user]);
            for slot in pages.values().flat_map(|page| &page.slots) {
                self.clear_jump(user, *slot as usize);
            }
        }
    }
}
