//! A disk image that a guest runs from: raw or qcow2, with overlays, opened so that nobody else runs it too.
//!
//! [`Disk`] is a plain synchronous object for one worker thread at a time (it is `Send`). The formats themselves are the
//! `imago` crate's; what is added here are locks, checks before anything is touched, overlays that vanish, and errors that
//! say what to do. Nothing of a guest's can get past the disk's end, and nothing in an image's tables past its file's end.

mod create;
mod error;
mod fault;
mod format;
mod lock;
mod open;
mod overlay;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use imago::FormatAccess;

pub use create::create;
pub use error::ImageError;
pub(crate) use fault::{Fault, damaged, unsupported};
pub use format::Format;
pub(crate) use lock::Lock;
pub(crate) use open::{format_of, open_file};

/// How to open an image.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The guest may not write. Several guests may share an image that all of them only read.
    pub read_only: bool,
    /// What the guest writes goes to a temporary overlay, which is gone when the disk is closed (or the process dies).
    /// The image itself is opened read-only.
    pub snapshot: bool,
    /// The image's format, if it should not be told from its first bytes. Say [`Format::Raw`] for raw disks whose guest
    /// may write anything to its first sector.
    pub format: Option<Format>,
    /// Where the overlay of a snapshot goes [default: `TMPDIR`, `/var/tmp` or `/tmp`].
    pub scratch: Option<PathBuf>,
}

/// Bytes of the largest cluster that an image can have.
const LARGEST_CLUSTER: u64 = 2 << 20;

/// An open disk image.
#[derive(Debug)]
pub struct Disk {
    access: FormatAccess<imago::file::File>,
    /// The image's file, or the overlay's: what `flush` hands to fdatasync.
    written: File,
    /// What errors name: the image, or the folder of its overlay.
    path: PathBuf,
    format: Format,
    bytes: u64,
    read_only: bool,
    /// A raw disk by its looks: its guest may not make it look like something else.
    guarded: bool,
    /// On the image and what is under it; dropped last.
    locks: Vec<Lock>,
}

impl Disk {
    /// Opens an image and locks it.
    ///
    /// # Errors
    /// See [`ImageError`]; nothing has been written then.
    pub fn open(path: &Path, options: &Options) -> Result<Self, ImageError> {
        open::open(path, options)
    }

    /// The disk's size in bytes, a multiple of 512 and not 0.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The image's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether writes are refused.
    pub fn read_only(&self) -> bool {
        self.read_only
    }

    /// Reads as many bytes as fit into `bytes`.
    ///
    /// # Errors
    /// Past the end, or what the system says.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<(), ImageError> {
        self.check_range(offset, bytes.len() as u64)?;
        self.access.read(bytes, offset).map_err(ImageError::io(&self.path, "read"))
    }

    /// Writes. The bytes survive a crash of the host only after the next [`Disk::flush`].
    ///
    /// # Errors
    /// Past the end, read-only, the host's disk is full, a raw disk's first sector made to look like another format, or
    /// what the system says. After [`ImageError::Full`] the same write may be tried again.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), ImageError> {
        self.check_range(offset, bytes.len() as u64)?;
        self.check_writable()?;
        self.check_disguise(offset, bytes)?;
        self.access.write(bytes, offset).map_err(ImageError::io(&self.path, "write"))
    }

    /// Makes everything written so far survive a crash of the host: tables are written out, then fdatasync(2).
    ///
    /// # Errors
    /// What the system says. What was written before may then be lost.
    pub fn flush(&mut self) -> Result<(), ImageError> {
        if self.read_only {
            return Ok(());
        }
        self.access.flush().map_err(ImageError::io(&self.path, "write"))?;
        self.written.sync_data().map_err(ImageError::io(&self.path, "flush"))
    }

    /// Gives space back to the host. The bytes read as zero from then on, always.
    ///
    /// # Errors
    /// As [`Disk::write_at`].
    pub fn discard(&mut self, offset: u64, count: u64) -> Result<(), ImageError> {
        self.check_range(offset, count)?;
        self.check_writable()?;
        let (end, whole) = (offset + count, self.bytes - self.bytes % LARGEST_CLUSTER);
        if end <= whole || end == self.bytes {
            return self.give_back(offset, count);
        }
        // In a last cluster that is not whole, imago 0.2.6 discards more than it is asked to, or overflows.
        let tail = offset.max(whole);
        self.write_zeroes(tail, end - tail)?;
        if offset < whole { self.give_back(offset, whole - offset) } else { Ok(()) }
    }

    fn give_back(&mut self, offset: u64, count: u64) -> Result<(), ImageError> {
        match self.access.discard_to_zero(offset, count) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => self.write_zeroes(offset, count),
            other => other.map_err(ImageError::io(&self.path, "discard")),
        }
    }

    /// Where the host cannot punch holes.
    fn write_zeroes(&mut self, mut offset: u64, mut count: u64) -> Result<(), ImageError> {
        let zeroes = vec![0; 1 << 20];
        while count > 0 {
            let step = count.min(zeroes.len() as u64);
            self.write_at(offset, &zeroes[..step as usize])?;
            offset += step;
            count -= step;
        }
        Ok(())
    }

    /// How many bytes from here on are known to be zero without a look at them: holes.
    pub(crate) fn zeroes(&self, offset: u64) -> u64 {
        match self.access.get_mapping(offset, self.bytes.saturating_sub(offset)) {
            Ok((imago::Mapping::Zero { .. }, count)) => count,
            _ => 0,
        }
    }

    fn check_range(&self, offset: u64, count: u64) -> Result<(), ImageError> {
        match offset.checked_add(count) {
            Some(end) if end <= self.bytes => Ok(()),
            _ => Err(ImageError::OutOfRange { offset, count, bytes: self.bytes }),
        }
    }

    fn check_writable(&self) -> Result<(), ImageError> {
        if self.read_only { Err(ImageError::ReadOnly) } else { Ok(()) }
    }

    fn check_disguise(&self, offset: u64, bytes: &[u8]) -> Result<(), ImageError> {
        if !self.guarded || offset >= 512 {
            return Ok(());
        }
        let mut head = [0; 512];
        self.read_at(0, &mut head)?;
        let start = offset as usize;
        let count = bytes.len().min(512 - start);
        head[start..start + count].copy_from_slice(&bytes[..count]);
        Format::disguise(&head).map_or(Ok(()), |format| Err(ImageError::Disguise { format }))
    }
}

#[cfg(test)]
mod tests;
