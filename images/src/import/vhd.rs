//! VHD, fixed and dynamic. Source: Microsoft's "Virtual Hard Disk Image Format Specification", 2006.
//!
//! All numbers are big-endian. A footer of 512 bytes ends the file; a dynamic disk has a copy of it at the beginning, then
//! a header and the block allocation table, whose entries are sectors: a bitmap, then the block.

use super::Source;
use super::file::{ImageFile, be32, be64, by_blocks};
use crate::disk::{Fault, damaged, unsupported};

const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const DIFFERENCING: u32 = 4;
/// A block that takes no space.
const UNUSED: u32 = u32::MAX;
/// 2040 GiB, the most that the format allows.
const LARGEST: u64 = 2040 << 30;

/// A VHD file.
#[derive(Debug)]
pub(super) struct Vhd {
    file: ImageFile,
    bytes: u64,
    blocks: Option<Blocks>,
}

/// Where a dynamic disk's blocks are.
#[derive(Debug)]
struct Blocks {
    table: Vec<u32>,
    block: u64,
    bitmap: u64,
}

impl Vhd {
    pub(super) fn open(file: ImageFile) -> Result<Self, Fault> {
        let footer = footer(&file)?;
        let bytes = be64(&footer, 48);
        if bytes == 0 || bytes > LARGEST || !bytes.is_multiple_of(512) {
            return damaged("the disk's size makes no sense");
        }
        let blocks = match be32(&footer, 60) {
            FIXED if !file.has(0, bytes) => {
                return Err(Fault::Truncated("the file is shorter than the disk".to_owned()));
            }
            FIXED => None,
            DYNAMIC => Some(Blocks::read(&file, be64(&footer, 16), bytes)?),
            DIFFERENCING => return unsupported("it holds only the differences to another VHD; merge the two first"),
            _ => return damaged("the disk's type is not known"),
        };
        Ok(Self { file, bytes, blocks })
    }
}

/// The footer at the end, or its copy at the beginning.
fn footer(file: &ImageFile) -> Result<Vec<u8>, Fault> {
    // Old files have a footer of 511 bytes.
    for offset in [file.length().saturating_sub(512), file.length().saturating_sub(511), 0] {
        let footer = file.bytes(offset, 512.min(file.length() - offset), "the footer")?;
        if footer.starts_with(b"conectix") && checksum(&footer, 64) == be32(&footer, 64) {
            return Ok(footer);
        }
    }
    damaged("neither the footer nor its copy has the right checksum")
}

/// The ones' complement of the sum of all bytes but the four of the checksum itself.
fn checksum(bytes: &[u8], at: usize) -> u32 {
    let others = bytes.iter().enumerate().filter(|(index, _)| !(at..at + 4).contains(index));
    !others.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

impl Blocks {
    fn read(file: &ImageFile, offset: u64, bytes: u64) -> Result<Self, Fault> {
        let header = file.bytes(offset, 1024, "the dynamic disk's header")?;
        if !header.starts_with(b"cxsparse") || checksum(&header, 36) != be32(&header, 36) {
            return damaged("the dynamic disk's header has not the right checksum");
        }
        let block = u64::from(be32(&header, 32));
        if !block.is_power_of_two() || !(512..=1 << 30).contains(&block) {
            return damaged("its blocks have a size that makes no sense");
        }
        let count = bytes.div_ceil(block);
        if u64::from(be32(&header, 28)) < count {
            return damaged("the block allocation table is too short for the disk");
        }
        let table = file.bytes(be64(&header, 16), count * 4, "the block allocation table")?;
        let table: Vec<u32> = (0..count as usize).map(|number| be32(&table, number * 4)).collect();
        let bitmap = (block / 512).div_ceil(8).next_multiple_of(512);
        let inside = |entry: &u32| *entry == UNUSED || file.has(u64::from(*entry) * 512 + bitmap, 1);
        if let Some(number) = table.iter().position(|entry| !inside(entry)) {
            return Err(Fault::Truncated(format!("block {number} is past the end of the file")));
        }
        Ok(Self { table, block, bitmap })
    }

    fn entry(&self, number: u64) -> u32 {
        self.table.get(number as usize).copied().unwrap_or(UNUSED)
    }
}

impl Source for Vhd {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        let Some(blocks) = &self.blocks else { return self.file.read(offset, bytes, "the disk") };
        by_blocks(offset, bytes, blocks.block, &mut |number, inside, piece| match blocks.entry(number) {
            UNUSED => {
                piece.fill(0);
                Ok(())
            }
            // Sectors that the bitmap does not have are zero in a dynamic disk's block.
            sector => self.file.read(u64::from(sector) * 512 + blocks.bitmap + inside, piece, "a block"),
        })
    }

    fn zeroes(&self, offset: u64) -> u64 {
        let Some(blocks) = &self.blocks else { return 0 };
        let first = offset / blocks.block;
        let empty = (first..blocks.table.len() as u64).take_while(|number| blocks.entry(*number) == UNUSED).count();
        (empty as u64 * blocks.block).saturating_sub(offset % blocks.block)
    }
}

/// Puts the right checksums where footers and headers are.
#[cfg(test)]
pub(super) fn seal(file: &mut [u8]) {
    let end = file.len().saturating_sub(512);
    for (at, place, count) in [(0, 64, 512), (512, 36, 1024), (end, 64, 512)] {
        if let Some(bytes) = file.get_mut(at..at + count) {
            let sum = checksum(bytes, place);
            bytes[place..place + 4].copy_from_slice(&sum.to_be_bytes());
        }
    }
}
