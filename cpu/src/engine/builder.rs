//! Host code for one block: fixed sequences as bytes, guest instructions through iced-x86's encoder.

use super::blocks::{Mode, Parts, together};
use super::cold::Cold;
use super::frame::{TableDisplacements, displacement, register_displacement};
use super::plan::Plan;
use super::regions::Mark;
use super::sites::{AccessSite, Site};
use super::trampolines::{HOMES, Trampolines};
use iced_x86::{Encoder, Instruction};
use std::collections::VecDeque;

/// Host register numbers with a role of their own.
pub mod host {
    /// Scratch; the only register LOOP and JRCXZ test.
    pub const RCX: u8 = 1;
    /// Scratch: a linear address.
    pub const R10: u8 = 10;
    /// Guest RCX.
    pub const R11: u8 = 11;
    /// Scratch: table index, then host minus linear address.
    pub const R13: u8 = 13;
    /// Guest RSP.
    pub const R15: u8 = 15;
}

/// Where a memory operand's bytes are: the sum of two host registers and a constant.
#[derive(Clone, Copy)]
pub struct Place {
    /// Host register.
    pub base: u8,
    /// Host register.
    pub index: Option<u8>,
    /// Constant.
    pub displacement: i32,
}

impl Place {
    /// Where [`Builder::access`] finds them.
    pub const FOUND: Place = Place { base: host::R10, index: Some(host::R13), displacement: 0 };
}

/// A block under construction.
pub struct Builder<'a> {
    /// Where it will lie; the length of what mostly runs is known once that is complete.
    pub parts: Parts,
    /// Bytes so far: what mostly runs, then the rest.
    pub out: Vec<u8>,
    /// Sites so far; numbers start at `first_site`.
    pub sites: Vec<Site>,
    /// Number of the first site.
    pub first_site: u32,
    /// Number of this block.
    pub block: u32,
    /// The mode translated for.
    pub mode: Mode,
    /// Every exit goes back to the dispatcher.
    pub alone: bool,
    /// Whether exits may be linked.
    pub chain: bool,
    /// Whether code lies below 2 GiB.
    pub low: bool,
    /// Whether exits use the jump cache.
    pub cached: bool,
    /// Offset in the code segment of the block, or in the page of a movable one.
    pub rip: u64,
    /// Addresses of code are relative to the page that the frame has.
    pub movable: bool,
    /// The instruction being translated.
    pub index: u8,
    /// How many the block has.
    pub count: u8,
    /// As in [`super::blocks::Block`].
    pub exits: u64,
    /// Which instruction host code belongs to.
    pub marks: Vec<Mark>,
    /// The site of the jump that what mostly runs ends with, and its target.
    pub open_end: Option<(u32, u64)>,
    /// Out of line parts.
    pub cold: VecDeque<Cold>,
    /// Whether checks are a LOOP.
    pub loops: bool,
    /// Whether string instructions are the host's where they can be.
    pub inlines: bool,
    /// Which accesses are checked together.
    pub plan: Plan,
    /// The guest register whose accesses' addend is in R13.
    pub resident: Option<usize>,
    /// Displacements of the mode's tables.
    pub tables: TableDisplacements,
    /// The host routines.
    pub trampolines: &'a Trampolines,
    /// iced's encoder.
    pub encoder: &'a mut Encoder,
}

impl Builder<'_> {
    /// Appends bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends one encoded instruction (nothing in it may be relative to RIP).
    pub fn instruction(&mut self, instruction: &Instruction) {
        self.encoder.encode(instruction, 0).expect("an instruction that was decoded, with other registers");
        let bytes = self.encoder.take_buffer();
        self.out.extend_from_slice(&bytes);
        let mut bytes = bytes;
        bytes.clear();
        self.encoder.set_buffer(bytes);
    }

    /// Host code from here on belongs to instruction `self.index`.
    pub fn mark(&mut self) {
        self.marks.push(Mark { position: self.out.len() as u16, index: self.index });
    }

    /// An operation with a register and [RSP+displacement].
    fn frame_operation(&mut self, opcode: u8, register: u8, displacement: i32) {
        let rex = 0x48 | (register >> 3) << 2;
        let modrm = (register & 7) << 3 | 4;
        match i8::try_from(displacement) {
            Ok(short) => self.bytes(&[rex, opcode, 0x40 | modrm, 0x24, short as u8]),
            Err(_) => {
                self.bytes(&[rex, opcode, 0x80 | modrm, 0x24]);
                self.bytes(&displacement.to_le_bytes());
            }
        }
    }

    /// MOV register, [frame].
    pub fn load(&mut self, register: u8, displacement: i32) {
        self.frame_operation(0x8b, register, displacement);
    }

    /// MOV register, [RSP+R13*8+table], for R10 or R13.
    pub fn load_indexed(&mut self, register: u8, table: i32) {
        self.bytes(&[0x4e, 0x8b, 0x84 | (register & 7) << 3, 0xec]);
        self.bytes(&table.to_le_bytes());
    }

    /// MOV [frame], register.
    pub fn store(&mut self, register: u8, displacement: i32) {
        self.frame_operation(0x89, register, displacement);
    }

    /// MOV to, from (64 bits).
    pub fn copy(&mut self, to: u8, from: u8) {
        if to != from {
            self.bytes(&[0x48 | (from >> 3) << 2 | to >> 3, 0x89, 0xc0 | (from & 7) << 3 | (to & 7)]);
        }
    }

    /// MOV register, constant, in the shortest form that leaves flags alone.
    pub fn constant(&mut self, register: u8, value: u64) {
        let low = register & 7;
        let extend = register >> 3;
        if let Ok(short) = u32::try_from(value) {
            if extend != 0 {
                self.bytes(&[0x41]);
            }
            self.bytes(&[0xb8 | low]);
            self.bytes(&short.to_le_bytes());
        } else if let Ok(signed) = i32::try_from(value as i64) {
            self.bytes(&[0x48 | extend, 0xc7, 0xc0 | low]);
            self.bytes(&signed.to_le_bytes());
        } else {
            self.bytes(&[0x48 | extend, 0xb8 | low]);
            self.bytes(&value.to_le_bytes());
        }
    }

    /// LEA to, [base + index*scale + displacement]; `wide` false computes 32 bits, zero-extended.
    pub fn lea(&mut self, to: u8, base: Option<u8>, index: Option<(u8, u8)>, displacement: i32, wide: bool) {
        let (index_low, index_high, scale) = match index {
            Some((register, scale)) => (register & 7, register >> 3, scale.trailing_zeros() as u8),
            None => (4, 0, 0),
        };
        let (base_low, base_high) = base.map_or((5, 0), |register| (register & 7, register >> 3));
        let rex = 0x40 | u8::from(wide) << 3 | (to >> 3) << 2 | index_high << 1 | base_high;
        let (mode, short) = match (base, i8::try_from(displacement)) {
            (None, _) => (0, false),
            (Some(_), Ok(0)) if base_low != 5 => (0, false),
            (Some(_), Ok(_)) => (1, true),
            (Some(_), Err(_)) => (2, false),
        };
        self.bytes(&[rex, 0x8d, mode << 6 | (to & 7) << 3 | 4, scale << 6 | index_low << 3 | base_low]);
        if short {
            self.bytes(&[displacement as u8]);
        } else if mode == 2 || base.is_none() {
            self.bytes(&displacement.to_le_bytes());
        }
    }

    /// Loads a guest register into a host register.
    pub fn load_guest(&mut self, register: u8, guest: usize) {
        match HOMES[guest] {
            Some(home) => self.copy(register, home),
            None => self.load(register, register_displacement(guest)),
        }
    }

    /// Writes a host register to a guest register.
    pub fn store_guest(&mut self, guest: usize, register: u8) {
        match HOMES[guest] {
            Some(home) => self.copy(home, register),
            None => self.store(register, register_displacement(guest)),
        }
    }

    /// JMP to something not placed yet; returns where its displacement is.
    pub fn jump(&mut self) -> usize {
        self.bytes(&[0xe9, 0, 0, 0, 0]);
        self.out.len() - 4
    }

    /// JMP to a host address.
    pub fn jump_to(&mut self, target: u64) {
        let at = self.jump();
        self.aim(at, target);
    }

    /// Points a displacement to a host address.
    pub fn aim(&mut self, at: usize, target: u64) {
        let displacement = (target as i64 - (self.address_at(at) as i64 + 4)) as i32;
        self.out[at..at + 4].copy_from_slice(&displacement.to_le_bytes());
    }

    /// Points a displacement to here.
    pub fn aim_here(&mut self, at: usize) {
        let here = self.here();
        self.aim(at, here);
    }

    /// Host address of the next byte.
    pub fn here(&self) -> u64 {
        self.address_at(self.out.len())
    }

    /// Host address of a byte by its place in `out`.
    pub fn address_at(&self, place: usize) -> u64 {
        self.parts.address(place as u16)
    }

    /// Continues here if RCX is 1, and makes it 0; returns the displacement of the other way.
    ///
    /// Few of these jumps fit into the host's branch predictor, and one that it does not know must fall through: LOOP leads
    /// into the NOP behind it, whose last five bytes are a JMP.
    pub(super) fn unless_one(&mut self) -> usize {
        if self.loops {
            self.bytes(&[0xe2, 3]); // loop to the JMP
            self.bytes(&[0x0f, 0x1f, 0x84]); // nop [rcx+rbp*8+...]
        } else {
            self.lea(host::RCX, Some(host::RCX), None, -1, true);
            self.bytes(&[0xe3, 5]); // jrcxz over the JMP
        }
        self.jump()
    }

    /// Adds a site and calls the service function with it.
    pub fn service(&mut self, site: Site) {
        let number = self.next_site();
        self.sites.push(site);
        self.service_number(number);
    }

    /// The number of the next site.
    pub fn next_site(&self) -> u32 {
        self.first_site + self.sites.len() as u32
    }

    /// Calls the service function with a known site number.
    pub fn service_number(&mut self, number: u32) {
        self.bytes(&[0xb9]);
        self.bytes(&number.to_le_bytes());
        self.jump_to(self.trampolines.service);
    }

    /// Takes the instructions from `index` to the next way out off the budget.
    pub fn spend(&mut self, index: u8) -> u8 {
        let spent = together(self.exits, self.count, index);
        self.bytes(&[0x4d, 0x8d, 0x76, spent.wrapping_neg()]); // lea r14, [r14-spent]
        spent
    }

    /// The block's entry: takes what runs up to the first way out off the budget, and faults if fewer instructions are left than
    /// the block has.
    pub fn entry(&mut self, checked: bool) {
        let spent = self.spend(0);
        match self.count - spent {
            _ if !checked => {}
            0 => self.bytes(&[0x41, 0x8b, 0x0e]), // mov ecx, [r14]
            rest => self.bytes(&[0x41, 0x8b, 0x4e, rest.wrapping_neg()]), // mov ecx, [r14-rest]
        }
    }

    /// Makes sure x87/SSE registers are in the host's.
    pub fn require_fpu(&mut self) {
        self.load(host::RCX, displacement!(fpu_loaded));
        let jump = self.unless_one();
        let back = self.out.len();
        self.cold.push_back(Cold::LoadFpu { jump, back });
    }

    /// R13 = the slot of the data tables for the linear address in a register.
    pub fn slot(&mut self, address: u8) {
        self.bytes(&[0xc4, 0x62 ^ (address >> 3) << 5, 0x5b, 0xf7, 0xe8 | (address & 7)]); // shrx r13d, address, esp (12)
    }

    /// Continues here if the data tables have the page that the bytes from the linear address in R10 on are in, with R13 = its
    /// slot; returns the displacement of the other way.
    pub(super) fn look_up(&mut self, tags: i32, length: i32) -> usize {
        self.slot(host::R10);
        self.bytes(&[0x4a, 0x8b, 0x8c, 0xec]); // mov rcx, [rsp+r13*8+tags]
        self.bytes(&tags.to_le_bytes());
        self.lea(host::RCX, Some(host::RCX), Some((host::R10, 1)), length - 1, true);
        self.bytes(&[0xc4, 0xe2, 0xdb, 0xf7, 0xc9]); // shrx rcx, rcx, rsp (12)
        self.unless_one()
    }

    /// A memory access at the linear address in R10 (see [`Builder::segment`]): translates it, then runs `operation`, which may use RCX and finds
    /// the bytes at [R10+R13].
    pub fn access(&mut self, site: AccessSite, operation: impl FnOnce(&mut Self)) {
        self.resident = None;
        let retry = self.out.len();
        let tags = if site.write { self.tables.write } else { self.tables.read };
        let jump = self.look_up(tags, site.size.into());
        self.load_indexed(host::R13, self.tables.addend);
        let start = self.out.len();
        operation(self);
        let operation = start..self.out.len();
        self.cold.push_back(Cold::Access { index: self.index, jump, retry, operation, site });
    }

    /// As [`Builder::access`], at a linear address known in advance; `operation` gets the place of the bytes, which lie in
    /// one page.
    pub fn access_at(&mut self, address: i32, site: AccessSite, operation: impl FnOnce(&mut Self, Place)) {
        self.resident = None;
        let retry = self.out.len();
        let slot = 8 * (address as u32 >> 12) as i32;
        let tags = if site.write { self.tables.write } else { self.tables.read };
        self.load(host::RCX, tags + slot);
        self.lea(host::RCX, Some(host::RCX), None, (address & !0xfff) - 4095, true);
        let jump = self.unless_one();
        self.load(host::R13, self.tables.addend + slot);
        let start = self.out.len();
        operation(self, Place { base: host::R13, index: None, displacement: address });
        let operation = start..self.out.len();
        let site = AccessSite { constant: Some(address), ..site };
        self.cold.push_back(Cold::Access { index: self.index, jump, retry, operation, site });
    }
}
