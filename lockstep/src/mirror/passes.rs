//! The primary's progress with a standby's disks: one pass over all blocks, then rounds over those changed meanwhile.
//!
//! A guest that changes blocks as fast as the link carries them would keep this up for ever. So whenever a round has not
//! at least halved what is left, the guest is slowed to half its speed ([`Passes::slowdown`]), down to a thousandth;
//! and if even that does not help, the standby is given up for now.

use super::{BATCH_BLOCKS, BlockId, DiskDone, DiskWork, Hash, Layout};
use crate::message::Message;
use std::collections::VecDeque;

/// The guest is slowed to one part in two to the power of this at most.
const MOST_SLOWDOWN: u32 = 10;
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
    /// Blocks that the last round began with; none: there was none.
    last_round: Option<usize>,
    /// The guest runs one part in two to the power of this.
    slowdown: u32,
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
    /// The guest changes more than can be sent.
    Hopeless,
}

impl Passes {
    /// Nothing done yet, for drives of these sizes.
    pub fn new(sectors: &[u64]) -> Self {
        let layout = Layout::new(sectors);
        let step = if layout.total() == 0 { Step::Equal } else { Step::Begin };
        let sectors = sectors.to_vec();
        Self { layout, sectors, step, compared: 0, last_round: None, slowdown: 0, changed: VecDeque::new(), sent: 0 }
    }

    /// What is left fits into the image.
    pub fn is_equal(&self) -> bool {
        self.step == Step::Equal
    }

    /// The guest changes more than can be sent, however slowly it runs.
    pub fn is_hopeless(&self) -> bool {
        self.step == Step::Hopeless
    }

    /// The guest is to run one part in two to the power of this, so that its changes can be sent; 0: at full speed.
    pub fn slowdown(&self) -> u32 {
        if self.is_equal() { 0 } else { self.slowdown }
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
            step @ (Step::Await | Step::Equal | Step::Hopeless) => {
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
                self.step = self.begin_round();
                Vec::new()
            }
            DiskDone::Hashes(_) | DiskDone::Failed(_) => Vec::new(),
        }
    }

    /// What has changed is known: send it, unless it is little.
    fn begin_round(&mut self) -> Step {
        let left = self.changed.len();
        if left <= FEW {
            return Step::Equal;
        }
        if self.last_round.replace(left).is_some_and(|last| left > last / 2) {
            if self.slowdown == MOST_SLOWDOWN {
                return Step::Hopeless;
            }
            self.slowdown += 1;
        }
        Step::Send
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
