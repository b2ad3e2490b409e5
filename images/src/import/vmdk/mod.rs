//! VMDK: sparse, flat and stream-optimised extents, in one file or several. Source: VMware's "Virtual Disk Format 5.0".
//!
//! A descriptor of text lists the extents, one after the other; it stands in a file of its own, or inside the only extent.

mod descriptor;
mod sparse;

use std::fs::File;
use std::path::Path;

use self::descriptor::{Descriptor, Kind};
use self::sparse::Sparse;
use super::Source;
use super::file::ImageFile;
use crate::disk::{Fault, damaged, unsupported};

/// Bytes of a sector.
const SECTOR: u64 = 512;
/// 62 TiB, the most that the format's programs make.
const LARGEST: u64 = 62 << 40;
/// More than this is no descriptor.
const LONGEST_DESCRIPTOR: u64 = 1 << 20;

/// A VMDK, all its files open.
#[derive(Debug)]
pub(super) struct Vmdk {
    extents: Vec<Extent>,
    bytes: u64,
}

#[derive(Debug)]
struct Extent {
    /// Its place in the disk, bytes.
    start: u64,
    bytes: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Zero,
    Flat(ImageFile, u64),
    Sparse(Box<Sparse>),
}

impl Vmdk {
    pub(super) fn open(file: ImageFile, path: &Path) -> Result<Self, Fault> {
        let mut magic = [0; 4];
        file.read(0, &mut magic, "the header")?;
        if magic == *b"COWD" {
            return unsupported("it is of ESX's older sparse kind; convert it to monolithicSparse first");
        }
        if magic == *b"KDMV" {
            let sparse = Sparse::open(file)?;
            if let Some(text) = sparse.descriptor()? {
                Descriptor::parse(&text)?.check_whole()?;
            }
            let bytes = sparse.bytes();
            let extent = Extent { start: 0, bytes, content: Content::Sparse(Box::new(sparse)) };
            return Self::of(vec![extent]);
        }
        if file.length() > LONGEST_DESCRIPTOR {
            return damaged("the descriptor is too long");
        }
        let text = file.bytes(0, file.length(), "the descriptor")?;
        let descriptor = Descriptor::parse(&text)?;
        descriptor.check_whole()?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut extents = Vec::new();
        let mut start = 0_u64;
        for line in &descriptor.extents {
            let bytes = line.sectors.saturating_mul(SECTOR);
            extents.push(Extent { start, bytes, content: line.open(folder)? });
            start = start.saturating_add(bytes);
        }
        Self::of(extents)
    }

    fn of(extents: Vec<Extent>) -> Result<Self, Fault> {
        let bytes = extents.last().map_or(0, |last| last.start.saturating_add(last.bytes));
        if bytes == 0 || bytes > LARGEST {
            return damaged("the disk's size makes no sense");
        }
        Ok(Self { extents, bytes })
    }

    fn extent(&self, offset: u64) -> Option<&Extent> {
        self.extents.iter().rev().find(|extent| extent.start <= offset && extent.bytes > 0)
    }
}

impl descriptor::Line {
    /// Opens the extent's file, in the descriptor's folder.
    fn open(&self, folder: &Path) -> Result<Content, Fault> {
        let Some(name) = self.file.as_deref().filter(|_| self.kind != Kind::Zero) else { return Ok(Content::Zero) };
        // An image that somebody else made shall not pull other files of this machine into a disk.
        if name.contains(['/', '\\', '\0']) || name.starts_with('.') {
            return unsupported(&format!("its part {name:?} is not in the same folder; put it there"));
        }
        let path = folder.join(name);
        let metadata = std::fs::symlink_metadata(&path).ok().filter(std::fs::Metadata::is_file);
        let Some(metadata) = metadata else {
            return Err(Fault::Truncated(format!("its part {name} is not beside it")));
        };
        let file = ImageFile::new(File::open(&path).map_err(Fault::Io)?, metadata.len());
        if self.kind == Kind::Flat {
            let offset = self.offset.saturating_mul(SECTOR);
            if !file.has(offset, self.sectors.saturating_mul(SECTOR)) {
                return Err(Fault::Truncated(format!("its part {name} is shorter than it should be")));
            }
            return Ok(Content::Flat(file, offset));
        }
        let sparse = Sparse::open(file)?;
        if sparse.bytes() < self.sectors.saturating_mul(SECTOR) {
            return damaged("a part has fewer sectors than the descriptor says");
        }
        Ok(Content::Sparse(Box::new(sparse)))
    }
}

impl Source for Vmdk {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, mut offset: u64, mut bytes: &mut [u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let Some(extent) = self.extent(offset) else { return damaged("a part is missing") };
            let inside = offset - extent.start;
            let count = extent.bytes.saturating_sub(inside).min(bytes.len() as u64);
            if count == 0 {
                return damaged("a part is missing");
            }
            let (piece, rest) = bytes.split_at_mut(count as usize);
            match &extent.content {
                Content::Zero => piece.fill(0),
                Content::Flat(file, start) => file.read(start + inside, piece, "a part")?,
                Content::Sparse(sparse) => sparse.read_at(inside, piece)?,
            }
            bytes = rest;
            offset += count;
        }
        Ok(())
    }

    fn zeroes(&self, offset: u64) -> u64 {
        let Some(extent) = self.extent(offset) else { return 0 };
        let inside = offset - extent.start;
        let known = match &extent.content {
            Content::Zero => extent.bytes,
            Content::Flat(..) => 0,
            Content::Sparse(sparse) => inside.saturating_add(sparse.zeroes(inside)),
        };
        known.min(extent.bytes).saturating_sub(inside)
    }
}
