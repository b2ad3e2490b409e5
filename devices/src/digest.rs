//! The digest of RAM: one hash per page, summed, so that only pages written since the last time are hashed.
//!
//! The sum is four 64-bit lanes with wrapping addition: it does not depend on the order of pages, and replacing a page
//! is a subtraction and an addition. Each page's hash covers its index. A page of zeros counts nothing, so that RAM
//! nobody has touched costs nothing. It detects accidents, not forgeries: peers are authenticated elsewhere.

use ftemu_cpu::Memory;
use rayon::prelude::*;

type Lanes = [u64; 4];

/// So many pages are worth waking other threads.
const WORTH_SHARING: usize = 4096;

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
        let hash = |page: &u32| hash(*page, memory.page(*page as usize));
        let hashes: Vec<Lanes> = match pages.len() < WORTH_SHARING {
            true => pages.iter().map(hash).collect(),
            false => pages.par_iter().with_min_len(WORTH_SHARING / 4).map(hash).collect(),
        };
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

/// Eight chains of multiplications. Each step is one to one in the word it takes, so that no single difference is ever
/// lost; two differences meet by chance only. A page takes a fifth of a microsecond.
fn hash(index: u32, page: &[u8; 4096]) -> Lanes {
    const WAYS: usize = 8;
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let words = page.as_chunks::<8>().0.as_chunks::<WAYS>().0;
    let mut ways: [u64; WAYS] = std::array::from_fn(|way| (u64::from(index) << 3 | way as u64).wrapping_mul(FACTOR));
    let mut any = 0;
    for words in words {
        for (way, word) in ways.iter_mut().zip(words) {
            let word = u64::from_le_bytes(*word);
            any |= word;
            *way = (*way ^ word).wrapping_mul(FACTOR).rotate_left(29);
        }
    }
    if any == 0 {
        return [0; 4];
    }
    std::array::from_fn(|lane| {
        let [first, second] = [ways[lane], ways[lane + 4]].map(finish);
        first.wrapping_add(second.rotate_left(32))
    })
}

/// Spreads every bit over the word, one to one.
fn finish(word: u64) -> u64 {
    let word = (word ^ word >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 29).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 32
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
