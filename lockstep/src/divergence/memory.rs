//! What a standby remembers of its disks, so that a replay from the kept copy can have them as they were then.
//!
//! What the guest has not written since is on the disk still. What it has read is remembered, for it may have written
//! there later. What it has written without ever reading it nobody asks for, unless a replay goes another way: then the
//! report says what is missing.

#![allow(clippy::disallowed_types, reason = "replays look at the disk of a guest that stands still meanwhile")]

use super::ranges::Ranges;
use ftemu_devices::storage::{Disc, HOUSEKEEPING, Request, SECTOR_BYTES, Storage, StorageFault};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A sector's bytes.
pub(super) type Sector = [u8; SECTOR_BYTES as usize];
/// Sectors that are remembered at most: 64 MiB.
const MOST_SECTORS: usize = (64 << 20) / SECTOR_BYTES as usize;
/// Ranges of written sectors that are told apart at most.
const MOST_RANGES: usize = 1 << 18;

/// A disk that is remembered. Clones are the same disk.
#[derive(Clone)]
pub struct Memory(Arc<Mutex<Disk>>);

struct Disk {
    storage: Box<dyn Storage>,
    past: Option<Past>,
    tickets: u64,
}

/// Since the copy was kept.
#[derive(Default)]
struct Past {
    /// As they were then.
    read: BTreeMap<u64, Box<Sector>>,
    /// All that was asked for.
    asked: Ranges,
    written: Ranges,
    /// Read twice, and not the same although nobody had written there.
    changed: Ranges,
    /// Requests under way: the first sector, and for each whether its content should be that of then.
    open: BTreeMap<u64, (u64, Vec<bool>)>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Memory {
    /// Of this disk; nothing is remembered yet.
    pub fn of(storage: Box<dyn Storage>) -> Memory {
        Memory(Arc::new(Mutex::new(Disk { storage, past: None, tickets: 0 })))
    }

    /// The disk, for a guest.
    pub fn storage(&self) -> Box<dyn Storage> {
        Box::new(self.clone())
    }

    /// A copy of the guest is kept now: remember from here on.
    pub fn begin(&self) {
        self.lock().past = Some(Past::default());
    }

    /// Ranges of sectors read since, first and last.
    pub fn asked(&self) -> Vec<(u64, u64)> {
        self.lock().past.as_ref().map_or(Vec::new(), |past| past.asked.iter().collect())
    }

    /// Ranges of sectors that have changed since though the guest has not written there: first and last.
    pub fn changed(&self) -> Vec<(u64, u64)> {
        self.lock().past.as_ref().map_or(Vec::new(), |past| past.changed.iter().collect())
    }

    /// A sector as it was when the copy was kept.
    ///
    /// # Errors
    /// Nobody knows any more, or the host cannot read it.
    pub(super) fn sector(&self, sector: u64) -> Result<Sector, StorageFault> {
        let disk = &mut *self.lock();
        let unknown = |why: &str| StorageFault(format!("what sector {sector} held {why}"));
        let past = disk
            .past
            .as_ref()
            .ok_or_else(|| unknown("was not remembered: too much was written since, or the disc changed"))?;
        if let Some(bytes) = past.read.get(&sector) {
            return Ok(**bytes);
        }
        if past.written.contains(sector) {
            return Err(unknown("before the guest wrote there is not known any more"));
        }
        disk.tickets = HOUSEKEEPING | 1 << 62 | disk.tickets.wrapping_add(1);
        disk.storage.submit(disk.tickets, &Request::Read { sector, count: 1 });
        let bytes = disk.storage.finish(disk.tickets)?;
        bytes.try_into().map_err(|_| unknown("came back in another length"))
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for Memory {
    fn sectors(&self) -> u64 {
        self.lock().storage.sectors()
    }

    fn submit(&mut self, ticket: u64, request: &Request) {
        let disk = &mut *self.lock();
        if ticket < HOUSEKEEPING && !disk.past.as_mut().is_none_or(|past| past.submit(ticket, request)) {
            disk.past = None;
        }
        disk.storage.submit(ticket, request);
    }

    fn finish(&mut self, ticket: u64) -> Result<Vec<u8>, StorageFault> {
        let disk = &mut *self.lock();
        let result = disk.storage.finish(ticket);
        if let Some(past) = &mut disk.past {
            past.finish(ticket, result.as_deref().unwrap_or_default());
        }
        result
    }

    fn revoke(&mut self, ticket: u64) {
        let disk = &mut *self.lock();
        if let Some(past) = &mut disk.past {
            past.open.remove(&ticket);
        }
        disk.storage.revoke(ticket);
    }

    /// Nothing is known of the disc that was in the drive before, until the next copy is kept.
    fn change(&mut self, disc: &Disc) {
        let disk = &mut *self.lock();
        disk.past = None;
        disk.storage.change(disc);
    }
}

impl Past {
    /// False: it is too much to remember.
    fn submit(&mut self, ticket: u64, request: &Request) -> bool {
        let Some((sector, count)) = request.sectors() else { return true };
        if request.changes() {
            self.written.insert(sector, count);
        } else {
            let old = (sector..sector.saturating_add(count)).map(|sector| !self.written.contains(sector));
            self.open.insert(ticket, (sector, old.collect()));
            self.asked.insert(sector, count);
        }
        self.written.len() <= MOST_RANGES && self.asked.len() <= MOST_RANGES
    }

    fn finish(&mut self, ticket: u64, bytes: &[u8]) {
        let Some((sector, old)) = self.open.remove(&ticket) else { return };
        let sectors = (sector..).zip(bytes.chunks_exact(SECTOR_BYTES as usize)).zip(old);
        for ((sector, bytes), _) in sectors.filter(|(_, old)| *old) {
            match self.read.get(&sector) {
                Some(read) if read[..] != *bytes => self.changed.insert(sector, 1),
                None if self.read.len() < MOST_SECTORS => {
                    self.read.extend(bytes.try_into().ok().map(|bytes| (sector, Box::new(bytes))));
                }
                _ => (),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftemu_devices::storage::MemoryStorage;

    fn ask(disk: &mut dyn Storage, ticket: u64, request: &Request) -> Vec<u8> {
        disk.submit(ticket, request);
        disk.finish(ticket).expect("a disk in memory")
    }

    #[test]
    fn what_was_there_is_known_unless_it_was_written_unread() {
        let memory = Memory::of(Box::new(MemoryStorage::of(&[1; 5 * 512])));
        let mut disk = memory.storage();
        assert!(memory.sector(0).is_err(), "nothing was remembered yet");
        ask(&mut *disk, 1, &Request::Write { sector: 4, bytes: vec![7; 512] });
        memory.begin();
        ask(&mut *disk, 2, &Request::Read { sector: 0, count: 2 });
        ask(&mut *disk, 3, &Request::Write { sector: 1, bytes: vec![2; 1024] });
        assert_eq!(ask(&mut *disk, 4, &Request::Read { sector: 1, count: 1 }), [2; 512]);
        let known: Vec<Option<u8>> = (0..5).map(|sector| memory.sector(sector).ok().map(|bytes| bytes[0])).collect();
        assert_eq!(known, [Some(1), Some(1), None, Some(1), Some(7)]);
        assert_eq!(memory.asked(), [(0, 1)]);
        memory.begin();
        assert_eq!(memory.sector(2).map(|bytes| bytes[0]), Ok(2));
    }

    #[test]
    fn a_disk_that_changes_by_itself_is_noticed() {
        let below = MemoryStorage::of(&[1; 4 * 512]);
        let memory = Memory::of(Box::new(below.share()));
        let mut disk = memory.storage();
        memory.begin();
        ask(&mut *disk, 1, &Request::Read { sector: 0, count: 4 });
        below.tamper(1030, 9);
        ask(&mut *disk, 2, &Request::Write { sector: 1, bytes: vec![2; 512] });
        ask(&mut *disk, 3, &Request::Read { sector: 0, count: 4 });
        assert_eq!(memory.changed(), [(2, 2)]);
        assert_eq!(memory.sector(2), Ok([1; 512]));
    }
}
