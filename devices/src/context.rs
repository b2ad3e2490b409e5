//! What a chip that reaches out of itself is handed with every access: the time, guest memory for DMA, the drives and
//! the way out. Nothing else of the machine can be reached from a chip.

use crate::drives::Drives;
use crate::output::Outputs;
use ftemu_cpu::{Icount, Memory};

/// The world around a chip, for the time of one call.
pub struct Context<'a> {
    /// Instructions completed before this moment; an output that leaves now carries `now + 1`: an instruction makes it.
    pub now: Icount,
    /// Virtual nanoseconds.
    pub now_ns: u64,
    /// Guest-physical memory.
    pub memory: &'a mut Memory,
    /// The machine's drives.
    pub drives: &'a mut Drives,
    /// What leaves the machine.
    pub outputs: &'a mut Outputs,
}
