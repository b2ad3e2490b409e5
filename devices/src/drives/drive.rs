//! One drive: its requests under way, the chain of its writes, and the storage behind it.

use super::{BLOCK_BYTES, Issued};
use crate::state::{saved, saved_choice};
use crate::storage::{Disc, HOUSEKEEPING, Request, SECTOR_BYTES, Storage, StorageFault};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Bytes in one request at most.
pub const MAXIMUM_BYTES: u64 = 32 << 20;
/// What a drive takes to begin with anything, in virtual nanoseconds.
const LATENCY_NS: u64 = 60_000;
/// What a flush takes, in virtual nanoseconds. Bytes take 1 ns each.
const FLUSH_NS: u64 = 200_000;

/// Why a request failed, as a guest can know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DriveError {
    /// The host could not do it.
    #[error("the medium failed")]
    Medium,
    /// It reaches beyond the drive's end.
    #[error("beyond the end of the drive")]
    OutOfRange,
    /// A write to a drive that may only be read.
    #[error("the drive may only be read")]
    ReadOnly,
    /// More than [`MAXIMUM_BYTES`], or no whole number of sectors.
    #[error("no length for a request")]
    Length,
    /// There is no such drive.
    #[error("no such drive")]
    NoDrive,
}
saved_choice!(DriveError { Medium = 0, OutOfRange = 1, ReadOnly = 2, Length = 3, NoDrive = 4 });

/// What of a drive is the machine's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveState {
    pub sectors: u64,
    pub read_only: bool,
    pub next_ticket: u64,
    /// A running hash of all that was ever written: equal chains from equal disks mean equal disks.
    pub writes: [u8; 32],
    /// In the order of their tickets.
    pub in_flight: Vec<InFlight>,
    /// BLAKE3 of the disc that was put in last; zeros: the drive has what it began with.
    pub disc: [u8; 32],
}
saved!(DriveState { sectors, read_only, next_ticket, writes, in_flight, disc });

/// A request that the chip has not taken back yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    pub ticket: u64,
    pub due_ns: u64,
    pub request: Request,
    /// It fails, whatever the host can do.
    pub error: Option<DriveError>,
    /// Its time has come: the chip may take it.
    pub released: bool,
    /// Nobody will take it.
    pub abandoned: bool,
}
saved!(InFlight { ticket, due_ns, request, error, released, abandoned });

pub struct Drive {
    pub state: DriveState,
    storage: Option<Box<dyn Storage>>,
    /// The host's answers that the chip has not taken; derived from the disk and the requests.
    pub answers: BTreeMap<u64, Vec<u8>>,
    changed: Option<BTreeSet<u64>>,
    housekeeping: u64,
}

impl fmt::Debug for Drive {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Drive").field("state", &self.state).finish_non_exhaustive()
    }
}

impl Drive {
    pub fn new(sectors: u64, read_only: bool) -> Drive {
        let state =
            DriveState { sectors, read_only, next_ticket: 0, writes: [0; 32], in_flight: Vec::new(), disc: [0; 32] };
        Drive { state, storage: None, answers: BTreeMap::new(), changed: None, housekeeping: HOUSEKEEPING }
    }

    pub fn issue(&mut self, now_ns: u64, request: Request) -> Issued {
        let error = self.check(&request).err();
        let due_ns = now_ns.saturating_add(duration_ns(&request)).max(self.overwritten_due_ns(&request));
        let ticket = self.state.next_ticket;
        self.state.next_ticket = (ticket + 1) % HOUSEKEEPING;
        if error.is_none() {
            self.note(&request);
            if let Some(storage) = &mut self.storage {
                storage.submit(ticket, &request);
            }
        }
        // What is refused is not kept: it may be of any size.
        let request = if error.is_some() { Request::Flush } else { request };
        self.state.in_flight.push(InFlight { ticket, due_ns, request, error, released: false, abandoned: false });
        Issued { ticket, due_ns }
    }

    /// When the last of the changes in flight is due that a request overwrites in part: it is not done before them. A copy
    /// of the machine makes what is in flight once more, which must not undo what was done.
    fn overwritten_due_ns(&self, request: &Request) -> u64 {
        let Some((sector, count)) = request.sectors().filter(|_| request.changes()) else { return 0 };
        let overlaps = |earlier: &&InFlight| {
            let range = earlier.request.sectors().filter(|_| earlier.request.changes() && earlier.error.is_none());
            range.is_some_and(|(first, length)| {
                first < sector.saturating_add(count) && sector < first.saturating_add(length)
            })
        };
        self.state.in_flight.iter().filter(overlaps).map(|earlier| earlier.due_ns).max().unwrap_or(0)
    }

    /// Whether a state from elsewhere can be one of this drive: hosts are asked for nothing that was never checked.
    pub fn accepts(state: &DriveState) -> bool {
        let drive = Drive::new(state.sectors, state.read_only);
        let sound = |request: &InFlight| {
            request.ticket < state.next_ticket && (request.error.is_some() || drive.check(&request.request).is_ok())
        };
        state.next_ticket < HOUSEKEEPING
            && state.in_flight.iter().all(sound)
            && state.in_flight.is_sorted_by(|first, second| first.ticket < second.ticket)
    }

    fn check(&self, request: &Request) -> Result<(), DriveError> {
        if request.changes() && self.state.read_only {
            return Err(DriveError::ReadOnly);
        }
        if let Request::Write { bytes, .. } = request
            && (bytes.len() as u64 > MAXIMUM_BYTES || !(bytes.len() as u64).is_multiple_of(SECTOR_BYTES))
        {
            return Err(DriveError::Length);
        }
        let Some((sector, count)) = request.sectors() else { return Ok(()) };
        if sector.checked_add(count).is_none_or(|end| end > self.state.sectors) {
            return Err(DriveError::OutOfRange);
        }
        if matches!(request, Request::Read { .. }) && count > MAXIMUM_BYTES / SECTOR_BYTES {
            return Err(DriveError::Length);
        }
        Ok(())
    }

    /// Chains a change, and marks its blocks.
    fn note(&mut self, request: &Request) {
        let Some((sector, count)) = request.sectors().filter(|_| request.changes()) else { return };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.state.writes);
        hasher.update(&sector.to_le_bytes());
        hasher.update(&count.to_le_bytes());
        if let Request::Write { bytes, .. } = request {
            hasher.update(bytes);
        }
        self.state.writes = *hasher.finalize().as_bytes();
        if let Some(changed) = &mut self.changed
            && count > 0
        {
            changed.extend(sector / BLOCK_SECTORS..=(sector + count - 1) / BLOCK_SECTORS);
        }
    }

    pub fn complete(&mut self, ticket: u64) -> Option<Result<Vec<u8>, DriveError>> {
        let Some(place) = self.place(ticket) else { return Some(Err(DriveError::Medium)) };
        let InFlight { released, error, .. } = &self.state.in_flight[place];
        if !released {
            return None;
        }
        let result = match error {
            Some(error) => Err(*error),
            None => Ok(self.answers.remove(&ticket)?),
        };
        self.state.in_flight.remove(place);
        Some(result)
    }

    pub fn abandon(&mut self, ticket: u64) {
        if let Some(place) = self.place(ticket) {
            self.state.in_flight[place].abandoned = true;
            self.forget_abandoned();
        }
    }

    pub fn abandon_all(&mut self) {
        self.state.in_flight.iter_mut().for_each(|request| request.abandoned = true);
        self.forget_abandoned();
    }

    fn forget_abandoned(&mut self) {
        let answers = &mut self.answers;
        self.state.in_flight.retain(|request| {
            let over = request.abandoned && request.released;
            if over {
                answers.remove(&request.ticket);
            }
            !over
        });
    }

    fn place(&self, ticket: u64) -> Option<usize> {
        self.state.in_flight.iter().position(|request| request.ticket == ticket)
    }

    pub fn deadline(&self) -> Option<u64> {
        self.state.in_flight.iter().filter(|request| !request.released).map(|request| request.due_ns).min()
    }

    pub fn is_due(&self, now_ns: u64) -> bool {
        self.deadline().is_some_and(|due_ns| due_ns <= now_ns)
    }

    /// Waits for the answers to all that is due.
    pub fn await_due(&mut self, now_ns: u64) -> Result<(), (u64, StorageFault)> {
        let due = |request: &&InFlight| !request.released && request.due_ns <= now_ns;
        let tickets = self.unanswered(due);
        tickets.into_iter().try_for_each(|ticket| self.answer(ticket).map_err(|fault| (ticket, fault)))
    }

    fn unanswered(&self, which: impl Fn(&&InFlight) -> bool) -> Vec<u64> {
        let asked = |request: &&InFlight| request.error.is_none() && !self.answers.contains_key(&request.ticket);
        self.state.in_flight.iter().filter(which).filter(asked).map(|request| request.ticket).collect()
    }

    fn answer(&mut self, ticket: u64) -> Result<(), StorageFault> {
        let storage = self.storage.as_mut().ok_or_else(no_storage)?;
        let answer = storage.finish(ticket)?;
        self.answers.insert(ticket, answer);
        Ok(())
    }

    pub fn release(&mut self, now_ns: u64) {
        for request in self.state.in_flight.iter_mut().filter(|request| request.due_ns <= now_ns) {
            request.released = true;
        }
        self.forget_abandoned();
    }

    pub fn fail(&mut self, ticket: u64) {
        let Some(place) = self.place(ticket) else { return };
        let request = &mut self.state.in_flight[place];
        if request.error.is_none() && !request.released {
            request.error = Some(DriveError::Medium);
            // If the host has not failed here, its answer is taken out of the way.
            if self.answers.remove(&ticket).is_none()
                && let Some(storage) = &mut self.storage
            {
                storage.revoke(ticket);
            }
        }
    }

    /// Another disc is in the drive; what is under way on the one before fails.
    pub fn change(&mut self, disc: &Disc) {
        for request in &mut self.state.in_flight {
            if request.error.is_none() {
                request.error = Some(DriveError::Medium);
                if self.answers.remove(&request.ticket).is_none()
                    && let Some(storage) = &mut self.storage
                {
                    storage.revoke(request.ticket);
                }
            }
        }
        (self.state.sectors, self.state.disc) = (disc.sectors, disc.hash);
        if let Some(storage) = &mut self.storage {
            storage.change(disc);
        }
    }

    pub fn attach(&mut self, storage: Box<dyn Storage>) {
        self.storage = Some(storage);
        self.submit_again();
    }

    pub fn detach(&mut self) -> Option<Box<dyn Storage>> {
        let tickets = self.unanswered(|_| true);
        let mut storage = self.storage.take()?;
        for ticket in tickets {
            // Only that nothing is under way any more matters.
            let _ = storage.finish(ticket);
        }
        Some(storage)
    }

    /// Submits what is under way to a storage that does not know it. Writes that had been done already are done again.
    pub fn submit_again(&mut self) {
        let Some(storage) = &mut self.storage else { return };
        for request in &self.state.in_flight {
            if request.error.is_none() && !self.answers.contains_key(&request.ticket) {
                storage.submit(request.ticket, &request.request);
            }
        }
    }

    /// Has the bytes of all reads under way at hand, so that a copy of this state elsewhere need not read them from a
    /// disk that has later writes already.
    pub fn fetch(&mut self) {
        for ticket in self.unanswered(|request| matches!(request.request, Request::Read { .. })) {
            // A host that fails now will be asked in its time by whoever has the copy.
            if self.answer(ticket).is_err() {
                self.submit(ticket);
            }
        }
    }

    fn submit(&mut self, ticket: u64) {
        let request = self.place(ticket).map(|place| &self.state.in_flight[place].request);
        if let (Some(request), Some(storage)) = (request, &mut self.storage) {
            storage.submit(ticket, request);
        }
    }

    pub fn block(&mut self, block: u64) -> Result<Vec<u8>, StorageFault> {
        let sector = block.checked_mul(BLOCK_SECTORS).filter(|sector| *sector < self.state.sectors);
        let sector = sector.ok_or_else(|| StorageFault(format!("the drive has no block {block}")))?;
        let count = (self.state.sectors - sector).min(BLOCK_SECTORS) as u32;
        let storage = self.storage.as_mut().ok_or_else(no_storage)?;
        self.housekeeping = HOUSEKEEPING | self.housekeeping.wrapping_add(1);
        storage.submit(self.housekeeping, &Request::Read { sector, count });
        storage.finish(self.housekeeping)
    }

    pub fn watch_changes(&mut self) {
        self.changed = Some(BTreeSet::new());
    }

    pub fn take_changes(&mut self) -> BTreeSet<u64> {
        self.changed.as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub fn ignore_changes(&mut self) {
        self.changed = None;
    }
}

const BLOCK_SECTORS: u64 = BLOCK_BYTES / SECTOR_BYTES;

fn no_storage() -> StorageFault {
    StorageFault("no storage is attached to the drive".into())
}

/// How long a request takes: a function of the request alone.
fn duration_ns(request: &Request) -> u64 {
    match request {
        Request::Read { count, .. } => LATENCY_NS + u64::from(*count) * SECTOR_BYTES,
        Request::Write { bytes, .. } => LATENCY_NS + bytes.len() as u64,
        Request::Flush => FLUSH_NS,
        Request::Discard { .. } => LATENCY_NS,
    }
}
