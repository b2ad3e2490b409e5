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
    /// Bytes of what is known about it.
    pub known_bytes: u64,
    /// Bytes of code there can be.
    pub room_bytes: u64,
    /// How often a region of blocks was forgotten to make room.
    pub evictions: u64,
    /// Jumps that were led straight to a block.
    pub chains: u64,
    /// Blocks put behind the one that leads there.
    pub behind: u64,
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
        Tally {
            kept_blocks: self.blocks.live(),
            known_bytes: self.blocks.all_bytes() as u64,
            kept_bytes: self.buffer.used() as u64,
            room_bytes: self.buffer.room() as u64,
            ..self.tally
        }
    }
}
