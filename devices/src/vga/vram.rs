//! Display memory: a region of the machine's memory, so that a linear framebuffer costs the guest no more than RAM.
//!
//! Its first 256 KiB are the four planes of the VGA: byte 4n + p is byte n of plane p.

use ftemu_cpu::Memory;
use ftemu_cpu::memory::Region;

/// Bytes of display memory.
pub const BYTES: u64 = 16 << 20;
/// Bytes of one plane.
pub const PLANE_BYTES: u32 = 1 << 16;

/// Display memory, to be looked at.
#[derive(Clone, Copy)]
pub struct Pixels<'a>(&'a [u8]);

impl<'a> Pixels<'a> {
    /// The bytes of a region.
    pub fn of(memory: &'a Memory, region: Region) -> Pixels<'a> {
        Pixels(memory.region_bytes(region))
    }

    /// One byte of each plane.
    pub fn cell(&self, address: u32) -> [u8; 4] {
        let at = 4 * (address % PLANE_BYTES) as usize;
        self.0.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
    }

    /// The bytes from an offset on, as many as there are.
    pub fn from(&self, offset: u64, length: u64) -> &'a [u8] {
        let end = offset.saturating_add(length).min(self.0.len() as u64);
        self.0.get(offset.min(end) as usize..end as usize).unwrap_or_default()
    }
}
