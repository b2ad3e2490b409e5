//! Drives written down: once as the state that digests cover, once with what a copy elsewhere needs beside it.

use super::Drives;
use super::drive::{Drive, DriveState};
use crate::state::Saved;
use crate::storage::{Request, SECTOR_BYTES};
use std::collections::BTreeMap;

impl Drives {
    /// Appends the state: requests under way and the chains of writes. What is on the disks is not in it.
    pub fn save(&self, out: &mut Vec<u8>) {
        let Drives { drives, fault: _ } = self;
        let states: Vec<DriveState> = drives.iter().map(|drive| drive.state.clone()).collect();
        states.save(out);
    }

    /// Reads under way are answered by the host now, for [`Drives::save_answers`]. Nothing of the state changes.
    pub fn fetch(&mut self) {
        self.drives.iter_mut().for_each(Drive::fetch);
    }

    /// Appends the answers that are here but not yet taken: a copy of the state on another disk may lack their past.
    pub fn save_answers(&self, out: &mut Vec<u8>) {
        for drive in &self.drives {
            (drive.answers.len() as u64).save(out);
            for (ticket, answer) in &drive.answers {
                ticket.save(out);
                answer.save(out);
            }
        }
    }

    /// Becomes what [`Drives::save`] and then [`Drives::save_answers`] wrote. Storages stay attached, and are given
    /// what is under way. `None`: the bytes are cut short, mean nothing, or are of other drives than these.
    pub fn load(&mut self, bytes: &mut &[u8]) -> Option<()> {
        let states: Vec<DriveState> = Saved::load(bytes)?;
        // A drive that may only be read can have got another disc since.
        let fits = |(state, drive): (&DriveState, &Drive)| {
            let replaced = state.read_only && state.disc != drive.state.disc;
            state.read_only == drive.state.read_only && (replaced || state.sectors == drive.state.sectors)
        };
        let same = states.len() == self.drives.len() && states.iter().zip(&self.drives).all(fits);
        if !same || !states.iter().all(Drive::accepts) {
            return None;
        }
        let answers: Option<Vec<_>> = states.iter().map(|state| load_answers(state, bytes)).collect();
        self.fault = None;
        for ((drive, state), answers) in self.drives.iter_mut().zip(states).zip(answers?) {
            drive.become_copy(state, answers);
        }
        Some(())
    }
}

fn load_answers(state: &DriveState, bytes: &mut &[u8]) -> Option<BTreeMap<u64, Vec<u8>>> {
    let count = u64::load(bytes)?;
    let load = |_| {
        let (ticket, answer) = (u64::load(bytes)?, Vec::load(bytes)?);
        let request = state.in_flight.iter().find(|request| request.ticket == ticket)?;
        let length = match &request.request {
            Request::Read { count, .. } => u64::from(*count) * SECTOR_BYTES,
            _ => 0,
        };
        (answer.len() as u64 == length).then_some((ticket, answer))
    };
    (0..count).map(load).collect()
}

impl Drive {
    fn become_copy(&mut self, state: DriveState, answers: BTreeMap<u64, Vec<u8>>) {
        let storage = self.detach();
        (self.state, self.answers) = (state, answers);
        if let Some(storage) = storage {
            self.attach(storage);
        }
    }
}
