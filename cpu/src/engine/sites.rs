//! Sites: what the service function must know about each place in translated code that calls it.

use crate::exception::Exception;
use iced_x86::Instruction;

/// Site number of a jump cache miss: the target is in R10.
pub const MISS: u32 = 0;
/// Site number of a host fault inside translated code.
pub const FAULT: u32 = 1;
/// Site number of the end of a block that must go back to the dispatcher: the next address is in R10.
pub const LEAVE: u32 = 2;
/// How many sites have fixed numbers.
pub const FIXED: usize = 3;
/// Added to an access site's number: a store's operation on the bounce buffer is done.
pub const COMMIT: u32 = 1 << 31;

/// A memory access.
#[derive(Clone, Copy, Debug, Default)]
pub struct AccessSite {
    /// Block.
    pub block: u32,
    /// Instruction of the block.
    pub index: u8,
    /// Bytes, 1 to 64.
    pub size: u8,
    /// It loads.
    pub read: bool,
    /// It stores.
    pub write: bool,
    /// An address that is no multiple of the size is #GP(0), whatever the page tables say.
    pub aligned: bool,
    /// A pending x87 exception comes before any fault of the access.
    pub x87: bool,
    /// Addressing errors are #SS.
    pub stack: bool,
    /// The operation only stores: it may be repeated.
    pub plain: bool,
    /// The segment whose base and limit the lookup has seen to; the frame has the offset.
    pub segment: Option<u8>,
    /// The linear address, if it is always the same.
    pub constant: Option<i32>,
    /// Host address of the lookup.
    pub retry: u64,
    /// Host address of the operation on the bounce buffer; a store is committed behind it.
    pub bounce: u64,
    /// Host address after the operation.
    pub after: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub enum Site {
    /// Number 0.
    Miss,
    /// As number 0, for an indirect transfer: a target that is not canonical faults in the instruction itself.
    Branch {
        /// Block.
        block: u32,
        /// Instruction of the block.
        index: u8,
        /// What the instruction has added to RSP.
        moved: i32,
    },
    /// Number 1.
    Fault,
    /// Number 2.
    Leave,
    /// A slow memory access.
    Access(AccessSite),
    /// An instruction executed in Rust.
    System {
        /// Block.
        block: u32,
        /// Instruction of the block.
        index: u8,
        /// The instruction.
        instruction: Instruction,
        /// Host address of the next one.
        after: u64,
    },
    /// A jump within a page, not linked yet.
    Link {
        /// Linear target; from a movable block, its offset in the page.
        target: u64,
        /// From a movable block.
        movable: bool,
        /// Host address of the jump's displacement.
        jump: u64,
        /// Host address of the stub.
        stub: u64,
    },
    /// A jump to another page, not linked yet.
    FarLink {
        /// Linear target.
        target: u64,
        /// Host address of what is added to the jump cache's entry.
        check: u64,
        /// Host address of the displacement to here.
        jump: u64,
        /// Host address of the stub.
        stub: u64,
        /// Host address of the displacement of the linked jump.
        link: u64,
        /// Host address of the jump that needs no link.
        unlinked: u64,
    },
    /// A check of several accesses failed: on in the general translation.
    General {
        /// Block.
        block: u32,
        /// Instruction of the block.
        index: u8,
        /// Host address of the jump's displacement.
        jump: u64,
        /// Host address of the stub.
        stub: u64,
    },
    /// An instruction that always raises.
    Raise {
        /// Block.
        block: u32,
        /// Instruction of the block.
        index: u8,
        /// What it raises.
        exception: Exception,
    },
}
