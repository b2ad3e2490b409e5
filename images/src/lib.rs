//! Guests to run: Debian's cloud kernel with a busybox initramfs, obtained through apt, and tiny guests of our own,
//! assembled at run time. Both come as a [`Guest`]: a bzImage, an initramfs and a command line, ready for the loader.
//!
//! The demonstration's guests print numbered lines, each carrying a hash chained over real computation; [`chain`] redoes
//! that computation on the host, so that a lost, repeated or altered line is noticed without trusting the guest.

pub mod build;
pub mod catalogue;
pub mod chain;
pub mod debian;
pub mod disk;
pub mod import;
pub mod initramfs;
pub mod qcow2;
#[cfg(test)]
mod testing;
pub mod tiny;

use std::path::{Path, PathBuf};

pub use catalogue::{Catalogue, FetchError};
pub use chain::Chain;
pub use disk::{Disk, Format, ImageError, Options};

/// A guest ready for the loader.
#[derive(Clone, Debug)]
pub struct Guest {
    /// What it is, for people: a package with its version, or the name of a guest of ours.
    pub name: String,
    /// A bzImage with a 64-bit entry.
    pub kernel: Vec<u8>,
    /// An initramfs, if the guest wants one.
    pub initrd: Option<Vec<u8>>,
    /// The kernel command line.
    pub command_line: String,
}

/// Where [`Guest::write_to`] put a guest's parts.
#[derive(Clone, Debug)]
pub struct GuestFiles {
    /// The bzImage.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: Option<PathBuf>,
}

impl Guest {
    /// Writes kernel and initramfs as files `kernel` and `initrd` into an existing folder.
    ///
    /// # Errors
    /// Whatever writing a file can meet.
    pub fn write_to(&self, folder: &Path) -> std::io::Result<GuestFiles> {
        let kernel = folder.join("kernel");
        std::fs::write(&kernel, &self.kernel)?;
        let initrd = match &self.initrd {
            Some(bytes) => {
                let path = folder.join("initrd");
                std::fs::write(&path, bytes)?;
                Some(path)
            }
            None => None,
        };
        Ok(GuestFiles { kernel, initrd })
    }
}
