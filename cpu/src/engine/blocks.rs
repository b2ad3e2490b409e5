//! One translated block, and what its translation depends on; [`super::regions`] keeps them.

use crate::memory::PAGE;

/// What else a block's translation depends on besides its bytes and address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mode(pub u16);

impl Mode {
    /// CPL 3.
    pub const USER: u16 = 1;
    /// CR0.TS or CR0.EM: x87 and SSE instructions raise #NM.
    pub const FPU_TRAP: u16 = 2;
    /// CR4.OSFXSR clear: SSE instructions raise #UD.
    pub const SSE_OFF: u16 = 4;
    /// A single instruction that may touch devices and tracked pages, and then comes back.
    pub const ISOLATED: u16 = 8;
    /// 32-bit code, outside 64-bit mode.
    pub const CODE_32: u16 = 16;
    /// 16-bit code.
    pub const CODE_16: u16 = 32;
    /// The stack segment is a 16-bit one.
    pub const STACK_16: u16 = 64;
    /// Outside 64-bit mode: CS, DS, ES and SS begin at 0, have no limit and allow what they usually do.
    pub const FLAT: u16 = 128;
    /// Every access is looked up on its own; see [`super::groups`].
    pub const GENERAL: u16 = 256;

    /// Runs at CPL 3.
    pub fn user(self) -> bool {
        self.0 & Mode::USER != 0
    }

    /// A single instruction on its own.
    pub fn isolated(self) -> bool {
        self.0 & Mode::ISOLATED != 0
    }

    /// 64-bit mode.
    pub fn long(self) -> bool {
        self.0 & (Mode::CODE_32 | Mode::CODE_16) == 0
    }

    /// Offsets are linear addresses for CS, DS, ES and SS.
    pub fn flat(self) -> bool {
        self.long() || self.0 & Mode::FLAT != 0
    }

    /// Default size of code: 16, 32 or 64 bits.
    pub fn bitness(self) -> u32 {
        match (self.0 & Mode::CODE_32 != 0, self.0 & Mode::CODE_16 != 0) {
            (true, _) => 32,
            (_, true) => 16,
            _ => 64,
        }
    }

    /// Bits of the stack pointer that count: 16, 32 or 64.
    pub fn stack_bits(self) -> u32 {
        if self.long() {
            64
        } else if self.0 & Mode::STACK_16 != 0 {
            16
        } else {
            32
        }
    }

    /// What is added to an address in the jump cache, so that no other mode finds it. Addresses that are a multiple of
    /// 4 MiB and less than 1 GiB apart never share a slot ([`super::frame::jump_slot`] moves by 1024 for each 4 MiB).
    pub fn jump_distance(self) -> u32 {
        u32::from(self.0 & (Mode::GENERAL - 1)) << 22
    }

    /// What the jump cache holds for an address: the negated sum.
    pub fn jump_tag(self, rip: u64) -> u64 {
        rip.wrapping_add(self.jump_distance().into()).wrapping_neg()
    }
}

/// Of `count` instructions with ways out behind those of `exits`: how many there are from `index` up to the next way out.
pub fn together(exits: u64, count: u8, index: u8) -> u8 {
    let next = (exits >> index).trailing_zeros() as u8;
    next.saturating_add(1).min(count - index)
}

/// Where the host code of a block lies: what mostly runs, and apart from it what rarely does. Positions count the bytes of the
/// one, then those of the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Host address of what mostly runs.
    pub hot: u64,
    /// Bytes from there to the rest.
    pub distance: u32,
    /// Bytes of what mostly runs.
    pub length: u16,
}

impl Parts {
    /// Host address of what rarely runs.
    pub fn cold(self) -> u64 {
        self.hot + u64::from(self.distance)
    }

    /// Host address of a position.
    #[inline]
    pub fn address(self, position: u16) -> u64 {
        let apart = if position < self.length { 0 } else { self.distance - u32::from(self.length) };
        self.hot + u64::from(position) + u64::from(apart)
    }

    /// The position of a host address.
    pub fn position(self, host: u64) -> u16 {
        let distance = host - self.hot;
        if distance < self.length.into() {
            return distance as u16;
        }
        u16::try_from(host - self.cold()).expect("an address in the block") + self.length
    }
}

/// No block, no page, no link.
pub const NONE: u32 = u32::MAX;

/// One translated block. Small, because there are many: what a block has several of is kept by its region.
#[derive(Clone, Copy)]
pub struct Block {
    /// Offset in the code segment of the first instruction: in 64-bit mode its linear address. Of a movable block, the
    /// offset in its page.
    pub rip: u64,
    /// Guest-physical address of the first byte.
    pub physical: u64,
    /// Guest-physical page of the last byte, when another; all bits set otherwise.
    pub second: u64,
    /// Its host code.
    pub parts: Parts,
    /// Page of [`crate::memory::Memory`] that the first byte is in.
    pub page: u32,
    /// Page that the last byte is in, when another; [`NONE`] otherwise.
    pub second_place: u32,
    /// The next block that begins in the same piece of the page.
    pub next: u32,
    /// The first of the jumps that lead here.
    pub links: u32,
    /// Where the region has the first instruction's offset.
    pub offsets: u32,
    /// Where the region has the first mark.
    pub marks: u32,
    /// How many marks there are.
    pub mark_count: u16,
    /// Bytes of all instructions.
    pub length: u16,
    /// Mode it was made for.
    pub mode: Mode,
    /// A bit for each instruction at which the block may be left though others follow: what has run is counted from one to
    /// the next.
    pub exits: u64,
    /// Instructions.
    pub instructions: u8,
    /// Bytes from the beginning of its code to the entry from within the page.
    pub near_distance: u8,
    /// The entry from another page is apart, where the rest of what rarely runs is.
    pub entered_apart: bool,
    /// It may run at any address that maps its page; the frame has where it does.
    pub movable: bool,
    /// It uses x87 or SSE registers.
    pub fpu: bool,
    /// Still in the table.
    pub valid: bool,
}

impl Block {
    /// What a new block begins with.
    pub const NEW: Block = Block {
        rip: 0,
        physical: 0,
        second: u64::MAX,
        parts: Parts { hot: 0, distance: 0, length: 0 },
        page: NONE,
        second_place: NONE,
        next: NONE,
        links: NONE,
        offsets: 0,
        marks: 0,
        mark_count: 0,
        length: 0,
        exits: 0,
        mode: Mode(0),
        instructions: 0,
        near_distance: 0,
        entered_apart: false,
        movable: false,
        fpu: false,
        valid: true,
    };

    /// Instructions.
    pub fn count(&self) -> u64 {
        self.instructions.into()
    }

    /// Instructions from one on that are taken off the budget with it: up to the next way out, or to the end.
    pub fn together(&self, index: u8) -> u64 {
        together(self.exits, self.instructions, index).into()
    }

    /// Host address of the entry from within the page.
    pub fn near(&self) -> u64 {
        self.parts.hot + u64::from(self.near_distance)
    }

    /// Whether the entry stands where the jump with its displacement at `displacement` was: see
    /// [`super::translate::OpenEnd`].
    pub fn stands_over(&self, displacement: u64) -> bool {
        displacement == self.near() + 1
    }

    /// Host address of the entry from another page, which takes the address from R10.
    pub fn entry(&self) -> u64 {
        if self.entered_apart { self.parts.cold() } else { self.parts.hot }
    }

    /// Guest-physical page of the last byte, when another than the first's.
    pub fn second_page(&self) -> Option<u64> {
        (self.second != u64::MAX).then_some(self.second)
    }

    /// Bytes of the instructions in the page of the first.
    pub fn head(&self) -> u64 {
        u64::from(self.length).min(PAGE - self.physical % PAGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_reach_to_the_next_way_out_or_the_end() {
        assert_eq!((0..4).map(|index| together(0, 4, index)).collect::<Vec<_>>(), [4, 3, 2, 1]);
        assert_eq!((0..4).map(|index| together(0b0101, 4, index)).collect::<Vec<_>>(), [1, 2, 1, 1]);
        let exits = 1 << 62;
        assert_eq!([0, 62, 63].map(|index| together(exits, 64, index)), [63, 1, 1]);
        assert_eq!([0, 63].map(|index| together(0, 64, index)), [64, 1]);
    }

    #[test]
    fn positions_count_both_parts() {
        let parts = Parts { hot: 0x1000, distance: 0x800, length: 7 };
        for (position, host) in [(0, 0x1000), (6, 0x1006), (7, 0x1800), (8, 0x1801)] {
            assert_eq!((parts.address(position), parts.position(host)), (host, position));
        }
    }
}
