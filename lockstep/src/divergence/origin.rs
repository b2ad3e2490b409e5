//! Where replays begin: a copy of the guest and what its disks held then.

#![allow(clippy::disallowed_types, reason = "a copy of a replayed guest takes what it has written so far")]

use super::memory::{Memory, Sector};
use super::ranges::Ranges;
use crate::guest::{Guest, GuestError};
use crate::image::Image;
use ftemu_devices::storage::{Request, SECTOR_BYTES, Storage, StorageFault};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A guest at rest, with its disks.
#[derive(Clone)]
pub(super) struct Origin<'a> {
    pub image: Cow<'a, Image>,
    /// What a replay had written by then, over what is remembered.
    disks: Vec<(Memory, Written)>,
}

/// A guest from an [`Origin`].
pub(super) struct Restored<G> {
    pub guest: G,
    pub disks: Disks,
}

/// A replayed guest's disks, to take copies of.
pub(super) struct Disks(Vec<Replayed>);

impl<'a> Origin<'a> {
    /// The kept copy; nothing was written since.
    pub fn kept(image: &'a Image, memories: &[Memory]) -> Self {
        let disks = memories.iter().map(|memory| (memory.clone(), Written::default())).collect();
        Self { image: Cow::Borrowed(image), disks }
    }

    /// A guest in that state, on disks of its own.
    ///
    /// # Errors
    /// See [`Image::restore`].
    pub fn restore<G: Guest>(&self) -> Result<Restored<G>, GuestError> {
        let mut guest: G = self.image.restore()?;
        let disk = |(memory, written): &(Memory, Written)| Replayed {
            memory: memory.clone(),
            written: Arc::new(Mutex::new(written.clone())),
            answers: BTreeMap::new(),
        };
        let disks: Vec<Replayed> = self.disks.iter().map(disk).collect();
        for (drive, disk) in (0..).zip(&disks) {
            let storage = Box::new(Replayed { answers: BTreeMap::new(), ..disk.clone() });
            guest.drives().attach(drive, storage).map_err(|error| GuestError(error.to_string()))?;
        }
        Ok(Restored { guest, disks: Disks(disks) })
    }
}

impl Disks {
    /// A copy of a guest that has these disks.
    pub fn origin_of<G: Guest>(&self, guest: &mut G) -> Origin<'static> {
        guest.drives().fetch();
        let disk = |disk: &Replayed| (disk.memory.clone(), disk.lock().clone());
        Origin { image: Cow::Owned(Image::of(guest)), disks: self.0.iter().map(disk).collect() }
    }
}

/// What a replayed guest has written.
#[derive(Clone, Default)]
struct Written {
    sectors: BTreeMap<u64, Box<Sector>>,
    /// Discarded, where nothing was written since.
    zeroes: Ranges,
}

impl Written {
    fn get(&self, sector: u64) -> Option<Sector> {
        let written = self.sectors.get(&sector).map(|bytes| **bytes);
        written.or_else(|| self.zeroes.contains(sector).then_some([0; SECTOR_BYTES as usize]))
    }
}

/// A disk of a replayed guest.
#[derive(Clone)]
struct Replayed {
    memory: Memory,
    written: Arc<Mutex<Written>>,
    answers: BTreeMap<u64, Result<Vec<u8>, StorageFault>>,
}

impl Replayed {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(&self, request: &Request) -> Result<Vec<u8>, StorageFault> {
        let mut disk = self.lock();
        match request {
            Request::Read { sector, count } => {
                let mut bytes = Vec::new();
                for sector in (*sector..).take(*count as usize) {
                    bytes.extend(disk.get(sector).map_or_else(|| self.memory.sector(sector), Ok)?);
                }
                return Ok(bytes);
            }
            Request::Write { sector, bytes } => {
                for (sector, bytes) in (*sector..).zip(bytes.chunks_exact(SECTOR_BYTES as usize)) {
                    let bytes = bytes.try_into().map_err(|_| StorageFault("half a sector".into()))?;
                    disk.sectors.insert(sector, Box::new(bytes));
                }
            }
            Request::Discard { sector, count } => {
                let end = sector.saturating_add(*count);
                let mut later = disk.sectors.split_off(sector);
                disk.sectors.append(&mut later.split_off(&end));
                disk.zeroes.insert(*sector, *count);
            }
            Request::Flush => {}
        }
        Ok(Vec::new())
    }
}

impl Storage for Replayed {
    fn sectors(&self) -> u64 {
        self.memory.sectors()
    }

    fn submit(&mut self, ticket: u64, request: &Request) {
        let answer = self.perform(request);
        self.answers.insert(ticket, answer);
    }

    fn finish(&mut self, ticket: u64) -> Result<Vec<u8>, StorageFault> {
        self.answers.remove(&ticket).unwrap_or_else(|| Err(StorageFault(format!("request {ticket} was never made"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftemu_devices::storage::MemoryStorage;

    #[test]
    fn a_replay_writes_over_what_was_there_and_touches_nothing() {
        let below = MemoryStorage::of(&[1; 4 * 512]);
        let memory = Memory::of(Box::new(below.share()));
        memory.begin();
        let written = Arc::new(Mutex::new(Written::default()));
        let disk = Replayed { memory, written, answers: BTreeMap::new() };
        disk.perform(&Request::Write { sector: 0, bytes: vec![2; 1024] }).unwrap();
        disk.perform(&Request::Discard { sector: 1, count: 2 }).unwrap();
        disk.perform(&Request::Write { sector: 2, bytes: vec![3; 512] }).unwrap();
        let bytes = disk.perform(&Request::Read { sector: 0, count: 4 }).unwrap();
        assert_eq!(bytes, [[2; 512], [0; 512], [3; 512], [1; 512]].concat());
        assert_eq!(below.bytes(), [1; 4 * 512]);
    }
}
