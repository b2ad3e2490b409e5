//! What lies between the two processes: connections that carry, stall, break, and stand again.

use crate::link::Connection;
use crate::process::MILLISECOND;
use crate::world::{Canary, Happening, World};
use ftemu_lockstep::event::Finish;
use ftemu_lockstep::{Class, Event, Message};

impl World {
    pub fn send(&mut self, from: usize, link: u64, class: Class, bytes: Vec<u8>) {
        let Some(connection) =
            self.connection.as_mut().filter(|connection| connection.number == link && !connection.broken)
        else {
            return;
        };
        let Some(to) = connection.other(from) else { return };
        self.sent_messages += 1;
        self.sent_bytes += bytes.len() as u64;
        self.tapped.iter_mut().for_each(|tapped| tapped.push(bytes.clone()));
        let forged = match self.plan.canary {
            Some(Canary::ForgedAcknowledgements) => forged_acknowledgement(&bytes),
            _ => None,
        };
        let Some(mut time) = connection.arrival(&mut self.random, self.now, to, class) else { return };
        if let Some(forged) = forged {
            time += 30 * MILLISECOND;
            self.at(self.now, Happening::Tell(from, Event::Received { link, bytes: forged }));
        }
        self.at(time, Happening::Tell(to, Event::Received { link, bytes }));
    }

    pub fn disconnect(&mut self, number: usize, link: u64) {
        if self.connection.as_ref().is_some_and(|connection| connection.number == link) {
            self.cut_off(number, false);
        }
    }

    /// A process leaves its connection: the other end hears of it later.
    pub fn cut_off(&mut self, number: usize, died: bool) {
        self.say(format!("process {number} leaves its connection"));
        let Some(connection) = self.connection.as_mut().filter(|connection| connection.ends.contains(&number)) else {
            self.within(5 * MILLISECOND, 60 * MILLISECOND, Happening::Dial);
            return;
        };
        let (link, other) = (connection.number, connection.other(number));
        let process = &self.processes[number];
        let parted = process.finished.as_ref().is_some_and(|finish| !matches!(finish, Finish::Fenced { .. }));
        // What is under way from a dead process, or from one that said goodbye, may still arrive; a connection that
        // was closed carries nothing.
        let dead = process.dead || parted;
        if !dead {
            connection.broken = true;
            self.broken.insert(connection.number);
        }
        if dead {
            self.connection = None;
        }
        if let Some(other) = other {
            let (low, high) = if died { (MILLISECOND, 15 * MILLISECOND) } else { (MILLISECOND, 400 * MILLISECOND) };
            self.within(low, high, Happening::Tell(other, Event::LinkDown { link, died }));
        }
        self.within(20 * MILLISECOND, 60 * MILLISECOND, Happening::Dial);
    }

    /// Breaks the connection under both processes.
    pub fn break_connection(&mut self) {
        let Some(connection) = self.connection.as_mut().filter(|connection| !connection.broken) else { return };
        connection.broken = true;
        self.broken.insert(connection.number);
        let (link, ends) = (connection.number, connection.ends);
        for end in ends {
            self.within(100_000, 300 * MILLISECOND, Happening::Tell(end, Event::LinkDown { link, died: false }));
        }
        self.within(5 * MILLISECOND, 300 * MILLISECOND, Happening::Dial);
    }

    pub fn dial(&mut self) {
        if self.connection.as_ref().is_some_and(|connection| !connection.broken) {
            return;
        }
        let ends = self.sides;
        let there = ends.map(|end| self.processes[end].alive());
        if there != [true, true] {
            if let (false, Some(survivor)) = (self.plan.arbiter, there.iter().position(|&there| there)) {
                // Nobody listens: the peer's system says so, hence its process is dead.
                self.within(MILLISECOND, 5 * MILLISECOND, Happening::Tell(ends[survivor], Event::PeerDied));
            }
            self.within(20 * MILLISECOND, 60 * MILLISECOND, Happening::Dial);
            return;
        }
        self.connections += 1;
        self.say(format!("connection {} between processes {ends:?}", self.connections));
        let mut connection = Connection::new(self.connections, ends);
        for end in ends {
            let up = self.now + self.random.between(100_000, 3 * MILLISECOND);
            connection.open(end, up);
            self.at(up, Happening::Tell(end, Event::LinkUp { link: self.connections }));
        }
        self.connection = Some(connection);
    }
}

/// An acknowledgement of a batch of records that nobody has received.
fn forged_acknowledgement(bytes: &[u8]) -> Option<Vec<u8>> {
    let Ok(Message::Log { first, records, .. }) = Message::decode(bytes) else { return None };
    let start = ftemu_lockstep::record::Position::start(ftemu_cpu::Icount(0));
    let (records, _) = ftemu_lockstep::log::read_batch(start, &records).ok()?;
    let received = first + records.len() as u64;
    let zero = ftemu_cpu::Icount(0);
    Some(Message::Acknowledge { received, executed: zero, agreed: zero }.encode())
}
