//! Guest RAM, and for each page of it what somebody has derived from its bytes.
//!
//! RAM fills guest-physical 0 up to 3 GiB and goes on at 4 GiB. In the legacy video window (A0000h-BFFFFh) and above up to
//! 1 MiB it answers where the board says so.
//! Behind RAM, in page numbers, come the board's regions: firmware that cannot be written, a framebuffer that moves.
//! Stores go through [`Memory::store`], so that translated code and cached page walks can be dropped in time
//! (design: the TLB and the translation cache must be invisible).
#![allow(unsafe_code)]

mod tracking;
mod windows;

use memmap2::MmapMut;
use std::io;
pub use tracking::Touched;
pub(crate) use tracking::pieces;
pub use windows::SHADOW;
use windows::{LEGACY, Windows};

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

/// A piece of memory besides RAM, as [`Memory::add_region`] numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region(usize);

impl Region {
    /// Its number among regions, from 0; [`Memory::region`] leads back.
    pub fn number(self) -> u8 {
        self.0 as u8
    }
}

/// Where a region is.
#[derive(Clone, Copy, Debug)]
struct Placed {
    base: Option<u64>,
    first_page: usize,
    bytes: u64,
    writable: bool,
}

/// Pages of a region that has no address now are said to be here, where nothing answers.
const NOWHERE: u64 = 1 << 62;

/// Guest RAM, and the board's regions.
pub struct Memory {
    map: MmapMut,
    size: u64,
    low: u64,
    regions: Vec<Placed>,
    flags: Box<[u8]>,
    /// Of each page with code: one bit for each 64 bytes that some block was made from.
    code: Box<[u64]>,
    touched: Vec<Touched>,
    moved: bool,
    windows: Windows,
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
        let low = size.min(LOW_END);
        let code = vec![0; (size / PAGE) as usize].into_boxed_slice();
        let (regions, touched, windows) = (Vec::new(), Vec::new(), Windows::default());
        Ok(Memory { map, size, low, regions, flags, code, touched, moved: false, windows })
    }

    /// Bytes of RAM.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds zeroed memory besides RAM, at no address yet; `bytes` is rounded up to whole pages. Only before the
    /// memory is given to a CPU.
    ///
    /// # Errors
    /// What the host's mremap says.
    pub fn add_region(&mut self, bytes: u64, writable: bool) -> io::Result<Region> {
        let bytes = bytes.next_multiple_of(PAGE);
        let first_page = self.pages();
        let whole = self.map.len() + bytes as usize;
        // SAFETY: no address inside of the mapping is kept anywhere before a CPU has the memory.
        unsafe { self.map.remap(whole, memmap2::RemapOptions::new().may_move(true))? };
        let mut flags = std::mem::take(&mut self.flags).into_vec();
        flags.resize(whole / PAGE as usize, DIRTY);
        self.flags = flags.into_boxed_slice();
        self.code = vec![0; self.flags.len()].into_boxed_slice();
        self.regions.push(Placed { base: None, first_page, bytes, writable });
        Ok(Region(self.regions.len() - 1))
    }

    /// Gives a region another guest-physical address, a multiple of a page, or none. Where RAM is, RAM stays; of two
    /// regions at one address the first answers.
    pub fn move_region(&mut self, region: Region, base: Option<u64>) {
        let base = base.map(|base| base & !(PAGE - 1));
        if self.regions[region.0].base != base {
            self.regions[region.0].base = base;
            self.moved = true;
        }
    }

    /// The region with a number, if there is one.
    pub fn region(&self, number: u8) -> Option<Region> {
        let number = usize::from(number);
        (number < self.regions.len()).then_some(Region(number))
    }

    /// Where a region is.
    pub fn region_base(&self, region: Region) -> Option<u64> {
        self.regions[region.0].base
    }

    /// The bytes of a region.
    pub fn region_bytes(&self, region: Region) -> &[u8] {
        let Placed { first_page, bytes, .. } = self.regions[region.0];
        &self.map[first_page * PAGE as usize..][..bytes as usize]
    }

    /// The page numbers of a region.
    pub fn region_pages(&self, region: Region) -> std::ops::Range<usize> {
        let Placed { first_page, bytes, .. } = self.regions[region.0];
        first_page..first_page + (bytes / PAGE) as usize
    }

    /// Writes bytes of a region, whether or not the guest can. What does not fit is dropped.
    pub fn region_store(&mut self, region: Region, offset: u64, mut bytes: &[u8]) {
        let Placed { base, first_page, bytes: length, .. } = self.regions[region.0];
        let room = length.saturating_sub(offset).min(bytes.len() as u64);
        bytes = &bytes[..room as usize];
        let mut at = offset;
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(bytes.len().min((PAGE - at % PAGE) as usize));
            let address = base.unwrap_or(NOWHERE).wrapping_add(at);
            self.store_in_page(first_page + (at / PAGE) as usize, address, head);
            bytes = rest;
            at += head.len() as u64;
        }
    }

    /// Whether stores of the guest change a page.
    #[inline]
    pub fn is_writable(&self, page: usize) -> bool {
        if page < (self.size / PAGE) as usize {
            return self.windows.is_writable(page);
        }
        self.region_of(page).is_some_and(|region| region.writable)
    }

    fn region_of(&self, page: usize) -> Option<&Placed> {
        self.regions.iter().rev().find(|region| page >= region.first_page)
    }

    #[cold]
    fn page_in_region(&self, address: u64) -> Option<usize> {
        self.regions.iter().find_map(|region| {
            let offset = address.checked_sub(region.base?)?;
            (offset < region.bytes).then(|| region.first_page + (offset / PAGE) as usize)
        })
    }

    /// Bytes of RAM below 4 GiB.
    pub fn low_size(&self) -> u64 {
        self.low
    }

    /// The page number within RAM and regions (not the guest-physical one) of an address, or `None` where there is
    /// neither.
    #[inline]
    pub fn page_of(&self, address: u64) -> Option<usize> {
        if address < self.low {
            if LEGACY.contains(&address) { self.page_in_legacy(address) } else { Some((address / PAGE) as usize) }
        } else if address >= HIGH_START && address - HIGH_START < self.size - self.low {
            Some(((address - HIGH_START + self.low) / PAGE) as usize)
        } else {
            self.page_in_region(address)
        }
    }

    /// The guest-physical address of a page; one that nothing can have for a page of a region without an address.
    pub fn address_of(&self, page: usize) -> u64 {
        let offset = page as u64 * PAGE;
        if offset < self.low {
            offset
        } else if offset < self.size {
            offset - self.low + HIGH_START
        } else {
            let region = self.region_of(page).expect("a page of RAM or of a region");
            region.base.unwrap_or(NOWHERE) + (page - region.first_page) as u64 * PAGE
        }
    }

    /// Number of pages of RAM and regions.
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

    /// Writes bytes of guest-physical memory, where the guest can. Bytes that are not RAM are dropped; returns whether
    /// all were RAM or a region.
    pub fn store(&mut self, mut address: u64, mut bytes: &[u8]) -> bool {
        let mut whole = true;
        while !bytes.is_empty() {
            let offset = (address % PAGE) as usize;
            let length = bytes.len().min(PAGE as usize - offset);
            let (head, rest) = bytes.split_at(length);
            match self.page_for_store(address) {
                Some(page) => self.store_in_page(page, address, head),
                None => whole &= self.page_of(address).is_some(),
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
            let code = self.holds_code(page, address, bytes.len());
            if table || code {
                self.touched.push(Touched { address, length: bytes.len() as u32, table, code });
            }
        }
        self.flags[page] |= DIRTY;
        self.map[start..start + bytes.len()].copy_from_slice(bytes);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_follow_ram_answer_where_they_are_and_keep_what_the_guest_must_not_write() {
        let mut memory = Memory::new(1 << 20).expect("memory");
        let firmware = memory.add_region(8192, false).expect("memory");
        let screen = memory.add_region(5000, true).expect("memory");
        assert_eq!((memory.size(), memory.pages()), (1 << 20, 256 + 2 + 2));
        assert_eq!(memory.page_of(0xffff_e000), None);
        memory.move_region(firmware, Some(0xffff_e000));
        memory.move_region(screen, Some(0xe000_0000));
        assert!(memory.take_moved() && !memory.take_moved());
        memory.region_store(firmware, 8190, &[1, 2, 3]);
        assert!(memory.store(0xffff_fffe, &[9, 9]));
        let mut bytes = [0; 2];
        assert!(memory.read(0xffff_fffe, &mut bytes));
        assert_eq!(bytes, [1, 2]);
        assert!(memory.store(0xe000_1fff, &[7]));
        assert!(!memory.store(0xe000_2000, &[7]));
        assert_eq!(memory.region_bytes(screen)[0x1fff], 7);
        assert_eq!(memory.page_of(0xe000_1000), Some(259));
        assert_eq!(memory.address_of(259), 0xe000_1000);
        memory.move_region(screen, None);
        assert_eq!(memory.page_of(memory.address_of(259)), None);
    }
}
