//! A look at who owns which cluster before a guest writes: no table may lie where another one or the disk's contents are,
//! and what is in use must not be counted as free. Otherwise the next write would go over a table, or over other contents.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use super::check::refcount;
use super::{Fault, Header, read_entries};
use crate::disk::damaged;

/// Clusters whose counts are looked at: a file of 16 TiB with clusters of 64 KiB. Larger ones are run without that look.
const MOST_CLUSTERS: u64 = 1 << 28;

/// The clusters of an image's tables, and which clusters are counted as used.
pub(super) struct Owners {
    bits: u32,
    tables: BTreeSet<u64>,
    /// A bit for each cluster of the file; `None` where nobody asks.
    counted: Option<Vec<u64>>,
}

impl Owners {
    /// Reads the reference counts if the image is to be written.
    pub(super) fn new(file: &File, length: u64, header: &Header, writable: bool) -> Result<Self, Fault> {
        let clusters = length.div_ceil(header.cluster());
        let words = (clusters <= MOST_CLUSTERS && writable).then(|| vec![0; clusters.div_ceil(64) as usize]);
        let mut owners = Self { bits: header.cluster_bits, tables: BTreeSet::new(), counted: None };
        owners.claim(0, header.cluster(), "the header")?;
        owners.claim(header.l1_offset, header.l1_entries as u64 * 8, "the L1 table")?;
        let bytes = header.refcount_clusters * header.cluster();
        owners.claim(header.refcount_offset, bytes, "the refcount table")?;
        let table = read_entries(file, header.refcount_offset, (bytes / 8) as usize).map_err(Fault::Io)?;
        let mut counted = words;
        for (number, entry) in (0..).zip(table).filter(|(_, entry)| *entry != 0) {
            if !entry.is_multiple_of(header.cluster()) {
                return Err(Fault::Damaged(format!("entry {number} of the refcount table points to no cluster")));
            }
            if entry >= length {
                return Err(Fault::Truncated(format!("refcount block {number} is past the end of the file")));
            }
            owners.claim(entry, header.cluster(), "a refcount block")?;
            if let Some(counted) = &mut counted {
                count(file, entry, number, header, counted).map_err(Fault::Io)?;
            }
        }
        owners.counted = counted;
        Ok(owners)
    }

    /// Clusters of a table, which are its own.
    pub(super) fn claim(&mut self, offset: u64, bytes: u64, what: &str) -> Result<(), Fault> {
        if bytes == 0 {
            return Ok(());
        }
        for cluster in offset >> self.bits..=offset.saturating_add(bytes - 1) >> self.bits {
            if !self.tables.insert(cluster) {
                return Err(Fault::Damaged(format!("{what} is where another table is (cluster {cluster})")));
            }
        }
        Ok(())
    }

    /// A cluster of the disk's contents, at this place of the file.
    pub(super) fn contents(&self, offset: u64) -> Result<(), Fault> {
        let cluster = offset >> self.bits;
        if self.tables.contains(&cluster) {
            return Err(Fault::Damaged(format!("the disk's contents are where a table is (cluster {cluster})")));
        }
        self.in_use(cluster)
    }

    /// All tables are known: none of them is counted as free.
    pub(super) fn finish(&self) -> Result<(), Fault> {
        self.tables.iter().try_for_each(|cluster| self.in_use(*cluster))
    }

    fn in_use(&self, cluster: u64) -> Result<(), Fault> {
        let Some(counted) = &self.counted else { return Ok(()) };
        let word = counted.get((cluster / 64) as usize).copied().unwrap_or(0);
        if word >> (cluster % 64) & 1 == 0 {
            return damaged(&format!("cluster {cluster} is in use, but counted as free"));
        }
        Ok(())
    }
}

/// Notes which clusters a refcount block counts as used.
fn count(file: &File, place: u64, number: u64, header: &Header, counted: &mut [u64]) -> std::io::Result<()> {
    let per_block = (header.cluster() * 8) >> header.refcount_order;
    let first = number.saturating_mul(per_block);
    if first / 64 >= counted.len() as u64 {
        return Ok(());
    }
    // What is past the file's end reads as zeros: free.
    let mut block = vec![0; header.cluster() as usize];
    let mut filled = 0;
    while let Some(rest) = block.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, place + filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    for index in 0..per_block {
        let cluster = first + index;
        let Some(word) = counted.get_mut((cluster / 64) as usize) else { break };
        if refcount(&block, index, header.refcount_order) != 0 {
            *word |= 1 << (cluster % 64);
        }
    }
    Ok(())
}
