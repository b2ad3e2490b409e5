//! A file read with care: nothing past its end, and numbers in either byte order.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::disk::Fault;

/// An image's file, its length known.
#[derive(Debug)]
pub(crate) struct ImageFile {
    file: File,
    length: u64,
}

impl ImageFile {
    pub(crate) fn new(file: File, length: u64) -> Self {
        Self { file, length }
    }

    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Whether all of a range is in the file.
    pub(crate) fn has(&self, offset: u64, count: u64) -> bool {
        offset.checked_add(count).is_some_and(|end| end <= self.length)
    }

    /// Reads a range that must be in the file; `what` is it, for people.
    pub(crate) fn read(&self, offset: u64, bytes: &mut [u8], what: &str) -> Result<(), Fault> {
        if !self.has(offset, bytes.len() as u64) {
            return Err(Fault::Truncated(format!("{what} is past the end of the file")));
        }
        self.file.read_exact_at(bytes, offset).map_err(Fault::Io)
    }

    /// As [`ImageFile::read`], into memory of its own; memory is taken only for what is in the file.
    pub(crate) fn bytes(&self, offset: u64, count: u64, what: &str) -> Result<Vec<u8>, Fault> {
        if !self.has(offset, count) {
            return Err(Fault::Truncated(format!("{what} is past the end of the file")));
        }
        let mut bytes = vec![0; count as usize];
        self.read(offset, &mut bytes, what)?;
        Ok(bytes)
    }
}

/// Bytes of a fixed length at a place; zeros where there are none.
fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let found = at.checked_add(N).and_then(|end| bytes.get(at..end));
    found.and_then(|found| found.try_into().ok()).unwrap_or([0; N])
}

pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(field(bytes, at))
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(field(bytes, at))
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(field(bytes, at))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(field(bytes, at))
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(field(bytes, at))
}

/// Reads a piece of one block: its number, the offset in it, the bytes.
type OneBlock<'a> = dyn FnMut(u64, u64, &mut [u8]) -> Result<(), Fault> + 'a;

/// Reads a range piece by piece, each piece within one block of `block` bytes.
pub(crate) fn by_blocks(mut offset: u64, mut bytes: &mut [u8], block: u64, one: &mut OneBlock) -> Result<(), Fault> {
    while !bytes.is_empty() {
        let inside = offset % block;
        let count = (block - inside).min(bytes.len() as u64);
        let (piece, rest) = bytes.split_at_mut(count as usize);
        one(offset / block, inside, piece)?;
        bytes = rest;
        offset += count;
    }
    Ok(())
}
