//! A console client that attaches to whichever side is live, types, and must see every byte once.

use crate::process::{MILLISECOND, Nanoseconds};
use crate::world::{Happening, World};
use ftemu_lockstep::{Event, Input};

/// What the client has seen.
#[derive(Default)]
pub struct Client {
    pub seen: Vec<u8>,
    side: usize,
    asked: u64,
}

/// It asks again after so long without an answer.
const PATIENCE: Nanoseconds = 30 * MILLISECOND;

impl World {
    pub fn poll_console(&mut self) {
        self.client.asked += 1;
        let (asked, from) = (self.client.asked, self.client.seen.len() as u64);
        let number = self.sides[self.client.side];
        let process = &self.processes[number];
        let status = process.driver.node.status();
        if process.alive() && process.paused_until.is_none() && status.live {
            let piece = process.driver.node.console(0, from);
            let answer = Happening::Answer { process: number, position: piece.position, bytes: piece.bytes, asked };
            self.within(100_000, 5 * MILLISECOND, answer);
        } else {
            self.client.side = 1 - self.client.side;
        }
        self.at(self.now + PATIENCE, Happening::Poll);
    }

    pub fn answer(&mut self, process: usize, position: u64, bytes: &[u8], asked: u64) -> Result<(), String> {
        let lost = self.processes[process].dead && self.random.percent(50);
        if asked != self.client.asked || lost {
            return Ok(());
        }
        let have = self.client.seen.len() as u64;
        if position != have {
            return Err(format!("the client has {have} bytes and was given byte {position} next"));
        }
        self.client.seen.extend_from_slice(bytes);
        if !self.checker.stream.starts_with(&self.client.seen) {
            return Err("the client was shown what was never released".into());
        }
        Ok(())
    }

    pub fn type_something(&mut self) {
        let bytes = (0..self.random.between(1, 6)).map(|_| self.random.next() as u8).collect();
        for side in [0, 1] {
            let number = self.sides[side];
            let process = &self.processes[number];
            if process.alive() && process.driver.node.status().live {
                let input = Event::Input(Input::Serial { port: 0, bytes });
                self.within(100_000, 5 * MILLISECOND, Happening::Tell(number, input));
                break;
            }
        }
        self.within(5 * MILLISECOND, 150 * MILLISECOND, Happening::Type);
    }
}
