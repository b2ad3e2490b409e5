//! Opening an image: looks first, locks second, tables third; nothing is written on the way.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use imago::file::File as Storage;
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder, StorageOpenOptions};

use super::{Disk, Format, ImageError, Lock, Options, overlay};
use crate::qcow2::{Header, tables};

/// Images that build on images: so many at most.
const LONGEST_CHAIN: usize = 64;

pub(super) fn open(path: &Path, options: &Options) -> Result<Disk, ImageError> {
    let read_only = options.read_only || options.snapshot;
    let opened = Opened::new(path, !read_only, options.format)?;
    let format = opened.format;
    let guarded = format == Format::Raw && options.format.is_none() && !read_only;
    let written = opened.file.try_clone().map_err(ImageError::io(path, "open"))?;
    let mut locks = Vec::new();
    let access = opened.access(&mut locks)?;
    let bytes = access.size();
    check_size(path, bytes)?;
    let disk = Disk { access, written, path: path.to_owned(), format, bytes, read_only, guarded, locks };
    if options.snapshot { overlay::over(disk, options) } else { Ok(disk) }
}

fn check_size(path: &Path, bytes: u64) -> Result<(), ImageError> {
    if bytes == 0 {
        return Err(ImageError::Empty { path: path.to_owned() });
    }
    if !bytes.is_multiple_of(512) {
        let reason = format!("it has {bytes} bytes, which is not a whole number of 512-byte sectors");
        return Err(ImageError::Truncated { path: path.to_owned(), reason });
    }
    Ok(())
}

/// A file that is open and locked, its format known.
struct Opened {
    file: File,
    lock: Lock,
    path: PathBuf,
    length: u64,
    format: Format,
    writable: bool,
}

impl Opened {
    fn new(path: &Path, writable: bool, format: Option<Format>) -> Result<Self, ImageError> {
        let (file, length) = open_file(path, writable)?;
        if length == 0 {
            return Err(ImageError::Empty { path: path.to_owned() });
        }
        let lock = Lock::take(&file, path, writable)?;
        let format = match format {
            Some(format) => format,
            None => format_of(&file, length, path)?,
        };
        if !format.runs() {
            return Err(ImageError::ImportFirst { path: path.to_owned(), format });
        }
        Ok(Self { file, lock, path: path.to_owned(), length, format, writable })
    }

    /// Through imago, once the tables have been looked at. The locks of the whole chain are added to `locks`.
    fn access(self, locks: &mut Vec<Lock>) -> Result<FormatAccess<Storage>, ImageError> {
        match self.format {
            Format::Qcow2 => self.qcow2(locks),
            _ => {
                let Self { file, lock, path, writable, .. } = self;
                locks.push(lock);
                let storage = storage(file, &path, writable)?;
                let raw = Raw::open_image(storage, writable).map_err(ImageError::io(&path, "open"))?;
                Ok(FormatAccess::new(raw))
            }
        }
    }

    fn qcow2(self, locks: &mut Vec<Lock>) -> Result<FormatAccess<Storage>, ImageError> {
        let Self { file, lock, path, length, writable, .. } = self;
        locks.push(lock);
        let header = Header::read(&file, length).map_err(|fault| fault.of(&path, Format::Qcow2))?;
        header.check_runs(writable).map_err(|fault| fault.of(&path, Format::Qcow2))?;
        tables::check(&file, length, &header, writable).map_err(|fault| fault.of(&path, Format::Qcow2))?;
        let backing = match &header.backing {
            Some(name) => Some(backing(&path, name, &header, locks)?),
            None => None,
        };
        let storage = storage(file, &path, writable)?;
        let opened = Qcow2::<Storage>::builder(storage)
            .write(writable)
            .backing(backing)
            .open(DenyImplicitOpenGate::default())
            .map_err(damaged(&path))?;
        Ok(FormatAccess::new(opened))
    }
}

/// The image under a qcow2 image, read-only, and shared with others who only read it.
fn backing(
    path: &Path,
    name: &str,
    header: &Header,
    locks: &mut Vec<Lock>,
) -> Result<FormatAccess<Storage>, ImageError> {
    let below = path.parent().unwrap_or(Path::new("")).join(name);
    let fault = |reason: String| ImageError::Backing { path: path.to_owned(), backing: below.clone(), reason };
    if locks.len() > LONGEST_CHAIN {
        return Err(fault(format!("more than {LONGEST_CHAIN} images build on each other")));
    }
    if locks.iter().any(|lock| lock.is_on(&below)) {
        let advice = "the backing files are a circle; `qemu-img rebase -u` names another one";
        return Err(fault(advice.to_owned()));
    }
    let format = match header.backing_format.as_deref() {
        Some(text) => Some(text.parse().map_err(&fault)?),
        None => None,
    };
    let opened = Opened::new(&below, false, format).map_err(|error| match error {
        ImageError::Missing { .. } => {
            fault("it is gone; put it back, or give its new place with qemu-img rebase".into())
        }
        other => fault(other.to_string()),
    })?;
    opened.access(locks).map_err(|error| fault(error.to_string()))
}

/// The format that a file has, by its bytes. One that has none, but a name that promises one, is not taken for raw: it
/// may have lost its header only, and what a guest writes would be the end of the rest.
pub(crate) fn format_of(file: &File, length: u64, path: &Path) -> Result<Format, ImageError> {
    let format = Format::of(file, length).map_err(ImageError::io(path, "read"))?;
    match Format::promised(path) {
        Some(promised) if format == Format::Raw => {
            Err(ImageError::Misnamed { path: path.to_owned(), format: promised })
        }
        _ => Ok(format),
    }
}

/// Opens a file or block device; gives its length too.
pub(crate) fn open_file(path: &Path, writable: bool) -> Result<(File, u64), ImageError> {
    let metadata = std::fs::metadata(path).map_err(ImageError::io(path, "open"))?;
    let block = metadata.file_type().is_block_device();
    if !metadata.is_file() && !block {
        return Err(ImageError::NotAFile { path: path.to_owned() });
    }
    let file = OpenOptions::new().read(true).write(writable).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied if !writable || File::open(path).is_err() => {
            ImageError::Forbidden { path: path.to_owned() }
        }
        io::ErrorKind::PermissionDenied => ImageError::ReadOnlyFile { path: path.to_owned() },
        _ => ImageError::io(path, "open")(error),
    })?;
    let length = if block { end_of(&file).map_err(ImageError::io(path, "open"))? } else { metadata.len() };
    Ok((file, length))
}

/// A block device's size.
fn end_of(mut file: &File) -> io::Result<u64> {
    use std::io::Seek;
    let end = file.seek(io::SeekFrom::End(0))?;
    // Unreadable media show here, with a better message than later.
    file.read_at(&mut [0; 512], 0)?;
    Ok(end)
}

pub(super) fn storage(file: File, path: &Path, writable: bool) -> Result<Storage, ImageError> {
    let options = StorageOpenOptions::new().write(writable).filename(path);
    Storage::from_open_file(file, options).map_err(ImageError::io(path, "open"))
}

pub(super) fn damaged(path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::Other => {
            ImageError::Damaged { path, format: Format::Qcow2, reason: error.to_string() }
        }
        io::ErrorKind::Unsupported => ImageError::Unsupported { path, reason: error.to_string() },
        _ => ImageError::io(&path, "open")(error),
    }
}
