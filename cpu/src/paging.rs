//! Four-level long-mode paging (APM vol. 2 §5.3): one walk, with accessed and dirty bits set as hardware does.

use crate::exception::Exception;
use crate::memory::Memory;
use crate::state::{State, control};

/// Guest-physical address bits the CPU model has (CPUID 8000_0008h). Entry bits above are reserved.
pub const PHYSICAL_BITS: u32 = 40;

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = ((1 << PHYSICAL_BITS) - 1) & !0xfff;
const RESERVED: u64 = ((1 << 52) - 1) & !((1 << PHYSICAL_BITS) - 1);

/// What an access wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// It stores.
    pub write: bool,
    /// It comes from CPL 3 and is not an implicit system access.
    pub user: bool,
    /// It fetches an instruction.
    pub fetch: bool,
}

impl Access {
    /// A load at the given privilege.
    pub fn read(user: bool) -> Access {
        Access { write: false, user, fetch: false }
    }

    /// A store, or a load that a store by the same instruction follows.
    pub fn write(user: bool) -> Access {
        Access { write: true, user, fetch: false }
    }

    /// An instruction fetch.
    pub fn fetch(user: bool) -> Access {
        Access { write: false, user, fetch: true }
    }
}

/// The result of a walk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Translation {
    /// Guest-physical address of the byte asked for.
    pub physical: u64,
    /// A store by the same privilege would be allowed, and the dirty bit is already set.
    pub writable_now: bool,
    /// Guest-physical addresses of the table entries walked, topmost (level 4) first; unused ones are zero.
    pub entries: [u64; 4],
    /// How many of `entries` are in use.
    pub depth: usize,
}

/// Whether bits 63-47 are equal (APM vol. 2 §1.1.3).
#[inline]
pub fn is_canonical(linear: u64) -> bool {
    ((linear as i64) << 16 >> 16) as u64 == linear
}

/// Translates a linear address, setting accessed and dirty bits.
///
/// # Errors
/// #PF as the tables say, or #GP(0) for an address that is not canonical.
pub fn walk(memory: &mut Memory, state: &State, linear: u64, access: Access) -> Result<Translation, Exception> {
    if state.cr0 & control::CR0_PG == 0 {
        return Ok(Translation { physical: linear & 0xffff_ffff, writable_now: true, ..Translation::default() });
    }
    if !is_canonical(linear) {
        return Err(Exception::general_protection(0));
    }
    let no_execute_on = state.efer & control::EFER_NXE != 0;
    let fault = |present: bool, reserved: bool| {
        let error = u32::from(present)
            | u32::from(access.write) << 1
            | u32::from(access.user) << 2
            | u32::from(reserved) << 3
            | u32::from(access.fetch && no_execute_on) << 4;
        Exception::page_fault(error, linear)
    };
    let mut found = Translation::default();
    let mut table = state.cr3 & ADDRESS;
    let (mut writable, mut user, mut executable) = (true, true, true);
    let mut seen = [0u64; 4];
    let mut level = 4u32;
    let leaf = loop {
        let shift = 12 + 9 * (level - 1);
        let at = table + (linear >> shift & 511) * 8;
        let entry = memory.load_entry(at);
        if entry & PRESENT == 0 {
            return Err(fault(false, false));
        }
        let large = entry & LARGE != 0;
        let reserved = RESERVED
            | if no_execute_on { 0 } else { NO_EXECUTE }
            | if level == 4 { LARGE } else { 0 }
            | if large && (level == 2 || level == 3) { (1 << shift) - (1 << 13) } else { 0 };
        if entry & reserved != 0 {
            return Err(fault(true, true));
        }
        writable &= entry & WRITABLE != 0;
        user &= entry & USER != 0;
        executable &= entry & NO_EXECUTE == 0;
        found.entries[found.depth] = at;
        seen[found.depth] = entry;
        found.depth += 1;
        if level == 1 || large {
            let span = (1u64 << shift) - 1;
            found.physical = (entry & ADDRESS & !span) | (linear & span);
            break entry;
        }
        table = entry & ADDRESS;
        level -= 1;
    };
    let may_write = writable || (!access.user && state.cr0 & control::CR0_WP == 0);
    if (access.user && !user) || (access.write && !may_write) || (access.fetch && !executable) {
        return Err(fault(true, false));
    }
    for (depth, &entry) in seen[..found.depth].iter().enumerate() {
        let last = depth + 1 == found.depth;
        let wanted = ACCESSED | if last && access.write { DIRTY } else { 0 };
        if entry & wanted != wanted {
            memory.set_entry_bits(found.entries[depth], wanted);
        }
    }
    found.writable_now = may_write && (access.write || leaf & DIRTY != 0);
    Ok(found)
}
