//! The header cluster: sizes, places of the tables, feature bits, extensions.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::Fault;

/// Incompatible feature bits.
const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

/// The extension that names the backing file's format.
const BACKING_FORMAT: u32 = 0xe279_2aca;

/// What the header says; every place and size has been checked against the file's length.
#[derive(Clone, Debug)]
pub struct Header {
    /// 2 or 3.
    pub version: u32,
    /// The disk's size, bytes.
    pub bytes: u64,
    /// Clusters have 2 to this power bytes; 9 to 21.
    pub cluster_bits: u32,
    /// Entries of the L1 table.
    pub l1_entries: usize,
    /// Where it is in the file.
    pub l1_offset: u64,
    /// Where the refcount table is.
    pub refcount_offset: u64,
    /// How many clusters it has.
    pub refcount_clusters: u64,
    /// A reference count has 2 to this power bits; 0 to 6.
    pub refcount_order: u32,
    /// Snapshots inside the image.
    pub snapshots: u32,
    /// Where their table is.
    pub snapshots_offset: u64,
    /// Encryption: 0 none.
    pub encryption: u32,
    /// Incompatible features.
    pub incompatible: u64,
    /// Compatible features that a writer who does not know them must clear.
    pub autoclear: u64,
    /// The image that this one builds on.
    pub backing: Option<String>,
    /// Its format, where the image says.
    pub backing_format: Option<String>,
}

impl Header {
    /// Reads and checks a header.
    pub(crate) fn read(file: &File, length: u64) -> Result<Self, Fault> {
        // Everything of the header fits the first 64 KiB: names have 1023 bytes at most, extensions follow the fields.
        let mut head = vec![0; usize::try_from(length.min(1 << 16)).unwrap_or(1 << 16)];
        file.read_exact_at(&mut head, 0).map_err(Fault::Io)?;
        Self::parse(&head, length)
    }

    /// The header in a file's first bytes, the file having `length`.
    pub(crate) fn parse(head: &[u8], length: u64) -> Result<Self, Fault> {
        let field = |at| be32(head, at).ok_or_else(|| Fault::Truncated("not even its header is whole".to_owned()));
        let field64 = |at| Ok::<u64, Fault>(u64::from(field(at)?) << 32 | u64::from(field(at + 4)?));
        if head.get(..4) != Some(b"QFI\xfb") {
            return Err(Fault::Damaged("the signature is not qcow2's".to_owned()));
        }
        let version = field(4)?;
        if !matches!(version, 2 | 3) {
            return Err(Fault::Unsupported(format!("qcow2 version {version} is not supported; 2 and 3 are")));
        }
        let newer = version == 3;
        let header = Self {
            version,
            bytes: field64(24)?,
            cluster_bits: field(20)?,
            l1_entries: field(36)? as usize,
            l1_offset: field64(40)?,
            refcount_offset: field64(48)?,
            refcount_clusters: u64::from(field(56)?),
            refcount_order: if newer { field(96)? } else { 4 },
            snapshots: field(60)?,
            snapshots_offset: field64(64)?,
            encryption: field(32)?,
            incompatible: if newer { field64(72)? } else { 0 },
            autoclear: if newer { field64(88)? } else { 0 },
            backing: name(head, field64(8)?, field(16)?)?,
            backing_format: backing_format(head, if newer { field(100)? } else { 72 }),
        };
        header.check(length)?;
        Ok(header)
    }

    /// Bytes of a cluster.
    pub fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }

    /// Entries of an L2 table.
    pub(super) fn l2_entries(&self) -> usize {
        1 << (self.cluster_bits - 3)
    }

    fn check(&self, length: u64) -> Result<(), Fault> {
        let damaged = |reason: &str| Err(Fault::Damaged(reason.to_owned()));
        if !(9..=21).contains(&self.cluster_bits) {
            return damaged("its clusters are neither 512 bytes to 2 MiB");
        }
        if self.refcount_order > 6 {
            return damaged("its reference counts have more than 64 bits");
        }
        let per_l1_entry = self.cluster() * self.l2_entries() as u64;
        if self.l1_entries > 4 << 20 || (self.l1_entries as u64) < self.bytes.div_ceil(per_l1_entry) {
            return damaged("the L1 table's length does not fit the disk's size");
        }
        if self.refcount_clusters == 0 || self.refcount_clusters * self.cluster() > 8 << 20 {
            return damaged("the refcount table's length makes no sense");
        }
        let l1 = ("L1", self.l1_offset, self.l1_entries as u64 * 8);
        let refcounts = ("refcount", self.refcount_offset, self.refcount_clusters * self.cluster());
        for (what, offset, bytes) in [l1, refcounts] {
            if !offset.is_multiple_of(self.cluster()) || (offset == 0 && bytes > 0) {
                return Err(Fault::Damaged(format!("the {what} table is not where a table can be")));
            }
            if offset.checked_add(bytes).is_none_or(|end| end > length) {
                return Err(Fault::Truncated(format!("the {what} table is past the end of the file")));
            }
        }
        Ok(())
    }

    /// Whether a guest can run from it.
    pub(crate) fn check_runs(&self, writable: bool) -> Result<(), Fault> {
        let unsupported = |reason: &str| {
            Err(Fault::Unsupported(format!("{reason}; `qemu-img convert -O qcow2` gives one that runs")))
        };
        if self.encryption != 0 {
            return unsupported("encrypted qcow2 images are not supported");
        }
        if self.incompatible & EXTERNAL_DATA != 0 {
            return unsupported("qcow2 images with an external data file are not supported");
        }
        if self.incompatible & EXTENDED_L2 != 0 {
            return unsupported("qcow2 images with subclusters are not supported");
        }
        if self.incompatible & COMPRESSION != 0 {
            return unsupported("qcow2 images compressed by zstd are not supported");
        }
        if self.incompatible & !(DIRTY | CORRUPT) != 0 {
            return unsupported("the qcow2 image has features that are not known here");
        }
        if writable && self.snapshots != 0 {
            return unsupported("qcow2 images with snapshots inside can only be read (--snapshot)");
        }
        if self.incompatible & (DIRTY | CORRUPT) != 0 {
            let reason = "it was not closed cleanly, or found damaged before: `qemu-img check -r all` repairs it (try a copy first)";
            return Err(Fault::Unsupported(reason.to_owned()));
        }
        Ok(())
    }

    /// Why no guest can run from it, if that is so; in words.
    pub fn obstacle(&self) -> Option<String> {
        match self.check_runs(true) {
            Err(Fault::Unsupported(why)) => Some(why),
            _ => None,
        }
    }

    /// Whether the image was not closed by its last user.
    pub fn dirty(&self) -> bool {
        self.incompatible & DIRTY != 0
    }
}

/// The backing file's name.
fn name(head: &[u8], offset: u64, length: u32) -> Result<Option<String>, Fault> {
    if offset == 0 || length == 0 {
        return Ok(None);
    }
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let bytes = head.get(start..start.saturating_add(length as usize)).filter(|_| length <= 1023);
    let text = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let text = text.ok_or_else(|| Fault::Damaged("the backing file's name makes no sense".to_owned()))?;
    Ok(Some(text.to_owned()))
}

/// The format in the header's extensions: a type, a length, that many bytes, padding to 8.
fn backing_format(head: &[u8], start: u32) -> Option<String> {
    let mut at = start as usize;
    while let (Some(kind), Some(length)) = (be32(head, at), be32(head, at.saturating_add(4))) {
        let body = at.saturating_add(8)..at.saturating_add(8).saturating_add(length as usize);
        match kind {
            0 => return None,
            BACKING_FORMAT => return String::from_utf8(head.get(body)?.to_vec()).ok(),
            _ => at = body.end.checked_next_multiple_of(8)?,
        }
    }
    None
}

fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(field.try_into().ok()?))
}
