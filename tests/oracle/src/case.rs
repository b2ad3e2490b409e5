//! A case: a small program with the registers and memory it starts from, and what came of running it.

use crate::layout::{CODE, PAGE, SELF};
use iced_x86::{Code, Decoder, DecoderOptions, Encoder, Formatter, Instruction, IntelFormatter, Register};
use std::fmt::Write;

/// Registers that a user program sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct Registers {
    /// FXSAVE image: x87, MXCSR, XMM.
    pub fx: [u8; 512],
    /// In encoding order.
    pub gpr: [u64; 16],
    /// Linear address of the next instruction.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// Base of FS.
    pub fs_base: u64,
    /// Base of GS.
    pub gs_base: u64,
}

impl Default for Registers {
    fn default() -> Registers {
        Registers { fx: [0; 512], gpr: [0; 16], rip: 0, rflags: 2, fs_base: 0, gs_base: 0 }
    }
}

/// A piece of a program. Branch targets are numbers of items, so that items can be dropped.
#[derive(Clone, Debug)]
pub enum Item {
    /// One instruction; a RIP-relative operand holds its absolute target.
    Instruction(Instruction),
    /// Encoded bytes that do not depend on where they are.
    Raw(Vec<u8>),
    /// A near branch.
    Branch(Code, usize),
    /// Decrement a register and branch back while it is not zero.
    Loop(Register, usize),
    /// Load the address of an item.
    Address(Register, usize),
    /// Overwrite the first four bytes of an item.
    Rewrite(usize, u32),
    /// INT3, the end.
    End,
}

/// Bytes that replace a part of the initial data.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Patch {
    /// Offset within the data frames.
    pub offset: u32,
    /// The bytes.
    pub bytes: [u8; 16],
}

/// A program with all that it starts from.
#[derive(Clone, Debug)]
pub struct Case {
    /// What the generator was seeded with.
    pub seed: u64,
    /// The program.
    pub items: Vec<Item>,
    /// Offset of its first byte within the code pages.
    pub start: usize,
    /// Whether it runs from the writable mapping.
    pub rewrites: bool,
    /// Registers; RIP is set by [`Case::assemble`].
    pub registers: Registers,
    /// Which initial data.
    pub image: usize,
    /// Changes to it.
    pub patches: Vec<Patch>,
    /// Offsets within the frames that are not compared: FIP, FDP and FOP as FXSAVE and FNSTENV store them.
    pub ignored: Vec<std::ops::Range<usize>>,
    /// What a case about system state also starts from.
    pub system: Option<SystemInputs>,
}

/// What only cases about system state set.
#[derive(Clone, Debug)]
pub struct SystemInputs {
    /// Where it begins.
    pub privilege: crate::engine::Privilege,
    /// CR0.WP.
    pub write_protect: bool,
    /// EFER.NXE.
    pub no_execute: bool,
    /// Eight-byte words of guest-physical memory: table entries and descriptors.
    pub stores: Vec<(u64, u64)>,
}

/// System state at the end of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SystemState {
    /// Words of page tables and descriptor tables that differ from before the case: address and value.
    pub words: Vec<(u64, u64)>,
    /// ES CS SS DS FS GS.
    pub selectors: [u16; 6],
}

/// An assembled program.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// Linear address of the first byte.
    pub address: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Offset of every item, and of the end.
    pub offsets: Vec<usize>,
}

/// Longest program accepted.
pub const LONGEST: usize = 1024;

impl Case {
    /// The program's bytes, or `None` if a branch cannot reach or the code pages are too small.
    pub fn assemble(&self) -> Option<Program> {
        let address = if self.rewrites { SELF } else { CODE } + self.start as u64;
        let mut program = Program { address, ..Program::default() };
        let mut at = 0;
        for item in &self.items {
            program.offsets.push(at);
            at += item.encode(address + at as u64, None)?.len();
        }
        program.offsets.push(at);
        for (number, item) in self.items.iter().enumerate() {
            let bytes = item.encode(address + program.offsets[number] as u64, Some(&program))?;
            debug_assert_eq!(program.offsets[number], program.bytes.len());
            program.bytes.extend_from_slice(&bytes);
        }
        let room = crate::layout::CODE_PAGES * PAGE - self.start;
        (program.bytes.len() <= LONGEST.min(room)).then_some(program)
    }

    /// This case without one item.
    pub fn without(&self, dropped: usize) -> Case {
        let mut case = self.clone();
        case.items.remove(dropped);
        for item in &mut case.items {
            if let Item::Branch(_, target)
            | Item::Loop(_, target)
            | Item::Address(_, target)
            | Item::Rewrite(target, _) = item
            {
                *target -= usize::from(*target > dropped);
            }
        }
        case
    }

    /// The program as text, one instruction a line.
    pub fn listing(&self) -> String {
        let Some(program) = self.assemble() else { return "(cannot be assembled)".into() };
        let mut text = String::new();
        let mut formatter = IntelFormatter::new();
        let mut decoder = Decoder::with_ip(64, &program.bytes, program.address, DecoderOptions::NONE);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            let start = (instruction.ip() - program.address) as usize;
            let hex: String =
                program.bytes[start..start + instruction.len()].iter().map(|byte| format!("{byte:02x}")).collect();
            let mut line = String::new();
            formatter.format(&instruction, &mut line);
            let _ = writeln!(text, "  {:08x}  {hex:<24}  {line}", instruction.ip());
        }
        text
    }
}

impl Item {
    /// The item's bytes at an address. Without a program the targets are not known yet; the length is the same.
    fn encode(&self, address: u64, program: Option<&Program>) -> Option<Vec<u8>> {
        let target_of = |target: usize| match program {
            Some(program) => program.address + *program.offsets.get(target).unwrap_or(&program.bytes.len()) as u64,
            None => address,
        };
        match self {
            Item::Instruction(instruction) => encode(instruction, address),
            Item::Raw(bytes) => Some(bytes.clone()),
            Item::Branch(code, target) => encode(&Instruction::with_branch(*code, target_of(*target)).ok()?, address),
            Item::Loop(register, target) => {
                let mut bytes = encode(&Instruction::with1(Code::Dec_rm64, *register).ok()?, address)?;
                let next = address + bytes.len() as u64;
                let branch = Instruction::with_branch(Code::Jne_rel32_64, target_of(*target)).ok()?;
                bytes.extend(encode(&branch, next)?);
                Some(bytes)
            }
            Item::Address(register, target) => {
                let memory = iced_x86::MemoryOperand::with_base_displ(Register::RIP, target_of(*target) as i64);
                encode(&Instruction::with2(Code::Lea_r64_m, *register, memory).ok()?, address)
            }
            Item::Rewrite(target, value) => {
                let memory = iced_x86::MemoryOperand::with_base_displ(Register::RIP, target_of(*target) as i64);
                encode(&Instruction::with2(Code::Mov_rm32_imm32, memory, *value).ok()?, address)
            }
            Item::End => Some(vec![0xcc]),
        }
    }
}

/// Encodes exactly the form asked for: no branch is made longer.
pub fn encode(instruction: &Instruction, address: u64) -> Option<Vec<u8>> {
    let mut encoder = Encoder::new(64);
    encoder.encode(instruction, address).ok()?;
    Some(encoder.take_buffer())
}

/// 64 bytes of a frame after the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct Line {
    /// Offset within the frames, a multiple of 64.
    pub offset: u32,
    /// The bytes.
    pub bytes: [u8; 64],
}

/// What a program came to: its first exception and everything it changed before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Vector of the exception; INT3 is the usual end.
    pub vector: u8,
    /// Error code, zero for vectors without one.
    pub error: u32,
    /// CR2 after a page fault, otherwise zero.
    pub cr2: u64,
    /// Registers as the exception pushed them.
    pub registers: Registers,
    /// Lines that differ from the initial frames, ascending.
    pub lines: Vec<Line>,
    /// Completed instructions, where the subject counts.
    pub count: Option<u64>,
    /// System state, where the subject has any.
    pub system: Option<SystemState>,
}

/// Something that runs cases.
pub trait Subject {
    /// Its name in reports.
    fn name(&self) -> &'static str;
    /// Runs a case to its first exception. `None`: it did not end, or changed more than is compared.
    fn run(&mut self, case: &Case, program: &Program) -> Option<Outcome>;
}
