//! A case while it grows: gives registers the values that an instruction wants, by their initial value where
//! nothing has changed them yet, else by a MOV.

use crate::case::{Case, Item, Patch, Registers};
use crate::layout::{DATA_BYTES, IMAGES, PAGE, STACK, offset_of};
use crate::random::Random;
use crate::values;
use iced_x86::{Code, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, Register};

/// The builder.
pub struct Builder {
    /// Where randomness comes from.
    pub random: Random,
    /// The case so far.
    pub case: Case,
    /// Registers somebody relies on.
    fixed: u16,
    /// Registers that an instruction has written.
    pub written: u16,
    /// The mnemonic to test, if only one.
    pub only: Option<Mnemonic>,
    information: InstructionInfoFactory,
}

impl Builder {
    /// An empty program with random registers.
    pub fn new(seed: u64, image: usize) -> Builder {
        let mut random = Random::new(seed);
        let mut registers = Registers { fx: values::floating_point(&mut random), ..Registers::default() };
        registers.gpr = std::array::from_fn(|_| values::integer(&mut random));
        registers.gpr[4] = stack_pointer(&mut random);
        // CF PF AF ZF SF OF at random, DF seldom, IF as user mode has it.
        registers.rflags = random.bits() & 0x8d5 | 0x202 | if random.percent(15) { 0x400 } else { 0 };
        registers.fs_base = segment_base(&mut random);
        registers.gs_base = segment_base(&mut random);
        let case = Case {
            seed,
            items: Vec::new(),
            start: random.below(64),
            rewrites: false,
            registers,
            image: image % IMAGES,
            patches: Vec::new(),
            ignored: Vec::new(),
            system: None,
        };
        Builder { random, case, fixed: 1 << 4, written: 0, only: None, information: InstructionInfoFactory::new() }
    }

    /// The value a full register is known to have.
    pub fn known(&self, register: usize) -> Option<u64> {
        (self.written & 1 << register == 0).then(|| self.case.registers.gpr[register])
    }

    /// Whether a wish for this register costs no instruction.
    pub fn is_free(&self, register: usize) -> bool {
        (self.fixed | self.written) & 1 << register == 0
    }

    /// Makes a register hold a value before the next instruction.
    pub fn want(&mut self, register: usize, value: u64) {
        if self.is_free(register) {
            self.case.registers.gpr[register] = value;
        } else if self.known(register) != Some(value) {
            let instruction = Instruction::with2(Code::Mov_r64_imm64, full(register), value).expect("a valid MOV");
            self.case.items.push(Item::Instruction(instruction));
            self.written |= 1 << register;
        }
        self.fixed |= 1 << register;
    }

    /// Wants a value that only matters some of the time.
    pub fn wish(&mut self, percent: usize, register: usize, value: u64) {
        if self.random.percent(percent) {
            self.want(register, value);
        }
    }

    /// Replaces initial data at a linear address, where there is some.
    pub fn patch(&mut self, linear: u64, bytes: [u8; 16]) {
        if let Some(offset) = offset_of(linear)
            && offset + 16 <= DATA_BYTES
            && self.case.patches.len() < 8
        {
            self.case.patches.push(Patch { offset: offset as u32, bytes });
        }
    }

    /// Excludes bytes from comparison.
    pub fn ignore(&mut self, linear: u64, length: u64) {
        for address in linear..linear.saturating_add(length) {
            if let Some(offset) = offset_of(address) {
                self.case.ignored.push(offset..offset + 1);
            }
        }
    }

    /// Appends an instruction and notes what it writes.
    pub fn push(&mut self, instruction: Instruction) {
        for used in self.information.info(&instruction).used_registers() {
            let writes = !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess);
            if used.register().is_gpr() && writes {
                self.written |= 1 << used.register().full_register().number();
            }
        }
        self.case.items.push(Item::Instruction(instruction));
    }
}

/// The 64-bit register with a number.
pub fn full(register: usize) -> Register {
    Register::RAX + register as u32
}

/// Mostly in the middle of the stack; sometimes at an end, misaligned or nowhere.
fn stack_pointer(random: &mut Random) -> u64 {
    let middle = STACK + PAGE as u64;
    match random.below(100) {
        0..=79 => middle.wrapping_add_signed(random.within(-64, 64) * 8),
        80..=87 => middle.wrapping_add_signed(random.within(-40, 40)),
        88..=92 => STACK + random.below(24) as u64,
        93..=97 => STACK + 2 * PAGE as u64 - random.below(24) as u64,
        98 => 0x8000_0000_0000_0000 | random.bits() >> 8,
        _ => values::integer(random) & 0x7fff_ffff,
    }
}

/// Small, negative or somewhere near the data.
fn segment_base(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => 0,
        1 => crate::layout::DATA + random.below(PAGE) as u64,
        2 => 0x7000_0000_0000 + (random.bits() & 0xffff_ffff),
        _ => 0x1000_0000 - random.below(1 << 20) as u64,
    }
}
