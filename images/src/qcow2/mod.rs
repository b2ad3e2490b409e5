//! qcow2 as a reader sees it: the header, a look at the tables before anything trusts them, and a check of every
//! reference count. Source: QEMU's `docs/interop/qcow2.txt`.
//!
//! Reading and writing disks is imago's work ([`crate::disk`]); this is what it does not do.

pub mod check;
pub mod header;
mod owners;
pub mod tables;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use check::Report;
pub use header::Header;

use crate::disk::{Fault, Format, ImageError};

/// The autoclear feature bit of images with dirty bitmaps.
const BITMAPS: u64 = 1;

/// Reads a table of big-endian 64-bit entries.
fn read_entries(file: &File, offset: u64, count: usize) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; count * 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.chunks_exact(8).map(|entry| u64::from_be_bytes(entry.try_into().unwrap_or_default())).collect())
}

/// Opens an image only to look at it, without locks.
fn look(path: &Path) -> Result<(File, u64, Header), ImageError> {
    let file = File::open(path).map_err(ImageError::io(path, "open"))?;
    let length = file.metadata().map_err(ImageError::io(path, "open"))?.len();
    let header = Header::read(&file, length).map_err(|fault| fault.of(path, Format::Qcow2))?;
    Ok((file, length, header))
}

/// The header of the image in a file.
///
/// # Errors
/// It cannot be read, or is no header of a qcow2 image.
pub fn header(path: &Path) -> Result<Header, ImageError> {
    look(path).map(|(_, _, header)| header)
}

/// Checks all reference counts of an image that nobody writes meanwhile. `progress` is told how much of how much is done.
///
/// # Errors
/// It cannot be read, or is so broken that nothing can be counted.
pub fn check(path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Report, ImageError> {
    let (file, length, header) = look(path)?;
    let _lock = crate::disk::Lock::take(&file, path, false)?;
    let report = if header.autoclear & BITMAPS != 0 {
        Err(Fault::Unsupported("qcow2 images with bitmaps cannot be checked here; qemu-img check can".to_owned()))
    } else {
        check::check(&file, length, &header, progress)
    };
    report.map_err(|fault| fault.of(path, Format::Qcow2))
}

#[cfg(test)]
mod tests;
