//! The standby's part in making its disks equal: hashes out, blocks in, one after the other.

use super::{BlockId, DiskDone, DiskWork, Layout};
use crate::message::Message;
use ftemu_devices::drives::BLOCK_BYTES;
use std::collections::VecDeque;

/// A standby's disks on their way to be the primary's.
#[derive(Debug)]
pub struct Mirroring {
    layout: Layout,
    /// The first block of the hashes being made.
    first: u64,
    tasks: VecDeque<DiskWork>,
}

impl Mirroring {
    /// Drives of these sizes, in sectors; begins with the first blocks' hashes.
    pub fn new(sectors: &[u64]) -> Self {
        let layout = Layout::new(sectors);
        let tasks = VecDeque::from([DiskWork::Hash(layout.batch(0))]);
        Self { layout, first: 0, tasks }
    }

    /// Bytes to compare.
    pub fn bytes(&self) -> u64 {
        self.layout.total().saturating_mul(BLOCK_BYTES)
    }

    /// Blocks compared, and blocks in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.first, self.layout.total())
    }

    /// The next piece of work.
    pub fn work(&mut self) -> Option<DiskWork> {
        self.tasks.pop_front()
    }

    /// A block that differs.
    pub fn block(&mut self, id: BlockId, bytes: Vec<u8>) {
        self.tasks.push_back(DiskWork::Write(id, bytes));
    }

    /// All blocks before `next` were compared; when what was sent is written, the next hashes are wanted.
    pub fn compare(&mut self, next: u64) {
        self.first = next;
        self.tasks.push_back(DiskWork::Hash(self.layout.batch(next)));
    }

    /// Takes a result; gives what the primary is to be told.
    pub fn done(&mut self, done: DiskDone) -> Option<Message> {
        match done {
            DiskDone::Hashes(hashes) => Some(Message::Hashes { first: self.first, hashes }),
            _ => None,
        }
    }
}
