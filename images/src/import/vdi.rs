//! VDI, dynamic and fixed. Source: VirtualBox's `VDICore.h`, header version 1.1.
//!
//! All numbers are little-endian. The block map has an entry a block: its number in the data area, or one of two values
//! for blocks that have none.

use super::Source;
use super::file::{ImageFile, by_blocks, le32, le64};
use crate::disk::{Fault, damaged, unsupported};

const DYNAMIC: u32 = 1;
const FIXED: u32 = 2;
/// From here on an entry says that the block has no data: never written, or discarded.
const NO_DATA: u32 = 0xffff_fffe;

/// A VDI file.
#[derive(Debug)]
pub(super) struct Vdi {
    file: ImageFile,
    bytes: u64,
    block: u64,
    /// A block with what precedes it in the file.
    stride: u64,
    /// What precedes it.
    extra: u64,
    data: u64,
    map: Vec<u32>,
}

impl Vdi {
    pub(super) fn open(file: ImageFile) -> Result<Self, Fault> {
        let header = file.bytes(0, 0x190, "the header")?;
        if le32(&header, 0x44) >> 16 != 1 {
            return unsupported("this version of the VDI format is not known; 1.1 is");
        }
        if !matches!(le32(&header, 0x4c), DYNAMIC | FIXED) {
            return unsupported("it holds only the differences to another VDI; merge the two first");
        }
        let bytes = le64(&header, 0x170);
        let block = u64::from(le32(&header, 0x178));
        let extra = u64::from(le32(&header, 0x17c));
        if bytes == 0 || !bytes.is_multiple_of(512) || !block.is_power_of_two() || !(512..=1 << 30).contains(&block) {
            return damaged("the disk's size or that of its blocks makes no sense");
        }
        let count = bytes.div_ceil(block);
        if u64::from(le32(&header, 0x180)) < count {
            return damaged("the block map is too short for the disk");
        }
        let map = file.bytes(u64::from(le32(&header, 0x154)), count * 4, "the block map")?;
        let map = (0..count as usize).map(|number| le32(&map, number * 4)).collect();
        let data = u64::from(le32(&header, 0x158));
        let vdi = Self { file, bytes, block, stride: block + extra, extra, data, map };
        match (0..count).find(|number| vdi.place(*number).is_some_and(|place| !vdi.file.has(place, 1))) {
            Some(number) => Err(Fault::Truncated(format!("block {number} is past the end of the file"))),
            None => Ok(vdi),
        }
    }

    /// Where a block's bytes are in the file.
    fn place(&self, number: u64) -> Option<u64> {
        let entry = self.map.get(number as usize).copied().filter(|entry| *entry < NO_DATA)?;
        // 32 bits times less than 33 bits, and two small numbers.
        Some(self.data + u64::from(entry) * self.stride + self.extra)
    }
}

impl Source for Vdi {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        by_blocks(offset, bytes, self.block, &mut |number, inside, piece| match self.place(number) {
            Some(place) => self.file.read(place + inside, piece, "a block"),
            None => {
                piece.fill(0);
                Ok(())
            }
        })
    }

    fn zeroes(&self, offset: u64) -> u64 {
        let first = offset / self.block;
        let empty = (first..self.map.len() as u64).take_while(|number| self.place(*number).is_none()).count();
        (empty as u64 * self.block).saturating_sub(offset % self.block)
    }
}
