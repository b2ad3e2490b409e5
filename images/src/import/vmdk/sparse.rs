//! A sparse extent: a grain directory points to grain tables, whose entries are the sectors of grains. In a
//! stream-optimised one grains are compressed (RFC 1950), each after its sector number and length, and the header at the end
//! of the file says where the directory is.

use std::io::Read;

use flate2::read::ZlibDecoder;

use super::SECTOR;
use crate::disk::{Fault, damaged, unsupported};
use crate::import::file::{ImageFile, by_blocks, le16, le32, le64};

/// Entries that say "zeros" are in use.
const ZEROED_GRAINS: u32 = 1 << 2;
const COMPRESSED: u32 = 1 << 16;
/// The directory's place is in the footer.
const AT_END: u64 = u64::MAX;
/// A grain of zeros, where the header says that there are such.
const ZEROED: u32 = 1;

/// A sparse extent.
#[derive(Debug)]
pub(super) struct Sparse {
    file: ImageFile,
    /// Sectors of the extent.
    capacity: u64,
    /// Bytes of a grain.
    grain: u64,
    compressed: bool,
    /// Where each grain is, in sectors; 0 or [`ZEROED`] if nowhere.
    grains: Vec<u32>,
    descriptor: (u64, u64),
}

impl Sparse {
    pub(super) fn open(file: ImageFile) -> Result<Self, Fault> {
        let mut header = file.bytes(0, 512, "the header")?;
        if header.get(..4) != Some(b"KDMV") {
            return damaged("a part is not what the descriptor says");
        }
        if le64(&header, 56) == AT_END {
            let place = file.length().saturating_sub(1024);
            header = file.bytes(place, 512, "the footer")?;
            if !header.starts_with(b"KDMV") || le64(&header, 56) == AT_END {
                return Err(Fault::Truncated("the footer is not at the end of the file".to_owned()));
            }
        }
        if !(1..=3).contains(&le32(&header, 4)) {
            return unsupported("this version of the VMDK format is not known; 1 to 3 are");
        }
        let flags = le32(&header, 8);
        let compressed = flags & COMPRESSED != 0;
        if compressed && le16(&header, 77) != 1 {
            return unsupported("its compression is not known; deflate is");
        }
        let (capacity, sectors) = (le64(&header, 12), le64(&header, 20));
        if !sectors.is_power_of_two() || !(8..=1 << 14).contains(&sectors) || capacity > super::LARGEST / SECTOR {
            return damaged("the disk's size or that of its grains makes no sense");
        }
        let mut sparse = Self {
            file,
            capacity,
            grain: sectors * SECTOR,
            compressed,
            grains: Vec::new(),
            descriptor: (le64(&header, 28), le64(&header, 36)),
        };
        sparse.grains = sparse.tables(le64(&header, 56), u64::from(le32(&header, 44)))?;
        if flags & ZEROED_GRAINS == 0 && sparse.grains.contains(&ZEROED) {
            return damaged("a grain is said to be where the header is");
        }
        Ok(sparse)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.capacity * SECTOR
    }

    /// The embedded descriptor, if there is one.
    pub(super) fn descriptor(&self) -> Result<Option<Vec<u8>>, Fault> {
        let (place, sectors) = self.descriptor;
        if place == 0 || sectors == 0 {
            return Ok(None);
        }
        let bytes = sectors.saturating_mul(SECTOR).min(super::LONGEST_DESCRIPTOR);
        self.file.bytes(place.saturating_mul(SECTOR), bytes, "the descriptor").map(Some)
    }

    /// Reads all grain tables into one.
    fn tables(&self, directory: u64, per_table: u64) -> Result<Vec<u32>, Fault> {
        let count = self.bytes().div_ceil(self.grain);
        if !(1..=1 << 16).contains(&per_table) {
            return damaged("the grain tables have a length that makes no sense");
        }
        let tables = count.div_ceil(per_table);
        let directory = self.file.bytes(directory.saturating_mul(SECTOR), tables * 4, "the grain directory")?;
        let mut grains = Vec::new();
        for number in 0..tables {
            let entries = per_table.min(count - number * per_table);
            let place = u64::from(le32(&directory, number as usize * 4));
            if place <= u64::from(ZEROED) {
                grains.resize(grains.len() + entries as usize, 0);
                continue;
            }
            let table = self.file.bytes(place * SECTOR, entries * 4, "a grain table")?;
            for index in 0..entries {
                let grain = le32(&table, index as usize * 4);
                if grain > ZEROED && !self.file.has(u64::from(grain) * SECTOR, 1) {
                    let number = number * per_table + index;
                    return Err(Fault::Truncated(format!("grain {number} is past the end of the file")));
                }
                grains.push(grain);
            }
        }
        Ok(grains)
    }

    fn place(&self, number: u64) -> Option<u64> {
        let sector = self.grains.get(number as usize).copied().filter(|sector| *sector > ZEROED)?;
        Some(u64::from(sector) * SECTOR)
    }

    pub(super) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        by_blocks(offset, bytes, self.grain, &mut |number, inside, piece| match self.place(number) {
            None => {
                piece.fill(0);
                Ok(())
            }
            Some(place) if self.compressed => {
                let grain = self.inflate(number, place)?;
                let found = grain.get(inside as usize..).and_then(|rest| rest.get(..piece.len()));
                let found = found.ok_or_else(|| Fault::Damaged(format!("grain {number} is too short")))?;
                piece.copy_from_slice(found);
                Ok(())
            }
            Some(place) => self.file.read(place + inside, piece, "a grain"),
        })
    }

    /// A compressed grain; never more bytes than a grain has.
    fn inflate(&self, number: u64, place: u64) -> Result<Vec<u8>, Fault> {
        let marker = self.file.bytes(place, 12, "a grain")?;
        let length = u64::from(le32(&marker, 8));
        if le64(&marker, 0) != number * (self.grain / SECTOR) || length > self.grain * 2 {
            return Err(Fault::Damaged(format!("grain {number} is not where its table says")));
        }
        let packed = self.file.bytes(place + 12, length, "a grain")?;
        let mut grain = Vec::new();
        let read = ZlibDecoder::new(packed.as_slice()).take(self.grain).read_to_end(&mut grain);
        read.map_err(|error| Fault::Damaged(format!("grain {number} cannot be unpacked: {error}")))?;
        // The disk's last grain may be cut.
        let wanted = (self.bytes() - number * self.grain).min(self.grain) as usize;
        if grain.len() < wanted {
            return Err(Fault::Damaged(format!("grain {number} is too short")));
        }
        Ok(grain)
    }

    pub(super) fn zeroes(&self, offset: u64) -> u64 {
        let first = offset / self.grain;
        let empty = (first..self.grains.len() as u64).take_while(|number| self.place(*number).is_none()).count();
        (empty as u64 * self.grain).saturating_sub(offset % self.grain)
    }
}
