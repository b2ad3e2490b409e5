//! The connection between the two processes: reliable and ordered per class while it lives, datagrams excepted; slow,
//! stalling and breaking at will.

use crate::process::{MILLISECOND, Nanoseconds};
use crate::random::Random;
use ftemu_lockstep::Class;
use std::collections::BTreeMap;

/// One connection.
pub struct Connection {
    pub number: u64,
    /// Process numbers.
    pub ends: [usize; 2],
    pub broken: bool,
    /// Nothing arrives before.
    pub stalled_until: Nanoseconds,
    last: BTreeMap<(usize, Class), Nanoseconds>,
}

impl Connection {
    pub fn new(number: u64, ends: [usize; 2]) -> Self {
        Self { number, ends, broken: false, stalled_until: 0, last: BTreeMap::new() }
    }

    pub fn other(&self, process: usize) -> Option<usize> {
        match self.ends {
            [a, b] if a == process => Some(b),
            [a, b] if b == process => Some(a),
            _ => None,
        }
    }

    /// Nothing reaches `process` before `time`: only then does it know of the connection.
    pub fn open(&mut self, process: usize, time: Nanoseconds) {
        for class in [Class::Log, Class::Control, Class::Bulk, Class::Heartbeat] {
            self.last.insert((process, class), time);
        }
    }

    /// When a message to `to` arrives; `None`: it is lost.
    pub fn arrival(&mut self, random: &mut Random, now: Nanoseconds, to: usize, class: Class) -> Option<Nanoseconds> {
        if class == Class::Heartbeat && random.percent(10) {
            return None;
        }
        let spike = if random.percent(2) { random.between(0, 40 * MILLISECOND) } else { 0 };
        let time = (now + random.between(50_000, 500_000) + spike).max(self.stalled_until);
        let last = self.last.entry((to, class)).or_default();
        let time = time.max(*last + 1);
        if class != Class::Heartbeat {
            *last = time;
        }
        Some(time)
    }
}
