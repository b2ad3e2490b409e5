//! The frame: everything translated code reaches, at fixed distances from the host's RSP.
//!
//! While translated code runs, the host's RSP is `frame - 4` and everything below it is an ordinary stack for the
//! Rust functions it calls. The frame sits at an address of 16 modulo 64, so RSP modulo 64 is 12: the shift count
//! that SHRX needs to reduce an address to its page, with no register spent on it. Guest registers R10-R15 are within
//! a one-byte displacement.
#![allow(unsafe_code)]

use crate::state::State;
use std::mem::{offset_of, size_of};
use std::{io, ptr};

/// Entries of each direct-mapped table for data; the index is what an address modulo 4 GiB has above the offset in its page:
/// one SHRX of 32 bits, by RSP modulo 32.
pub const SLOTS: usize = 1 << 20;
/// Entries of each jump cache; the index is [`jump_slot`].
pub const JUMP_SLOTS: usize = 1 << 20;
/// Keeps equal indexes of neighbouring tables out of one cache set.
const PADDING: usize = 24;
/// Distance from the host's RSP to the frame.
pub const ANCHOR: i32 = 4;
const STACK: usize = 1 << 20;
/// Size of the host's large pages: the tables are looked into all the time.
const LARGE_PAGE: usize = 2 << 20;

/// One direct-mapped table.
pub type Table = [u64; SLOTS + PADDING];

/// Where the jump caches have an address: not where they have another that is four bytes to 4 MiB minus 4 KiB away. Large
/// programs have much code at the same distances from multiples of 4 MiB.
pub fn jump_slot(rip: u64) -> usize {
    let low = rip as u32;
    (low.rotate_left(10).wrapping_add(low) >> 12) as usize
}

/// The data TLB of one privilege. Tags are 4096 minus linear page addresses, so that `tag + address` on a hit is 4096 and
/// the offset: 1 without its lowest 12 bits.
#[repr(C)]
pub struct DataTables {
    /// Tags valid for loads.
    pub read: Table,
    /// Tags valid for stores.
    pub write: Table,
    /// Host address minus linear address.
    pub addend: Table,
}

/// What one slot of a jump cache holds, side by side: a look-up needs both, in one cache line.
#[repr(C, align(16))]
pub struct Jump {
    /// Negated linear RIP.
    pub tag: u64,
    /// Host entry of the block.
    pub entry: u64,
}

/// The jump cache of one privilege.
pub type JumpTable = [Jump; JUMP_SLOTS];

/// The page that a pointer into the stack was last found in; see [`super::groups`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct StackPage {
    /// As in [`DataTables`], or [`StackPage::EMPTY`]'s.
    pub tag: u64,
    /// Host minus linear address, or [`StackPage::EMPTY`]'s.
    pub addend: u64,
    /// Where the data TLB has it.
    pub slot: u64,
}

impl StackPage {
    /// No canonical address matches the tag, and no canonical address plus the addend is one.
    pub const EMPTY: StackPage = StackPage { tag: 1 << 63, addend: 1 << 62, slot: u64::MAX };
}

/// See the module.
#[repr(C)]
pub struct Frame {
    /// The guest's registers. First, for the short displacements.
    pub state: State,
    /// R14: the guard's base plus the instructions that may still run.
    pub budget: u64,
    /// AX after LAHF and SETO AL; bits above are noise.
    pub packed_flags: u64,
    /// Host address where `restore` continues.
    pub resume: u64,
    /// R10: a linear address.
    pub address: u64,
    /// R13: host minus linear address.
    pub addend: u64,
    /// RCX: which site called.
    pub argument: u64,
    /// 1 while the guest's x87/SSE registers are in the host's, 0 while they are in `state.fx`.
    pub fpu_loaded: u64,
    /// 1 if `restore` must load them.
    pub fpu_wanted: u64,
    /// The host's RSP outside of translated code.
    pub host_rsp: u64,
    /// The engine that owns the frame.
    pub engine: u64,
    /// The guard's base, negated.
    pub negated_guard: u64,
    /// RFLAGS.DF, as a mask.
    pub direction: u64,
    /// Linear address of the page that a movable block runs in.
    pub code_base: u64,
    /// Scratch of one guest instruction.
    pub temporary: u64,
    /// Offset in a segment that is not flat, of the access under way.
    pub offset: u64,
    /// Room left by a limit, whose upper half says whether there was enough.
    pub room: u64,
    /// Limits for loads, by segment; far below zero where the segment must be looked at for each access.
    pub load_limit: [i64; 6],
    /// As `load_limit`, for stores.
    pub store_limit: [i64; 6],
    /// Pages of the stack: supervisor, user; of RSP and of a frame pointer.
    pub stack: [[StackPage; 2]; 2],
    /// What leads from linear to host addresses for the accesses off a guest register that a block has checked, or
    /// [`StackPage::EMPTY`]'s.
    pub bases: [u64; 16],
    /// 1 while an interrupt waits for the window to open.
    pub interrupt_waiting: u64,
    /// MXCSR for Rust.
    pub host_mxcsr: u64,
    /// Where an access that cannot be made in place happens; the engine picks 64 aligned bytes plus offset in it.
    pub bounce: [u8; 256],
    /// Data TLBs: supervisor, user.
    pub data: [DataTables; 2],
    /// Jump caches: supervisor, user.
    pub jumps: [JumpTable; 2],
}

/// Displacement of a frame field from the host's RSP.
macro_rules! displacement {
    ($($field:tt)+) => {
        $crate::engine::frame::ANCHOR + std::mem::offset_of!($crate::engine::frame::Frame, $($field)+) as i32
    };
}
pub(crate) use displacement;

/// Displacement of a guest register's home.
pub fn register_displacement(register: usize) -> i32 {
    displacement!(state.gpr) + 8 * register as i32
}

/// Displacement of the addend for the accesses off a guest register.
pub fn base_displacement(register: usize) -> i32 {
    displacement!(bases) + 8 * register as i32
}

/// Displacement of a segment register's base.
pub fn segment_base_displacement(segment: usize) -> i32 {
    displacement!(state.segments)
        + (size_of::<crate::state::Segment>() * segment + offset_of!(crate::state::Segment, base)) as i32
}

/// Displacements of a privilege's tables.
#[derive(Clone, Copy)]
pub struct TableDisplacements {
    /// `DataTables::read`.
    pub read: i32,
    /// `DataTables::write`.
    pub write: i32,
    /// `DataTables::addend`.
    pub addend: i32,
    /// `Jump::tag`.
    pub jump_tag: i32,
    /// `Jump::entry`.
    pub jump_entry: i32,
    stack: i32,
}

impl TableDisplacements {
    /// Of the supervisor (0) or the user (1).
    pub fn new(user: bool) -> TableDisplacements {
        let data = displacement!(data) + (size_of::<DataTables>() * usize::from(user)) as i32;
        let jumps = displacement!(jumps) + (size_of::<JumpTable>() * usize::from(user)) as i32;
        TableDisplacements {
            read: data + offset_of!(DataTables, read) as i32,
            write: data + offset_of!(DataTables, write) as i32,
            addend: data + offset_of!(DataTables, addend) as i32,
            jump_tag: jumps + offset_of!(Jump, tag) as i32,
            jump_entry: jumps + offset_of!(Jump, entry) as i32,
            stack: displacement!(stack) + (size_of::<[StackPage; 2]>() * usize::from(user)) as i32,
        }
    }

    /// Of the [`StackPage`] with a number, the field at an offset.
    pub fn page(&self, number: usize, field: usize) -> i32 {
        self.stack + (size_of::<StackPage>() * number + field) as i32
    }
}

/// The mapping that holds the stack of Rust functions called from translated code, and above it the frame.
pub struct FrameMapping {
    base: *mut u8,
    length: usize,
    frame: *mut Frame,
}

impl FrameMapping {
    /// Maps and initialises a frame.
    ///
    /// # Errors
    /// What mmap says.
    pub fn new() -> io::Result<FrameMapping> {
        let used = (size_of::<Frame>() + 64).next_multiple_of(LARGE_PAGE);
        let length = LARGE_PAGE + used + LARGE_PAGE;
        // SAFETY: a fresh anonymous mapping; nothing else knows the address.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = base.cast::<u8>();
        // SAFETY: all lies inside the mapping: large pages with the frame, below them the stack, whose last page is its
        // guard.
        let frame = unsafe {
            let tables = base.add(STACK + 4096);
            let tables = tables.add(tables.align_offset(LARGE_PAGE));
            libc::madvise(tables.cast(), used, libc::MADV_HUGEPAGE);
            libc::mprotect(tables.sub(STACK + 4096).cast(), 4096, libc::PROT_NONE);
            tables.add(16).cast::<Frame>()
        };
        debug_assert_eq!(frame as usize % 64, 16);
        let mapping = FrameMapping { base, length, frame };
        // SAFETY: zero is a valid value of every field, and the memory is zeroed; State gets its defaults.
        unsafe {
            ptr::write(&raw mut (*frame).state, State::default());
            (*frame).host_mxcsr = 0x1f80;
            (*frame).direction = crate::state::rflags::DF;
            (*frame).stack = [[StackPage::EMPTY; 2]; 2];
            (*frame).bases = [StackPage::EMPTY.addend; 16];
        }
        Ok(mapping)
    }

    /// The frame.
    pub fn get(&self) -> *mut Frame {
        self.frame
    }

    /// What RSP holds in translated code.
    pub fn anchor(&self) -> u64 {
        self.frame as u64 - ANCHOR as u64
    }
}

impl Drop for FrameMapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody uses it any more.
        unsafe {
            libc::munmap(self.base.cast(), self.length);
        }
    }
}

/// RFLAGS' arithmetic bits from the packed form.
pub fn unpack_flags(packed: u64) -> u64 {
    packed >> 8 & 0xd5 | (packed & 1) << 11
}

/// The packed form of RFLAGS' arithmetic bits.
pub fn pack_flags(rflags: u64) -> u64 {
    (rflags & 0xd5 | 2) << 8 | rflags >> 11 & 1
}
