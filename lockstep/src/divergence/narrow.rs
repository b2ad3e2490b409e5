//! Finding the first instruction that two runs of one log do not compute alike.

use super::origin::{Disks, Origin, Restored};
use crate::guest::{Guest, GuestError};
use crate::record::{Entry, Record};
use crate::replay::Replay;
use ftemu_cpu::Icount;
use std::fmt;

/// Registers are compared this often in the first pass, at least.
const STRIDE: u64 = 1024;
/// Comparisons in the first pass, about.
const LOOKS: u64 = 8192;

/// Where two runs come apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct First {
    /// The registers are the same here ...
    pub after: Icount,
    /// ... and not here. One more: the instruction is known exactly. The same: they were changed between instructions.
    pub before: Icount,
    /// The address of the instruction after `after`.
    pub instruction_pointer: u64,
}

impl fmt::Display for First {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let First { after, before, instruction_pointer } = self;
        let (after, distance) = (after.0, before.0.saturating_sub(after.0));
        match distance {
            0 => write!(
                formatter,
                "The registers were changed at count {after}, between instructions; the first that computes with the \
                 change is at address {instruction_pointer:#x}."
            ),
            1 => write!(
                formatter,
                "The first instruction that differs is number {after} (count before it), at address \
                 {instruction_pointer:#x}."
            ),
            _ => write!(
                formatter,
                "The first instruction that differs is one of the {distance} after count {after}, where execution is \
                 at address {instruction_pointer:#x}."
            ),
        }
    }
}

/// A guest that follows a log's records from anywhere.
pub(super) struct Run<'a, G> {
    replay: Replay<G>,
    disks: Disks,
    records: &'a [Record],
    cold: bool,
}

impl<'a, G: Guest> Run<'a, G> {
    /// `guest` stands before the first of `records`. `cold`: what it derived is forgotten at every stop.
    pub fn new(Restored { guest, disks }: Restored<G>, records: &'a [Record], cold: bool) -> Self {
        Self { replay: Replay::new(guest), disks, records, cold }
    }

    /// Runs to a count; records of that very count are left for later.
    pub fn to(&mut self, count: Icount) -> Result<(), GuestError> {
        while let Some((record, rest)) = self.records.split_first().filter(|(record, _)| record.count < count) {
            self.step(record.count)?;
            self.hand_over(record)?;
            self.records = rest;
        }
        self.step(count)
    }

    /// Follows the first `count` of all records that it was given, of which `total` there were.
    pub fn follow(&mut self, count: usize, total: usize) -> Result<(), GuestError> {
        while total - self.records.len() < count {
            let Some((record, rest)) = self.records.split_first() else { return Ok(()) };
            self.records = rest;
            self.step(record.count)?;
            self.hand_over(record)?;
        }
        Ok(())
    }

    fn hand_over(&mut self, record: &Record) -> Result<(), GuestError> {
        if matches!(record.entry, Entry::Input(_)) {
            self.replay.follow(record).map_err(|error| GuestError(error.to_string()))?;
        }
        Ok(())
    }

    fn step(&mut self, count: Icount) -> Result<(), GuestError> {
        if self.cold {
            self.replay.guest_mut().forget_derived();
        }
        let ran = self.replay.run_to(count);
        self.replay.drain();
        ran.map_err(|error| match self.replay.guest_mut().drives().fault() {
            Some(fault) => GuestError(format!("drive {}: {}", fault.drive, fault.fault)),
            None => GuestError(error.to_string()),
        })
    }

    /// A copy of the guest as it is now.
    pub fn origin(&mut self) -> Origin<'static> {
        self.disks.origin_of(self.replay.guest_mut())
    }

    pub fn guest(&self) -> &G {
        self.replay.guest()
    }

    pub fn into_guest(self) -> G {
        self.replay.into_guest()
    }
}

/// Finds the first count at which the registers of two runs differ, up to `until`. `start(true)` gives the suspect,
/// `start(false)` the other, which runs without cached translations if `cold`.
///
/// # Errors
/// A guest cannot be made or cannot follow the log.
pub(super) fn narrow<G: Guest>(
    start: impl Fn(bool) -> Result<Restored<G>, GuestError>,
    records: &[Record],
    until: Icount,
    cold: bool,
) -> Result<Option<First>, GuestError> {
    let pair = || Ok::<_, GuestError>((Run::new(start(false)?, records, cold), Run::new(start(true)?, records, false)));
    let (mut truth, mut suspect) = pair()?;
    let begin = truth.guest().count();
    let stride = (until.0.saturating_sub(begin.0) / LOOKS).max(STRIDE);
    let Some((after, before)) = apart(&mut truth, &mut suspect, until, stride)? else { return Ok(None) };
    // Again to the last place where they were equal, and from there one by one.
    let (mut truth, mut suspect) = pair()?;
    truth.to(after)?;
    suspect.to(after)?;
    let window = First { after, before, instruction_pointer: truth.guest().instruction_pointer() };
    let mut pointer = window.instruction_pointer;
    for count in after.0 + 1..=before.0 {
        truth.to(Icount(count))?;
        suspect.to(Icount(count))?;
        if truth.guest().fingerprint() != suspect.guest().fingerprint() {
            let (after, before) = (Icount(count - 1), Icount(count));
            return Ok(Some(First { after, before, instruction_pointer: pointer }));
        }
        pointer = truth.guest().instruction_pointer();
    }
    Ok(Some(window))
}

/// The stops between which the registers come apart.
fn apart<G: Guest>(
    truth: &mut Run<'_, G>,
    suspect: &mut Run<'_, G>,
    until: Icount,
    stride: u64,
) -> Result<Option<(Icount, Icount)>, GuestError> {
    let mut after = truth.guest().count();
    while after < until {
        let stop = Icount(after.0.saturating_add(stride).min(until.0));
        truth.to(stop)?;
        suspect.to(stop)?;
        if truth.guest().fingerprint() != suspect.guest().fingerprint() {
            return Ok(Some((after, stop)));
        }
        after = stop;
    }
    Ok(None)
}
