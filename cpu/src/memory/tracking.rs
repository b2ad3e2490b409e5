//! What stores to pages with code or page tables entail, and the accesses of page walks.

use super::{CODE, DIRTY, Memory, PAGE, TABLE};

/// The 64-byte pieces of a page that `length` (at least 1) bytes from an address on touch, as a bit mask; bytes beyond
/// the page do not count.
pub(crate) fn pieces(start: u64, length: u64) -> u64 {
    let first = start % PAGE / 64;
    let last = ((start % PAGE + length.max(1) - 1) / 64).min(63);
    (u64::MAX >> (63 - (last - first))) << first
}

/// A store that hit a page something was derived from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Guest-physical address of the first byte.
    pub address: u64,
    /// Bytes written; never crosses a page.
    pub length: u32,
    /// Whether a present page table entry changed.
    pub table: bool,
    /// Whether the page held translated code.
    pub code: bool,
}

impl Memory {
    /// Which 64-byte pieces of a page hold code from now on.
    pub(crate) fn set_code(&mut self, page: usize, pieces: u64) {
        self.code[page] = pieces;
        match pieces {
            0 => self.unmark(page, CODE),
            _ => self.mark(page, CODE),
        }
    }

    /// Which 64-byte pieces of a page hold code.
    pub(crate) fn code(&self, page: usize) -> u64 {
        self.code[page]
    }

    /// Whether any of `length` (at least 1) bytes from an address on, within a page, may be code.
    #[inline]
    pub(crate) fn holds_code(&self, page: usize, address: u64, length: usize) -> bool {
        self.flags[page] & CODE != 0 && self.code[page] & pieces(address, length as u64) != 0
    }

    /// Whether storing these bytes would end the validity of something derived from the page.
    pub(crate) fn would_touch(&self, address: u64, bytes: &[u8]) -> bool {
        let Some(page) = self.page_of(address) else { return false };
        let flags = self.flags[page];
        let start = page * PAGE as usize + (address % PAGE) as usize;
        self.holds_code(page, address, bytes.len()) || flags & TABLE != 0 && self.changes_present_entry(start, bytes)
    }

    /// Whether writing `bytes` at RAM offset `start` changes eight bytes that hold a present table entry, or two.
    pub(super) fn changes_present_entry(&self, start: usize, bytes: &[u8]) -> bool {
        let first = start & !7;
        let end = (start + bytes.len()).next_multiple_of(8);
        (first..end).step_by(8).any(|entry| {
            let old: [u8; 8] = self.map[entry..entry + 8].try_into().expect("eight bytes");
            let from = entry.max(start);
            let to = (entry + 8).min(start + bytes.len());
            (old[0] | old[4]) & 1 != 0 && self.map[from..to] != bytes[from - start..to - start]
        })
    }

    /// An aligned load of 4 or 8 bytes, as page walks make it; zero where there is no RAM.
    #[inline]
    pub(crate) fn load_entry(&self, address: u64, bytes: u64) -> u64 {
        let address = self.gated(address);
        let Some(page) = self.page_of(address) else { return 0 };
        let start = page * PAGE as usize + (address % PAGE) as usize;
        if bytes == 4 {
            return u64::from(u32::from_le_bytes(self.map[start..start + 4].try_into().expect("four bytes")));
        }
        u64::from_le_bytes(self.map[start..start + 8].try_into().expect("eight bytes"))
    }

    /// Sets accessed or dirty bits, which stand in an entry's first byte. Not a guest store: it changes no translation.
    pub(crate) fn set_entry_bits(&mut self, address: u64, bits: u64) {
        let Some(page) = self.page_of(address).filter(|&page| self.is_writable(page)) else { return };
        let start = page * PAGE as usize + (address % PAGE) as usize;
        if self.holds_code(page, address, 1) {
            self.touched.push(Touched { address, length: 1, table: false, code: true });
        }
        self.flags[page] |= DIRTY;
        self.map[start] |= bits as u8;
    }

    /// A store that hit a tracked page and has not been taken yet.
    pub(crate) fn take_touched(&mut self) -> Option<Touched> {
        self.touched.pop()
    }

    /// Whether [`Memory::take_touched`], [`Memory::take_moved`] or [`Memory::take_remapped`] has something.
    #[inline]
    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.is_empty() || self.moved || self.windows.remapped
    }

    /// Whether a region has moved since the last call: nothing derived is valid any more.
    pub(crate) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }
}
