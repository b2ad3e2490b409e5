//! A look at every table before a guest runs: each entry must point to a cluster inside the file.
//!
//! A cluster past the file's end would read as zeros, so that a cut copy of an image would give a disk with silent holes.

use std::fs::File;

use super::owners::Owners;
use super::{Fault, Header, read_entries};

/// The place in an L1 or L2 entry, bits 9 to 55.
pub(crate) const OFFSET: u64 = 0x00ff_ffff_ffff_fe00;
/// An L2 entry of a compressed cluster.
pub(crate) const COMPRESSED: u64 = 1 << 62;

/// Set in an entry whose cluster nobody else refers to.
pub(crate) const COPIED: u64 = 1 << 63;

/// Bits of an L1 entry that are zero in every version of the format.
pub(crate) const L1_RESERVED: u64 = 0x7f00_0000_0000_01ff;
/// The same of an L2 entry that is not compressed.
pub(crate) const L2_RESERVED: u64 = 0x3f00_0000_0000_01fe;

/// Where the bytes of a compressed cluster begin and how many there are at most: sectors of 512 bytes, the first one only
/// from the place on.
pub(crate) fn compressed(entry: u64, cluster_bits: u32) -> (u64, u64) {
    let split = 62 - (cluster_bits - 8);
    let offset = entry & ((1 << split) - 1);
    let sectors = (entry & (COMPRESSED - 1)) >> split;
    (offset, (sectors + 1) * 512 - offset % 512)
}

/// Looks at the L1 table and all L2 tables, and at who owns the clusters they point to.
pub(crate) fn check(file: &File, length: u64, header: &Header, writable: bool) -> Result<(), Fault> {
    let cluster = header.cluster();
    let mut owners = Owners::new(file, length, header, writable)?;
    let l1 = read_entries(file, header.l1_offset, header.l1_entries).map_err(Fault::Io)?;
    for (number, entry) in l1.iter().enumerate().filter(|(_, entry)| *entry & OFFSET != 0) {
        let l2_offset = entry & OFFSET;
        if !l2_offset.is_multiple_of(cluster) || entry & L1_RESERVED != 0 {
            return Err(Fault::Damaged(format!("entry {number} of the L1 table does not point to a cluster")));
        }
        if l2_offset.checked_add(cluster).is_none_or(|end| end > length) {
            return Err(Fault::Truncated(format!("L2 table {number} is past the end of the file")));
        }
        owners.claim(l2_offset, cluster, "an L2 table")?;
    }
    owners.finish()?;
    for (number, l2_offset) in l1.iter().map(|entry| entry & OFFSET).enumerate().filter(|(_, place)| *place != 0) {
        let l2 = read_entries(file, l2_offset, header.l2_entries()).map_err(Fault::Io)?;
        for (index, entry) in l2.into_iter().enumerate() {
            check_entry(entry, header, length).map_err(|fault| at(fault, number * header.l2_entries() + index))?;
            match place(entry, header) {
                0 => {}
                place => owners.contents(place)?,
            }
        }
    }
    Ok(())
}

/// Where the contents that an L2 entry stands for begin; 0 where there are none.
fn place(entry: u64, header: &Header) -> u64 {
    if entry & COMPRESSED != 0 { compressed(entry, header.cluster_bits).0 } else { entry & OFFSET }
}

enum Wrong {
    Unaligned,
    Past,
}

fn at(wrong: Wrong, cluster: usize) -> Fault {
    match wrong {
        Wrong::Unaligned => {
            Fault::Damaged(format!("the entry of the disk's cluster {cluster} does not point to a cluster"))
        }
        Wrong::Past => Fault::Truncated(format!("the disk's cluster {cluster} is past the end of the file")),
    }
}

fn check_entry(entry: u64, header: &Header, length: u64) -> Result<(), Wrong> {
    if entry & COMPRESSED != 0 {
        // The last sector's rest need not be there.
        let (offset, _) = compressed(entry, header.cluster_bits);
        return if offset < length { Ok(()) } else { Err(Wrong::Past) };
    }
    let offset = entry & OFFSET;
    if !offset.is_multiple_of(header.cluster()) || entry & L2_RESERVED != 0 {
        return Err(Wrong::Unaligned);
    }
    // A file may end within its last cluster: the rest reads as zeros, as qemu-img leaves it.
    if offset < length { Ok(()) } else { Err(Wrong::Past) }
}
