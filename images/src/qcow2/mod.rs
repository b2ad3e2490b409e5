//! qcow2 as a reader sees it: the header, a look at the tables before anything trusts them, and a check of every
//! reference count. Source: QEMU's `docs/interop/qcow2.txt`.
//!
//! Reading and writing disks is imago's work ([`crate::disk`]); this is what it does not do.

pub mod header;
pub mod tables;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

pub use header::Header;

use crate::disk::{Format, ImageError};

/// What is wrong with an image, without its name.
#[derive(Debug)]
pub(crate) enum Fault {
    Truncated(String),
    Damaged(String),
    Unsupported(String),
    Io(io::Error),
}

impl Fault {
    /// The error to show for the image at `path`.
    pub(crate) fn of(self, path: &Path) -> ImageError {
        let path = path.to_owned();
        match self {
            Self::Truncated(reason) => ImageError::Truncated { path, reason },
            Self::Damaged(reason) => ImageError::Damaged { path, format: Format::Qcow2, reason },
            Self::Unsupported(reason) => ImageError::Unsupported { path, reason },
            Self::Io(error) => ImageError::io(&path, "read")(error),
        }
    }
}

/// Reads a table of big-endian 64-bit entries.
fn read_entries(file: &File, offset: u64, count: usize) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; count * 8];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes.chunks_exact(8).map(|entry| u64::from_be_bytes(entry.try_into().unwrap_or_default())).collect())
}
