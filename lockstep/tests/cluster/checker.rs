//! What must hold of everything that is let out, whoever lets it out.

use crate::process::Process;
use crate::toy::{DRIVES, Disks, Toy};
use ftemu_cpu::Icount;
use ftemu_devices::storage::MemoryStorage;
use ftemu_lockstep::{Entry, Guest, Output, Record, Release, Replay, State};
use std::collections::BTreeMap;

/// All that the outside was shown, and by whom.
#[derive(Default)]
pub struct Checker {
    /// Bytes of port 0, by position.
    pub stream: Vec<u8>,
    /// Frames of network card 0, by number.
    pub frames: Vec<Vec<u8>>,
    /// The number of the frame that each process lets out next, once it has let out one.
    next_frames: BTreeMap<usize, u64>,
    /// Frames that were let out twice.
    pub repeated_frames: u64,
    /// The highest term in which something new was let out.
    term: u64,
    /// Bytes that were let out twice.
    pub repeated: u64,
    pub powered_off: u64,
}

impl Checker {
    /// Process `number` lets something out. `other` is its standby, if it ever had one.
    pub fn released(
        &mut self,
        number: usize,
        process: &Process,
        other: Option<&Process>,
        release: &Release,
    ) -> Result<(), String> {
        let (position, bytes) = match release {
            Release::Serial { port: 0, position, bytes } => (*position, bytes),
            Release::Frame { nic: 0, number: frame, bytes } => {
                let expected = self.next_frames.insert(number, frame + 1);
                if expected.is_some_and(|expected| expected != *frame) {
                    return Err(format!("frame {frame} after {expected:?}"));
                }
                return self.frame(process, other, *frame, bytes);
            }
            Release::Serial { .. } | Release::Frame { .. } | Release::Reset => return Ok(()),
            Release::PowerOff => {
                self.powered_off += 1;
                return Ok(());
            }
        };
        let shown = self.stream.len() as u64;
        if position > shown {
            return Err(format!("bytes from {shown} to {position} were never released"));
        }
        let known = ((shown - position) as usize).min(bytes.len());
        if self.stream[position as usize..][..known] != bytes[..known] {
            return Err(format!("two histories: other bytes than before at position {position}"));
        }
        self.repeated += known as u64;
        if known < bytes.len() {
            self.stream.extend_from_slice(&bytes[known..]);
            let made = process.bytes.at(position + bytes.len() as u64 - 1).unwrap_or(Icount(0));
            self.fresh(process, other, &format!("byte {position}"), made)?;
        }
        Ok(())
    }

    /// Frames leave in order, without a gap; what was shown may be shown again, the same.
    fn frame(&mut self, process: &Process, other: Option<&Process>, number: u64, bytes: &[u8]) -> Result<(), String> {
        let shown = self.frames.len() as u64;
        if number > shown {
            return Err(format!("frames from {shown} to {number} were never released"));
        }
        if let Some(known) = self.frames.get(number as usize) {
            self.repeated_frames += 1;
            return match known == bytes {
                true => Ok(()),
                false => Err(format!("two histories: another frame {number} than before")),
            };
        }
        self.frames.push(bytes.to_vec());
        let made = process.frames.at(number).unwrap_or(Icount(0));
        self.fresh(process, other, &format!("frame {number}"), made)
    }

    /// Something was shown for the first time.
    fn fresh(&mut self, process: &Process, other: Option<&Process>, what: &str, made: Icount) -> Result<(), String> {
        let status = process.driver.node.status();
        if status.term < self.term {
            return Err(format!("side {} of term {} releases after term {}", process.side, status.term, self.term));
        }
        self.term = status.term;
        if status.state != State::Primary {
            return Ok(());
        }
        // Paired: the other side must be able to reproduce it, unless it is gone.
        let Some(other) = other.filter(|other| other.alive()) else { return Ok(()) };
        let able = other.holds_the_guest() && other.driver.node.covered() >= made;
        if able {
            Ok(())
        } else {
            Err(format!(
                "{what}, made at {}, is not reproducible by the standby, which is {:?} and covers {}",
                made.0,
                other.state(),
                other.driver.node.covered().0
            ))
        }
    }

    /// Runs the whole history again in one guest that nothing ever happened to, and compares what came out.
    pub fn reference(&self, seed: u64, records: &[Record], until: Icount, holding: bool) -> Result<(), String> {
        let mut replay = Replay::new(Toy::new(seed).on(&DRIVES.map(MemoryStorage::new)));
        replay.set_slice(777);
        for record in records {
            replay.follow(record).map_err(|error| format!("the reference run: {error}"))?;
        }
        if records.last().is_none_or(|record| record.entry != Entry::End) {
            replay.run_to(until).map_err(|error| format!("the reference run's end: {error}"))?;
        }
        let (mut stream, mut frames) = (Vec::new(), Vec::new());
        for emitted in replay.drain() {
            match emitted.output {
                Output::Serial { port: 0, bytes } => stream.extend(bytes),
                Output::Frame { nic: 0, bytes } => frames.push(bytes),
                _ => (),
            }
        }
        if !frames.starts_with(&self.frames) || !holding && frames.len() != self.frames.len() {
            return Err(format!(
                "{} frames were released, not the {} of the reference",
                self.frames.len(),
                frames.len()
            ));
        }
        if !stream.starts_with(&self.stream) {
            let same = stream.iter().zip(&self.stream).take_while(|(a, b)| a == b).count();
            return Err(format!("the stream leaves the reference run at byte {same} of {}", self.stream.len()));
        }
        if !holding && stream.len() != self.stream.len() {
            return Err(format!("{} bytes were made, {} released, none held", stream.len(), self.stream.len()));
        }
        Ok(())
    }

    /// Compares a side's disks with those of a guest that nothing ever happened to. False: the newest records are not in
    /// the history yet, so it cannot be told.
    pub fn same_disks(process: &Process, records: &[Record], seed: u64, disks: &Disks) -> Result<bool, String> {
        let references = DRIVES.map(MemoryStorage::new);
        let mut replay = Replay::new(Toy::new(seed).on(&references));
        // The guest may be further than its node has heard.
        let guest = process.driver.hands.guest().ok_or("there is no guest")?;
        let mut follow = || {
            records
                .iter()
                .take_while(|record| record.count <= guest.count())
                .try_for_each(|record| replay.follow(record))?;
            replay.run_to(guest.count())
        };
        follow().map_err(|error| format!("the disks' reference run: {error}"))?;
        if replay.guest().state() != guest.state() {
            return Ok(false);
        }
        let differs = references.iter().zip(disks).position(|(reference, disk)| reference.bytes() != disk.bytes());
        match differs {
            Some(drive) => Err(format!("disk {drive} of side {} is not what the reference wrote", process.side)),
            None => Ok(true),
        }
    }
}
