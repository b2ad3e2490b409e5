//! One image is not run twice: locks on the image's file.
//!
//! Open-file-description locks (fcntl(2)) on single bytes, in the layout QEMU documents for `file.locking`: byte 100 + n
//! is read-locked by whoever uses permission n, byte 200 + n by whoever does not allow others permission n; permission 0
//! is reading what others keep consistent, 1 is writing. So our guests and QEMU's also keep out of each other's way.
//! Locks end with the process, whatever becomes of it. A process that goes on ends them by [`Lock`]'s drop, not by closing
//! the file: a child between fork and exec still has a copy of the descriptor, and with it the lock.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::ImageError;

const USES: i64 = 100;
const FORBIDS: i64 = 200;
const READING: i64 = 0;
const WRITING: i64 = 1;

/// The locks on an image, until this is dropped. Whoever uses the image drops this last.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Lock {
    /// Takes the locks of a writer, who is alone, or of a reader, who allows other readers.
    ///
    /// # Errors
    /// The image is in use, and how. File systems without locks lock nothing.
    pub(crate) fn take(file: &File, path: &Path, writable: bool) -> Result<Self, ImageError> {
        let held = Self(file.try_clone().map_err(ImageError::io(path, "open"))?);
        match lock(file, writable) {
            Ok(()) => Ok(held),
            Err(what) => Err(ImageError::InUse { path: path.to_owned(), what }),
        }
    }

    /// Whether this is on the file of that name.
    pub(crate) fn is_on(&self, path: &Path) -> bool {
        let identity = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let (ours, theirs) = (self.0.metadata().map(identity), std::fs::metadata(path).map(identity));
        matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours == theirs)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // All bytes that `lock` may have locked; what cannot be unlocked ends with the descriptor.
        let all = libc::flock { l_len: FORBIDS + WRITING + 1 - USES, ..range(USES, libc::F_UNLCK) };
        let _ = fcntl(&self.0, FcntlArg::F_OFD_SETLK(&all));
    }
}

fn lock(file: &File, writable: bool) -> Result<(), &'static str> {
    let mut bytes = vec![USES + READING, FORBIDS + WRITING];
    if writable {
        bytes.push(USES + WRITING);
    }
    for byte in bytes {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range(byte, libc::F_RDLCK))) {
            Ok(_) => {}
            Err(Errno::EAGAIN | Errno::EACCES) => return Err("locked"),
            Err(_) => return Ok(()),
        }
    }
    // Locked first, looked second: of two that start at once at least one sees the other.
    if writable && held(file, FORBIDS + WRITING) {
        return Err("running or reading it");
    }
    if held(file, USES + WRITING) { Err("writing to it") } else { Ok(()) }
}

/// Whether somebody else has locked this byte.
fn held(file: &File, byte: i64) -> bool {
    let mut wanted = range(byte, libc::F_WRLCK);
    let asked = fcntl(file, FcntlArg::F_OFD_GETLK(&mut wanted));
    asked.is_ok() && wanted.l_type != libc::F_UNLCK as libc::c_short
}

fn range(byte: i64, kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}
