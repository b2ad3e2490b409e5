//! A ring of descriptors in guest memory (manual §3.2.6, §3.4). Software moves the tail, the chip the head; what lies
//! between is the chip's. A tail outside of the ring leaves the chip nothing.

use crate::state::saved;
use ftemu_cpu::Memory;

/// Bytes in a descriptor.
const DESCRIPTOR: u32 = 16;

/// Base, length, head and tail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ring {
    base_low: u32,
    base_high: u32,
    length: u32,
    head: u32,
    tail: u32,
}
saved!(Ring { base_low, base_high, length, head, tail });

impl Ring {
    /// Reads the register `offset` bytes after the base address register.
    pub fn read(&self, offset: u32) -> u32 {
        match offset {
            0x00 => self.base_low,
            0x04 => self.base_high,
            0x08 => self.length,
            0x10 => self.head,
            0x18 => self.tail,
            _ => 0,
        }
    }

    /// Writes it.
    pub fn write(&mut self, offset: u32, value: u32) {
        match offset {
            0x00 => self.base_low = value & !0xf,
            0x04 => self.base_high = value,
            0x08 => self.length = value & 0xf_ff80,
            0x10 => self.head = value & 0xffff,
            0x18 => self.tail = value & 0xffff,
            _ => {}
        }
    }

    /// Descriptors in the ring.
    fn size(&self) -> u32 {
        self.length / DESCRIPTOR
    }

    /// Descriptors that are the chip's.
    pub fn available(&self) -> u32 {
        let size = self.size();
        match self.head < size && self.tail < size {
            true => (self.tail + size - self.head) % size,
            false => 0,
        }
    }

    /// Fewer than 1/2, 1/4 or 1/8 (`threshold` 0, 1, 2) of the descriptors are left.
    pub fn is_low(&self, threshold: u32) -> bool {
        self.available() <= self.size() >> (threshold + 1)
    }

    fn head_address(&self) -> u64 {
        let base = u64::from(self.base_high) << 32 | u64::from(self.base_low);
        base.wrapping_add(u64::from(self.head * DESCRIPTOR))
    }

    /// The descriptor at the head. `None`: there is none, or the ring is not in memory.
    pub fn fetch(&self, memory: &Memory) -> Option<[u8; 16]> {
        let mut descriptor = [0; 16];
        (self.available() > 0 && memory.read(self.head_address(), &mut descriptor)).then_some(descriptor)
    }

    /// Writes part of the descriptor at the head.
    pub fn write_back(&self, memory: &mut Memory, offset: u64, bytes: &[u8]) {
        memory.store(self.head_address().wrapping_add(offset), bytes);
    }

    /// The descriptor at the head is done with.
    pub fn advance(&mut self) {
        self.head = if self.head + 1 >= self.size() { 0 } else { self.head + 1 };
    }
}
