//! A drive of a replay: what the record says the guest has read, under what the replayed guest writes. Nothing of it is
//! ever on a disk.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ftemu_devices::storage::{Disc, Request, SECTOR_BYTES, Storage, StorageFault};
use ftemu_lockstep::Sectors;

use super::capture::of_disc;
use super::sparse::Sparse;

/// What the record says of all drives so far.
#[derive(Clone, Debug, Default)]
pub struct RecordedDisks(Arc<Mutex<BTreeMap<u8, Sparse>>>);

impl RecordedDisks {
    /// The record goes on.
    pub fn add(&self, more: Vec<Sectors>) {
        let mut disks = self.lock();
        for Sectors { drive, sector, bytes } in more {
            disks.entry(drive).or_default().put(sector, &bytes);
        }
    }

    /// A drive for the replayed machine.
    pub fn storage(&self, drive: u8, sectors: u64) -> Replayed {
        let overlay = Sparse::default();
        Replayed { recorded: self.clone(), drive, sectors, disc: 0, overlay, open: BTreeMap::new() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u8, Sparse>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A drive of a replayed machine.
#[derive(Debug)]
pub struct Replayed {
    recorded: RecordedDisks,
    drive: u8,
    sectors: u64,
    /// Of the disc among those that were in the drive since the record began.
    disc: u64,
    overlay: Sparse,
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
enum Open {
    /// What the guest had written of it when it began to read, sector by sector. The rest comes from the record, which
    /// has it by the time the request ends.
    Read {
        sector: u64,
        written: Vec<Option<[u8; SECTOR_BYTES as usize]>>,
    },
    Change {
        sector: u64,
        count: u64,
    },
    Flush,
}

impl Storage for Replayed {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn submit(&mut self, ticket: u64, request: &Request) {
        let open = match request {
            Request::Read { sector, count } => {
                let written = (*sector..).take(*count as usize).map(|sector| self.overlay.get(sector)).collect();
                Open::Read { sector: *sector, written }
            }
            Request::Write { sector, bytes } => {
                self.overlay.put(*sector, bytes);
                Open::Change { sector: *sector, count: bytes.len() as u64 / SECTOR_BYTES }
            }
            Request::Discard { sector, count } => {
                self.overlay.clear(*sector, *count);
                Open::Change { sector: *sector, count: *count }
            }
            Request::Flush => Open::Flush,
        };
        self.open.insert(ticket, open);
    }

    fn finish(&mut self, ticket: u64) -> Result<Vec<u8>, StorageFault> {
        let open = self.open.remove(&ticket);
        let open =
            open.ok_or_else(|| StorageFault(format!("request {ticket} was never made, or was answered before")))?;
        let Open::Read { sector, written } = open else { return Ok(Vec::new()) };
        let disks = self.recorded.lock();
        let recorded = disks.get(&self.drive);
        let mut bytes = Vec::with_capacity(written.len() * SECTOR_BYTES as usize);
        for (sector, written) in (sector..).zip(written) {
            let content = written.or_else(|| recorded?.get(of_disc(self.disc, sector)));
            let missing = || StorageFault(format!("the record does not have sector {sector} of drive {}", self.drive));
            bytes.extend(content.ok_or_else(missing)?);
        }
        Ok(bytes)
    }

    fn change(&mut self, disc: &Disc) {
        self.disc += 1;
        (self.sectors, self.overlay) = (disc.sectors, Sparse::default());
    }

    /// Where the recorded write failed nobody knew what was on the disk; what was read there later is in the record.
    fn revoke(&mut self, ticket: u64) {
        if let Some(Open::Change { sector, count }) = self.open.remove(&ticket) {
            self.overlay.forget(sector, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_come_from_the_record_and_from_what_was_written_before_them() {
        let disks = RecordedDisks::default();
        let mut drive = disks.storage(1, 100);
        drive.submit(1, &Request::Read { sector: 4, count: 2 });
        drive.submit(2, &Request::Write { sector: 5, bytes: vec![9; 512] });
        drive.submit(3, &Request::Read { sector: 5, count: 1 });
        drive.submit(4, &Request::Read { sector: 6, count: 1 });
        assert_eq!(drive.finish(3), Ok(vec![9; 512]));
        assert!(drive.finish(4).unwrap_err().to_string().contains("sector 6"));
        disks.add(vec![Sectors { drive: 1, sector: 4, bytes: [[4; 512], [5; 512]].concat() }]);
        assert_eq!(drive.finish(1), Ok([[4; 512], [5; 512]].concat()), "as it was when the request was made");
        drive.revoke(2);
        drive.submit(5, &Request::Read { sector: 5, count: 1 });
        assert_eq!(drive.finish(5), Ok(vec![5; 512]));
        drive.submit(6, &Request::Discard { sector: 0, count: 100 });
        drive.submit(7, &Request::Read { sector: 99, count: 1 });
        assert_eq!(drive.finish(7), Ok(vec![0; 512]));
    }
}
