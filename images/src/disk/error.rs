//! What can be wrong with a disk image, said so that a person knows what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::Format;

/// Why an image could not be opened, read, written, made or imported.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No such file.
    #[error("{}: there is no such file", path.display())]
    Missing {
        /// The image.
        path: PathBuf,
    },
    /// A folder, a socket, a pipe.
    #[error("{}: not a file or a block device", path.display())]
    NotAFile {
        /// The image.
        path: PathBuf,
    },
    /// Zero bytes long.
    #[error("{}: the image is empty; `ftemu image create` makes a disk of the size you want", path.display())]
    Empty {
        /// The image.
        path: PathBuf,
    },
    /// Shorter than its own tables, or not a whole number of sectors.
    #[error("{}: the image is cut short: {reason}; copy it again from where it came from", path.display())]
    Truncated {
        /// The image.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A header or table that makes no sense.
    #[error("{}: the {format} image is damaged: {reason}; `ftemu image check` tells more", path.display())]
    Damaged {
        /// The image.
        path: PathBuf,
        /// Its format.
        format: Format,
        /// What is wrong.
        reason: String,
    },
    /// A feature of the format that is not supported.
    #[error("{}: {reason}", path.display())]
    Unsupported {
        /// The image.
        path: PathBuf,
        /// The feature, and what to do instead.
        reason: String,
    },
    /// A name that promises a format, and bytes that are of none.
    #[error(
        "{}: its name says {format}, but it does not begin as a {format} image does: it is damaged, or cut short, or something \
         else; a raw disk needs another name (.img), or --drive FILE,format=raw",
        path.display()
    )]
    Misnamed {
        /// The image.
        path: PathBuf,
        /// What its name says.
        format: Format,
    },
    /// The format can be imported, not run.
    #[error(
        "{}: a {format} image cannot be run as it is; import it first: ftemu image import {} {}",
        path.display(), path.display(), path.with_extension("qcow2").display()
    )]
    ImportFirst {
        /// The image.
        path: PathBuf,
        /// Its format.
        format: Format,
    },
    /// An image that this one builds on.
    #[error("{}: its backing file {} cannot be used: {reason}", path.display(), backing.display())]
    Backing {
        /// The image.
        path: PathBuf,
        /// What it names.
        backing: PathBuf,
        /// Why not.
        reason: String,
    },
    /// Somebody else runs it.
    #[error(
        "{}: the image is in use by another program ({what}); stop that, or work on a copy",
        path.display()
    )]
    InUse {
        /// The image.
        path: PathBuf,
        /// What the other one does.
        what: &'static str,
    },
    /// The file may not be read.
    #[error("{}: no permission to read it (nor to write it); it belongs to another user", path.display())]
    Forbidden {
        /// The image.
        path: PathBuf,
    },
    /// The file may not be written.
    #[error("{}: the image may not be written (permissions, or a read-only file system); --snapshot keeps changes elsewhere", path.display())]
    ReadOnlyFile {
        /// The image.
        path: PathBuf,
    },
    /// Opened read-only, and written.
    #[error("the image was opened read-only")]
    ReadOnly,
    /// Past the end of the disk.
    #[error("bytes {offset} to {} are past the disk's end at {bytes}", offset.saturating_add(*count))]
    OutOfRange {
        /// First byte.
        offset: u64,
        /// How many.
        count: u64,
        /// The disk's size.
        bytes: u64,
    },
    /// A guest turns a raw disk into something that would be taken for another format at the next start.
    #[error(
        "the guest wrote the beginning of a {format} image into sector 0 of a raw disk, which would be taken for one at the next start; \
         say that the disk is raw (format=raw) to allow it"
    )]
    Disguise {
        /// What it would be taken for.
        format: Format,
    },
    /// No space left.
    #[error("{}: the disk that holds it is full; make room there and start the guest again", path.display())]
    Full {
        /// The image, or the folder of its overlay.
        path: PathBuf,
    },
    /// The destination exists.
    #[error("{}: it exists already; give another name, or remove it first", path.display())]
    Exists {
        /// What would be overwritten.
        path: PathBuf,
    },
    /// A size that makes no sense.
    #[error("{0}")]
    Size(String),
    /// Anything else that the system said.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// The image.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl ImageError {
    /// The error for what the system said about `path`.
    pub(crate) fn io(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => Self::Missing { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnlyFile { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::Io { path, doing, source },
        }
    }

    /// Whether trying again after making room, or after the other program has ended, can help.
    pub fn passing(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::InUse { .. })
    }
}
