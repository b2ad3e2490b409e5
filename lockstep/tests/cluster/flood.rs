//! A network that floods: every frame for the guest reaches both servers, each when it does. While the pair is protected
//! none may be lost, whoever dies.

use crate::process::MILLISECOND;
use crate::toy::{MAC, SLEEPY, frame};
use crate::world::{Canary, Happening, World};
use ftemu_lockstep::{Entry, Event, Input, Record, State};
use std::collections::BTreeSet;

/// The sender's address.
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 9];

/// What was sent to the guest.
#[derive(Default)]
pub struct Flooded {
    sent: u64,
    /// Numbers of frames that must arrive, and when they were sent.
    promised: Vec<(u64, u64)>,
}

impl World {
    pub fn flood(&mut self) {
        if self.plan.seed & SLEEPY != 0 {
            return;
        }
        self.flooded.sent += 1;
        let number = self.flooded.sent;
        let status = |world: &World, side: usize| world.processes[world.sides[side]].driver.node.status();
        let alive = self.sides.iter().all(|&number| self.processes[number].alive());
        let states = [status(self, 0), status(self, 1)];
        let protected = states.iter().any(|status| status.state == State::Primary && status.protected)
            && states.iter().any(|status| status.state == State::Backup);
        if alive && protected {
            self.flooded.promised.push((number, self.now));
        }
        for side in [0, 1] {
            if self.plan.canary == Some(Canary::LearningSwitch) && !states[side].live {
                continue;
            }
            let input = Event::Input(Input::Frame { nic: 0, bytes: frame(CLIENT, number) });
            self.within(50_000, 2 * MILLISECOND, Happening::Tell(self.sides[side], input));
        }
        self.within(MILLISECOND, 40 * MILLISECOND, Happening::Flood);
    }

    /// A side says that the guest is there now.
    pub fn announced(&mut self, number: usize, nic: u8, bytes: &[u8]) -> Result<(), String> {
        let live = self.processes[number].driver.node.status().live;
        match live && nic == 0 && bytes[6..12] == MAC {
            true => Ok(()),
            false => Err(format!("process {number} (live: {live}) announces {bytes:x?}")),
        }
    }

    /// Counts the frames that had to arrive and did.
    pub fn all_arrived(&self, history: &[Record]) -> Result<u64, String> {
        let frames = history.iter().filter_map(|record| match &record.entry {
            Entry::Input(Input::Frame { bytes, .. }) => Some(bytes.as_slice()),
            _ => None,
        });
        let arrived: BTreeSet<&[u8]> = frames.collect();
        let mut count = 0;
        for &(number, sent_at) in &self.flooded.promised {
            // The last ones may be on their way.
            if sent_at + 100 * MILLISECOND < self.now {
                if !arrived.contains(frame(CLIENT, number).as_slice()) {
                    return Err(format!("frame {number}, sent at {:.3} ms, is lost", sent_at as f64 / 1e6));
                }
                count += 1;
            }
        }
        Ok(count)
    }
}
