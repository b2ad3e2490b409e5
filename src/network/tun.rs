//! What about taps no safe interface has: the system call TUNSETIFF (Linux, `Documentation/networking/tuntap.rst`), and
//! waiting for them.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::AsFd;

use rustix::ioctl::{Opcode, Updater, ioctl, opcode};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `struct ifreq`: a name, then a union of which the flags are used.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: i16,
    rest: [u8; 22],
}

const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const IFF_TAP: i16 = 0x0002;
const IFF_NO_PI: i16 = 0x1000;

/// Makes an open `/dev/net/tun` the other end of the tap `name`: each read and each write is one frame.
///
/// # Errors
/// What the kernel says: EPERM, it is not the caller's; EBUSY, it is in use; EINVAL, it is no tap.
pub fn attach(file: impl AsFd, name: &str) -> rustix::io::Result<()> {
    let mut request = InterfaceRequest { name: [0; 16], flags: IFF_TAP | IFF_NO_PI, rest: [0; 22] };
    request.name.iter_mut().take(15).zip(name.bytes()).for_each(|(place, byte)| *place = byte);
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, which `InterfaceRequest` has the size and layout of.
    unsafe { ioctl(file, Updater::<TUNSETIFF, InterfaceRequest>::new(&mut request)) }
}

/// Waits for frames to be read; the descriptor is one of its own.
///
/// # Errors
/// When there are no more descriptors.
pub fn watch(file: &File) -> std::io::Result<AsyncFd<File>> {
    // SAFETY: the copy belongs to the `AsyncFd` alone and is not closed before it.
    Ok(unsafe { AsyncFd::register_with_interest(file.try_clone()?, Interest::READABLE) }?)
}
