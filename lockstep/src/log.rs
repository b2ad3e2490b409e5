//! The log as a side holds it: the records that someone may still need, and where the chain stands.

use crate::chain::Chain;
use crate::record::{Entry, Position, Record};
use crate::wire::{Bad, Reader};
use ftemu_cpu::Icount;
use std::collections::VecDeque;

/// Records with their encodings, from some position on.
#[derive(Clone, Debug)]
pub struct Log {
    start: Position,
    kept: VecDeque<Kept>,
    end: Position,
    bytes: usize,
    written: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    record: Record,
    bytes: Vec<u8>,
    after: Position,
}

/// Records from the peer that do not continue this log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// They do not follow the last one.
    #[error("records from {found} on came, {expected} was next")]
    Gap {
        /// Index of the next record.
        expected: u64,
        /// Index that came.
        found: u64,
    },
    /// They cannot be read.
    #[error("record {index}: {bad}")]
    Bad {
        /// The first that cannot.
        index: u64,
        /// Why.
        bad: Bad,
    },
    /// The chain differs: they are not what the peer appended.
    #[error("the chain breaks between records {first} and {last}")]
    Chain {
        /// The first of the batch.
        first: u64,
        /// The last.
        last: u64,
    },
}

impl Log {
    /// An empty log that goes on from `start`.
    pub fn new(start: Position) -> Self {
        Self { start, kept: VecDeque::new(), end: start, bytes: 0, written: 0 }
    }

    /// The position after the last record. Its count is how far the log covers the guest's run.
    pub fn end(&self) -> Position {
        self.end
    }

    /// The position of the first record still held.
    pub fn start(&self) -> Position {
        self.start
    }

    /// Bytes of the records held.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of all records that were appended here, held or not.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends a record.
    ///
    /// # Panics
    /// Its count is below the log's end: our mistake.
    pub fn append(&mut self, count: Icount, entry: Entry) {
        let record = Record { count, entry };
        let mut bytes = Vec::new();
        record.encode(self.end.count, &mut bytes);
        self.push(record, bytes);
    }

    fn push(&mut self, record: Record, bytes: Vec<u8>) {
        self.end = self.end.after(&record, &bytes);
        self.bytes += bytes.len();
        self.written += bytes.len() as u64;
        self.kept.push_back(Kept { record, bytes, after: self.end });
    }

    /// Takes over a batch from the peer, all of it or nothing.
    ///
    /// # Errors
    /// It does not continue this log.
    pub fn receive(&mut self, first: u64, records: &[u8], chain: Chain) -> Result<(), LogError> {
        if first != self.end.index {
            return Err(LogError::Gap { expected: self.end.index, found: first });
        }
        let batch = decode_batch(self.end, records)?;
        let last = batch.last().map_or(self.end, |kept| kept.after);
        if last.chain != chain {
            return Err(LogError::Chain { first, last: last.index.saturating_sub(1) });
        }
        batch.into_iter().for_each(|kept| self.push(kept.record, kept.bytes));
        Ok(())
    }

    /// The record at `index`, if held.
    pub fn get(&self, index: u64) -> Option<&Record> {
        Some(&self.at(index)?.record)
    }

    fn at(&self, index: u64) -> Option<&Kept> {
        self.kept.get(usize::try_from(index.checked_sub(self.start.index)?).ok()?)
    }

    /// The position after `index` records, if that can still be told.
    pub fn position(&self, index: u64) -> Option<Position> {
        if index == self.start.index {
            return Some(self.start);
        }
        Some(self.at(index.checked_sub(1)?)?.after)
    }

    /// The encodings of all records from `index` on.
    pub fn batch(&self, index: u64) -> Vec<u8> {
        self.batch_to(index, self.end.index)
    }

    /// The encodings of the records from `index` to before `end`.
    pub fn batch_to(&self, index: u64, end: u64) -> Vec<u8> {
        let skip = usize::try_from(index.saturating_sub(self.start.index)).unwrap_or(usize::MAX);
        let count = usize::try_from(end.saturating_sub(index)).unwrap_or(usize::MAX);
        self.kept.iter().skip(skip).take(count).flat_map(|kept| kept.bytes.iter().copied()).collect()
    }

    /// The records from `index` on, at most up to `end`.
    pub fn records(&self, index: u64, end: u64) -> Vec<Record> {
        (index..end).map_while(|index| self.get(index).cloned()).collect()
    }

    /// Drops the records before `index`.
    pub fn forget(&mut self, index: u64) {
        while self.start.index < index {
            let Some(kept) = self.kept.pop_front() else { return };
            self.bytes -= kept.bytes.len();
            self.start = kept.after;
        }
    }
}

fn decode_batch(start: Position, bytes: &[u8]) -> Result<Vec<Kept>, LogError> {
    let (mut batch, mut end, mut reader) = (Vec::new(), start, Reader::new(bytes));
    while !reader.is_empty() {
        let before = reader.rest();
        let record = Record::decode(end.count, &mut reader).map_err(|bad| LogError::Bad { index: end.index, bad })?;
        let bytes = before[..before.len() - reader.rest().len()].to_vec();
        end = end.after(&record, &bytes);
        batch.push(Kept { record, bytes, after: end });
    }
    Ok(batch)
}

/// Reads a batch that follows `start`: its records and the position after them.
///
/// # Errors
/// A record cannot be read.
pub fn read_batch(start: Position, bytes: &[u8]) -> Result<(Vec<Record>, Position), LogError> {
    let batch = decode_batch(start, bytes)?;
    let end = batch.last().map_or(start, |kept| kept.after);
    Ok((batch.into_iter().map(|kept| kept.record).collect(), end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::examples;

    fn filled() -> Log {
        let mut log = Log::new(Position::start(Icount(0)));
        examples().into_iter().for_each(|record| log.append(record.count, record.entry));
        log
    }

    #[test]
    fn a_batch_is_taken_whole_or_not_at_all() {
        let ours = filled();
        let mut theirs = Log::new(Position::start(Icount(0)));
        let bytes = ours.batch(0);
        assert_eq!(theirs.receive(1, &bytes, ours.end().chain), Err(LogError::Gap { expected: 0, found: 1 }));
        for place in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[place] ^= 4;
            assert!(theirs.receive(0, &altered, ours.end().chain).is_err(), "bit flip at {place}");
            assert_eq!(theirs.end(), Position::start(Icount(0)));
        }
        theirs.receive(0, &bytes, ours.end().chain).unwrap();
        assert_eq!(theirs.end(), ours.end());
    }

    #[test]
    fn what_is_forgotten_is_gone_and_the_rest_stays_addressed() {
        let mut log = filled();
        let third = log.position(3);
        log.forget(3);
        assert_eq!((log.get(2), log.position(3), log.position(2)), (None, third, None));
        assert_eq!(log.get(3), Some(&examples()[3]));
        log.forget(u64::MAX);
        assert_eq!((log.bytes(), log.start()), (0, log.end()));
    }
}
