//! What goes wrong, and when it is nobody's fault that a guest is lost.

use crate::process::{MILLISECOND, Nanoseconds, Process, settings};
use crate::toy::DRIVES;
use crate::world::{Happening, World};
use ftemu_lockstep::State;

impl World {
    pub fn fault(&mut self) {
        if self.calm() {
            return;
        }
        match self.random.between(0, 11) {
            0..=2 => self.crash(),
            3..=5 => self.pause(),
            6..=7 => {
                self.say("the connection breaks".into());
                self.break_connection();
            }
            8..=9 => self.stall(),
            _ => {
                let (low, high) = (MILLISECOND, 900 * MILLISECOND);
                let first = self.random.between(low, high);
                self.overload(first);
            }
        }
        self.within(5 * MILLISECOND, 500 * MILLISECOND, Happening::Fault);
    }

    fn crash(&mut self) {
        let side = self.random.between(0, 2) as usize;
        let (number, other) = (self.sides[side], self.sides[1 - side]);
        if !self.processes[number].alive() {
            return;
        }
        if !self.survives(number, other) {
            if !self.random.percent(5) {
                return;
            }
            self.excused = true;
        }
        self.outcome.crashes += 1;
        self.say(format!(
            "process {number} ({:?}) dies; the other is {:?}",
            self.processes[number].state(),
            self.processes[other].state()
        ));
        self.processes[number].dead = true;
        let told = !self.plan.arbiter || self.random.percent(60);
        self.cut_off(number, told);
        self.within(50 * MILLISECOND, 600 * MILLISECOND, Happening::Restart(side));
    }

    /// A process is started anew on a side whose last one is gone.
    pub fn restart(&mut self, side: usize) -> Result<(), String> {
        if self.processes[self.sides[side]].alive() {
            return Ok(());
        }
        let number = self.processes.len();
        let mut settings = settings(self.plan.arbiter);
        settings.lag_stop_ns = 500 * MILLISECOND;
        if !self.calm() && self.random.percent(30) {
            // Whatever became of a disk whose side was gone is repaired when it joins again.
            self.disks[side][0].tamper(self.random.between(0, DRIVES[0] * 512), number as u8);
        }
        self.processes.push(Process::standby(side, number as u64 + 1, settings, self.now, &self.disks[side]));
        self.sides[side] = number;
        self.say(format!("process {number} starts on side {side}"));
        self.within(MILLISECOND, 20 * MILLISECOND, Happening::Dial);
        self.happen(Happening::Wake(number))
    }

    /// The guest outlives the death of `number` now.
    fn survives(&self, number: usize, other: usize) -> bool {
        let (process, other) = (&self.processes[number], &self.processes[other]);
        if !process.holds_the_guest() {
            return true;
        }
        // It has won a term, or may be about to, that the other will then never get.
        let claiming = matches!(process.state(), State::Claiming | State::TakingOver);
        let term = other.driver.node.status().term;
        let ahead = self.grants.iter().any(|(&won, &winner)| winner == number && won > term);
        other.holds_the_guest() && !claiming && !ahead
    }

    fn pause(&mut self) {
        let side = self.random.between(0, 2) as usize;
        let pause = self.random.between(MILLISECOND, 900 * MILLISECOND);
        self.stand_still(side, pause);
    }

    /// Both servers have other things to do for about so long, and return to us a little apart.
    pub fn overload(&mut self, pause: Nanoseconds) {
        for side in [0, 1] {
            let apart = self.random.between(0, 30 * MILLISECOND);
            self.stand_still(side, pause + apart);
        }
    }

    pub fn stand_still(&mut self, side: usize, pause: Nanoseconds) {
        let number = self.sides[side];
        let process = &mut self.processes[number];
        if process.alive() && process.paused_until.is_none() {
            let until = self.now + pause;
            process.paused_until = Some(until);
            self.say(format!("process {number} stands still until {:.3}", until as f64 / 1e6));
            self.at(until, Happening::Resume(number));
        }
    }

    fn stall(&mut self) {
        let until = self.now + self.random.between(10 * MILLISECOND, 700 * MILLISECOND);
        if let Some(connection) = &mut self.connection {
            connection.stalled_until = until;
            self.say(format!("the network stalls until {:.3}", until as f64 / 1e6));
        }
    }
}
