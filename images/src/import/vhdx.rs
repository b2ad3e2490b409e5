//! VHDX, fixed and dynamic. Source: [MS-VHDX], "Virtual Hard Disk v2 (VHDX) File Format".
//!
//! All numbers are little-endian. Two headers with sequence numbers, two copies of a region table that has the places of the
//! block allocation table and of the metadata. A log that is not empty would have to be replayed: such a file is refused.

use super::Source;
use super::file::{ImageFile, by_blocks, le16, le32, le64};
use crate::disk::{Fault, damaged, unsupported};

/// GUIDs as they are in the file: the first three fields little-endian.
type Guid = [u8; 16];

const fn guid(a: u32, b: u16, c: u16, rest: [u8; 8]) -> Guid {
    let (a, b, c, r) = (a.to_le_bytes(), b.to_le_bytes(), c.to_le_bytes(), rest);
    [a[0], a[1], a[2], a[3], b[0], b[1], c[0], c[1], r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]]
}

const REGION_BAT: Guid = guid(0x2dc2_7766, 0xf623, 0x4200, [0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08]);
const REGION_METADATA: Guid = guid(0x8b7c_a206, 0x4790, 0x4b9a, [0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e]);
const FILE_PARAMETERS: Guid = guid(0xcaa1_6737, 0xfa36, 0x4d43, [0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b]);
const DISK_SIZE: Guid = guid(0x2fa5_4224, 0xcd1b, 0x4876, [0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8]);
const SECTOR_SIZE: Guid = guid(0x8141_bf1d, 0xa96f, 0x4709, [0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f]);

/// A payload block that is in the file; the other states of a disk without a parent read as zeros.
const FULLY_PRESENT: u64 = 6;
const PARTIALLY_PRESENT: u64 = 7;
/// 64 TiB, the most that the format allows.
const LARGEST: u64 = 64 << 40;

/// A VHDX file.
#[derive(Debug)]
pub(super) struct Vhdx {
    file: ImageFile,
    bytes: u64,
    block: u64,
    /// Where each block is; 0 if nowhere.
    places: Vec<u64>,
}

impl Vhdx {
    pub(super) fn open(file: ImageFile) -> Result<Self, Fault> {
        check_header(&file)?;
        let regions = region_table(&file)?;
        let region = |wanted: &Guid| {
            let found = regions[16..].chunks_exact(32).take(le32(&regions, 8).min(2047) as usize);
            let found = found.into_iter().find(|entry| entry.starts_with(wanted));
            found.map(|entry| (le64(entry, 16), u64::from(le32(entry, 24))))
        };
        let (Some(bat), Some(metadata)) = (region(&REGION_BAT), region(&REGION_METADATA)) else {
            return damaged("the region table lacks the block allocation table or the metadata");
        };
        let parameters = Parameters::read(&file, metadata.0)?;
        let places = parameters.places(&file, bat)?;
        Ok(Self { file, bytes: parameters.bytes, block: parameters.block, places })
    }
}

/// Finds the current header and looks whether there is a log to replay.
fn check_header(file: &ImageFile) -> Result<(), Fault> {
    let mut current: Option<Vec<u8>> = None;
    for offset in [64 << 10, 128 << 10] {
        let header = file.bytes(offset, 4096, "the header")?;
        let newer = current.as_ref().is_none_or(|other| le64(&header, 8) > le64(other, 8));
        if header.starts_with(b"head") && newer && checksum(&header) {
            current = Some(header);
        }
    }
    let Some(header) = current else { return damaged("neither header has the right checksum") };
    if le16(&header, 66) != 1 {
        return unsupported("this version of the VHDX format is not known; 1 is");
    }
    if header.get(48..64) != Some(&[0; 16]) {
        return unsupported(
            "it was not closed cleanly: its log must be replayed; open and close it once where it was made",
        );
    }
    Ok(())
}

fn region_table(file: &ImageFile) -> Result<Vec<u8>, Fault> {
    for offset in [192 << 10, 256 << 10] {
        let table = file.bytes(offset, 64 << 10, "the region table")?;
        if table.starts_with(b"regi") && checksum(&table) {
            return Ok(table);
        }
    }
    damaged("neither region table has the right checksum")
}

/// Whether the CRC-32C at byte 4 is right.
fn checksum(bytes: &[u8]) -> bool {
    crc(bytes) == le32(bytes, 4)
}

/// The CRC-32C of the bytes, with zeros where it stands itself.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for (index, byte) in bytes.iter().enumerate() {
        crc ^= if (4..8).contains(&index) { 0 } else { u32::from(*byte) };
        for _ in 0..8 {
            crc = crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// What the metadata says.
struct Parameters {
    bytes: u64,
    block: u64,
    sector: u64,
}

impl Parameters {
    fn read(file: &ImageFile, offset: u64) -> Result<Self, Fault> {
        let table = file.bytes(offset, 64 << 10, "the metadata")?;
        if !table.starts_with(b"metadata") {
            return damaged("the metadata are not where they should be");
        }
        let item = |wanted: &Guid| {
            let entries = table[32..].chunks_exact(32).take(usize::from(le16(&table, 10)));
            let entry = entries.into_iter().find(|entry| entry.starts_with(wanted));
            let place = entry.and_then(|entry| offset.checked_add(u64::from(le32(entry, 16))));
            let place = place.ok_or_else(|| Fault::Damaged("the metadata lack an item".to_owned()))?;
            // The longest wanted item has 8 bytes; shorter ones never end the file.
            file.bytes(place, 8, "a metadata item")
        };
        let parameters = item(&FILE_PARAMETERS)?;
        let block = u64::from(le32(&parameters, 0));
        if le32(&parameters, 4) & 2 != 0 {
            return unsupported("it holds only the differences to another VHDX; merge the two first");
        }
        let bytes = le64(&item(&DISK_SIZE)?, 0);
        let sector = u64::from(le32(&item(&SECTOR_SIZE)?, 0));
        let right = block.is_power_of_two() && (1 << 20..=256 << 20).contains(&block) && matches!(sector, 512 | 4096);
        if !right || bytes == 0 || bytes > LARGEST || !bytes.is_multiple_of(sector) {
            return damaged("the disk's size or that of its blocks makes no sense");
        }
        Ok(Self { bytes, block, sector })
    }

    /// Reads the block allocation table. After each `ratio` blocks an entry of a bitmap comes, which only disks with a
    /// parent use.
    fn places(&self, file: &ImageFile, (offset, length): (u64, u64)) -> Result<Vec<u64>, Fault> {
        let ratio = (self.sector << 23) / self.block;
        let count = self.bytes.div_ceil(self.block);
        let entries = count + (count - 1) / ratio;
        if length < entries * 8 {
            return damaged("the block allocation table is too short for the disk");
        }
        let table = file.bytes(offset, entries * 8, "the block allocation table")?;
        let place = |number: u64| {
            let entry = le64(&table, ((number + number / ratio) * 8) as usize);
            let place = entry >> 20 << 20;
            match entry & 7 {
                FULLY_PRESENT if file.has(place, 1) => Ok(place),
                FULLY_PRESENT => Err(Fault::Truncated(format!("block {number} is past the end of the file"))),
                PARTIALLY_PRESENT => damaged("a block is said to be in another file, but there is none"),
                _ => Ok(0),
            }
        };
        (0..count).map(place).collect()
    }
}

impl Source for Vhdx {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        by_blocks(offset, bytes, self.block, &mut |number, inside, piece| match self.places.get(number as usize) {
            None | Some(0) => {
                piece.fill(0);
                Ok(())
            }
            Some(place) => self.file.read(place + inside, piece, "a block"),
        })
    }

    fn zeroes(&self, offset: u64) -> u64 {
        let first = (offset / self.block) as usize;
        let empty = self.places.iter().skip(first).take_while(|place| **place == 0).count();
        (empty as u64 * self.block).saturating_sub(offset % self.block)
    }
}

/// Puts the right checksum into a header or region table.
#[cfg(test)]
pub(super) fn seal(bytes: &mut [u8]) {
    let sum = crc(bytes);
    bytes[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// The same for all of them in a file.
#[cfg(test)]
pub(super) fn seal_all(file: &mut [u8]) {
    for (at, count) in [(64 << 10, 4096), (128 << 10, 4096), (192 << 10, 64 << 10), (256 << 10, 64 << 10)] {
        if let Some(bytes) = file.get_mut(at..at + count) {
            seal(bytes);
        }
    }
}
