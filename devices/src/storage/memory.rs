//! A drive in memory: for tests, the simulator, and overlays that are thrown away.

#![allow(clippy::disallowed_types, reason = "it stands for a host's disk, which machines of a test share")]

use super::{Request, SECTOR_BYTES, Storage, StorageFault};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Sectors in memory; those never written are zeroes. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    disk: Arc<Mutex<Disk>>,
    sectors: u64,
    answers: BTreeMap<u64, Result<Vec<u8>, StorageFault>>,
}

#[derive(Debug, Default)]
struct Disk {
    sectors: BTreeMap<u64, [u8; SECTOR_BYTES as usize]>,
    broken: BTreeSet<u64>,
    flushes: u64,
}

impl MemoryStorage {
    /// A drive of `sectors` sectors of zeroes.
    pub fn new(sectors: u64) -> MemoryStorage {
        MemoryStorage { sectors, ..MemoryStorage::default() }
    }

    /// A drive with these bytes, filled up to a whole sector.
    pub fn of(bytes: &[u8]) -> MemoryStorage {
        let storage = MemoryStorage::new((bytes.len() as u64).div_ceil(SECTOR_BYTES));
        storage.disk().write(0, bytes);
        storage
    }

    /// Requests that touch this sector fail from now on, or again succeed.
    pub fn set_broken(&self, sector: u64, broken: bool) {
        let mut disk = self.disk();
        match broken {
            true => disk.broken.insert(sector),
            false => disk.broken.remove(&sector),
        };
    }

    /// The whole content.
    pub fn bytes(&self) -> Vec<u8> {
        self.disk().read(0, self.sectors)
    }

    /// Changes a byte behind everybody's back.
    pub fn tamper(&self, place: u64, value: u8) {
        let (sector, byte) = (place / SECTOR_BYTES, (place % SECTOR_BYTES) as usize);
        self.disk().sectors.entry(sector).or_insert([0; SECTOR_BYTES as usize])[byte] = value;
    }

    /// Flushes so far.
    pub fn flushes(&self) -> u64 {
        self.disk().flushes
    }

    /// The same sectors for another machine, with no request under way.
    pub fn share(&self) -> MemoryStorage {
        MemoryStorage { answers: BTreeMap::new(), ..self.clone() }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk {
    fn read(&self, sector: u64, count: u64) -> Vec<u8> {
        let mut bytes = vec![0; (count * SECTOR_BYTES) as usize];
        for (place, content) in self.sectors.range(sector..sector + count) {
            bytes[((place - sector) * SECTOR_BYTES) as usize..][..SECTOR_BYTES as usize].copy_from_slice(content);
        }
        bytes
    }

    fn write(&mut self, sector: u64, bytes: &[u8]) {
        for (sector, piece) in (sector..).zip(bytes.chunks(SECTOR_BYTES as usize)) {
            let place = self.sectors.entry(sector).or_insert([0; SECTOR_BYTES as usize]);
            place[..piece.len()].copy_from_slice(piece);
        }
    }

    fn perform(&mut self, request: &Request) -> Result<Vec<u8>, StorageFault> {
        if let Some((sector, count)) = request.sectors()
            && let Some(broken) = self.broken.range(sector..sector.saturating_add(count)).next()
        {
            return Err(StorageFault(format!("sector {broken} cannot be reached")));
        }
        match request {
            Request::Read { sector, count } => return Ok(self.read(*sector, u64::from(*count))),
            Request::Write { sector, bytes } => self.write(*sector, bytes),
            Request::Flush => self.flushes += 1,
            Request::Discard { sector, count } => {
                self.sectors.retain(|place, _| !(*sector..sector.saturating_add(*count)).contains(place));
            }
        }
        Ok(Vec::new())
    }
}

impl Storage for MemoryStorage {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn submit(&mut self, ticket: u64, request: &Request) {
        let answer = self.disk().perform(request);
        self.answers.insert(ticket, answer);
    }

    fn finish(&mut self, ticket: u64) -> Result<Vec<u8>, StorageFault> {
        self.answers.remove(&ticket).unwrap_or_else(|| Err(StorageFault(format!("request {ticket} was never made"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_take_effect_in_order_and_are_answered_once() {
        let mut storage = MemoryStorage::of(&[7; 1000]);
        assert_eq!(storage.sectors(), 2);
        storage.submit(1, &Request::Read { sector: 1, count: 1 });
        storage.submit(2, &Request::Write { sector: 1, bytes: vec![9; 512] });
        storage.submit(3, &Request::Read { sector: 1, count: 1 });
        storage.submit(4, &Request::Discard { sector: 0, count: 1 });
        assert_eq!(storage.finish(3), Ok(vec![9; 512]));
        assert_eq!(storage.finish(1), Ok([[7; 488].as_slice(), &[0; 24]].concat()));
        assert!(storage.finish(1).is_err());
        assert_eq!(storage.bytes()[..512], [0; 512]);
        storage.set_broken(0, true);
        storage.submit(5, &Request::Read { sector: 0, count: 2 });
        assert!(storage.finish(5).is_err());
    }
}
