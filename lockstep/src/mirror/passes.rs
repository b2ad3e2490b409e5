//! The primary's progress with a standby's disks: one pass over all blocks, then rounds over those changed meanwhile.

use super::{BATCH_BLOCKS, BlockId, DiskDone, DiskWork, Hash, Layout};
use crate::message::Message;
use std::collections::VecDeque;

/// Rounds over changed blocks at most: a guest that writes faster than the link carries is stopped for the rest.
const MOST_ROUNDS: u32 = 16;
/// So few blocks may go with the image.
const FEW: usize = 4;

/// Where it stands.
#[derive(Debug)]
pub struct Passes {
    layout: Layout,
    sectors: Vec<u64>,
    step: Step,
    /// Blocks of the first pass that are dealt with.
    compared: u64,
    rounds: u32,
    changed: VecDeque<BlockId>,
    sent: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Changes are to be noted.
    Begin,
    /// The standby's hashes, or its word that it has written what was sent, are to come.
    Await,
    /// Hashes came.
    Compare(Vec<(BlockId, Hash)>),
    /// What has changed is to be asked.
    Ask,
    /// Changed blocks are to be sent.
    Send,
    /// Little or nothing differs any more.
    Equal,
}

impl Passes {
    /// Nothing done yet, for drives of these sizes.
    pub fn new(sectors: &[u64]) -> Self {
        let layout = Layout::new(sectors);
        let step = if layout.total() == 0 { Step::Equal } else { Step::Begin };
        let sectors = sectors.to_vec();
        Self { layout, sectors, step, compared: 0, rounds: 0, changed: VecDeque::new(), sent: 0 }
    }

    /// What is left fits into the image.
    pub fn is_equal(&self) -> bool {
        self.step == Step::Equal
    }

    /// Blocks compared, and blocks in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.compared, self.layout.total())
    }

    /// Blocks sent so far.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The next piece of work for the guest's disks.
    pub fn work(&mut self) -> Option<DiskWork> {
        match std::mem::replace(&mut self.step, Step::Await) {
            Step::Begin => Some(DiskWork::Watch),
            Step::Compare(theirs) => Some(DiskWork::Compare(theirs)),
            Step::Ask => Some(DiskWork::Changes),
            Step::Send => {
                let count = self.changed.len().min(BATCH_BLOCKS as usize);
                Some(DiskWork::Read(self.changed.drain(..count).collect()))
            }
            step @ (Step::Await | Step::Equal) => {
                self.step = step;
                None
            }
        }
    }

    /// Takes a result; gives what the standby is to be told.
    pub fn done(&mut self, done: DiskDone) -> Vec<Message> {
        match done {
            DiskDone::Finished => vec![Message::Mirror { sectors: self.sectors.clone() }],
            DiskDone::Blocks(blocks) => {
                self.sent += blocks.len() as u64;
                let block = |(id, bytes)| Message::Block { chunk: 0, id, bytes };
                let mut messages: Vec<Message> = blocks.into_iter().map(block).collect();
                messages.push(Message::Compared { next: self.compared });
                messages
            }
            DiskDone::Changed(changed) => {
                self.changed.extend(changed);
                self.rounds += 1;
                let over = self.changed.len() <= FEW || self.rounds >= MOST_ROUNDS;
                self.step = if over { Step::Equal } else { Step::Send };
                Vec::new()
            }
            DiskDone::Hashes(_) | DiskDone::Failed(_) => Vec::new(),
        }
    }

    /// Blocks that changed and were not sent: they go with the image.
    pub fn rest(&mut self) -> Vec<BlockId> {
        self.changed.drain(..).collect()
    }

    /// The standby's hashes of the blocks from `first` on; none: it has written what was sent.
    ///
    /// # Errors
    /// It says something else than it was asked for.
    pub fn hashes(&mut self, first: u64, hashes: Vec<Hash>) -> Result<(), String> {
        if self.step != Step::Await || first != self.compared {
            return Err("it compares blocks that were not asked for".into());
        }
        let batch = self.layout.batch(first);
        if hashes.len() != batch.len() {
            return Err(format!("{} blocks were to be compared, it has {}", batch.len(), hashes.len()));
        }
        self.compared += batch.len() as u64;
        self.step = match (batch.is_empty(), self.changed.is_empty()) {
            (false, _) => Step::Compare(batch.into_iter().zip(hashes).collect()),
            (true, true) => Step::Ask,
            (true, false) => Step::Send,
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests;
