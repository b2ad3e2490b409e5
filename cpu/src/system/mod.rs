//! Instructions executed by plain Rust functions, and the delivery of exceptions and interrupts.

use crate::exception::Exception;
use crate::execution::Execution;
use iced_x86::Instruction;

/// Where execution goes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// To the next instruction; `execute` has advanced RIP past this one.
    Next,
    /// To `state.rip`, which the instruction set; mode or privilege may have changed.
    Jump,
    /// A repeated string instruction ran out of allowance: RIP still points at it.
    Again,
    /// HLT completed.
    Halt,
}

/// What [`execute`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Instructions this counts as: 1, or the completed iterations of a REP (at least 1).
    pub count: u64,
    /// Where to go on.
    pub flow: Flow,
}

/// A triple fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown;

/// Executes one instruction at `state.rip`. `allowance` (at least 1) bounds the iterations of a REP.
///
/// # Errors
/// The exception it raised; the state is then as before the instruction, but for completed REP iterations, which
/// `completed` receives.
pub fn execute(
    _x: &mut Execution,
    _instruction: &Instruction,
    _allowance: u64,
    _completed: &mut u64,
) -> Result<Executed, Exception> {
    todo!()
}

/// Whether this instruction must be executed by [`execute`] because the translator does not relocate it.
pub fn handles(_instruction: &Instruction) -> bool {
    todo!()
}
