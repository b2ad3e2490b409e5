//! Sites as they are kept: a third of the size, relative to the host code of their block.

use super::blocks::Parts;
use super::sites::{AccessSite, Site};
use crate::exception::Exception;
use iced_x86::Instruction;

/// Bits of [`Packed::Access`]'s flags.
mod flag {
    pub const READ: u16 = 1;
    pub const WRITE: u16 = 2;
    pub const ALIGNED: u16 = 4;
    pub const X87: u16 = 8;
    pub const STACK: u16 = 16;
    pub const PLAIN: u16 = 32;
    pub const CONSTANT: u16 = 64;
    pub const SEGMENT: u16 = 128;
    /// The segment's number stands above this bit.
    pub const NUMBER: u32 = 8;
}

/// A site; see [`Site`]. Host addresses are positions in the block's code, 64-bit ones stand in halves:
/// nothing in here needs to be aligned to more than four bytes.
#[derive(Clone, Copy)]
pub enum Packed {
    Miss,
    Fault,
    Leave,
    Branch { block: u32, moved: i32, index: u8 },
    Access { block: u32, constant: i32, retry: u16, bounce: u16, after: u16, flags: u16, index: u8, size: u8 },
    System { block: u32, instruction: u32, after: u16, index: u8 },
    Link { block: u32, target: [u32; 2], jump: u16, stub: u16, movable: bool },
    FarLink { block: u32, target: [u32; 2], check: u16, jump: u16, stub: u16, link: u16, unlinked: u16 },
    General { block: u32, jump: u16, stub: u16, index: u8 },
    Raise { block: u32, error: u32, index: u8, vector: u8, has_error: bool },
}

fn halves(value: u64) -> [u32; 2] {
    [value as u32, (value >> 32) as u32]
}

fn whole(halves: [u32; 2]) -> u64 {
    u64::from(halves[0]) | u64::from(halves[1]) << 32
}

impl AccessSite {
    fn flags(&self) -> u16 {
        let bits = [
            (self.read, flag::READ),
            (self.write, flag::WRITE),
            (self.aligned, flag::ALIGNED),
            (self.x87, flag::X87),
            (self.stack, flag::STACK),
            (self.plain, flag::PLAIN),
            (self.constant.is_some(), flag::CONSTANT),
            (self.segment.is_some(), flag::SEGMENT),
        ];
        let set = bits.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit);
        set | u16::from(self.segment.unwrap_or(0)) << flag::NUMBER
    }
}

impl Packed {
    /// Packs a site of a block whose code lies in `parts`. Instructions go to the end of `instructions`.
    pub fn new(site: &Site, block: u32, parts: Parts, instructions: &mut Vec<Instruction>) -> Packed {
        let at = |host: u64| parts.position(host);
        match *site {
            Site::Miss => Packed::Miss,
            Site::Fault => Packed::Fault,
            Site::Leave => Packed::Leave,
            Site::Branch { block, index, moved } => Packed::Branch { block, moved, index },
            Site::Access(ref site) => Packed::Access {
                block: site.block,
                constant: site.constant.unwrap_or(0),
                retry: at(site.retry),
                bounce: at(site.bounce),
                after: at(site.after),
                flags: site.flags(),
                index: site.index,
                size: site.size,
            },
            Site::System { block, index, instruction, after } => {
                instructions.push(instruction);
                Packed::System { block, instruction: instructions.len() as u32 - 1, after: at(after), index }
            }
            Site::Link { target, movable, jump, stub } => {
                Packed::Link { block, target: halves(target), jump: at(jump), stub: at(stub), movable }
            }
            Site::FarLink { target, check, jump, stub, link, unlinked } => Packed::FarLink {
                block,
                target: halves(target),
                check: at(check),
                jump: at(jump),
                stub: at(stub),
                link: at(link),
                unlinked: at(unlinked),
            },
            Site::General { block, index, jump, stub } => {
                Packed::General { block, jump: at(jump), stub: at(stub), index }
            }
            Site::Raise { block, index, exception: Exception { vector, error, address } } => {
                assert!(address.is_none(), "no page fault is known in advance");
                Packed::Raise { block, error: error.unwrap_or(0), index, vector, has_error: error.is_some() }
            }
        }
    }

    /// The block whose code the addresses are relative to.
    pub fn block(&self) -> Option<u32> {
        match *self {
            Packed::Miss | Packed::Fault | Packed::Leave => None,
            Packed::Branch { block, .. }
            | Packed::Access { block, .. }
            | Packed::System { block, .. }
            | Packed::Link { block, .. }
            | Packed::FarLink { block, .. }
            | Packed::General { block, .. }
            | Packed::Raise { block, .. } => Some(block),
        }
    }

    /// The site, of a block whose code lies in `parts`.
    #[inline]
    pub fn site(&self, parts: Parts, instructions: &[Instruction]) -> Site {
        let host = |position: u16| parts.address(position);
        match *self {
            Packed::Miss => Site::Miss,
            Packed::Fault => Site::Fault,
            Packed::Leave => Site::Leave,
            Packed::Branch { block, moved, index } => Site::Branch { block, index, moved },
            Packed::Access { block, constant, retry, bounce, after, flags, index, size } => Site::Access(AccessSite {
                block,
                index,
                size,
                read: flags & flag::READ != 0,
                write: flags & flag::WRITE != 0,
                aligned: flags & flag::ALIGNED != 0,
                x87: flags & flag::X87 != 0,
                stack: flags & flag::STACK != 0,
                plain: flags & flag::PLAIN != 0,
                segment: (flags & flag::SEGMENT != 0).then_some((flags >> flag::NUMBER) as u8),
                constant: (flags & flag::CONSTANT != 0).then_some(constant),
                retry: host(retry),
                bounce: host(bounce),
                after: host(after),
            }),
            Packed::System { block, instruction, after, index } => {
                Site::System { block, index, instruction: instructions[instruction as usize], after: host(after) }
            }
            Packed::Link { target, jump, stub, movable, .. } => {
                Site::Link { target: whole(target), movable, jump: host(jump), stub: host(stub) }
            }
            Packed::FarLink { target, check, jump, stub, link, unlinked, .. } => Site::FarLink {
                target: whole(target),
                check: host(check),
                jump: host(jump),
                stub: host(stub),
                link: host(link),
                unlinked: host(unlinked),
            },
            Packed::General { block, jump, stub, index } => {
                Site::General { block, index, jump: host(jump), stub: host(stub) }
            }
            Packed::Raise { block, error, index, vector, has_error } => {
                let exception = Exception { vector, error: has_error.then_some(error), address: None };
                Site::Raise { block, index, exception }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_come_back_as_they_went_in() {
        let parts = Parts { hot: 0x7fff_1234_5670, distance: 0x20_0000, length: 7 };
        let base = parts.hot;
        let far = |position: u16| parts.address(position);
        let access = AccessSite {
            block: 7,
            index: 63,
            size: 16,
            read: true,
            aligned: true,
            stack: true,
            segment: Some(5),
            constant: Some(-4096),
            retry: far(1),
            bounce: far(0xbfff),
            after: far(300),
            ..AccessSite::default()
        };
        let plain =
            AccessSite { write: true, x87: true, plain: true, retry: base, bounce: base, after: base, ..access };
        let sites = [
            Site::Miss,
            Site::Fault,
            Site::Leave,
            Site::Branch { block: 7, index: 3, moved: -8 },
            Site::Access(access),
            Site::Access(AccessSite { segment: None, constant: None, ..plain }),
            Site::System { block: 7, index: 9, instruction: Instruction::with(iced_x86::Code::Cpuid), after: far(20) },
            Site::Link { target: u64::MAX - 1, movable: true, jump: far(2), stub: far(3) },
            Site::FarLink {
                target: 1 << 40 | 5,
                check: far(4),
                jump: far(5),
                stub: far(6),
                link: far(7),
                unlinked: far(8),
            },
            Site::General { block: 7, index: 2, jump: far(9), stub: far(10) },
            Site::Raise { block: 7, index: 1, exception: Exception::general_protection(0) },
            Site::Raise { block: 7, index: 1, exception: Exception::invalid_opcode() },
        ];
        let mut instructions = Vec::new();
        for site in sites {
            let packed = Packed::new(&site, 7, parts, &mut instructions);
            assert_eq!(format!("{:?}", packed.site(parts, &instructions)), format!("{site:?}"));
        }
        assert!(size_of::<Packed>() <= 24);
    }
}
