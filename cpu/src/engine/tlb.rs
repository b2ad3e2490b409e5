//! Cached translations that a guest cannot notice.
//!
//! Every page a walk read an entry from is marked [`TABLE`]; a store that changes a present entry in such a page drops
//! exactly the translations derived from it (and a dropped instruction page ends the running block). So the tables
//! behave as if every access walked the guest's page tables: INVLPG has nothing to do, and a CR3 write keeps what the
//! new tables share with the old ones.
#![allow(unsafe_code)]

mod jumps;
mod lost;
mod tables;
mod writers;

use super::frame::{Frame, JUMP_SLOTS, SLOTS, Table};
use super::hasher::Map;
use super::watch::Watch;
use crate::memory::{CODE, DIRTY, Memory, PAGE, TABLE, WRITE_CACHED};
use crate::paging::{Format, Translation};
use crate::state::State;
use jumps::{Entrances, ExecutablePage};
use tables::TableUse;
use writers::Writers;

/// Bookkeeping of the tables in the frame.
pub struct Tlb {
    frame: *mut Frame,
    /// Slots that may hold an entry, by privilege and half of the linear space.
    filled: [[Vec<u32>; 2]; 2],
    /// One bit for each half whose list has the slot.
    listed: [Box<[u8]>; 2],
    /// Of each page of memory that is [`WRITE_CACHED`].
    writers: Vec<Writers>,
    /// Whether to go by them.
    pub knows_writers: bool,
    /// Pages with tables below the topmost, by the half they map.
    tables: [Map<usize, Vec<TableUse>>; 2],
    /// The page with the topmost table.
    root: Option<(usize, TableUse)>,
    executable: [[Map<u64, ExecutablePage>; 2]; 2],
    /// The blocks that the slots of the jump caches lead to.
    jump_blocks: [Box<[u32]>; 2],
    /// Of each region of the code cache.
    entrances: Vec<Entrances>,
    format: Format,
    /// Accesses that must not find their page here.
    pub watch: Watch,
    /// Set when many data translations were dropped.
    dropped: bool,
}

/// The first slot whose addresses zero is no tag for.
const FIRST: usize = 2;
/// So many slots at the end, from which a string of at most 32 KiB may lead to the beginning of the linear space.
const LAST: usize = 16;

/// A tag that no address of this slot can match, nor the end of a string that begins there: that of a page half the tables
/// away. The tables are too large to be written at the beginning: zero will do but at both ends.
fn invalid_tag(slot: usize) -> u64 {
    if (FIRST..SLOTS - LAST).contains(&slot) { 0 } else { tag_of(((slot ^ (SLOTS / 2)) as u64) << 12) }
}

/// The tag of a page, and the page of a tag: see [`super::frame::DataTables`].
fn tag_of(page: u64) -> u64 {
    PAGE.wrapping_sub(page)
}

fn slot_of(linear: u64) -> usize {
    (linear >> 12) as usize & (SLOTS - 1)
}

impl Tlb {
    /// Empty tables in `frame`, which outlives this.
    pub fn new(frame: *mut Frame) -> Tlb {
        let mut tlb = Tlb {
            frame,
            filled: Default::default(),
            listed: [vec![0; SLOTS].into(), vec![0; SLOTS].into()],
            writers: Vec::new(),
            knows_writers: true,
            tables: Default::default(),
            root: None,
            executable: Default::default(),
            jump_blocks: [vec![0; JUMP_SLOTS].into(), vec![0; JUMP_SLOTS].into()],
            entrances: Vec::new(),
            format: Format::of(&State::default()),
            watch: Watch::default(),
            dropped: false,
        };
        for user in 0..2 {
            for slot in (0..FIRST).chain(SLOTS - LAST..SLOTS) {
                tlb.clear_slot(user, slot);
            }
            tlb.prepare_jumps(user);
        }
        tlb
    }

    // The tables live in the frame, outside of this struct; translated code reads them only while no Rust runs.
    fn table<T>(&mut self, select: impl FnOnce(*mut Frame) -> *mut T) -> &mut T {
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

    /// Empties a slot. What a block has checked there is for the caller to poison.
    fn clear_slot(&mut self, user: usize, slot: usize) {
        self.read_tags(user)[slot] = invalid_tag(slot);
        self.write_tags(user)[slot] = invalid_tag(slot);
        self.forget_stack(user, slot);
    }

    /// Host address of a byte whose page is cached for loads, or for stores.
    pub fn host(&mut self, user: bool, linear: u64, write: bool) -> Option<*mut u8> {
        let (user, slot) = (usize::from(user), slot_of(linear));
        let tag = if write { self.write_tags(user)[slot] } else { self.read_tags(user)[slot] };
        let known = tag == tag_of(linear & !(PAGE - 1));
        known.then(|| self.addends(user)[slot].wrapping_add(linear) as *mut u8)
    }

    /// Caches a data translation of a RAM page just walked for a load or a store.
    pub fn fill(&mut self, memory: &mut Memory, user: bool, linear: u64, found: &Translation, write: bool) {
        let Some(page) = memory.page_of(found.physical) else { return };
        if self.watch.covers(user, linear) {
            return;
        }
        self.note_tables(memory, linear, found);
        let user = usize::from(user);
        let slot = slot_of(linear);
        let start = linear & !(PAGE - 1);
        let flags = memory.flags(page);
        let storable = flags & (CODE | TABLE) == 0 && memory.is_writable(page);
        let writable = found.writable_now && storable && (write || flags & DIRTY != 0);
        self.forget_stack(user, slot);
        let old = self.read_tags(user)[slot];
        // What is not in the tables any more is not seen when it is dropped.
        if old != invalid_tag(slot) && old != tag_of(start) {
            self.poison(user, slot);
        }
        self.read_tags(user)[slot] = tag_of(start);
        self.write_tags(user)[slot] = if writable { tag_of(start) } else { invalid_tag(slot) };
        self.addends(user)[slot] = (memory.host(page) as u64).wrapping_sub(start);
        if writable {
            memory.mark(page, WRITE_CACHED | DIRTY);
            self.note_writer(memory, page, user, slot);
        }
        let half = self.format.half(linear);
        if self.listed[user][slot] & 1 << half == 0 {
            self.listed[user][slot] |= 1 << half;
            self.filled[user][half].push(slot as u32);
        }
    }

    /// Marks a page so that stores to it leave the fast path.
    pub fn track(&mut self, memory: &mut Memory, page: usize, flag: u8) {
        let flags = memory.flags(page);
        if flags & flag == 0 {
            memory.mark(page, flag);
            if flags & WRITE_CACHED != 0 {
                memory.unmark(page, WRITE_CACHED);
                self.drop_writers(memory, page);
            }
        }
    }

    /// Drops write entries of the pages that `matches` accepts.
    fn drop_write_entries(&mut self, memory: &Memory, matches: impl Fn(usize) -> bool) {
        for (user, half) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            for position in 0..self.filled[user][half].len() {
                let slot = self.filled[user][half][position] as usize;
                if self.written_page(memory, user, slot).is_some_and(&matches) {
                    self.drop_write_entry(user, slot);
                }
            }
        }
    }

    /// The page of memory that a slot holds for stores.
    fn written_page(&mut self, memory: &Memory, user: usize, slot: usize) -> Option<usize> {
        let tag = self.write_tags(user)[slot];
        let host = self.addends(user)[slot].wrapping_add(tag_of(tag));
        (tag != invalid_tag(slot)).then(|| memory.page_of_host(host))
    }

    fn drop_write_entry(&mut self, user: usize, slot: usize) {
        self.forget_stack(user, slot);
        self.poison(user, slot);
        self.write_tags(user)[slot] = invalid_tag(slot);
    }

    /// Drops all write entries, so that the next store to any page marks it dirty.
    pub fn drop_all_writes(&mut self, memory: &mut Memory) {
        self.drop_write_entries(memory, |_| true);
    }

    /// Drops all translations of a linear range whose size is that of a table entry.
    fn drop_range(&mut self, start: u64, size: u64) {
        if size <= 512 * PAGE {
            for linear in (0..size / PAGE).map(|number| start.wrapping_add(number * PAGE)) {
                self.drop_page(linear);
            }
        } else {
            for half in 0..2 {
                self.drop_where(half, |linear| linear.wrapping_sub(start) < size);
            }
        }
    }

    fn drop_page(&mut self, linear: u64) {
        let slot = slot_of(linear);
        for user in 0..2 {
            if self.read_tags(user)[slot] == tag_of(linear) {
                self.poison(user, slot);
                self.clear_slot(user, slot);
            }
            self.drop_executable(user, linear);
        }
    }

    /// Drops every translation of a half of the linear space whose page `matches`.
    fn drop_where(&mut self, half: usize, mut matches: impl FnMut(u64) -> bool) {
        self.dropped = true;
        for user in 0..2 {
            let filled = std::mem::take(&mut self.filled[user][half]);
            let mut kept = Vec::with_capacity(filled.len());
            for number in filled {
                let slot = number as usize;
                let tag = self.read_tags(user)[slot];
                let page = tag_of(tag);
                // An entry of the other half is in the other list.
                let foreign = tag != invalid_tag(slot) && self.format.half(page) != half;
                if !foreign && tag != invalid_tag(slot) && !matches(page) {
                    kept.push(number);
                    continue;
                }
                self.listed[user][slot] &= !(1 << half);
                if !foreign {
                    self.clear_slot(user, slot);
                }
            }
            self.filled[user][half] = kept;
            let pages: Vec<u64> = self.executable[user][half].keys().copied().filter(|&page| matches(page)).collect();
            for page in pages {
                self.drop_executable(user, page);
            }
        }
    }

    /// Drops everything.
    pub fn flush(&mut self, memory: &mut Memory) {
        for half in 0..2 {
            self.drop_where(half, |_| true);
            self.untrack_tables(memory, half, |_, _| true);
        }
        self.set_root(memory, None);
    }

    /// Drops all data translations of CPL 3.
    pub fn close_to_user(&mut self) {
        self.dropped = true;
        for half in 0..2 {
            for slot in std::mem::take(&mut self.filled[1][half]) {
                self.listed[1][slot as usize] = 0;
                self.clear_slot(1, slot as usize);
            }
        }
    }

    /// The tables' format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The tables' format from here on. What was cached under another one must have been dropped.
    pub fn set_format(&mut self, format: Format) {
        self.format = format;
    }
}
