//! Running a guest along a log, as fast as it can: replays of record files, and the search for a divergence.

use crate::guest::{Digest, Emitted, Guest, Ran};
use crate::record::{Entry, Record};
use ftemu_cpu::Icount;

/// A guest that follows a log by itself.
#[derive(Debug)]
pub struct Replay<G> {
    guest: G,
    slice: u64,
    idle: bool,
    outputs: Vec<Emitted>,
}

/// Why a replay cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// The state is not the one that was recorded.
    #[error("the guest differs from the record at count {}: the digest is another", count.0)]
    Digest {
        /// Where.
        count: Icount,
        /// In the record.
        recorded: Digest,
        /// Of this guest.
        found: Digest,
    },
    /// The guest cannot get where the record says it was.
    #[error("the guest differs from the record: it {what} at count {} and cannot reach {}", count.0, until.0)]
    Stuck {
        /// Where it is.
        count: Icount,
        /// Where the record has it.
        until: Icount,
        /// What it is doing there.
        what: &'static str,
    },
}

impl<G: Guest> Replay<G> {
    /// Follows with `guest`, which stands where the log begins.
    pub fn new(guest: G) -> Self {
        Self { guest, slice: u64::MAX, idle: false, outputs: Vec::new() }
    }

    /// Runs at most so many instructions at a stretch. Nothing of the guest depends on it; tests do vary it.
    pub fn set_slice(&mut self, instructions: u64) {
        self.slice = instructions.max(1);
    }

    /// The guest.
    pub fn guest(&self) -> &G {
        &self.guest
    }

    /// The guest, to look into.
    pub fn guest_mut(&mut self) -> &mut G {
        &mut self.guest
    }

    /// Ends following and gives the guest back.
    pub fn into_guest(self) -> G {
        self.guest
    }

    /// What came out since the last call.
    pub fn drain(&mut self) -> Vec<Emitted> {
        std::mem::take(&mut self.outputs)
    }

    /// Runs up to a count that the log covers, idle times skipped.
    ///
    /// # Errors
    /// The guest is off, or idle for ever, before it is there.
    pub fn run_to(&mut self, until: Icount) -> Result<(), ReplayError> {
        while self.guest.count() < until {
            let slice = self.guest.count().0.saturating_add(self.slice);
            self.advance(until.min(Icount(slice)), until)?;
        }
        Ok(())
    }

    /// Runs up to `until` at most and stops early when idle or when outputs wait; for a debugger's pace.
    ///
    /// # Errors
    /// As [`Replay::run_to`].
    pub fn advance(&mut self, until: Icount, goal: Icount) -> Result<(), ReplayError> {
        if self.idle {
            self.guest.skip_idle();
            self.idle = false;
        } else {
            let stuck = |count, what| ReplayError::Stuck { count, until: goal, what };
            match self.guest.run(until) {
                Ran::Idle { deadline_ns: Some(_) } => self.idle = self.guest.count() < goal,
                Ran::Idle { deadline_ns: None } if self.guest.count() < goal => {
                    return Err(stuck(self.guest.count(), "waits for ever"));
                }
                Ran::PoweredOff if self.guest.count() < goal => return Err(stuck(self.guest.count(), "is off")),
                Ran::DriveFault { .. } => {
                    return Err(stuck(self.guest.count(), "waits for a drive that the host cannot read"));
                }
                Ran::Count | Ran::Output | Ran::Idle { .. } | Ran::PoweredOff => (),
            }
        }
        self.outputs.extend(self.guest.drain());
        Ok(())
    }

    /// Runs up to a record and does what it says.
    ///
    /// # Errors
    /// The guest is not the recorded one.
    pub fn follow(&mut self, record: &Record) -> Result<(), ReplayError> {
        self.run_to(record.count)?;
        match &record.entry {
            Entry::Input(input) => {
                self.guest.apply(input);
                self.idle = false;
            }
            Entry::Digest(recorded) => {
                let found = self.guest.digest();
                if found != *recorded {
                    return Err(ReplayError::Digest { count: record.count, recorded: *recorded, found });
                }
            }
            Entry::Covered | Entry::Paired { .. } | Entry::Alone { .. } | Entry::End => (),
        }
        Ok(())
    }
}
