//! A drive that is recorded: what the guest reads, and had neither read nor written since the record began, goes into the
//! record. So a replay needs no disk, and what becomes of the image later does not matter.

use std::collections::BTreeMap;

use ftemu_devices::storage::{Disc, HOUSEKEEPING, Request, SECTOR_BYTES, Storage, StorageFault};
use ftemu_lockstep::Sectors;

use super::handle::Handle;
use crate::recorder::Tap;

/// The number by which the record has a sector of the first, second ... disc in a drive: they are told apart by bits that no
/// drive's sectors need.
pub(super) fn of_disc(disc: u64, sector: u64) -> u64 {
    disc << 44 | sector
}

/// A handle that tells the record what it reads.
pub struct Capture {
    inner: Handle,
    drive: u8,
    tap: Tap,
    known: Known,
    /// Of the disc among those that were in the drive since the record began.
    disc: u64,
    open: BTreeMap<u64, Open>,
}

/// A request of the guest under way.
enum Open {
    /// Sectors to record when they are here: runs of first sector and count, from the first sector of the request on.
    Read { sector: u64, news: Vec<(u64, u64)> },
    /// What is on the disk if this fails nobody knows.
    Change { sector: u64, count: u64 },
}

impl Capture {
    /// Records what is read through `inner`.
    pub fn new(inner: Handle, drive: u8, tap: Tap) -> Self {
        Self { inner, drive, tap, known: Known::default(), disc: 0, open: BTreeMap::new() }
    }

    fn record(&mut self, sector: u64, news: Vec<(u64, u64)>, bytes: &[u8]) {
        for (first, count) in news {
            let (start, length) = ((first - sector) * SECTOR_BYTES, count * SECTOR_BYTES);
            let (drive, disc) = (self.drive, self.disc);
            let content = || Sectors {
                drive,
                sector: of_disc(disc, first),
                bytes: bytes.iter().skip(start as usize).take(length as usize).copied().collect(),
            };
            if self.tap.put(content) {
                self.known.set(first, count, true);
            }
        }
    }

    /// The request has failed, or counts as failed.
    fn failed(&mut self, ticket: u64) {
        if let Some(Open::Change { sector, count }) = self.open.remove(&ticket) {
            self.known.set(sector, count, false);
        }
    }
}

impl Storage for Capture {
    fn sectors(&self) -> u64 {
        self.inner.sectors()
    }

    fn submit(&mut self, ticket: u64, request: &Request) {
        if let Some((sector, count)) = request.sectors().filter(|_| ticket < HOUSEKEEPING) {
            let open = match request.changes() {
                true => {
                    self.known.set(sector, count, true);
                    Open::Change { sector, count }
                }
                false => Open::Read { sector, news: self.known.gaps(sector, count) },
            };
            self.open.insert(ticket, open);
        }
        self.inner.submit(ticket, request);
    }

    fn finish(&mut self, ticket: u64) -> Result<Vec<u8>, StorageFault> {
        let result = self.inner.finish(ticket);
        match &result {
            Err(_) => self.failed(ticket),
            Ok(bytes) => {
                if let Some(Open::Read { sector, news }) = self.open.remove(&ticket) {
                    self.record(sector, news, bytes);
                }
            }
        }
        result
    }

    fn revoke(&mut self, ticket: u64) {
        self.failed(ticket);
        self.inner.revoke(ticket);
    }

    fn change(&mut self, disc: &Disc) {
        self.disc += 1;
        self.known = Known::default();
        self.inner.change(disc);
    }
}

/// A bit for each sector: the record knows its content.
#[derive(Debug, Default)]
struct Known {
    words: BTreeMap<u64, u64>,
}

impl Known {
    fn set(&mut self, sector: u64, count: u64, known: bool) {
        let end = sector.saturating_add(count);
        let mut at = sector;
        while at < end {
            let stop = (at / 64 * 64 + 64).min(end);
            let mask = (u64::MAX >> (64 - (stop - at))) << (at % 64);
            let word = self.words.entry(at / 64).or_default();
            *word = if known { *word | mask } else { *word & !mask };
            at = stop;
        }
    }

    fn has(&self, sector: u64) -> bool {
        self.words.get(&(sector / 64)).is_some_and(|word| word >> (sector % 64) & 1 != 0)
    }

    /// Runs of sectors that are not known.
    fn gaps(&self, sector: u64, count: u64) -> Vec<(u64, u64)> {
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        for at in (sector..sector.saturating_add(count)).filter(|at| !self.has(*at)) {
            match gaps.last_mut() {
                Some((first, length)) if *first + *length == at => *length += 1,
                _ => gaps.push((at, 1)),
            }
        }
        gaps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_what_was_not_set() {
        let mut known = Known::default();
        assert_eq!(known.gaps(60, 10), [(60, 10)]);
        known.set(62, 4, true);
        known.set(100, 64, true);
        assert_eq!(known.gaps(60, 10), [(60, 2), (66, 4)]);
        assert_eq!(known.gaps(100, 64), []);
        known.set(110, 1, false);
        assert_eq!(known.gaps(100, 64), [(110, 1)]);
    }
}
