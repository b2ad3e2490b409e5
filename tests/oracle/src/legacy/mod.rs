//! Engine against Unicorn in real, protected 16- and 32-bit and virtual-8086 mode: random bytes that decode, in random
//! segments, paging off. A case is one or a few instructions, then INT3 whatever they lead to.
//!
//! Unicorn checks neither limits nor types of segments, so a case in which the engine does is not compared. The host's own
//! CPU does, in the segments of a local descriptor table: [`silicon_campaign`].

mod compare;
mod engine;
mod generate;
mod known;
mod segments;
mod silicon;
pub mod silicon_campaign;
pub mod tally;
mod unicorn;

use crate::random::Random;
use anyhow::Result;
use iced_x86::{Decoder, DecoderOptions, Instruction};
use std::collections::BTreeMap;
use tally::{Tally, Verdict};

/// Guest RAM that is compared: below the hole at 640 KiB.
const MEMORY: usize = 0xa_0000;
/// Tables and stubs are where hardly any case looks.
const TABLES: u64 = 0x80_0000;
const TABLES_BYTES: u64 = 0x1_0000;
const GDT: u64 = TABLES + 0x1000;
const IDT: u64 = TABLES + 0x2000;
const TSS: u64 = TABLES + 0x3000;
const LDT: u64 = TABLES + 0x8000;
/// In the first 64 KiB, where real mode reaches it: HLT for every vector.
const HANDLERS: u64 = 0x4000;
/// The code segment: 64 KiB of INT3.
const CODE: u64 = 0x1_0000;
/// Data from here on.
const DATA: usize = 0x2_0000;
/// The first of the descriptors that a case makes: CS, then ES SS DS FS GS.
const CASE_SELECTOR: u16 = 0x28;

/// The mode a case runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode.
    Real,
    /// Virtual-8086 mode.
    Virtual8086,
    /// Protected mode with 16- or 32-bit code, at CPL 0 or 3.
    Protected {
        /// Bits of code.
        bits: u32,
        /// CPL 3.
        user: bool,
    },
}

impl Mode {
    /// Bits of code.
    pub fn bits(self) -> u32 {
        if let Mode::Protected { bits, .. } = self { bits } else { 16 }
    }

    fn has_paragraphs(self) -> bool {
        matches!(self, Mode::Real | Mode::Virtual8086)
    }
}

/// A segment of a case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    base: u64,
    limit: u32,
    big: bool,
    /// Access byte of its descriptor; 0 is that of ordinary code or data.
    access: u8,
}

/// Registers before or after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Registers {
    gpr: [u32; 8],
    ip: u32,
    flags: u32,
    /// ES CS SS DS FS GS.
    selectors: [u16; 6],
}

/// A program with what it starts from.
#[derive(Clone, Debug)]
struct Case {
    mode: Mode,
    bytes: Vec<u8>,
    registers: Registers,
    /// ES CS SS DS FS GS.
    parts: [Part; 6],
    /// Bytes of RAM that a case brings along, and where.
    patch: Option<(u64, Vec<u8>)>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
struct Outcome {
    /// `None` where the engine cannot tell.
    vector: Option<u8>,
    registers: Registers,
    /// Linear address at which the engine ended.
    linear: u32,
    /// Changed bytes: address and value.
    changes: BTreeMap<u32, u8>,
}

impl Case {
    fn instructions(&self) -> Vec<Instruction> {
        let options = DecoderOptions::AMD;
        Decoder::with_ip(self.mode.bits(), &self.bytes, u64::from(self.registers.ip), options).iter().collect()
    }

    /// Eight bytes for the GDT; `number` is that of the segment register.
    fn descriptor(&self, number: usize) -> u64 {
        let Mode::Protected { user, .. } = self.mode else { return 0 };
        let mut part = self.parts[number];
        if part.access == 0 {
            part.access = if number == 1 { 0x9b } else { 0x93 } | if user { 0x60 } else { 0 };
        }
        part.descriptor()
    }
}

impl Part {
    /// Eight bytes for a table.
    fn descriptor(&self) -> u64 {
        let Part { base, limit, big, access } = *self;
        let (granular, limit) = if limit > 0xf_ffff { (true, limit >> 12) } else { (false, limit) };
        let limit = u64::from(limit);
        limit & 0xffff
            | (base & 0xff_ffff) << 16
            | u64::from(access) << 40
            | (limit >> 16) << 48
            | u64::from(big) << 54
            | u64::from(granular) << 55
            | (base >> 24) << 56
    }
}

/// Both machines, and what they said.
pub struct Legacy {
    engine: engine::Machine,
    reference: unicorn::Reference,
    image: Vec<u8>,
    /// What has been compared.
    pub tally: Tally,
}

impl Legacy {
    /// Both machines.
    ///
    /// # Errors
    /// One of them cannot be set up here.
    pub fn new() -> Result<Legacy> {
        let image = image();
        Ok(Legacy {
            engine: engine::Machine::new(&image)?,
            reference: unicorn::Reference::new(&image)?,
            image,
            tally: Tally::default(),
        })
    }

    /// Runs the cases of seeds `seed` to `seed + cases`, or until so many kinds have failed.
    pub fn run(&mut self, seed: u64, cases: u64, patience: usize) {
        let mut tally = std::mem::take(&mut self.tally);
        tally.run(seed, cases, patience, |tally, seed| self.check(&generate::case(seed), tally));
        self.tally = tally;
    }

    fn check(&mut self, case: &Case, tally: &mut Tally) -> Verdict {
        let instructions = case.instructions();
        if let Some(reason) = known::before(&instructions) {
            return Err(reason);
        }
        let reference = self.reference.run(case, &self.image);
        let engine = self.engine.run(case, &self.image);
        let reference = reference.ok_or("Unicorn left its memory, or did not end")?;
        let engine = engine.ok_or("does not end")?;
        if let Some(reason) = known::after(case, &instructions, &engine, &reference) {
            return Err(reason);
        }
        tally.note(&instructions, &engine);
        Ok(compare::report(case, &instructions, &engine, &reference))
    }
}

/// RAM before a case.
fn image() -> Vec<u8> {
    let mut image = vec![0; MEMORY];
    let mut random = Random::new(0x1e9a);
    for word in image.chunks_exact_mut(8) {
        // Small numbers, so that what is loaded can be an address.
        let value = if random.percent(50) { random.bits() & 0x7fff_0000_7fff } else { random.bits() };
        word.copy_from_slice(&value.to_le_bytes());
    }
    image[CODE as usize..DATA].fill(0xcc);
    image[HANDLERS as usize..][..32].fill(0xf4);
    image
}

/// The beginning of the GDT: flat code and data, at both levels.
fn flat_descriptors() -> Vec<u8> {
    let flat: [u64; 5] =
        [0, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x00cf_fb00_0000_ffff, 0x00cf_f300_0000_ffff];
    flat.iter().flat_map(|value| value.to_le_bytes()).collect()
}
