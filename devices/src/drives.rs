//! The machine's drives: requests under way are state, what is on the disk is state, how long the host takes is not.
//!
//! A request is due at a virtual time fixed when it is issued. When that time has come the machine, before it goes
//! on, waits for the host's answer ([`Drives::release`]) and lets the chips tick; a chip then takes what is complete
//! ([`Drives::complete`]). If the host fails, the machine stops at that count before any chip has seen anything, and
//! the outside decides: another copy of the guest goes on, or [`crate::Input::DriveFault`] makes it the guest's error.

mod drive;
mod saved;

use crate::storage::{Disc, Request, Storage, StorageFault};
use drive::Drive;
pub use drive::{DriveError, MAXIMUM_BYTES};

/// Disks are compared and copied in blocks of so many bytes.
pub const BLOCK_BYTES: u64 = 1 << 20;

/// A request that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Its number, for [`Drives::complete`].
    pub ticket: u64,
    /// When it will be complete, in virtual nanoseconds. [`Drives::deadline`] knows, so a chip need not.
    pub due_ns: u64,
}

/// The host could not carry out a request that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Which drive.
    pub drive: u8,
    /// Which request.
    pub ticket: u64,
    /// What the host says.
    pub fault: StorageFault,
}

/// Why a storage cannot be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// There is no such drive.
    #[error("the machine has no drive {drive}")]
    NoDrive {
        /// Its number.
        drive: u8,
    },
    /// It has another size.
    #[error("drive {drive} has {expected} sectors of 512 bytes, its storage {found}")]
    Size {
        /// Its number.
        drive: u8,
        /// As the machine is configured.
        expected: u64,
        /// What the storage has.
        found: u64,
    },
}

/// All drives of a machine, in the order of its configuration.
#[derive(Debug, Default)]
pub struct Drives {
    drives: Vec<Drive>,
    fault: Option<Fault>,
}

impl Drives {
    /// Drives of these sizes: sectors of 512 bytes, and whether the guest may only read.
    pub fn new(shapes: impl IntoIterator<Item = (u64, bool)>) -> Drives {
        let drives = shapes.into_iter().map(|(sectors, read_only)| Drive::new(sectors, read_only)).collect();
        Drives { drives, fault: None }
    }

    /// How many there are.
    pub fn count(&self) -> u8 {
        u8::try_from(self.drives.len()).unwrap_or(u8::MAX)
    }

    /// A drive's size in sectors of 512 bytes; 0 if it is not there.
    pub fn sectors(&self, drive: u8) -> u64 {
        self.drive(drive).map_or(0, |drive| drive.state.sectors)
    }

    /// Whether the guest may only read; so it is if the drive is not there.
    pub fn is_read_only(&self, drive: u8) -> bool {
        self.drive(drive).is_none_or(|drive| drive.state.read_only)
    }

    /// Starts a request. What makes no sense (beyond the end, too long, a write to a read-only drive) is complete in
    /// time, too, with an error.
    pub fn issue(&mut self, drive: u8, now_ns: u64, request: Request) -> Issued {
        match self.drive_mut(drive) {
            Some(drive) => drive.issue(now_ns, request),
            None => Issued { ticket: u64::MAX, due_ns: now_ns },
        }
    }

    /// Takes the result of a request: for a read, its bytes. `None`: not yet; ask again at the next tick. A result is
    /// given once.
    pub fn complete(&mut self, drive: u8, ticket: u64) -> Option<Result<Vec<u8>, DriveError>> {
        match self.drive_mut(drive) {
            Some(drive) => drive.complete(ticket),
            None => Some(Err(DriveError::NoDrive)),
        }
    }

    /// The chip has lost interest (a reset): the request still takes effect, its result goes nowhere.
    pub fn abandon(&mut self, drive: u8, ticket: u64) {
        if let Some(drive) = self.drive_mut(drive) {
            drive.abandon(ticket);
        }
    }

    /// All chips have lost interest: the machine is reset.
    pub fn abandon_all(&mut self) {
        self.drives.iter_mut().for_each(Drive::abandon_all);
    }

    /// When the next request will be complete, in virtual nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.drives.iter().filter_map(Drive::deadline).min()
    }

    /// Whether [`Drives::release`] has something to do.
    pub fn is_due(&self, now_ns: u64) -> bool {
        self.drives.iter().any(|drive| drive.is_due(now_ns))
    }

    /// Waits for the host's answers to all requests due, and lets chips have them. To be called before the machine
    /// goes on from a count, after all inputs of that count.
    ///
    /// # Errors
    /// The host failed; nothing has become visible, and the machine must not go on until an input settles it.
    pub fn release(&mut self, now_ns: u64) -> Result<(), Fault> {
        for (number, drive) in (0u8..).zip(&mut self.drives) {
            if let Err((ticket, fault)) = drive.await_due(now_ns) {
                let fault = Fault { drive: number, ticket, fault };
                self.fault = Some(fault.clone());
                return Err(fault);
            }
        }
        self.fault = None;
        self.drives.iter_mut().for_each(|drive| drive.release(now_ns));
        Ok(())
    }

    /// What made the last [`Drives::release`] fail.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// The host cannot do this request, and the guest is to know ([`crate::Input::DriveFault`]).
    pub fn fail(&mut self, drive: u8, ticket: u64) {
        if let Some(drive) = self.drive_mut(drive) {
            drive.fail(ticket);
        }
    }

    /// Puts another disc into a drive that only reads; requests under way fail. False: there is no such drive.
    pub fn change(&mut self, drive: u8, disc: &Disc) -> bool {
        let place = self.drive_mut(drive).filter(|drive| drive.state.read_only);
        place.is_some_and(|drive| {
            drive.change(disc);
            true
        })
    }

    /// Gives a drive its sectors. Requests under way are submitted to it.
    ///
    /// # Errors
    /// [`AttachError`].
    pub fn attach(&mut self, drive: u8, storage: Box<dyn Storage>) -> Result<(), AttachError> {
        let place = self.drive_mut(drive).ok_or(AttachError::NoDrive { drive })?;
        let (expected, found) = (place.state.sectors, storage.sectors());
        if expected != found {
            return Err(AttachError::Size { drive, expected, found });
        }
        place.attach(storage);
        Ok(())
    }

    /// Takes all storages back, with nothing under way in them any more.
    pub fn detach(&mut self) -> Vec<Box<dyn Storage>> {
        self.drives.iter_mut().filter_map(Drive::detach).collect()
    }

    /// Reads a block of [`BLOCK_BYTES`] (the last one may be shorter) as it is after all requests so far. No business
    /// of the guest's: nothing of its state changes.
    ///
    /// # Errors
    /// The host cannot, or there is no such block.
    pub fn block(&mut self, drive: u8, block: u64) -> Result<Vec<u8>, StorageFault> {
        let place = self.drive_mut(drive).ok_or_else(|| StorageFault(format!("there is no drive {drive}")))?;
        place.block(block)
    }

    /// Starts to note which blocks the guest changes.
    pub fn watch_changes(&mut self) {
        self.drives.iter_mut().for_each(Drive::watch_changes);
    }

    /// Blocks changed since the last call, by drive, ascending. Nothing if they are not watched.
    pub fn take_changes(&mut self) -> Vec<(u8, u64)> {
        let taken = (0u8..).zip(&mut self.drives);
        taken.flat_map(|(number, drive)| drive.take_changes().into_iter().map(move |block| (number, block))).collect()
    }

    /// Stops noting changes.
    pub fn ignore_changes(&mut self) {
        self.drives.iter_mut().for_each(Drive::ignore_changes);
    }

    fn drive(&self, drive: u8) -> Option<&Drive> {
        self.drives.get(usize::from(drive))
    }

    fn drive_mut(&mut self, drive: u8) -> Option<&mut Drive> {
        self.drives.get_mut(usize::from(drive))
    }
}

#[cfg(test)]
mod tests;
