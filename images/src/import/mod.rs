//! Other programs' disk images, read to be converted: VMDK, VHD, VHDX and VDI, besides raw and qcow2.
//!
//! Each reader knows its format from the public documents and trusts nothing in the file: every place is checked against
//! the file's length, tables are bounded by what the disk's size can need, and no name in an image leads out of its folder.

mod file;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

use std::fs::File;
use std::path::Path;

pub(crate) use file::ImageFile;

use crate::disk::{self, Disk, Fault, Format, ImageError, Options};

/// Bytes converted at a time.
const PIECE: usize = 1 << 20;
/// What is written or left out as one.
const GRAIN: usize = 64 << 10;

/// A disk image open for reading.
pub(crate) trait Source: std::fmt::Debug {
    /// The disk's size in bytes.
    fn bytes(&self) -> u64;

    /// Reads as many bytes as fit into `bytes`, all of them within the disk.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Fault>;

    /// How many bytes from here on are known to be zero without a look at them.
    fn zeroes(&self, _offset: u64) -> u64 {
        0
    }
}

/// What an image is, as its header says.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The format.
    pub format: Format,
    /// The disk's size in bytes.
    pub bytes: u64,
}

/// An opened source with the name for its errors.
struct Opened<'a> {
    source: Box<dyn Source>,
    path: &'a Path,
    format: Format,
}

impl Opened<'_> {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), ImageError> {
        self.source.read_at(offset, bytes).map_err(|fault| fault.of(self.path, self.format))
    }
}

/// What an image of any format is, also while a guest runs from it: nothing is locked, and little more than the header read.
///
/// # Errors
/// See [`ImageError`].
pub fn summary(path: &Path) -> Result<Summary, ImageError> {
    let (file, length, format) = look(path)?;
    let bytes = match format {
        Format::Raw => length,
        Format::Qcow2 => crate::qcow2::header(path)?.bytes,
        _ => parse(file, length, format, path).map_err(|fault| fault.of(path, format))?.bytes(),
    };
    Ok(Summary { format, bytes })
}

/// Converts an image of any format into a new raw or qcow2 one; what is zero takes no space there. `progress` is told how
/// many bytes of how many are done.
///
/// # Errors
/// See [`ImageError`]. Nothing half-made stays.
pub fn convert(
    from: &Path,
    to: &Path,
    format: Format,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, ImageError> {
    let opened = open(from)?;
    let bytes = opened.source.bytes();
    disk::create(to, bytes.next_multiple_of(512), format, None)?;
    let copied = copy(&opened, to, format, progress);
    if let Err(error) = copied {
        let _ = std::fs::remove_file(to);
        return Err(error);
    }
    Ok(Summary { format: opened.format, bytes })
}

fn copy(from: &Opened, to: &Path, format: Format, progress: &mut dyn FnMut(u64, u64)) -> Result<(), ImageError> {
    let mut disk = Disk::open(to, &Options { format: Some(format), ..Options::default() })?;
    let bytes = from.source.bytes();
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < bytes {
        progress(at, bytes);
        let zeroes = from.source.zeroes(at).min(bytes - at);
        if zeroes >= GRAIN as u64 {
            at += zeroes;
            continue;
        }
        let count = (bytes - at).min(PIECE as u64) as usize;
        from.read_at(at, &mut piece[..count])?;
        for (index, grain) in piece[..count].chunks(GRAIN).enumerate() {
            if grain.iter().any(|byte| *byte != 0) {
                disk.write_at(at + (index * GRAIN) as u64, grain)?;
            }
        }
        at += count as u64;
    }
    progress(bytes, bytes);
    disk.flush()
}

fn open(path: &Path) -> Result<Opened<'_>, ImageError> {
    let (file, length, format) = look(path)?;
    let source = match format {
        Format::Raw | Format::Qcow2 => Box::new(Native::open(path, format)?) as Box<dyn Source>,
        _ => parse(file, length, format, path).map_err(|fault| fault.of(path, format))?,
    };
    Ok(Opened { source, path, format })
}

/// Opens a file and tells its format.
fn look(path: &Path) -> Result<(File, u64, Format), ImageError> {
    let (file, length) = disk::open_file(path, false)?;
    if length == 0 {
        return Err(ImageError::Empty { path: path.to_owned() });
    }
    let format = disk::format_of(&file, length, path)?;
    Ok((file, length, format))
}

/// A reader for a format that cannot be run.
fn parse(file: File, length: u64, format: Format, path: &Path) -> Result<Box<dyn Source>, Fault> {
    let file = ImageFile::new(file, length);
    Ok(match format {
        Format::Vhd => Box::new(vhd::Vhd::open(file)?),
        Format::Vhdx => Box::new(vhdx::Vhdx::open(file)?),
        Format::Vdi => Box::new(vdi::Vdi::open(file)?),
        _ => Box::new(vmdk::Vmdk::open(file, path)?),
    })
}

/// What a guest could run from, read.
#[derive(Debug)]
struct Native(Disk);

impl Native {
    fn open(path: &Path, format: Format) -> Result<Self, ImageError> {
        Ok(Self(Disk::open(path, &Options { read_only: true, format: Some(format), ..Options::default() })?))
    }
}

impl Source for Native {
    fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Fault> {
        self.0.read_at(offset, bytes).map_err(|error| match error {
            ImageError::Io { source, .. } => Fault::Io(source),
            other => Fault::Damaged(other.to_string()),
        })
    }

    fn zeroes(&self, offset: u64) -> u64 {
        self.0.zeroes(offset)
    }
}

#[cfg(test)]
mod tests;
