//! One image is not run twice: locks on the image's file.
//!
//! Open-file-description locks (fcntl(2)) on single bytes, in the layout QEMU documents for `file.locking`: byte 100 + n
//! is read-locked by whoever uses permission n, byte 200 + n by whoever does not allow others permission n; permission 0
//! is reading what others keep consistent, 1 is writing. So our guests and QEMU's also keep out of each other's way.
//! Locks end with the file's last descriptor, whatever becomes of the process.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

const USES: i64 = 100;
const FORBIDS: i64 = 200;
const READING: i64 = 0;
const WRITING: i64 = 1;

/// Takes the locks of a writer, who is alone, or of a reader, who allows other readers.
///
/// # Errors
/// What the other one does, if there is one. File systems without locks lock nothing.
pub(super) fn lock(file: &File, writable: bool) -> Result<(), &'static str> {
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
