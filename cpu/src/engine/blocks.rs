//! The table of translated blocks: lookup, links between them, and dropping those whose bytes changed.

use super::buffer::CodeBuffer;
use super::hasher::Map;
use super::tlb::Tlb;
use crate::memory::{CODE, Memory, PAGE, pieces};

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

    /// What the jump cache holds for an address, so that no other mode finds it: the negated sum. Addresses less than 512
    /// apart never share a slot ([`super::frame::jump_slot`] moves by as much, or one more).
    pub fn jump_tag(self, rip: u64) -> u64 {
        rip.wrapping_add(u64::from(self.0)).wrapping_neg()
    }
}

/// A jump that has been pointed at a block: the site of its displacement, and the stub it had pointed to.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Host address of the displacement.
    pub site: u64,
    /// Host address of the stub that comes back to the dispatcher.
    pub stub: u64,
}

/// One translated block.
pub struct Block {
    /// Offset in the code segment of the first instruction: in 64-bit mode its linear address. Of a movable block, the
    /// offset in its page.
    pub rip: u64,
    /// It may run at any address that maps its page; the frame has where it does.
    pub movable: bool,
    /// Guest-physical address of the first byte.
    pub physical: u64,
    /// Guest-physical page of the last byte, when another.
    pub second_page: Option<u64>,
    /// Bytes of all instructions.
    pub length: u32,
    /// Mode it was made for.
    pub mode: Mode,
    /// It uses x87 or SSE registers.
    pub fpu: bool,
    /// Host address of the entry from another page, which takes the address from R10.
    pub host: u64,
    /// Host address of the entry otherwise.
    pub near: u64,
    /// Offset of each instruction from `rip`.
    pub offsets: Vec<u16>,
    /// Which instruction the host code from an offset on belongs to, ascending.
    pub marks: Vec<(u32, u8)>,
    /// Jumps that lead here.
    pub links: Vec<Link>,
    /// Still in the table.
    pub valid: bool,
}

impl Block {
    fn key(&self) -> (u64, u64) {
        key(if self.movable { ANYWHERE } else { self.rip }, self.physical, self.mode)
    }

    /// Instructions.
    pub fn count(&self) -> u64 {
        self.offsets.len() as u64
    }

    /// Offset in the code segment of an instruction; for a movable block, in the page of its first.
    pub fn rip_of(&self, index: usize) -> u64 {
        self.rip.wrapping_add(u64::from(self.offsets[index]))
    }

    /// Host address of an instruction.
    pub fn host_of(&self, index: usize) -> u64 {
        // The first mark is the block's entry.
        self.host + u64::from(self.marks[index + 1].0)
    }

    /// The instruction that a host address inside the block belongs to.
    pub fn index_at(&self, host: u64) -> usize {
        let offset = (host - self.host) as u32;
        let position = self.marks.partition_point(|mark| mark.0 <= offset);
        self.marks[position.saturating_sub(1)].1 as usize
    }
}

/// The bytes of a page that a block was made from, by their offsets.
#[derive(Clone, Copy)]
struct Extent {
    block: u32,
    first: u16,
    end: u16,
}

/// All blocks.
#[derive(Default)]
pub struct Blocks {
    all: Vec<Block>,
    keys: Map<(u64, u64), u32>,
    /// What of a page is covered.
    pages: Map<usize, Vec<Extent>>,
    /// Stores beside code count as stores to code.
    pub whole_pages: bool,
}

/// Stands for the address of what may run at any: no address is like it.
const ANYWHERE: u64 = 1 << 63;

fn key(rip: u64, physical: u64, mode: Mode) -> (u64, u64) {
    (rip, physical << 16 | u64::from(mode.0))
}

impl Blocks {
    /// The block for an address, if translated.
    pub fn find(&self, rip: u64, physical: u64, mode: Mode) -> Option<u32> {
        self.keys.get(&key(rip, physical, mode)).copied()
    }

    /// The block for any address that maps a physical one, if translated.
    pub fn find_movable(&self, physical: u64, mode: Mode) -> Option<u32> {
        self.find(ANYWHERE, physical, mode)
    }

    /// A block by number.
    pub fn get(&self, number: u32) -> &Block {
        &self.all[number as usize]
    }

    /// A block by number.
    pub fn get_mut(&mut self, number: u32) -> &mut Block {
        &mut self.all[number as usize]
    }

    /// The number the next block will have.
    pub fn next_number(&self) -> u32 {
        self.all.len() as u32
    }

    /// Adds a block and marks its pages.
    pub fn insert(&mut self, block: Block, memory: &mut Memory, tlb: &mut Tlb) -> u32 {
        let number = self.next_number();
        self.keys.insert(block.key(), number);
        let head = u64::from(block.length).min(PAGE - block.physical % PAGE);
        self.cover(number, block.physical, head, memory, tlb);
        if let Some(second) = block.second_page {
            self.cover(number, second, u64::from(block.length) - head, memory, tlb);
        }
        self.all.push(block);
        number
    }

    fn cover(&mut self, number: u32, start: u64, length: u64, memory: &mut Memory, tlb: &mut Tlb) {
        let Some(page) = memory.page_of(start) else { return };
        let first = (start % PAGE) as u16;
        self.pages.entry(page).or_default().push(Extent { block: number, first, end: first + length as u16 });
        tlb.track(memory, page, CODE);
        let covered = if self.whole_pages { u64::MAX } else { pieces(start, length) };
        memory.set_code(page, memory.code(page) | covered);
    }

    /// Drops the blocks that cover any of `length` bytes at guest-physical `address`.
    pub fn bytes_changed(
        &mut self,
        memory: &mut Memory,
        tlb: &mut Tlb,
        buffer: &mut CodeBuffer,
        address: u64,
        length: u32,
    ) {
        let Some(page) = memory.page_of(address) else { return };
        let Some(extents) = self.pages.get_mut(&page) else { return };
        if memory.code(page) & pieces(address, u64::from(length)) == 0 {
            return;
        }
        let from = (address % PAGE) as u16;
        let to = from + length.min(PAGE as u32 - u32::from(from)) as u16;
        let hit = |extent: &Extent| extent.first < to && extent.end > from;
        if !extents.iter().any(hit) {
            return;
        }
        let dropped: Vec<u32> = extents.iter().filter(|extent| hit(extent)).map(|extent| extent.block).collect();
        let all = &self.all;
        extents.retain(|extent| !hit(extent) && all[extent.block as usize].valid);
        let rest = extents.iter().map(|extent| pieces(extent.first.into(), (extent.end - extent.first).into()));
        let rest = rest.fold(0, |all, one| all | one);
        memory.set_code(page, if self.whole_pages && rest != 0 { u64::MAX } else { rest });
        if extents.is_empty() {
            self.pages.remove(&page);
        }
        for number in dropped {
            if self.all[number as usize].valid {
                self.drop_block(number, tlb, buffer);
            }
        }
    }

    fn drop_block(&mut self, number: u32, tlb: &mut Tlb, buffer: &mut CodeBuffer) {
        let block = &mut self.all[number as usize];
        block.valid = false;
        self.keys.remove(&block.key());
        if block.movable {
            tlb.forget_jumps_to(block.mode, block.physical);
        } else if !block.mode.isolated() {
            tlb.forget_jump(block.mode, block.rip);
        }
        for link in block.links.drain(..) {
            buffer.patch(link.site, link.stub);
        }
    }

    /// Forgets all blocks.
    pub fn clear(&mut self, memory: &mut Memory) {
        for &page in self.pages.keys() {
            memory.set_code(page, 0);
        }
        *self = Blocks { whole_pages: self.whole_pages, ..Blocks::default() };
    }

    /// The block whose host code contains an address (blocks are placed in ascending order).
    pub fn at_host(&self, host: u64) -> u32 {
        self.all.partition_point(|block| block.host <= host) as u32 - 1
    }
}
