//! Counts every reference to every cluster of a qcow2 image and compares with the image's own reference counts. Read-only.
//!
//! A count too low is a corruption: the cluster would be given away while in use. A count too high is a leak: space that is
//! lost until the image is converted or repaired.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::tables::{COMPRESSED, COPIED, L1_RESERVED, L2_RESERVED, OFFSET, compressed};
use super::{Fault, Header, read_entries};
use crate::disk::{damaged, unsupported};

/// Clusters that are counted at most: a file of 16 TiB with clusters of 64 KiB.
const MOST_CLUSTERS: u64 = 1 << 28;
/// Findings that are told in words; further ones are only counted.
const TOLD: usize = 20;
/// Snapshots that an image may have at most.
const MOST_SNAPSHOTS: u32 = 65_536;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Things that endanger the disk's contents.
    pub corruptions: u64,
    /// Clusters that nobody uses and that are not free.
    pub leaks: u64,
    /// Clusters of the disk.
    pub clusters: u64,
    /// Those of them that the file has.
    pub allocated: u64,
    /// Those that are compressed.
    pub compressed: u64,
    /// The first findings, in words.
    pub findings: Vec<String>,
}

impl Report {
    /// Nothing was found.
    pub fn clean(&self) -> bool {
        self.corruptions == 0 && self.leaks == 0
    }

    fn tell(&mut self, finding: String) {
        if self.findings.len() < TOLD {
            self.findings.push(finding);
        }
    }

    fn corrupt(&mut self, finding: String) {
        self.corruptions += 1;
        self.tell(finding);
    }
}

/// The work of a check.
struct Check<'a> {
    file: &'a File,
    length: u64,
    header: &'a Header,
    /// References found, for each cluster of the file.
    found: Vec<u32>,
    report: Report,
    progress: &'a mut dyn FnMut(u64, u64),
}

/// Checks an open image.
pub(crate) fn check(
    file: &File,
    length: u64,
    header: &Header,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, Fault> {
    let clusters = length.div_ceil(header.cluster());
    if clusters > MOST_CLUSTERS {
        return unsupported("the image has too many clusters for this check; qemu-img check may have patience");
    }
    let report = Report { clusters: header.bytes.div_ceil(header.cluster()), ..Report::default() };
    let mut check = Check { file, length, header, found: vec![0; clusters as usize], report, progress };
    check.refer(0, header.cluster(), "the header");
    let active = check.table(header.l1_offset, header.l1_entries, true)?;
    check.snapshots()?;
    let counts = check.counts()?;
    check.compare(&counts);
    check.copied(&active, &counts)?;
    Ok(check.report)
}

impl Check<'_> {
    /// Counts a reference to all clusters of a range.
    fn refer(&mut self, offset: u64, bytes: u64, what: &str) {
        if bytes == 0 {
            return;
        }
        let bits = self.header.cluster_bits;
        let last = offset.saturating_add(bytes - 1) >> bits;
        for cluster in offset >> bits..=last {
            match self.found.get_mut(cluster as usize) {
                Some(count) => *count = count.saturating_add(1),
                None => {
                    self.report.corrupt(format!("{what} points past the end of the file"));
                    return;
                }
            }
        }
    }

    /// Walks an L1 table and its L2 tables. Gives back the L1 table.
    fn table(&mut self, offset: u64, entries: usize, active: bool) -> Result<Vec<u64>, Fault> {
        let l1 = read_entries(self.file, offset, entries).map_err(Fault::Io)?;
        self.refer(offset, entries as u64 * 8, "the header's L1 table");
        for (number, entry) in l1.iter().enumerate() {
            (self.progress)(number as u64, l1.len() as u64);
            let place = entry & OFFSET;
            if entry & L1_RESERVED != 0 {
                self.report.corrupt(format!("entry {number} of an L1 table has bits that no entry has"));
            }
            if place == 0 {
                continue;
            }
            if !place.is_multiple_of(self.header.cluster()) || place.saturating_add(self.header.cluster()) > self.length
            {
                self.report.corrupt(format!("entry {number} of an L1 table does not point to an L2 table"));
                continue;
            }
            self.refer(place, self.header.cluster(), "an L1 table");
            for entry in read_entries(self.file, place, self.header.l2_entries()).map_err(Fault::Io)? {
                self.entry(entry, active);
            }
        }
        Ok(l1)
    }

    /// Counts what an L2 entry refers to.
    fn entry(&mut self, entry: u64, active: bool) {
        if entry & COMPRESSED != 0 {
            let (offset, bytes) = compressed(entry, self.header.cluster_bits);
            self.report.allocated += u64::from(active);
            self.report.compressed += u64::from(active);
            if entry & COPIED != 0 {
                self.report.corrupt("a compressed cluster is said to be nobody else's".to_owned());
            }
            // The last sector of a file that ends inside a cluster need not be there.
            return self.refer(offset, bytes.min(self.length.saturating_sub(offset).max(1)), "an L2 table");
        }
        let place = entry & OFFSET;
        if entry & L2_RESERVED != 0 {
            self.report.corrupt(format!("the L2 entry {entry:#x} has bits that no entry has"));
        }
        if place == 0 {
            return;
        }
        if !place.is_multiple_of(self.header.cluster()) {
            return self.report.corrupt(format!("an L2 table points to {place:#x}, where no cluster begins"));
        }
        self.report.allocated += u64::from(active && entry & 1 == 0);
        self.refer(place, self.header.cluster(), "an L2 table");
    }

    /// Walks the snapshots inside the image.
    fn snapshots(&mut self) -> Result<(), Fault> {
        let (count, start) = (self.header.snapshots, self.header.snapshots_offset);
        if count > MOST_SNAPSHOTS {
            return damaged("it has more snapshots than an image may have");
        }
        let mut at = start;
        for _ in 0..count {
            let mut fixed = [0; 40];
            self.file
                .read_exact_at(&mut fixed, at)
                .map_err(|_| Fault::Truncated("a snapshot is past the end".into()))?;
            let field =
                |at: usize| u64::from(u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]));
            let (offset, entries) = (field(0) << 32 | field(4), field(8));
            let names = u64::from(u16::from_be_bytes([fixed[12], fixed[13]]))
                + u64::from(u16::from_be_bytes([fixed[14], fixed[15]]));
            if entries > 4 << 20 || offset.checked_add(entries * 8).is_none_or(|end| end > self.length) {
                self.report.corrupt("a snapshot's L1 table is past the end of the file".to_owned());
            } else {
                self.table(offset, entries as usize, false)?;
            }
            at = at.saturating_add(40 + field(36) + names).next_multiple_of(8);
        }
        self.refer(start, at - start, "the header's snapshot table");
        Ok(())
    }

    /// The image's own reference counts; counts the clusters that hold them.
    fn counts(&mut self) -> Result<Vec<u64>, Fault> {
        let header = self.header;
        let bytes = header.refcount_clusters * header.cluster();
        let table = read_entries(self.file, header.refcount_offset, (bytes / 8) as usize).map_err(Fault::Io)?;
        self.refer(header.refcount_offset, bytes, "the header's refcount table");
        let per_block = (header.cluster() * 8) >> header.refcount_order;
        let mut counts = vec![0; self.found.len()];
        for (number, entry) in table.into_iter().enumerate().filter(|(_, entry)| *entry != 0) {
            if !entry.is_multiple_of(header.cluster()) || entry.saturating_add(header.cluster()) > self.length {
                self.report.corrupt(format!("entry {number} of the refcount table does not point to a refcount block"));
                continue;
            }
            self.refer(entry, header.cluster(), "the refcount table");
            let mut block = vec![0; header.cluster() as usize];
            self.file.read_exact_at(&mut block, entry).map_err(Fault::Io)?;
            let first = number as u64 * per_block;
            for index in 0..per_block {
                let Some(count) = counts.get_mut((first + index) as usize) else { break };
                *count = refcount(&block, index, header.refcount_order);
            }
        }
        Ok(counts)
    }

    fn compare(&mut self, counts: &[u64]) {
        for cluster in 0..self.found.len() {
            let (found, count) = (u64::from(self.found[cluster]), counts.get(cluster).copied().unwrap_or(0));
            if count < found {
                self.report.corrupt(format!("cluster {cluster} is used {found} times, but counted {count} times"));
            } else if count > found {
                self.report.leaks += 1;
                self.report.tell(format!("cluster {cluster} is used {found} times, but counted {count} times"));
            }
        }
    }

    /// An entry says whether its cluster is nobody else's; that must be so exactly where the count is 1.
    fn copied(&mut self, l1: &[u64], counts: &[u64]) -> Result<(), Fault> {
        let bits = self.header.cluster_bits;
        let wrong = |entry: u64| {
            let place = entry & OFFSET;
            let count = counts.get((place >> bits) as usize).copied().unwrap_or(0);
            place != 0 && (entry & COPIED != 0) != (count == 1)
        };
        for (number, entry) in l1.iter().enumerate() {
            let place = entry & OFFSET;
            if place == 0 || !place.is_multiple_of(1 << bits) || place.saturating_add(1 << bits) > self.length {
                continue;
            }
            if wrong(*entry) {
                self.report.corrupt(format!("entry {number} of the L1 table is wrong about who uses its L2 table"));
            }
            let l2 = read_entries(self.file, place, self.header.l2_entries()).map_err(Fault::Io)?;
            for entry in l2.into_iter().filter(|entry| entry & COMPRESSED == 0 && wrong(*entry)) {
                self.report
                    .corrupt(format!("an L2 entry is wrong about who uses the cluster at {:#x}", entry & OFFSET));
            }
        }
        Ok(())
    }
}

/// A reference count of 2 to the power of `order` bits. Those of less than a byte begin with a byte's low bits.
pub(super) fn refcount(block: &[u8], index: u64, order: u32) -> u64 {
    if order < 3 {
        let bits = 1 << order;
        let byte = block.get((index * bits / 8) as usize).copied().unwrap_or(0);
        return u64::from(byte) >> (index * bits % 8) & ((1 << bits) - 1);
    }
    let bytes = 1_usize << (order - 3);
    let field = block.chunks_exact(bytes).nth(index as usize).unwrap_or_default();
    field.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_counts_of_every_width() {
        let block = [0b1110_0100, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 1, 0];
        assert_eq!((0..8).map(|index| refcount(&block, index, 0)).collect::<Vec<_>>(), [0, 0, 1, 0, 0, 1, 1, 1]);
        assert_eq!((0..4).map(|index| refcount(&block, index, 1)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!(refcount(&block, 1, 2), 0b1110);
        assert_eq!(refcount(&block, 1, 3), 2);
        assert_eq!(refcount(&block, 1, 4), 0x0304);
        assert_eq!(refcount(&block, 1, 5), 0x0506_0708);
        assert_eq!(refcount(&block, 1, 6), 0x100);
        assert_eq!(refcount(&block, 2, 6), 0);
    }
}
