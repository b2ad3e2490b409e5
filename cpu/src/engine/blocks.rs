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
    /// Host address of the entry from another page, which takes the address from R10.
    pub host: u64,
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
    /// Instructions.
    pub instructions: u8,
    /// Bytes from `host` to the entry from within the page.
    pub near_distance: u8,
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
        host: 0,
        page: NONE,
        second_place: NONE,
        next: NONE,
        links: NONE,
        offsets: 0,
        marks: 0,
        mark_count: 0,
        length: 0,
        mode: Mode(0),
        instructions: 0,
        near_distance: 0,
        movable: false,
        fpu: false,
        valid: true,
    };

    /// Instructions.
    pub fn count(&self) -> u64 {
        self.instructions.into()
    }

    /// Host address of the entry from within the page.
    pub fn near(&self) -> u64 {
        self.host + u64::from(self.near_distance)
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
