//! The code buffer, and the guard region that turns an exhausted budget into a fault.
#![allow(unsafe_code)]

use std::{io, ptr};

/// Instructions a single stretch of translated code may run before it comes back; a multiple of a page.
pub const LONGEST_STRETCH: u64 = 1 << 24;
/// Bytes at the end of the code buffer for blocks that run once.
const SCRATCH: usize = 64 << 10;
const GUARD: usize = 4096;
/// Size of the host's large pages, which spare its instruction TLB.
const LARGE_PAGE: usize = 2 << 20;

fn map(length: usize, protection: i32, more: i32) -> io::Result<*mut u8> {
    let flags = more | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping.
    let base = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(base.cast()) }
}

/// Executable memory, filled from the front; the last part is a scratch area that is written over and over.
pub struct CodeBuffer {
    map: *mut u8,
    mapped: usize,
    base: *mut u8,
    size: usize,
    used: usize,
    scratch: bool,
}

impl CodeBuffer {
    /// Maps `size` bytes.
    ///
    /// # Errors
    /// What mmap says (a host that forbids writable executable memory refuses here).
    pub fn new(size: usize) -> io::Result<CodeBuffer> {
        let mapped = size + LARGE_PAGE;
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        // Below 2 GiB, if there is room: host addresses of blocks then fit into an instruction.
        let map = map(mapped, protection, libc::MAP_32BIT).or_else(|_| map(mapped, protection, 0))?;
        // SAFETY: inside the mapping just made.
        let base = unsafe {
            let base = map.add(map.align_offset(LARGE_PAGE));
            libc::madvise(base.cast(), size, libc::MADV_HUGEPAGE);
            base
        };
        Ok(CodeBuffer { map, mapped, base, size, used: 0, scratch: false })
    }

    /// Address where the next block will be placed: at the end of what is used, or in the scratch area.
    pub fn next(&mut self, scratch: bool) -> u64 {
        self.scratch = scratch;
        self.base as u64 + if scratch { self.size - SCRATCH } else { self.used } as u64
    }

    /// Whether a block of up to `length` bytes fits.
    pub fn has_room(&self, length: usize) -> bool {
        self.used + length <= self.size - SCRATCH
    }

    /// Copies a finished block to where [`CodeBuffer::next`] said.
    pub fn place(&mut self, bytes: &[u8]) {
        let offset = if self.scratch { self.size - SCRATCH } else { self.used };
        let end = if self.scratch { self.size } else { self.size - SCRATCH };
        assert!(offset + bytes.len() <= end, "a block larger than its room");
        // SAFETY: the range was just checked; nothing executes in it now.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.base.add(offset), bytes.len()) };
        if !self.scratch {
            self.used = (offset + bytes.len()).next_multiple_of(16);
        }
    }

    /// Points the four-byte displacement at `site` to `target`.
    pub fn patch(&mut self, site: u64, target: u64) {
        assert!(self.contains(site) && self.contains(target));
        let displacement = (target as i64 - (site as i64 + 4)) as i32;
        // SAFETY: the site is inside the buffer and belongs to a jump of ours.
        unsafe { ptr::write_unaligned(site as *mut i32, displacement) };
    }

    /// The bytes from a host address on, to be looked at.
    #[cfg(test)]
    pub fn bytes(&self, host: u64, length: usize) -> Vec<u8> {
        assert!(self.contains(host) && self.contains(host + length as u64 - 1));
        // SAFETY: the range was just checked; the mapping is readable.
        unsafe { std::slice::from_raw_parts(host as *const u8, length) }.to_vec()
    }

    /// Links a jump at `link` to a block's entry, on condition that the number loaded is the entry too.
    pub fn patch_far(&mut self, check: u64, link: u64, entry: u64) {
        assert!(self.contains(check));
        let entry_number = i32::try_from(entry).expect("code below 2 GiB");
        self.patch(link, entry);
        // SAFETY: as in `patch`.
        unsafe { ptr::write_unaligned(check as *mut i32, -entry_number) };
    }

    /// Whether a host address lies in the buffer.
    pub fn contains(&self, host: u64) -> bool {
        host.wrapping_sub(self.base as u64) < self.size as u64
    }

    /// Whether a host address lies in the scratch area.
    pub fn is_scratch(&self, host: u64) -> bool {
        self.contains(host) && host - self.base as u64 >= (self.size - SCRATCH) as u64
    }

    /// First and last-plus-one address.
    pub fn range(&self) -> (u64, u64) {
        (self.base as u64, self.base as u64 + self.size as u64)
    }

    /// Bytes used.
    pub fn used(&self) -> usize {
        self.used
    }

    /// Forgets all but the first `kept` bytes.
    pub fn truncate(&mut self, kept: usize) {
        self.used = kept;
    }
}

impl Drop for CodeBuffer {
    fn drop(&mut self) {
        // SAFETY: ours, unused from here on.
        unsafe { libc::munmap(self.map.cast(), self.mapped) };
    }
}

/// Readable zeros with nothing below them. A block's entry loads from `base + budget left`; when less than the block
/// needs is left the load faults, with every guest register and flag intact and not one instruction spent on a branch.
pub struct Guard {
    map: *mut u8,
}

impl Guard {
    /// Maps the region.
    ///
    /// # Errors
    /// What mmap says.
    pub fn new() -> io::Result<Guard> {
        let length = GUARD + LONGEST_STRETCH as usize + 4096;
        let map = map(length, libc::PROT_READ, 0)?;
        // SAFETY: inside the mapping just made.
        unsafe {
            libc::mprotect(map.cast(), GUARD, libc::PROT_NONE);
            libc::madvise(map.cast(), length, libc::MADV_NOHUGEPAGE);
        }
        Ok(Guard { map })
    }

    /// What the budget register holds when nothing is left.
    pub fn base(&self) -> u64 {
        self.map as u64 + GUARD as u64
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // SAFETY: ours, unused from here on.
        unsafe { libc::munmap(self.map.cast(), GUARD + LONGEST_STRETCH as usize + 4096) };
    }
}
