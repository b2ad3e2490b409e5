//! Making a standby's disks equal to the primary's while the guest runs on.
//!
//! The standby says the hashes of its blocks, a few at a time; the primary sends the blocks that differ. Meanwhile the
//! guest writes: the primary notes what it changes and sends that again, round by round, until little is left; a guest
//! that changes more than the link carries runs slower meanwhile. The rest goes with the image of RAM ([`crate::image`]), which is taken between two instructions. So a disk that was a
//! pair's before costs its hashes and the blocks that changed since, and never a long stop.
//!
//! Disks are state like RAM: what is on them follows from the image and the log.

pub mod hands;
mod mirroring;
mod passes;

pub use hands::{DiskDone, DiskWork};
pub use mirroring::Mirroring;
pub use passes::Passes;

use ftemu_devices::drives::BLOCK_BYTES;
use ftemu_devices::storage::SECTOR_BYTES;

/// A block: the drive, and its number on it.
pub type BlockId = (u8, u64);
/// BLAKE3 of a block.
pub type Hash = [u8; 32];

/// Blocks compared, or sent, before the other side answers.
pub const BATCH_BLOCKS: u64 = 4;

const BLOCK_SECTORS: u64 = BLOCK_BYTES / SECTOR_BYTES;

/// The blocks of all drives, numbered through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Blocks of each drive.
    blocks: Vec<u64>,
}

impl Layout {
    /// Drives of these sizes, in sectors of 512 bytes.
    pub fn new(sectors: &[u64]) -> Self {
        Self { blocks: sectors.iter().map(|sectors| sectors.div_ceil(BLOCK_SECTORS)).collect() }
    }

    /// Blocks in all.
    pub fn total(&self) -> u64 {
        self.blocks.iter().fold(0, |sum, blocks| sum.saturating_add(*blocks))
    }

    /// Which block has this number.
    pub fn block(&self, mut number: u64) -> Option<BlockId> {
        for (drive, &blocks) in (0u8..=u8::MAX).zip(&self.blocks) {
            if number < blocks {
                return Some((drive, number));
            }
            number -= blocks;
        }
        None
    }

    /// The blocks to compare next, from `first` on.
    pub fn batch(&self, first: u64) -> Vec<BlockId> {
        (first..first.saturating_add(BATCH_BLOCKS)).map_while(|number| self.block(number)).collect()
    }
}

/// The hash that blocks are compared by.
pub fn hash(bytes: &[u8]) -> Hash {
    *blake3::hash(bytes).as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_numbered_through_all_drives() {
        let layout = Layout::new(&[4097, 0, 1, 2048]);
        assert_eq!(layout.total(), 5);
        let all = [(0, 0), (0, 1), (0, 2), (2, 0), (3, 0)];
        assert_eq!(layout.batch(0), all[..4]);
        assert_eq!(layout.batch(3), all[3..]);
        assert_eq!((layout.batch(5), layout.block(u64::MAX)), (vec![], None));
        assert_eq!(Layout::new(&[]).total(), 0);
    }
}
