//! Scattered guest memory: what a chain of descriptors describes (Virtio 1.2 §2.7.5).

use crate::state::{Saved, saved};
use ftemu_cpu::Memory;

/// One piece of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Guest-physical address of the first byte.
    pub address: u64,
    /// Bytes.
    pub length: u32,
}
saved!(Segment { address, length });

/// Pieces of guest memory that count as one row of bytes. Nothing says that they are RAM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffer(Vec<Segment>);

impl Buffer {
    /// Appends a piece.
    pub fn push(&mut self, segment: Segment) {
        self.0.push(segment);
    }

    /// Whether there is no piece at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes in all pieces.
    pub fn length(&self) -> u64 {
        self.0.iter().map(|segment| u64::from(segment.length)).sum()
    }

    /// `length` bytes from `offset` on, or fewer where the buffer ends.
    pub fn slice(&self, offset: u64, length: u64) -> Buffer {
        let (mut skip, mut left) = (offset, length);
        let mut out = Buffer::default();
        for segment in &self.0 {
            let size = u64::from(segment.length);
            let skipped = skip.min(size);
            let taken = left.min(size - skipped);
            if taken > 0 {
                let address = segment.address.wrapping_add(skipped);
                out.push(Segment { address, length: taken as u32 });
            }
            (skip, left) = (skip - skipped, left - taken);
        }
        out
    }

    /// Splits the last byte off: a driver puts a request's status there. `None`: there is no byte.
    pub fn split_last(&self) -> Option<(Buffer, Buffer)> {
        let length = self.length().checked_sub(1)?;
        Some((self.slice(0, length), self.slice(length, 1)))
    }

    /// Reads as many bytes as fit or are there. False: some were not RAM, or there were not enough.
    pub fn read(&self, memory: &Memory, mut bytes: &mut [u8]) -> bool {
        let mut whole = true;
        for segment in &self.0 {
            let length = bytes.len().min(segment.length as usize);
            let (head, rest) = bytes.split_at_mut(length);
            whole &= memory.read(segment.address, head);
            bytes = rest;
        }
        whole && bytes.is_empty()
    }

    /// All bytes. `None`: there are more than `limit`, or some are not RAM.
    pub fn take(&self, memory: &Memory, limit: u64) -> Option<Vec<u8>> {
        let length = self.length();
        let mut bytes = vec![0; usize::try_from(length).ok().filter(|_| length <= limit)?];
        self.read(memory, &mut bytes).then_some(bytes)
    }

    /// Writes as many bytes as fit. False: some places were not RAM, or there were not enough.
    pub fn write(&self, memory: &mut Memory, mut bytes: &[u8]) -> bool {
        let mut whole = true;
        for segment in &self.0 {
            let length = bytes.len().min(segment.length as usize);
            let (head, rest) = bytes.split_at(length);
            whole &= memory.store(segment.address, head);
            bytes = rest;
        }
        whole && bytes.is_empty()
    }
}

impl Saved for Buffer {
    fn save(&self, out: &mut Vec<u8>) {
        let Buffer(segments) = self;
        segments.save(out);
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        Saved::load(bytes).map(Buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::assert_round_trip;

    fn buffer(segments: &[(u64, u32)]) -> Buffer {
        Buffer(segments.iter().map(|&(address, length)| Segment { address, length }).collect())
    }

    #[test]
    fn slices_cross_pieces() {
        let whole = buffer(&[(0x1000, 3), (0x2000, 0), (0x3000, 4)]);
        assert_eq!(whole.length(), 7);
        assert_eq!(whole.slice(2, 3), buffer(&[(0x1002, 1), (0x3000, 2)]));
        assert_eq!(whole.slice(5, 99), buffer(&[(0x3002, 2)]));
        assert_eq!(whole.slice(7, 1), buffer(&[]));
        assert_eq!(whole.split_last(), Some((buffer(&[(0x1000, 3), (0x3000, 3)]), buffer(&[(0x3003, 1)]))));
        assert_eq!(buffer(&[(5, 0)]).split_last(), None);
        assert_round_trip(&whole);
    }

    #[test]
    fn bytes_are_scattered_and_gathered() {
        let mut memory = Memory::new(2 << 20).expect("2 MiB");
        let whole = buffer(&[(0x1ffe, 3), (0x4000, 2)]);
        assert!(whole.write(&mut memory, b"abcde"));
        assert_eq!(whole.take(&memory, 5).as_deref(), Some(&b"abcde"[..]));
        assert_eq!(whole.take(&memory, 4), None, "more than the limit");
        assert!(!whole.write(&mut memory, b"abcdef"), "more than there is room");
        assert!(!whole.read(&memory, &mut [0; 6]));
    }

    #[test]
    fn memory_that_is_not_there_is_told() {
        let mut memory = Memory::new(2 << 20).expect("2 MiB");
        for address in [0xa_0000, 0x20_0000, u64::MAX - 1] {
            let nowhere = buffer(&[(0x1000, 1), (address, 4)]);
            assert!(!nowhere.write(&mut memory, b"abcde"));
            assert_eq!(nowhere.take(&memory, 5), None);
        }
    }
}
