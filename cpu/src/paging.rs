//! Paging in all its formats (APM vol. 2 §5.2, §5.3): one walk, with accessed and dirty bits set as hardware does.
//!
//! The page-directory pointers of PAE are read with every walk and not kept from the last write of CR3, as this CPU
//! vendor allows: so they too are a function of memory alone.

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
    /// Guest-physical addresses of the table entries walked, topmost first; unused ones are zero.
    pub entries: [u64; 4],
    /// How many of `entries` are in use.
    pub depth: usize,
}

/// Whether bits 63-47 are equal (APM vol. 2 §1.1.3).
#[inline]
pub fn is_canonical(linear: u64) -> bool {
    ((linear as i64) << 16 >> 16) as u64 == linear
}

/// The shape of the tables in use (APM vol. 2 §5.2, §5.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// Levels of tables.
    pub levels: u32,
    /// Bytes in an entry: 4 or 8.
    pub entry_bytes: u64,
    /// Bits of the linear address that one table decides: 9 or 10.
    pub index_bits: u32,
}

impl Format {
    /// 4 KiB and 4 MiB pages, 32-bit entries.
    const CLASSIC: Format = Format { levels: 2, entry_bytes: 4, index_bits: 10 };
    /// Physical address extension.
    const EXTENDED: Format = Format { levels: 3, entry_bytes: 8, index_bits: 9 };
    /// Long mode.
    const LONG: Format = Format { levels: 4, entry_bytes: 8, index_bits: 9 };

    /// What the control registers select, whether or not paging is on.
    pub fn of(state: &State) -> Format {
        if state.efer & control::EFER_LMA != 0 {
            Format::LONG
        } else if state.cr4 & control::CR4_PAE != 0 {
            Format::EXTENDED
        } else {
            Format::CLASSIC
        }
    }

    /// The lowest bit of a linear address that an entry at `level` (1 is the lowest) decides.
    pub fn shift(self, level: u32) -> u32 {
        12 + self.index_bits * (level - 1)
    }

    /// Guest-physical address of the topmost table.
    pub fn root(self, cr3: u64) -> u64 {
        match self.levels {
            2 => cr3 & 0xffff_f000,
            3 => cr3 & 0xffff_ffe0,
            _ => cr3 & ADDRESS,
        }
    }

    /// Entries of the topmost table.
    pub fn root_entries(self) -> u64 {
        if self.levels == 3 { 4 } else { 1 << self.index_bits }
    }

    /// Which half of the linear space an address is in, as operating systems halve it: at the middle in long mode, at
    /// 3 GiB otherwise.
    pub fn half(self, linear: u64) -> usize {
        usize::from(if self.levels == 4 { linear >> 63 != 0 } else { linear >= 0xc000_0000 })
    }

    /// Where a half begins, in 1024ths of the topmost table; that of 2 is the end.
    pub fn border(self, half: usize) -> u64 {
        match half {
            0 => 0,
            1 if self.levels == 4 => 512,
            1 => 768,
            _ => 1024,
        }
    }

    fn is_pointer_table(self, level: u32) -> bool {
        self.levels == 3 && level == 3
    }

    /// Whether an entry maps a page although tables could follow.
    fn is_large(self, level: u32, entry: u64, state: &State) -> bool {
        let possible = match self.levels {
            2 => level == 2 && state.cr4 & control::CR4_PSE != 0,
            3 => level == 2,
            _ => level == 2 || level == 3,
        };
        possible && entry & LARGE != 0
    }

    /// Bits that must be zero.
    fn reserved(self, level: u32, large: bool, no_execute_on: bool) -> u64 {
        if self.levels == 2 {
            return if large { 1 << 21 } else { 0 };
        }
        if self.is_pointer_table(level) {
            return RESERVED | 0x1e6 | !((1 << 52) - 1);
        }
        let above = if self.levels == 3 { 0x7ff << 52 } else { 0 };
        let top = if level == 4 { LARGE } else { 0 };
        RESERVED
            | above
            | top
            | if no_execute_on { 0 } else { NO_EXECUTE }
            | if large { (1 << self.shift(level)) - (1 << 13) } else { 0 }
    }

    /// Where an entry that ends the walk maps to.
    fn frame(self, level: u32, large: bool, entry: u64) -> u64 {
        let span = (1u64 << self.shift(level)) - 1;
        match (self.levels, large) {
            // PSE-36: bits 13-20 are bits 32-39 of the address.
            (2, true) => entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32,
            (2, false) => entry & 0xffff_f000,
            _ => entry & ADDRESS & !span,
        }
    }
}

/// Translates a linear address, setting accessed and dirty bits. Outside long mode the address has 32 bits.
///
/// # Errors
/// #PF as the tables say, or #GP(0) for an address that is not canonical.
pub fn walk(memory: &mut Memory, state: &State, linear: u64, access: Access) -> Result<Translation, Exception> {
    if state.cr0 & control::CR0_PG == 0 {
        let physical = memory.gated(linear & 0xffff_ffff);
        return Ok(Translation { physical, writable_now: true, ..Translation::default() });
    }
    let format = Format::of(state);
    if format.levels == 4 && !is_canonical(linear) {
        return Err(Exception::general_protection(0));
    }
    let linear = if format.levels == 4 { linear } else { linear & 0xffff_ffff };
    let no_execute_on = state.efer & control::EFER_NXE != 0 && format.levels > 2;
    let fault = |present: bool, reserved: bool| {
        let error = u32::from(present)
            | u32::from(access.write) << 1
            | u32::from(access.user) << 2
            | u32::from(reserved) << 3
            | u32::from(access.fetch && no_execute_on) << 4;
        Exception::page_fault(error, linear)
    };
    let mut found = Translation::default();
    let mut table = format.root(state.cr3);
    let (mut writable, mut user, mut executable) = (true, true, true);
    let mut seen = [0u64; 4];
    let mut level = format.levels;
    let leaf = loop {
        let shift = format.shift(level);
        let at = memory.gated(table + (linear >> shift & ((1 << format.index_bits) - 1)) * format.entry_bytes);
        let entry = memory.load_entry(at, format.entry_bytes);
        if entry & PRESENT == 0 {
            return Err(fault(false, false));
        }
        let large = format.is_large(level, entry, state);
        if entry & format.reserved(level, large, no_execute_on) != 0 {
            return Err(fault(true, true));
        }
        found.entries[found.depth] = at;
        seen[found.depth] = entry;
        found.depth += 1;
        if !format.is_pointer_table(level) {
            writable &= entry & WRITABLE != 0;
            user &= entry & USER != 0;
            executable &= !(no_execute_on && entry & NO_EXECUTE != 0);
        }
        if level == 1 || large {
            found.physical = memory.gated(format.frame(level, large, entry) | (linear & ((1u64 << shift) - 1)));
            break entry;
        }
        table = if format.levels == 2 { entry & 0xffff_f000 } else { entry & ADDRESS };
        level -= 1;
    };
    let may_write = writable || (!access.user && state.cr0 & control::CR0_WP == 0);
    if (access.user && !user) || (access.write && !may_write) || (access.fetch && !executable) {
        return Err(fault(true, false));
    }
    for (depth, &entry) in seen[..found.depth].iter().enumerate() {
        let last = depth + 1 == found.depth;
        let wanted = ACCESSED | if last && access.write { DIRTY } else { 0 };
        if entry & wanted != wanted && !format.is_pointer_table(format.levels - depth as u32) {
            memory.set_entry_bits(found.entries[depth], wanted);
        }
    }
    found.writable_now = may_write && (access.write || leaf & DIRTY != 0);
    Ok(found)
}
