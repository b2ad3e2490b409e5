//! What a machine is made of, and why one could not be made or restored.

use crate::clock;
use crate::state::{Saved, saved};

/// Bytes of RAM a machine can have: room for a kernel, and half of what the CPU's 40 physical address bits reach.
pub(crate) const MEMORY: std::ops::RangeInclusive<u64> = 2 << 20..=1 << 39;

/// What a machine is made of. Part of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of RAM.
    pub memory_bytes: u64,
    /// What the real-time clock shows at virtual time 0: seconds since 1970, UTC.
    pub epoch_seconds: u64,
    /// The first rate of virtual time, in 1/1024 ns per instruction.
    pub rate: u32,
    /// The kernel's first entropy; anything, but the same on both sides.
    pub seed: [u8; 32],
}
saved!(Config { memory_bytes, epoch_seconds, rate, seed });

impl Default for Config {
    /// 512 MiB, 2024-01-01, 1 ns per instruction, a seed of zeros.
    fn default() -> Self {
        Config { memory_bytes: 512 << 20, epoch_seconds: 1_704_067_200, rate: clock::RATE_ONE, seed: [0; 32] }
    }
}

impl Config {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.save(out);
    }

    /// Takes a configuration off the front. `None`: the bytes are cut short.
    pub fn decode(bytes: &mut &[u8]) -> Option<Config> {
        Config::load(bytes)
    }
}

/// Why a machine could not be made or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The configuration asks for too little or too much RAM.
    #[error("a machine cannot have {memory_bytes} bytes of RAM: give at least 2 MiB and at most 512 GiB")]
    MemorySize {
        /// Bytes asked for.
        memory_bytes: u64,
    },
    /// The host cannot run or hold it.
    #[error("the host cannot provide the machine: {0}")]
    Host(#[from] std::io::Error),
    /// The bytes are no saved state of this version.
    #[error("the saved state is cut short, damaged or of another version of ftemu")]
    Malformed,
    /// The saved state is that of a machine with another configuration.
    #[error("the saved state is that of a machine with {saved} bytes of RAM; this one has {own}")]
    OtherMemory {
        /// Bytes of RAM in the saved state.
        saved: u64,
        /// Bytes of RAM here.
        own: u64,
    },
}
