//! What the engine counts about itself, for people who ask where time goes. No guest can see it, and nothing depends on it.

use super::Engine;

/// Counts since the engine was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Blocks translated, again and again included.
    pub blocks: u64,
    /// Blocks there are now.
    pub kept_blocks: u64,
    /// Bytes of translated code there are now.
    pub kept_bytes: u64,
    /// Bytes of it there can be.
    pub room_bytes: u64,
    /// How often all blocks were forgotten because their room was full.
    pub evictions: u64,
    /// Jumps that were led straight to a block.
    pub chains: u64,
    /// Blocks looked for in Rust.
    pub lookups: u64,
    /// How many of them the jump cache found.
    pub jump_hits: u64,
    /// Walks of the guest's page tables.
    pub walks: u64,
    /// Exceptions raised by instructions.
    pub raised: u64,
    /// Instructions run in a block of their own.
    pub isolated: u64,
}

impl Engine {
    /// What has been counted so far.
    pub fn tally(&self) -> Tally {
        let (start, end) = self.buffer.range();
        Tally {
            kept_blocks: self.blocks.next_number().into(),
            kept_bytes: self.buffer.used() as u64,
            room_bytes: end - start,
            ..self.tally
        }
    }
}
