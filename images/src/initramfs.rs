//! An initramfs: a cpio archive of the "newc" kind, plain or gzipped, as the kernel unpacks it into its root file system.
//!
//! Format: Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`: per entry a header of 13 fields of eight
//! hexadecimal digits after the magic `070701`, the name with a NUL, and the data, both padded to four bytes.

use std::io::Write;

/// `S_IFDIR`, `S_IFREG`, `S_IFLNK`, `S_IFCHR`: the file types of a mode.
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMBOLIC_LINK: u32 = 0o120_000;
const CHARACTER_DEVICE: u32 = 0o020_000;

/// Builds an archive, entry by entry. Equal calls give equal bytes: inode numbers count up, times are zero.
#[derive(Clone, Debug, Default)]
pub struct Initramfs {
    bytes: Vec<u8>,
    inode: u32,
}

impl Initramfs {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory, for everybody to read. `name` has no leading slash; parents come first.
    pub fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds an executable file.
    pub fn program(&mut self, name: &str, data: &[u8]) {
        self.entry(name, REGULAR | 0o755, (0, 0), data);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str) {
        self.entry(name, SYMBOLIC_LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device with its major and minor number.
    pub fn character_device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, CHARACTER_DEVICE | 0o600, (major, minor), &[]);
    }

    /// Closes the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.inode = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    /// Closes the archive and compresses it.
    pub fn finish_gzip(self) -> Vec<u8> {
        let plain = self.finish();
        let mut encoder = flate2::GzBuilder::new().mtime(0).write(Vec::new(), flate2::Compression::new(6));
        encoder.write_all(&plain).and_then(|()| encoder.finish()).expect("writing to memory does not fail")
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), data: &[u8]) {
        self.inode += 1;
        let length = u32::try_from(data.len()).expect("a file in an initramfs is below 4 GiB");
        let name_length = u32::try_from(name.len() + 1).expect("names are short");
        // ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
        let fields = [self.inode, mode, 0, 0, 1, 0, length, 0, 0, device.0, device.1, name_length, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Initramfs {
        let mut archive = Initramfs::new();
        archive.directory("bin");
        archive.program("bin/one", b"#!/bin/sh\n");
        archive.link("bin/two", "one");
        archive.character_device("console", 5, 1);
        archive
    }

    #[test]
    fn entries_are_laid_out_as_the_kernel_expects() {
        let bytes = sample().finish();
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(&bytes[..6], b"070701");
        assert_eq!(&bytes[14..22], b"000041ed"); // mode of the first directory: 040755
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("070701").count(), 5);
        assert!(text.contains("TRAILER!!!"));
        assert!(text.contains("000000050000000100000008")); // rdev 5:1, then the length of "console" and its NUL
    }

    #[test]
    fn the_same_entries_give_the_same_bytes() {
        assert_eq!(sample().finish(), sample().finish());
        assert_eq!(sample().finish_gzip(), sample().finish_gzip());
    }

    #[test]
    fn gzip_holds_the_plain_archive() {
        let mut plain = Vec::new();
        let compressed = sample().finish_gzip();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&compressed[..]), &mut plain).unwrap();
        assert_eq!(plain, sample().finish());
    }
}
