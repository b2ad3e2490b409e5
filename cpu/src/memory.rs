//! Guest RAM, and for each page of it what somebody has derived from its bytes.
//!
//! RAM fills guest-physical 0 up to 3 GiB and goes on at 4 GiB. The legacy video window (A0000h-BFFFFh) is not RAM.
//! Stores go through [`Memory::store`], so that translated code and cached page walks can be dropped in time
//! (design: the TLB and the translation cache must be invisible).
#![allow(unsafe_code)]

use memmap2::MmapMut;
use std::io;

/// Bytes in a page.
pub const PAGE: u64 = 4096;
/// Where RAM below 4 GiB ends at most: device registers follow.
pub const LOW_END: u64 = 0xc000_0000;
/// Where the rest of RAM begins.
pub const HIGH_START: u64 = 1 << 32;
/// The legacy video window.
pub const VIDEO: std::ops::Range<u64> = 0xa_0000..0xc_0000;

/// Page flag: translated blocks were made from this page.
pub const CODE: u8 = 1;
/// Page flag: cached translations were derived from this page as a page table.
pub const TABLE: u8 = 2;
/// Page flag: a TLB may hold a write entry for this page.
pub const WRITE_CACHED: u8 = 4;
/// Page flag: written since the last [`Memory::take_dirty`].
pub const DIRTY: u8 = 8;

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

/// Guest RAM.
pub struct Memory {
    map: MmapMut,
    low: u64,
    flags: Box<[u8]>,
    touched: Vec<Touched>,
}

impl Memory {
    /// Reserves `size` bytes of zeroed RAM; `size` is rounded up to a whole page.
    ///
    /// # Errors
    /// What the host's mmap says.
    pub fn new(size: u64) -> io::Result<Memory> {
        let size = size.next_multiple_of(PAGE);
        let map = MmapMut::map_anon(size as usize)?;
        // Fewer TLB misses of the host, and a process that is gone sooner when it dies. A host without them is as good.
        let _ = map.advise(memmap2::Advice::HugePage);
        let flags = vec![DIRTY; (size / PAGE) as usize].into_boxed_slice();
        Ok(Memory { map, low: size.min(LOW_END), flags, touched: Vec::new() })
    }

    /// Bytes of RAM.
    pub fn size(&self) -> u64 {
        self.map.len() as u64
    }

    /// Bytes of RAM below 4 GiB.
    pub fn low_size(&self) -> u64 {
        self.low
    }

    /// The page number within RAM (not the guest-physical one) of an address, or `None` where there is no RAM.
    #[inline]
    pub fn page_of(&self, address: u64) -> Option<usize> {
        if address < self.low {
            (!VIDEO.contains(&address)).then_some((address / PAGE) as usize)
        } else if address >= HIGH_START && address - HIGH_START < self.size() - self.low {
            Some(((address - HIGH_START + self.low) / PAGE) as usize)
        } else {
            None
        }
    }

    /// The guest-physical address of a page of RAM.
    pub fn address_of(&self, page: usize) -> u64 {
        let offset = page as u64 * PAGE;
        if offset < self.low { offset } else { offset - self.low + HIGH_START }
    }

    /// Number of pages of RAM.
    pub fn pages(&self) -> usize {
        self.flags.len()
    }

    /// The bytes of a page.
    pub fn page(&self, page: usize) -> &[u8; PAGE as usize] {
        self.map[page * PAGE as usize..][..PAGE as usize].try_into().expect("a page has a page's length")
    }

    /// The flags of a page.
    #[inline]
    pub fn flags(&self, page: usize) -> u8 {
        self.flags[page]
    }

    /// Sets flags of a page.
    #[inline]
    pub fn mark(&mut self, page: usize, flags: u8) {
        self.flags[page] |= flags;
    }

    /// Clears flags of a page.
    #[inline]
    pub fn unmark(&mut self, page: usize, flags: u8) {
        self.flags[page] &= !flags;
    }

    /// Host address of a page's first byte. Valid while this `Memory` lives.
    #[inline]
    pub(crate) fn host(&self, page: usize) -> *mut u8 {
        debug_assert!(page < self.flags.len());
        // SAFETY: `page` is below `pages()`, so the offset stays inside the mapping.
        unsafe { self.map.as_ptr().add(page * PAGE as usize).cast_mut() }
    }

    /// Which RAM page a host address lies in.
    #[inline]
    pub(crate) fn page_of_host(&self, host: u64) -> usize {
        ((host - self.map.as_ptr() as u64) / PAGE) as usize
    }

    /// Reads bytes of guest-physical memory. Bytes that are not RAM read as FFh; returns whether all were RAM.
    pub fn read(&self, mut address: u64, mut bytes: &mut [u8]) -> bool {
        let mut whole = true;
        while !bytes.is_empty() {
            let offset = (address % PAGE) as usize;
            let length = bytes.len().min(PAGE as usize - offset);
            let (head, rest) = bytes.split_at_mut(length);
            match self.page_of(address) {
                Some(page) => head.copy_from_slice(&self.page(page)[offset..offset + length]),
                None => {
                    head.fill(0xff);
                    whole = false;
                }
            }
            bytes = rest;
            address = address.wrapping_add(length as u64);
        }
        whole
    }

    /// Writes bytes of guest-physical memory. Bytes that are not RAM are dropped; returns whether all were RAM.
    pub fn store(&mut self, mut address: u64, mut bytes: &[u8]) -> bool {
        let mut whole = true;
        while !bytes.is_empty() {
            let offset = (address % PAGE) as usize;
            let length = bytes.len().min(PAGE as usize - offset);
            let (head, rest) = bytes.split_at(length);
            match self.page_of(address) {
                Some(page) => self.store_in_page(page, address, head),
                None => whole = false,
            }
            bytes = rest;
            address = address.wrapping_add(length as u64);
        }
        whole
    }

    fn store_in_page(&mut self, page: usize, address: u64, bytes: &[u8]) {
        let start = page * PAGE as usize + (address % PAGE) as usize;
        let flags = self.flags[page];
        if flags & (CODE | TABLE) != 0 {
            let table = flags & TABLE != 0 && self.changes_present_entry(start, bytes);
            let code = flags & CODE != 0;
            if table || code {
                self.touched.push(Touched { address, length: bytes.len() as u32, table, code });
            }
        }
        self.flags[page] |= DIRTY;
        self.map[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Whether storing these bytes would end the validity of something derived from the page.
    pub(crate) fn would_touch(&self, address: u64, bytes: &[u8]) -> bool {
        let Some(page) = self.page_of(address) else { return false };
        let flags = self.flags[page];
        let start = page * PAGE as usize + (address % PAGE) as usize;
        flags & CODE != 0 || flags & TABLE != 0 && self.changes_present_entry(start, bytes)
    }

    /// Pages marked dirty, ascending; the marks are cleared.
    pub(crate) fn take_dirty(&mut self) -> Vec<u32> {
        let dirty = (0..self.flags.len()).filter(|&page| self.flags[page] & DIRTY != 0);
        let dirty: Vec<u32> = dirty.map(|page| page as u32).collect();
        for &page in &dirty {
            self.flags[page as usize] &= !DIRTY;
        }
        dirty
    }

    /// Whether writing `bytes` at RAM offset `start` changes an 8-byte table entry that is present.
    fn changes_present_entry(&self, start: usize, bytes: &[u8]) -> bool {
        let first = start & !7;
        let end = (start + bytes.len()).next_multiple_of(8);
        (first..end).step_by(8).any(|entry| {
            let old: [u8; 8] = self.map[entry..entry + 8].try_into().expect("eight bytes");
            let from = entry.max(start);
            let to = (entry + 8).min(start + bytes.len());
            old[0] & 1 != 0 && self.map[from..to] != bytes[from - start..to - start]
        })
    }

    /// An aligned 8-byte load, as page walks make it; zero where there is no RAM.
    #[inline]
    pub(crate) fn load_entry(&self, address: u64) -> u64 {
        let Some(page) = self.page_of(address) else { return 0 };
        let start = page * PAGE as usize + (address % PAGE) as usize;
        u64::from_le_bytes(self.map[start..start + 8].try_into().expect("eight bytes"))
    }

    /// Sets accessed or dirty bits in an entry. Not a guest store: it changes no translation.
    pub(crate) fn set_entry_bits(&mut self, address: u64, bits: u64) {
        let Some(page) = self.page_of(address) else { return };
        let start = page * PAGE as usize + (address % PAGE) as usize;
        let entry = u64::from_le_bytes(self.map[start..start + 8].try_into().expect("eight bytes")) | bits;
        if self.flags[page] & CODE != 0 {
            self.touched.push(Touched { address, length: 8, table: false, code: true });
        }
        self.flags[page] |= DIRTY;
        self.map[start..start + 8].copy_from_slice(&entry.to_le_bytes());
    }

    /// Stores that hit tracked pages since the last call.
    pub(crate) fn take_touched(&mut self) -> Vec<Touched> {
        std::mem::take(&mut self.touched)
    }

    /// Whether [`Memory::take_touched`] has something.
    #[inline]
    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }
}
