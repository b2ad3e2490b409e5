//! What is known about translated code, in regions like the code itself: blocks, the sites of their calls of Rust, the jumps
//! that lead to them. A region is forgotten as a whole, the oldest first; the others stay.
//!
//! Numbers of blocks and sites are the region's and an index within it. A jump from one region to another is remembered
//! with its target, as the number of its site and how often the site's region had been forgotten: so a jump whose own
//! region is gone by then is told from one that must be pointed back to its stub.

use super::blocks::{Block, Mode, NONE, Parts};
use super::buffer::CodeBuffer;
use super::packed::Packed;
use super::pages::CodePages;
use super::sites::{FIXED, Site};
use super::tlb::Tlb;
use crate::memory::{Memory, PAGE};
use iced_x86::Instruction;

/// Bits of an index within a region. One bit of a site's number is taken, see [`super::sites::COMMIT`].
const INDEX_BITS: u32 = 24;
const INDEX: u32 = (1 << INDEX_BITS) - 1;
/// The sites whose numbers are fixed.
const SHARED: [Packed; FIXED] = [Packed::Miss, Packed::Fault, Packed::Leave];

/// The region of a block, or of a site, by its number.
pub fn region_of(number: u32) -> usize {
    (number >> INDEX_BITS) as usize
}

/// Which instruction the host code from a position on belongs to.
#[derive(Clone, Copy)]
pub struct Mark {
    /// Where that is in the block's code.
    pub position: u16,
    /// Instruction of the block.
    pub index: u8,
}

/// A jump that has been pointed at a block.
#[derive(Clone, Copy)]
struct Incoming {
    site: u32,
    epoch: u32,
    next: u32,
}

#[derive(Default)]
struct Region {
    /// How often it has been forgotten.
    epoch: u32,
    blocks: Vec<Block>,
    sites: Vec<Packed>,
    instructions: Vec<Instruction>,
    offsets: Vec<u16>,
    marks: Vec<Mark>,
    links: Vec<Incoming>,
}

impl Region {
    fn clear(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.blocks.clear();
        self.sites.clear();
        self.instructions.clear();
        self.offsets.clear();
        self.marks.clear();
        self.links.clear();
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.blocks[..])
            + size_of_val(&self.sites[..])
            + size_of_val(&self.instructions[..])
            + size_of_val(&self.offsets[..])
            + size_of_val(&self.marks[..])
            + size_of_val(&self.links[..])
    }
}

/// A block that has just been translated, with what its region keeps for it.
pub struct Finished<'a> {
    /// The block; where its lists are is filled in.
    pub block: Block,
    /// Offset of each instruction from the block's first.
    pub offsets: &'a mut dyn Iterator<Item = u16>,
    /// Which instruction the host code from a position on belongs to, ascending.
    pub marks: &'a [Mark],
    /// What its calls of Rust mean.
    pub sites: &'a [Site],
}

/// All blocks. Region 0 is for what all share, and for the block that runs once.
pub struct Blocks {
    regions: Vec<Region>,
    pages: CodePages,
    dropped: Vec<u32>,
    live: u64,
    /// Stores beside code count as stores to code.
    pub whole_pages: bool,
}

impl Blocks {
    /// No blocks, in `regions` regions besides the first.
    pub fn new(regions: usize) -> Blocks {
        let mut all: Vec<Region> = Vec::new();
        all.resize_with(regions + 1, Region::default);
        let mut fresh =
            Blocks { regions: all, pages: CodePages::default(), dropped: Vec::new(), live: 0, whole_pages: false };
        fresh.regions[0].sites.extend(SHARED);
        fresh
    }

    fn region(&self, number: u32) -> &Region {
        &self.regions[region_of(number)]
    }

    /// A block by number.
    #[inline]
    pub fn get(&self, number: u32) -> &Block {
        &self.region(number).blocks[(number & INDEX) as usize]
    }

    fn get_mut(&mut self, number: u32) -> &mut Block {
        &mut self.regions[region_of(number)].blocks[(number & INDEX) as usize]
    }

    /// A site by number.
    #[inline]
    pub fn site(&self, number: u32) -> Site {
        let region = self.region(number);
        let packed = &region.sites[(number & INDEX) as usize];
        let parts = packed.block().map_or(Parts::default(), |block| self.get(block).parts);
        packed.site(parts, &region.instructions)
    }

    /// The sites of a region.
    #[cfg(test)]
    pub fn sites(&self, region: usize) -> Vec<Site> {
        let first = region << INDEX_BITS;
        (0..self.regions[region].sites.len()).map(|index| self.site((first + index) as u32)).collect()
    }

    /// The number the next block of a region will have.
    pub fn next_number(&self, region: usize) -> u32 {
        if region == 0 {
            super::SCRATCH_BLOCK
        } else {
            (region << INDEX_BITS | self.regions[region].blocks.len()) as u32
        }
    }

    /// The number the first block of a region has.
    pub fn first_number(&self, region: usize) -> u32 {
        (region << INDEX_BITS) as u32
    }

    /// The number the next site of a region will have. The block that runs once takes the place of the one before it.
    pub fn next_site(&self, region: usize) -> u32 {
        (region << INDEX_BITS | if region == 0 { FIXED } else { self.regions[region].sites.len() }) as u32
    }

    /// Bytes that are known about the code of a region.
    pub fn bytes(&self, region: usize) -> usize {
        self.regions[region].bytes()
    }

    /// Bytes that are known about all code.
    pub fn all_bytes(&self) -> usize {
        self.regions.iter().map(Region::bytes).sum()
    }

    /// Blocks there are.
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Offset in the code segment of an instruction; for a movable block, in the page of its first.
    pub fn rip_of(&self, number: u32, index: u8) -> u64 {
        let block = self.get(number);
        let offset = self.region(number).offsets[block.offsets as usize + usize::from(index)];
        block.rip.wrapping_add(offset.into())
    }

    /// Which instruction the host code of a block belongs to.
    pub fn marks(&self, number: u32) -> &[Mark] {
        let block = self.get(number);
        &self.region(number).marks[block.marks as usize..][..block.mark_count.into()]
    }

    /// Host address of an instruction.
    pub fn host_of(&self, number: u32, index: u8) -> u64 {
        // The first mark is the block's entry.
        self.get(number).parts.address(self.marks(number)[usize::from(index) + 1].position)
    }

    /// The instruction that a host address inside the block belongs to.
    pub fn index_at(&self, number: u32, host: u64) -> u8 {
        let position = self.get(number).parts.position(host);
        let marks = self.marks(number);
        let place = marks.partition_point(|mark| mark.position <= position);
        marks[place.saturating_sub(1)].index
    }

    /// The block of a region whose host code contains an address (both parts are placed in ascending order).
    pub fn at_host(&self, region: usize, host: u64) -> u32 {
        let blocks = &self.regions[region].blocks;
        let hot = blocks.first().is_some_and(|first| host < first.parts.cold());
        let index = blocks.partition_point(|block| host >= if hot { block.parts.hot } else { block.parts.cold() });
        (region << INDEX_BITS | (index - 1)) as u32
    }

    /// Adds a block to a region; one that may run again is found from now on, and its pages are marked.
    pub fn insert(&mut self, region: usize, finished: Finished, memory: &mut Memory, tlb: &mut Tlb) -> u32 {
        let number = self.next_number(region);
        let Finished { mut block, offsets, marks, sites } = finished;
        let home = &mut self.regions[region];
        if region == 0 {
            home.clear();
            home.sites.extend(SHARED);
        }
        (block.offsets, block.marks) = (home.offsets.len() as u32, home.marks.len() as u32);
        (block.links, block.mark_count) = (NONE, marks.len() as u16);
        home.offsets.extend(offsets);
        home.marks.extend_from_slice(marks);
        let Region { sites: known, instructions, .. } = home;
        known.extend(sites.iter().map(|site| Packed::new(site, number, block.parts, instructions)));
        home.blocks.push(block);
        if region != 0 {
            self.live += 1;
            self.cover(number, memory, tlb);
        }
        number
    }

    fn cover(&mut self, number: u32, memory: &mut Memory, tlb: &mut Tlb) {
        let block = *self.get(number);
        if let Some(page) = memory.page_of(block.physical) {
            let (start, head) = (block.physical % PAGE, block.head());
            let next = self.pages.add(page, start, number);
            self.pages.cover(memory, tlb, page, start, head, self.whole_pages);
            let block = self.get_mut(number);
            (block.page, block.next) = (page as u32, next);
        }
        let second = block.second_page().and_then(|second| memory.page_of(second));
        if let Some(page) = second {
            self.pages.add_crossing(page, number);
            self.pages.cover(memory, tlb, page, 0, u64::from(block.length) - block.head(), self.whole_pages);
            self.get_mut(number).second_place = page as u32;
        }
    }

    /// The block for an address, if translated; `anywhere`: also one for all addresses that map the physical one.
    pub fn find(&self, memory: &Memory, rip: u64, physical: u64, mode: Mode, anywhere: bool) -> Option<u32> {
        let mut number = self.pages.first(memory.page_of(physical)?, physical % PAGE);
        while number != NONE {
            let block = self.get(number);
            let here = if block.movable { anywhere } else { block.rip == rip };
            if here && block.physical == physical && block.mode == mode {
                return Some(number);
            }
            number = block.next;
        }
        None
    }

    /// Remembers that the jump of a site leads to a block, so that it is undone when either is gone.
    pub fn note_link(&mut self, site: u32, number: u32) {
        let epoch = self.region(site).epoch;
        let next = self.get(number).links;
        let links = &mut self.regions[region_of(number)].links;
        let place = links.len() as u32;
        links.push(Incoming { site, epoch, next });
        self.get_mut(number).links = place;
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
        if !memory.holds_code(page, address, length as usize) {
            return;
        }
        let from = address % PAGE;
        let to = (from + u64::from(length)).min(PAGE);
        let mut dropped = std::mem::take(&mut self.dropped);
        for mut number in self.pages.firsts(page, from, to) {
            while number != NONE {
                let block = self.get(number);
                let start = block.physical % PAGE;
                if start < to && start + block.head() > from {
                    dropped.push(number);
                }
                number = block.next;
            }
        }
        let crossing = self.pages.crossing(page).iter().copied();
        dropped.extend(crossing.filter(|&number| from < u64::from(self.get(number).length) - self.get(number).head()));
        for number in dropped.drain(..) {
            if self.get(number).valid {
                self.drop_block(number, memory, tlb, buffer);
            }
        }
        self.dropped = dropped;
    }

    fn drop_block(&mut self, number: u32, memory: &mut Memory, tlb: &mut Tlb, buffer: &mut CodeBuffer) {
        let block = *self.get(number);
        if block.movable {
            tlb.forget_jumps_to(block.mode, block.physical);
        } else if !block.mode.isolated() {
            tlb.forget_jump(block.mode, block.rip);
        }
        self.unlink(number, buffer, None);
        self.remove(number, memory);
    }

    /// Takes a block out of its pages' lists.
    fn remove(&mut self, number: u32, memory: &mut Memory) {
        let block = *self.get(number);
        self.get_mut(number).valid = false;
        self.live -= 1;
        let (page, start) = (block.page as usize, block.physical % PAGE);
        let first = self.pages.first(page, start);
        if first == number {
            self.pages.set_first(page, start, block.next);
        } else {
            let mut before = first;
            while self.get(before).next != number {
                before = self.get(before).next;
            }
            self.get_mut(before).next = block.next;
        }
        self.pages.uncover(memory, page, start, block.head(), self.whole_pages);
        if block.second_place != NONE {
            let page = block.second_place as usize;
            self.pages.remove_crossing(page, number);
            self.pages.uncover(memory, page, 0, u64::from(block.length) - block.head(), self.whole_pages);
        }
    }

    /// Points the jumps that lead to a block back to their stubs, but for those of a region that is about to go.
    fn unlink(&mut self, number: u32, buffer: &mut CodeBuffer, going: Option<usize>) {
        let block = *self.get(number);
        let mut at = std::mem::replace(&mut self.get_mut(number).links, NONE);
        while at != NONE {
            let Incoming { site, epoch, next } = self.region(number).links[at as usize];
            let home = region_of(site);
            if self.regions[home].epoch == epoch && Some(home) != going {
                match self.site(site) {
                    Site::Link { jump, stub, .. } if block.stands_over(jump) => buffer.put_jump(block.near(), stub),
                    Site::Link { jump, stub, .. } | Site::General { jump, stub, .. } => buffer.patch(jump, stub),
                    Site::FarLink { check, jump, stub, .. } => buffer.unpatch_far(check, jump, stub),
                    other => unreachable!("{other:?} is no jump"),
                }
            }
            at = next;
        }
    }

    /// Forgets a region.
    pub fn evict(&mut self, region: usize, memory: &mut Memory, tlb: &mut Tlb, buffer: &mut CodeBuffer) {
        for index in 0..self.regions[region].blocks.len() {
            let number = (region << INDEX_BITS | index) as u32;
            if self.get(number).valid {
                self.unlink(number, buffer, Some(region));
                self.remove(number, memory);
            }
        }
        tlb.forget_jumps_into(region);
        self.regions[region].clear();
    }

    /// Forgets all blocks.
    pub fn clear(&mut self, memory: &mut Memory) {
        self.pages.clear(memory);
        for region in &mut self.regions[1..] {
            if !region.blocks.is_empty() {
                region.clear();
            }
        }
        self.live = 0;
    }
}
