//! The record file: a head with the guest's image, then the log in frames, each with the chain up to it; between them what
//! the guest read from its disks for the first time, so that a replay needs no disk.
//!
//! ```text
//! "ftemulog" | version: u32 | length of the head: u64 | head | 16 bytes of its BLAKE3 | frame | frame | ...
//! head:  identity | position | config | state | pages: number | (page number, 4096 bytes)*
//! frame: 0 | length | records, each encoded against the one before | chain after the last (16 bytes)
//!    or: 1 | drive: u8 | sector | length | content of sectors | 16 bytes of the BLAKE3 of all this
//! ```
//!
//! Only bytes go in and out; the edge compresses them and owns the file. Numbers without a width are LEB128.

use crate::chain::{Chain, first16};
use crate::guest::PAGE_BYTES;
use crate::handshake::Identity;
use crate::image::Image;
use crate::log::{LogError, read_batch};
use crate::record::{Position, Record};
use crate::wire::{Bad, Reader, put_bytes, put_number};
use ftemu_cpu::Icount;
use std::collections::{BTreeMap, VecDeque};

/// The first bytes of every record.
pub const MAGIC: &[u8; 8] = b"ftemulog";

/// The version of the format; a reader reads its own only.
pub const VERSION: u32 = 2;

const PREFIX_BYTES: usize = 20;
const HASH_BYTES: usize = 16;
/// Kinds of frames.
const LOG: u8 = 0;
const SECTORS: u8 = 1;

/// What a record begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The server that recorded. [`Identity::check`] it: another build or CPU may not reproduce the run.
    pub identity: Identity,
    /// Where in the pair's log the record begins.
    pub position: Position,
    /// The guest there.
    pub image: Image,
}

/// Why a record cannot be read (on).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// It does not begin like one.
    #[error("this is not a record of ftemu")]
    NotARecord,
    /// Another version of the format.
    #[error("the record has format {found}, this ftemu reads format {VERSION}: replay it with the ftemu that wrote it")]
    OtherVersion {
        /// What it has.
        found: u32,
    },
    /// It ends within its head or within a frame.
    #[error("the record is cut short at byte {at}, after record {records} (count {count})")]
    CutShort {
        /// Whole records before.
        records: u64,
        /// The last one's count.
        count: u64,
        /// Where the unfinished part begins, in the uncompressed bytes.
        at: u64,
    },
    /// Its bytes are not those that were written.
    #[error("the record is damaged at byte {at}, after record {records} (count {count}): {what}")]
    Damaged {
        /// Whole records before.
        records: u64,
        /// The last one's count.
        count: u64,
        /// Where the damaged part begins, in the uncompressed bytes.
        at: u64,
        /// What does not fit.
        what: String,
    },
}

/// The bytes that begin a record.
pub fn head(identity: &Identity, position: Position, image: &Image) -> Vec<u8> {
    let mut out = Vec::with_capacity(image.pages.len() * (PAGE_BYTES + 5) + image.state.len() + 1024);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    identity.encode(&mut out);
    position.encode(&mut out);
    put_bytes(&mut out, &image.config);
    put_bytes(&mut out, &image.state);
    put_number(&mut out, image.pages.len() as u64);
    for (index, page) in &image.pages {
        put_number(&mut out, u64::from(*index));
        out.extend_from_slice(&page[..]);
    }
    let length = (out.len() - PREFIX_BYTES) as u64;
    out[12..PREFIX_BYTES].copy_from_slice(&length.to_le_bytes());
    let hash = first16(blake3::hash(&out).as_bytes());
    out.extend_from_slice(&hash);
    out
}

/// A frame: the encodings of some records, and the chain after them.
pub fn frame(records: &[u8], chain: Chain) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.len() + 24);
    out.push(LOG);
    put_bytes(&mut out, records);
    out.extend_from_slice(&chain.0);
    out
}

/// A frame: sectors of a disk as they were when the guest read them, which it had neither read nor written since the
/// record began. Comes before the records of any later count.
pub fn sectors_frame(sectors: &Sectors) -> Vec<u8> {
    let Sectors { drive, sector, bytes } = sectors;
    let mut out = Vec::with_capacity(bytes.len() + 40);
    out.extend([SECTORS, *drive]);
    put_number(&mut out, *sector);
    put_bytes(&mut out, bytes);
    let hash = first16(blake3::hash(&out).as_bytes());
    out.extend_from_slice(&hash);
    out
}

/// Content of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sectors {
    /// Which drive.
    pub drive: u8,
    /// The first sector of 512 bytes.
    pub sector: u64,
    /// Whole sectors.
    pub bytes: Vec<u8>,
}

/// Reads a record from bytes that come in pieces of any size.
#[derive(Clone, Debug, Default)]
pub struct RecordReader {
    bytes: Vec<u8>,
    /// Bytes taken off the front so far.
    taken: u64,
    end: Option<Position>,
    start: u64,
    ready: VecDeque<Record>,
    sectors: Vec<Sectors>,
}

impl RecordReader {
    /// Nothing read yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// More of the file.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The head, once enough was fed; to be asked for before the records.
    ///
    /// # Errors
    /// It is no record, or not one that can be read here, or damaged.
    pub fn head(&mut self) -> Result<Option<Head>, FileError> {
        let known = self.bytes.len().min(MAGIC.len());
        if self.bytes[..known] != MAGIC[..known] {
            return Err(FileError::NotARecord);
        }
        let Some(prefix) = self.bytes.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        let found = u32::from_le_bytes([prefix[8], prefix[9], prefix[10], prefix[11]]);
        if found != VERSION {
            return Err(FileError::OtherVersion { found });
        }
        let mut length = [0; 8];
        length.copy_from_slice(&prefix[12..]);
        let length = usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX);
        let hashed = PREFIX_BYTES.saturating_add(length);
        let Some(whole) = self.bytes.get(..hashed.saturating_add(HASH_BYTES)) else { return Ok(None) };
        if first16(blake3::hash(&whole[..hashed]).as_bytes()) != whole[hashed..] {
            return Err(self.damaged("the head's hash is another".into()));
        }
        let head = read_head(&whole[PREFIX_BYTES..hashed]).map_err(|bad| self.damaged(bad.to_string()))?;
        self.take(hashed + HASH_BYTES);
        self.end = Some(head.position);
        self.start = head.position.index;
        Ok(Some(head))
    }

    /// The next record; `None`: feed more, or ask [`RecordReader::finish`] at the file's end.
    ///
    /// # Errors
    /// The frame is damaged.
    pub fn next_record(&mut self) -> Result<Option<Record>, FileError> {
        while self.ready.is_empty() && self.frame()? {}
        Ok(self.ready.pop_front())
    }

    /// What was read from disks between the record before and the last one that [`RecordReader::next_record`] gave.
    pub fn take_sectors(&mut self) -> Vec<Sectors> {
        std::mem::take(&mut self.sectors)
    }

    /// Reads a frame, if there is a whole one.
    fn frame(&mut self) -> Result<bool, FileError> {
        let (Some(start), Some(&kind)) = (self.end, self.bytes.first()) else { return Ok(false) };
        let mut reader = Reader::new(&self.bytes);
        let read = match kind {
            LOG => read_log(&mut reader).map(|(records, chain)| Ok((records, chain))),
            _ => read_sectors(&mut reader).map(Err),
        };
        let (records, chain) = match read {
            Ok(Ok(frame)) => frame,
            Ok(Err((sectors, hash))) => {
                let length = reader.at() as usize;
                if first16(blake3::hash(&self.bytes[..length - HASH_BYTES]).as_bytes()) != hash {
                    return Err(self.damaged("the hash of a disk's content is another".into()));
                }
                self.sectors.push(sectors);
                self.take(length);
                return Ok(true);
            }
            Err(bad) if bad.what == "cut short" => return Ok(false),
            Err(bad) => return Err(self.damaged(bad.to_string())),
        };
        let length = reader.at() as usize;
        let (ready, end) = match read_batch(start, records) {
            Ok(batch) => batch,
            Err(LogError::Bad { bad, .. }) => return Err(self.damaged(bad.what.into())),
            Err(error) => return Err(self.damaged(error.to_string())),
        };
        if end.chain.0 != chain {
            return Err(self.damaged("the chain of records breaks".into()));
        }
        self.ready.extend(ready);
        self.end = Some(end);
        self.take(length);
        Ok(true)
    }

    /// The file has ended: says whether it was whole. A record whose writer was killed is cut short; what came before
    /// is good.
    ///
    /// # Errors
    /// [`FileError::CutShort`], or [`FileError::NotARecord`] for a file without anything.
    pub fn finish(&self) -> Result<(), FileError> {
        if self.taken == 0 && self.bytes.is_empty() {
            return Err(FileError::NotARecord);
        }
        if self.bytes.is_empty() {
            return Ok(());
        }
        let (records, count) = self.read_so_far();
        Err(FileError::CutShort { records, count, at: self.taken })
    }

    fn damaged(&self, what: String) -> FileError {
        let (records, count) = self.read_so_far();
        FileError::Damaged { records, count, at: self.taken, what }
    }

    fn read_so_far(&self) -> (u64, u64) {
        self.end.map_or((0, 0), |end| (end.index - self.start, end.count.0))
    }

    fn take(&mut self, length: usize) {
        self.bytes.drain(..length);
        self.taken += length as u64;
    }
}

fn read_log<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], [u8; HASH_BYTES]), Bad> {
    reader.byte()?;
    Ok((reader.bytes()?, reader.array()?))
}

fn read_sectors(reader: &mut Reader<'_>) -> Result<(Sectors, [u8; HASH_BYTES]), Bad> {
    if reader.byte()? != SECTORS {
        return Err(reader.bad("no such kind of frame"));
    }
    let sectors = Sectors { drive: reader.byte()?, sector: reader.number()?, bytes: reader.bytes()?.to_vec() };
    Ok((sectors, reader.array()?))
}

fn read_head(bytes: &[u8]) -> Result<Head, Bad> {
    let mut reader = Reader::new(bytes);
    let identity = Identity::decode(&mut reader)?;
    let position = Position::decode(&mut reader)?;
    let config = reader.bytes()?.to_vec();
    let state = reader.bytes()?.to_vec();
    let mut pages = BTreeMap::new();
    for _ in 0..reader.number()? {
        pages.insert(reader.number32()?, Box::new(reader.array::<PAGE_BYTES>()?));
    }
    reader.end()?;
    let image = Image { config, count: Icount(position.count.0), state, pages };
    Ok(Head { identity, position, image })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::tests::example;
    use crate::log::Log;
    use crate::record::tests::examples;

    fn file() -> (Vec<u8>, usize) {
        let pages = BTreeMap::from([(3, Box::new([9; PAGE_BYTES]))]);
        let image = Image { config: vec![1], count: Icount(0), state: vec![2, 3], pages };
        let mut log = Log::new(Position::start(Icount(0)));
        let mut bytes = head(&example(), log.end(), &image);
        let head_bytes = bytes.len();
        for record in examples() {
            let index = log.end().index;
            log.append(record.count, record.entry);
            bytes.extend(frame(&log.batch(index), log.end().chain));
            bytes.extend(sectors_frame(&sectors(index)));
        }
        (bytes, head_bytes)
    }

    fn sectors(index: u64) -> Sectors {
        Sectors { drive: index as u8, sector: index << 30, bytes: vec![index as u8; 1024] }
    }

    fn read(bytes: &[u8], piece: usize) -> (Vec<Record>, Result<(), FileError>) {
        let (mut reader, mut records, mut headed) = (RecordReader::new(), Vec::new(), false);
        for piece in bytes.chunks(piece) {
            reader.feed(piece);
            if !headed {
                match reader.head() {
                    Ok(head) => headed = head.is_some(),
                    Err(error) => return (records, Err(error)),
                }
            }
            loop {
                match reader.next_record() {
                    Ok(Some(record)) => {
                        let before: Vec<u64> = reader.take_sectors().iter().map(|sectors| sectors.sector).collect();
                        let expected = (records.len() as u64).checked_sub(1).map(|index| sectors(index).sector);
                        assert_eq!(before, Vec::from_iter(expected));
                        records.push(record);
                    }
                    Ok(None) => break,
                    Err(error) => return (records, Err(error)),
                }
            }
        }
        (records, reader.finish())
    }

    #[test]
    fn a_record_is_read_back_from_pieces_of_any_size() {
        let (bytes, _) = file();
        for piece in [1, 7, 4096, bytes.len()] {
            assert_eq!(read(&bytes, piece), (examples(), Ok(())));
        }
    }

    #[test]
    fn every_cut_is_told_with_the_last_whole_record() {
        let (bytes, head_bytes) = file();
        for length in (0..40).chain(head_bytes - 3..bytes.len()) {
            let (records, end) = read(&bytes[..length], 4096);
            match end {
                Ok(()) => assert_eq!(examples()[..records.len()], records[..]),
                Err(FileError::CutShort { records: told, count, .. }) => {
                    assert_eq!(told, records.len() as u64);
                    assert_eq!(count, records.last().map_or(0, |record| record.count.0));
                }
                Err(error) => assert_eq!((length, error), (0, FileError::NotARecord)),
            }
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let (bytes, head_bytes) = file();
        for place in (0..40).chain(head_bytes - 20..bytes.len()) {
            let mut altered = bytes.clone();
            altered[place] ^= 1 << (place % 8);
            let (records, end) = read(&altered, 4096);
            assert!(end.is_err(), "bit {} of byte {place}", place % 8);
            assert_eq!(examples()[..records.len()], records[..], "byte {place}");
        }
    }

    #[test]
    fn other_files_and_versions_are_named() {
        assert_eq!(read(b"#!/bin/sh", 100).1, Err(FileError::NotARecord));
        let (mut bytes, _) = file();
        bytes[8] = 9;
        assert_eq!(read(&bytes, 100).1, Err(FileError::OtherVersion { found: 9 }));
    }
}
