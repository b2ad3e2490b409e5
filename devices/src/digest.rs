//! The digest of RAM: one BLAKE3 hash per page, summed, so that only pages written since the last time are hashed.
//!
//! The sum is four 64-bit lanes with wrapping addition: it does not depend on the order of pages, and replacing a page
//! is a subtraction and an addition. Each page's hash covers its index. A page of zeros counts nothing, so that RAM
//! nobody has touched costs nothing. It detects accidents, not forgeries: peers are authenticated elsewhere.

use ftemu_cpu::Memory;
use rayon::prelude::*;

type Lanes = [u64; 4];

/// Hashes of all pages and their sum.
#[derive(Debug)]
pub struct RamDigest {
    pages: Vec<Lanes>,
    sum: Lanes,
}

impl RamDigest {
    /// RAM of `pages` pages of zeros.
    pub fn new(pages: usize) -> RamDigest {
        RamDigest { pages: vec![[0; 4]; pages], sum: [0; 4] }
    }

    /// Hashes the pages given again.
    pub fn update(&mut self, memory: &Memory, pages: &[u32]) {
        let hashes: Vec<Lanes> =
            pages.par_iter().with_min_len(64).map(|page| hash(*page, memory.page(*page as usize))).collect();
        for (page, hash) in pages.iter().zip(hashes) {
            let old = std::mem::replace(&mut self.pages[*page as usize], hash);
            for ((sum, old), new) in self.sum.iter_mut().zip(old).zip(hash) {
                *sum = sum.wrapping_sub(old).wrapping_add(new);
            }
        }
    }

    /// The sum, little-endian.
    pub fn bytes(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (chunk, lane) in bytes.chunks_exact_mut(8).zip(self.sum) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        bytes
    }
}

fn hash(index: u32, page: &[u8; 4096]) -> Lanes {
    if page.as_chunks::<64>().0.iter().all(|chunk| *chunk == [0; 64]) {
        return [0; 4];
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&index.to_le_bytes());
    hasher.update(page);
    let bytes = *hasher.finalize().as_bytes();
    std::array::from_fn(|lane| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * lane + byte])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_contents_give_equal_sums_whatever_the_history() {
        let mut memory = Memory::new(1 << 20).unwrap();
        let mut digest = RamDigest::new(256);
        memory.store(0x1000, &[1, 2, 3]);
        digest.update(&memory, &[1]);
        let first = digest.bytes();
        memory.store(0x5000, &[9]);
        digest.update(&memory, &[1, 5]);
        assert_ne!(digest.bytes(), first);
        memory.store(0x5000, &[0]);
        digest.update(&memory, &[5]);
        assert_eq!(digest.bytes(), first);
        let mut all = RamDigest::new(256);
        all.update(&memory, &(0..256).collect::<Vec<_>>());
        assert_eq!(all.bytes(), first);
    }

    #[test]
    fn the_same_bytes_on_another_page_are_another_digest() {
        let mut memory = Memory::new(1 << 20).unwrap();
        memory.store(0x1000, &[1]);
        memory.store(0x2000, &[1]);
        let mut digests = [RamDigest::new(256), RamDigest::new(256)];
        digests[0].update(&memory, &[1]);
        digests[1].update(&memory, &[2]);
        assert_ne!(digests[0].bytes(), digests[1].bytes());
    }
}
