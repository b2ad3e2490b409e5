//! The code buffer, and the guard region that turns an exhausted budget into a fault.
#![allow(unsafe_code)]

use super::blocks::Parts;
use std::{io, ptr};

/// Instructions a single stretch of translated code may run before it comes back; a multiple of a page.
pub const LONGEST_STRETCH: u64 = 1 << 24;
/// Bytes at the end of the head for a block that runs once.
const SCRATCH: usize = 64 << 10;
/// Bytes of the head.
const HEAD: usize = 2 * SCRATCH;
/// Regions, if each would have [`SMALLEST_REGION`] at least.
const REGIONS: usize = 16;
const SMALLEST_REGION: usize = 64 << 10;
const SMALLEST: usize = 2 * SMALLEST_REGION;
/// Jumps reach no farther than 2 GiB.
const LARGEST: usize = 1 << 30;
const GUARD: usize = 4096;
/// What a jump to another page that is not linked adds to the jump cache's entry: never 1 then, see
/// [`super::exits`].
pub const NOT_LINKED: i32 = 2;
/// Of 32 bytes of a region, those for what mostly runs: programs and kernels need 19.
const HOT_SHARE: usize = 19;
/// What mostly runs of a block begins at a multiple of this, unless it follows another.
const ALIGNMENT: usize = 16;
/// The opcode of a JMP.
const JUMP: u8 = 0xe9;
/// Bytes of a JMP.
pub const JUMP_BYTES: u64 = 5;
/// Size of the host's large pages, which spare its instruction TLB.
const LARGE_PAGE: usize = 2 << 20;

fn map(length: usize, protection: i32, more: i32) -> io::Result<*mut u8> {
    let flags = more | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: a fresh anonymous mapping.
    let base = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, -1, 0) };
    if base == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(base.cast()) }
}

/// Bytes used of a region.
#[derive(Clone, Copy, Default)]
struct Used {
    hot: usize,
    cold: usize,
}

/// Executable memory: a head for the host routines and blocks that run once, then regions of one size, which are filled one
/// after the other, around and around. A region has a part for what mostly runs, and one for what rarely does: so the
/// former is dense.
pub struct CodeBuffer {
    map: *mut u8,
    mapped: usize,
    base: *mut u8,
    region_bytes: usize,
    regions: usize,
    /// The region being filled, from 1 on.
    current: usize,
    /// The first is the head.
    used: Vec<Used>,
}

impl CodeBuffer {
    /// Maps `size` bytes, or somewhat less, for blocks.
    ///
    /// # Errors
    /// What mmap says (a host that forbids writable executable memory refuses here).
    pub fn new(size: usize) -> io::Result<CodeBuffer> {
        let (regions, region_bytes) = CodeBuffer::divide(size);
        let mapped = HEAD + regions * region_bytes + LARGE_PAGE;
        let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        // Below 2 GiB, if there is room: host addresses of blocks then fit into an instruction.
        let map = map(mapped, protection, libc::MAP_32BIT).or_else(|_| map(mapped, protection, 0))?;
        // SAFETY: inside the mapping just made.
        let base = unsafe {
            let base = map.add(map.align_offset(LARGE_PAGE));
            libc::madvise(base.cast(), mapped - LARGE_PAGE, libc::MADV_HUGEPAGE);
            base
        };
        Ok(CodeBuffer {
            map,
            mapped,
            base,
            region_bytes,
            regions,
            current: 1,
            used: vec![Used::default(); regions + 1],
        })
    }

    /// How many regions there are for so many bytes, and how large they are.
    fn divide(size: usize) -> (usize, usize) {
        let size = size.clamp(SMALLEST, LARGEST);
        let regions = (size / SMALLEST_REGION).min(REGIONS);
        (regions, (size / regions) & !0xfff)
    }

    /// Whether a buffer for `size` bytes would be like this one.
    pub fn is_for(&self, size: usize) -> bool {
        CodeBuffer::divide(size) == (self.regions, self.region_bytes)
    }

    /// Regions besides the head.
    pub fn regions(&self) -> usize {
        self.regions
    }

    /// Bytes of a region.
    pub fn region_bytes(&self) -> usize {
        self.region_bytes
    }

    /// The region being filled.
    pub fn current(&self) -> usize {
        self.current
    }

    fn start_of(&self, region: usize) -> usize {
        if region == 0 { HEAD - SCRATCH } else { HEAD + (region - 1) * self.region_bytes }
    }

    /// Bytes of a region for what mostly runs.
    fn hot_bytes(&self, region: usize) -> usize {
        if region == 0 { SCRATCH / 2 } else { self.region_bytes * HOT_SHARE / 32 }
    }

    fn cold_bytes(&self, region: usize) -> usize {
        if region == 0 { SCRATCH / 2 } else { self.region_bytes - self.hot_bytes(region) }
    }

    /// The region of a host address; 0: the head.
    pub fn region_of(&self, host: u64) -> usize {
        let offset = (host - self.base as u64) as usize;
        offset.checked_sub(HEAD).map_or(0, |offset| offset / self.region_bytes + 1)
    }

    /// Where the host routines go.
    pub fn start(&self) -> u64 {
        self.base as u64
    }

    /// Copies them there.
    pub fn place_routines(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= HEAD - SCRATCH, "routines larger than their room");
        // SAFETY: the range was just checked; nothing executes in it now.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.base, bytes.len()) };
    }

    /// Addresses where the parts of the next block of a region will be placed: at the ends of what is used of it, or for
    /// region 0 always the same.
    pub fn next(&self, region: usize) -> (u64, u64) {
        let start = self.base as u64 + self.start_of(region) as u64;
        let Used { hot, cold } = if region == 0 { Used::default() } else { self.used[region] };
        (start + hot.next_multiple_of(ALIGNMENT) as u64, start + (self.hot_bytes(region) + cold) as u64)
    }

    /// Whether a block with parts of up to `length` bytes fits into the region being filled.
    pub fn has_room(&self, length: usize) -> bool {
        let Used { hot, cold } = self.used[self.current];
        hot + ALIGNMENT + length <= self.hot_bytes(self.current) && cold + length <= self.cold_bytes(self.current)
    }

    /// Copies a finished block to where [`CodeBuffer::next`] said, or what mostly runs over the end of what ran before.
    pub fn place(&mut self, region: usize, parts: Parts, bytes: &[u8]) {
        let start = self.base as u64 + self.start_of(region) as u64;
        let (hot, cold) = bytes.split_at(parts.length.into());
        let (hot_at, cold_at) = ((parts.hot - start) as usize, (parts.cold() - start) as usize);
        let (hot_bytes, cold_bytes) = (self.hot_bytes(region), self.cold_bytes(region));
        let used = Used { hot: hot_at + hot.len(), cold: cold_at - hot_bytes + cold.len() };
        assert!(used.hot <= hot_bytes && used.cold <= cold_bytes, "a block larger than its room");
        // SAFETY: the ranges were just checked; nothing executes in them now.
        unsafe {
            ptr::copy_nonoverlapping(hot.as_ptr(), parts.hot as *mut u8, hot.len());
            ptr::copy_nonoverlapping(cold.as_ptr(), parts.cold() as *mut u8, cold.len());
        }
        if region != 0 {
            self.used[region] = used;
        }
    }

    /// Goes on with the next region, which is empty from now on.
    pub fn advance(&mut self) -> usize {
        self.current = self.current % self.regions + 1;
        self.used[self.current] = Used::default();
        self.current
    }

    /// Points the four-byte displacement at `site` to `target`.
    pub fn patch(&mut self, site: u64, target: u64) {
        assert!(self.contains(site) && self.contains(target));
        let displacement = (target as i64 - (site as i64 + 4)) as i32;
        // SAFETY: the site is inside the buffer and belongs to a jump of ours.
        unsafe { ptr::write_unaligned(site as *mut i32, displacement) };
    }

    /// Where the jump at `at` leads.
    pub fn target_of(&self, at: u64) -> u64 {
        assert!(self.contains(at));
        // SAFETY: a jump of ours, in readable memory.
        let displacement = unsafe { ptr::read_unaligned((at + 1) as *const i32) };
        (at + JUMP_BYTES).wrapping_add_signed(displacement.into())
    }

    /// Puts a jump to `target` at `at`.
    pub fn put_jump(&mut self, at: u64, target: u64) {
        assert!(self.contains(at));
        // SAFETY: what stood there is not entered any more.
        unsafe { ptr::write(at as *mut u8, JUMP) };
        self.patch(at + 1, target);
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
        unsafe { ptr::write_unaligned(check as *mut i32, 1 - entry_number) };
    }

    /// Undoes [`CodeBuffer::patch_far`]: the jump leads to its stub again.
    pub fn unpatch_far(&mut self, check: u64, jump: u64, stub: u64) {
        assert!(self.contains(check));
        // SAFETY: as in `patch`.
        unsafe { ptr::write_unaligned(check as *mut i32, NOT_LINKED) };
        self.patch(jump, stub);
    }

    /// Whether a host address lies in the buffer.
    pub fn contains(&self, host: u64) -> bool {
        let (start, end) = self.range();
        (start..end).contains(&host)
    }

    /// First and last-plus-one address.
    pub fn range(&self) -> (u64, u64) {
        let start = self.base as u64;
        (start, start + (HEAD + self.regions * self.region_bytes) as u64)
    }

    /// Bytes used for blocks.
    pub fn used(&self) -> usize {
        self.used.iter().map(|used| used.hot + used.cold).sum()
    }

    /// Bytes there are for blocks.
    pub fn room(&self) -> usize {
        self.regions * self.region_bytes
    }

    /// Forgets all blocks.
    pub fn clear(&mut self) {
        self.used.fill(Used::default());
        self.current = 1;
    }
}

impl Drop for CodeBuffer {
    fn drop(&mut self) {
        // SAFETY: ours, unused from here on.
        unsafe { libc::munmap(self.map.cast(), self.mapped) };
    }
}

/// Readable zeros with nothing below them. A block's entry loads from `base + budget left` when the block is done; where
/// less than it needs is left the load faults, with every guest register and flag intact and not one instruction spent on a
/// branch.
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
