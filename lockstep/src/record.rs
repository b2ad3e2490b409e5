//! The log's records: what a guest was told, at which count, and what both sides must agree on.
//!
//! A record is encoded against the one before it: its count as the distance, together with its kind in one number.
//! A mark of progress costs two to four bytes, a key press about eight.

use crate::chain::Chain;
use crate::guest::{Digest, Input};
use crate::wire::{Bad, Reader, put_bytes, put_number};
use ftemu_cpu::Icount;

/// One entry of the log. Its position in the log orders it against others of the same count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When: after this many instructions. Never less than that of the record before.
    pub count: Icount,
    /// What.
    pub entry: Entry,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// No input comes below this count: a backup may run up to it, idle skips included.
    Covered,
    /// The guest is handed this.
    Input(Input),
    /// The state's digest, here.
    Digest(Digest),
    /// From here on the standby is whole and the primary holds outputs for it.
    Paired {
        /// The term in which they are a pair.
        term: u64,
    },
    /// A server went on alone from here.
    Alone {
        /// The term it won.
        term: u64,
    },
    /// The guest is off.
    End,
}

const COVERED: u64 = 0;
const INPUT: u64 = 1;
const DIGEST: u64 = 2;
const PAIRED: u64 = 3;
const ALONE: u64 = 4;
const END: u64 = 5;

impl Record {
    /// Appends the encoding after a record at `previous`.
    ///
    /// # Panics
    /// The count is less than `previous`: ours is the log, so that is our mistake.
    pub fn encode(&self, previous: Icount, out: &mut Vec<u8>) {
        let distance = self.count.0.checked_sub(previous.0).expect("counts never fall");
        assert!(distance < 1 << 61, "a count beyond reach");
        put_number(out, distance << 3 | self.entry.kind());
        match &self.entry {
            Entry::Covered | Entry::End => (),
            Entry::Input(input) => {
                let mut bytes = Vec::new();
                input.encode(&mut bytes);
                put_bytes(out, &bytes);
            }
            Entry::Digest(digest) => out.extend_from_slice(digest),
            Entry::Paired { term } | Entry::Alone { term } => put_number(out, *term),
        }
    }

    /// Reads a record that follows one at `previous`.
    ///
    /// # Errors
    /// Cut short, of no known kind, or its count is beyond all reach.
    pub fn decode(previous: Icount, reader: &mut Reader<'_>) -> Result<Record, Bad> {
        let head = reader.number()?;
        let count = previous.0.checked_add(head >> 3).ok_or(reader.bad("count out of range"))?;
        let entry = match head & 7 {
            COVERED => Entry::Covered,
            INPUT => {
                let mut bytes = reader.bytes()?;
                let input = Input::decode(&mut bytes).filter(|_| bytes.is_empty());
                Entry::Input(input.ok_or(reader.bad("no such input"))?)
            }
            DIGEST => Entry::Digest(reader.array()?),
            PAIRED => Entry::Paired { term: reader.number()? },
            ALONE => Entry::Alone { term: reader.number()? },
            END => Entry::End,
            _ => return Err(reader.bad("no such kind of record")),
        };
        Ok(Record { count: Icount(count), entry })
    }
}

impl Entry {
    fn kind(&self) -> u64 {
        match self {
            Entry::Covered => COVERED,
            Entry::Input(_) => INPUT,
            Entry::Digest(_) => DIGEST,
            Entry::Paired { .. } => PAIRED,
            Entry::Alone { .. } => ALONE,
            Entry::End => END,
        }
    }
}

/// A place in the log: how many records came before, the last one's count, and the hash of them all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Records before this place.
    pub index: u64,
    /// The count of the last of them.
    pub count: Icount,
    /// The chained hash of all of them.
    pub chain: Chain,
}

impl Position {
    /// The start of a log at `count`.
    pub fn start(count: Icount) -> Self {
        Self { index: 0, count, chain: Chain::default() }
    }

    /// The place after `record`, whose encoding is `bytes`.
    #[must_use]
    pub fn after(&self, record: &Record, bytes: &[u8]) -> Self {
        Self { index: self.index.saturating_add(1), count: record.count, chain: self.chain.after(bytes) }
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_number(out, self.index);
        put_number(out, self.count.0);
        out.extend_from_slice(&self.chain.0);
    }

    /// Reads what [`Position::encode`] wrote.
    ///
    /// # Errors
    /// Cut short.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, Bad> {
        Ok(Self { index: reader.number()?, count: Icount(reader.number()?), chain: Chain(reader.array()?) })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn examples() -> Vec<Record> {
        let at = |count, entry| Record { count: Icount(count), entry };
        vec![
            at(0, Entry::Input(Input::Clock { ns: 1_000_000_007, rate: 1024 })),
            at(5, Entry::Paired { term: 3 }),
            at(5, Entry::Input(Input::Serial { port: 0, bytes: b"ls\n".to_vec() })),
            at(500_000, Entry::Covered),
            at(1 << 26, Entry::Digest([7; 32])),
            at(1 << 40, Entry::Alone { term: 4 }),
            at(1 << 40, Entry::Input(Input::PowerButton)),
            at((1 << 40) + 9, Entry::End),
        ]
    }

    #[test]
    fn records_round_trip_and_no_cut_is_taken_for_whole() {
        let mut previous = Icount(0);
        for record in examples() {
            let mut bytes = Vec::new();
            record.encode(previous, &mut bytes);
            let mut reader = Reader::new(&bytes);
            assert_eq!(Record::decode(previous, &mut reader), Ok(record.clone()));
            assert!(reader.is_empty());
            for length in 0..bytes.len() {
                assert!(Record::decode(previous, &mut Reader::new(&bytes[..length])).is_err());
            }
            previous = record.count;
        }
    }

    #[test]
    fn progress_is_small() {
        let mut bytes = Vec::new();
        Record { count: Icount(500_000), entry: Entry::Covered }.encode(Icount(0), &mut bytes);
        assert!(bytes.len() <= 4);
    }

    #[test]
    fn a_count_out_of_range_is_an_error() {
        let mut bytes = Vec::new();
        Record { count: Icount(9), entry: Entry::Covered }.encode(Icount(0), &mut bytes);
        assert!(Record::decode(Icount(u64::MAX), &mut Reader::new(&bytes)).is_err());
    }
}
