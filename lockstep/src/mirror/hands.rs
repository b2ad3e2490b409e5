//! Work on disks: what a node wants read, compared and written, and how it is done.

use super::{BlockId, Hash, hash};
use crate::divergence::Memory;
use crate::guest::{Guest, GuestError};
use ftemu_devices::drives::BLOCK_BYTES;
use ftemu_devices::storage::{HOUSEKEEPING, Request, SECTOR_BYTES, Storage, StorageFault};

/// A piece of work on disks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskWork {
    /// Note from now on what the guest changes (primary).
    Watch,
    /// Read the blocks whose content is not of these hashes (primary).
    Compare(Vec<(BlockId, Hash)>),
    /// Which blocks changed since the last time (primary).
    Changes,
    /// Read these blocks (primary).
    Read(Vec<BlockId>),
    /// Hash these blocks (standby).
    Hash(Vec<BlockId>),
    /// Write a block (standby).
    Write(BlockId, Vec<u8>),
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskDone {
    /// Of [`DiskWork::Watch`] and [`DiskWork::Write`].
    Finished,
    /// Of [`DiskWork::Compare`] and [`DiskWork::Read`].
    Blocks(Vec<(BlockId, Vec<u8>)>),
    /// Of [`DiskWork::Changes`].
    Changed(Vec<BlockId>),
    /// Of [`DiskWork::Hash`].
    Hashes(Vec<Hash>),
    /// The host could not.
    Failed(String),
}

/// Does a primary's piece of work, on the disks of its guest.
pub fn of_guest<G: Guest>(guest: &mut G, work: DiskWork) -> DiskDone {
    let drives = guest.drives();
    let mut blocks = |wanted: Vec<BlockId>| -> Result<Vec<(BlockId, Vec<u8>)>, StorageFault> {
        wanted.into_iter().map(|(drive, block)| Ok(((drive, block), drives.block(drive, block)?))).collect()
    };
    let done = match work {
        DiskWork::Watch => {
            drives.watch_changes();
            Ok(DiskDone::Finished)
        }
        DiskWork::Changes => Ok(DiskDone::Changed(drives.take_changes())),
        DiskWork::Read(wanted) => blocks(wanted).map(DiskDone::Blocks),
        DiskWork::Compare(theirs) => blocks(theirs.iter().map(|(id, _)| *id).collect()).map(|mut ours| {
            let mut theirs = theirs.iter();
            ours.retain(|(_, bytes)| theirs.next().is_some_and(|(_, theirs)| hash(bytes) != *theirs));
            DiskDone::Blocks(ours)
        }),
        DiskWork::Hash(_) | DiskWork::Write(..) => Err(StorageFault("the guest is here already".into())),
    };
    done.unwrap_or_else(|fault| DiskDone::Failed(fault.to_string()))
}

/// The disks of a side that has no guest: a standby's.
#[derive(Default)]
pub struct Disks {
    storages: Vec<Box<dyn Storage>>,
    /// The same disks, as a divergence is explained with them.
    memories: Vec<Memory>,
    tickets: u64,
}

impl std::fmt::Debug for Disks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Disks").field("drives", &self.storages.len()).finish_non_exhaustive()
    }
}

impl Disks {
    /// These, in the order of the drives.
    pub fn new(storages: Vec<Box<dyn Storage>>) -> Self {
        let memories: Vec<Memory> = storages.into_iter().map(Memory::of).collect();
        Self { storages: memories.iter().map(Memory::storage).collect(), memories, tickets: 0 }
    }

    /// What is remembered of them.
    pub fn memories(&self) -> &[Memory] {
        &self.memories
    }

    /// Takes them back from a guest that is no more.
    pub fn recover<G: Guest>(&mut self, guest: Option<G>) {
        if let Some(mut guest) = guest {
            let storages = guest.drives().detach();
            if self.storages.is_empty() {
                self.storages = storages;
            }
        }
    }

    /// Gives them to a guest; what was written is on the medium first.
    ///
    /// # Errors
    /// They do not fit, or cannot be written.
    pub fn give<G: Guest>(&mut self, guest: &mut G) -> Result<(), GuestError> {
        for drive in 0..self.storages.len() {
            self.ask(drive, &Request::Flush).map_err(|fault| GuestError(fault.to_string()))?;
        }
        for (drive, storage) in (0u8..=u8::MAX).zip(self.storages.drain(..)) {
            guest.drives().attach(drive, storage).map_err(|error| GuestError(error.to_string()))?;
        }
        Ok(())
    }

    /// Does a standby's piece of work.
    pub fn execute(&mut self, work: DiskWork) -> DiskDone {
        let done = match work {
            DiskWork::Hash(blocks) => {
                let hashes: Result<Vec<Hash>, StorageFault> =
                    blocks.into_iter().map(|id| Ok(hash(&self.read(id)?))).collect();
                hashes.map(DiskDone::Hashes)
            }
            DiskWork::Write(id, bytes) => self.write(id, bytes).map(|()| DiskDone::Finished),
            _ => Err(StorageFault("there is no guest here".into())),
        };
        done.unwrap_or_else(|fault| DiskDone::Failed(fault.to_string()))
    }

    /// First sector and sectors of a block.
    fn extent(&self, (drive, block): BlockId) -> Result<(usize, u64, u64), StorageFault> {
        let drive = usize::from(drive);
        let sectors = self.storages.get(drive).map_or(0, |storage| storage.sectors());
        let first = block.checked_mul(BLOCK_BYTES / SECTOR_BYTES).filter(|first| *first < sectors);
        let first = first.ok_or_else(|| StorageFault(format!("there is no block {block} of drive {drive} here")))?;
        Ok((drive, first, (sectors - first).min(BLOCK_BYTES / SECTOR_BYTES)))
    }

    fn read(&mut self, id: BlockId) -> Result<Vec<u8>, StorageFault> {
        let (drive, sector, count) = self.extent(id)?;
        self.ask(drive, &Request::Read { sector, count: count as u32 })
    }

    fn write(&mut self, id: BlockId, bytes: Vec<u8>) -> Result<(), StorageFault> {
        let (drive, sector, count) = self.extent(id)?;
        if bytes.len() as u64 != count * SECTOR_BYTES {
            return Err(StorageFault(format!("a block of {} bytes came for drive {drive}", bytes.len())));
        }
        let written = self.ask(drive, &Request::Write { sector, bytes });
        written.map(|_| ()).map_err(|fault| {
            StorageFault(format!("drive {drive} is not what the primary has and cannot be made so: {fault}"))
        })
    }

    fn ask(&mut self, drive: usize, request: &Request) -> Result<Vec<u8>, StorageFault> {
        self.tickets = HOUSEKEEPING | self.tickets.wrapping_add(1);
        let storage = self.storages.get_mut(drive).ok_or_else(|| StorageFault(format!("no drive {drive} here")))?;
        storage.submit(self.tickets, request);
        storage.finish(self.tickets)
    }
}
