//! Which accesses of a block are checked together, and where; see [`super::groups`].

use super::step::{Step, is_write};
use crate::state::gpr;
use iced_x86::{Instruction, Mnemonic, OpKind, Register};

/// Bytes between the ends of what is checked at once, at most: what crosses a page is never found.
const WIDEST: i64 = 1024;

/// Where what leads from linear to host addresses is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the page remembered for RSP (0) or for a frame pointer (1).
    Stack(usize),
    /// In the data TLB.
    Table,
}

/// What must be found before an instruction, relative to a guest register's value then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Relative to which register.
    pub guest: usize,
    /// The first byte.
    pub low: i32,
    /// Bytes, 1 to [`WIDEST`].
    pub length: i32,
    /// Some of it is written.
    pub writes: bool,
    /// Where.
    pub found: Found,
}

/// What is checked in a block, and which accesses that covers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Checks, and the instructions before which they are made, ascending.
    pub checks: Vec<(usize, Check)>,
    /// For each guest register the instructions, a bit each, whose accesses at constant distances off it have been
    /// checked.
    covered: [u64; 16],
    /// RBP is a frame pointer.
    frame: bool,
}

/// Accesses off one pointer whose distances are known.
#[derive(Clone, Copy, Default)]
struct Group {
    /// The instructions with the accesses, a bit each; before the first they are checked.
    members: u64,
    /// Relative to the pointer's value there.
    low: i64,
    high: i64,
    writes: bool,
    /// What has been added to the pointer since.
    moved: i64,
}

/// What an instruction reaches off a pointer, relative to its value before.
#[derive(Clone, Copy)]
struct Reach {
    low: i64,
    high: i64,
    writes: bool,
}

/// The guest register that a memory operand is at a constant distance from.
pub fn pointer_of(instruction: &Instruction) -> Option<usize> {
    let base = instruction.memory_base();
    let simple = instruction.memory_index() == Register::None && instruction.segment_prefix() == Register::None;
    (simple && base.is_gpr64()).then(|| base.number())
}

fn memory_operand(instruction: &Instruction) -> Option<u32> {
    let operand = (0..instruction.op_count()).find(|&operand| instruction.op_kind(operand) == OpKind::Memory)?;
    (!matches!(instruction.mnemonic(), Mnemonic::Lea | Mnemonic::Nop | Mnemonic::Reservednop)).then_some(operand)
}

/// The guest register that the memory operand of an instruction, if it is one that is read or written, is at a constant
/// distance from.
fn operand_pointer(step: &Step) -> Option<usize> {
    memory_operand(&step.instruction).and(pointer_of(&step.instruction))
}

/// What an instruction reaches off a guest register; `operand`: its memory operand is off that.
fn reach(step: &Step, guest: usize, operand: bool) -> Option<Reach> {
    let instruction = &step.instruction;
    let mut all: Option<Reach> = None;
    let mut add = |low: i64, length: i64, writes: bool| {
        let old = all.unwrap_or(Reach { low, high: low + length, writes });
        let (low, high) = (old.low.min(low), old.high.max(low + length));
        all = Some(Reach { low, high, writes: old.writes | writes });
    };
    if let Some(number) = memory_operand(instruction).filter(|_| operand) {
        let size = instruction.memory_size().size() as i64;
        if size == 0 {
            return None;
        }
        let writes = is_write(step.accesses[number as usize]);
        add(instruction.memory_displacement64() as i64, size, writes);
    }
    if guest == gpr::RSP {
        let by = i64::from(instruction.stack_pointer_increment());
        match instruction.mnemonic() {
            Mnemonic::Push | Mnemonic::Call => add(by, -by, true),
            Mnemonic::Pop => add(0, by, false),
            Mnemonic::Ret => add(0, 8, false),
            _ => {}
        }
    }
    all
}

/// What an instruction adds to a pointer; `None`: it is not known.
fn moves(step: &Step, guest: usize) -> Option<i64> {
    let instruction = &step.instruction;
    if step.written & 1 << guest == 0 {
        return Some(0);
    }
    let register = Register::RAX + guest as u32;
    let targets = instruction.op_count() > 0
        && instruction.op_kind(0) == OpKind::Register
        && instruction.op_register(0).full_register() == register;
    let by = i64::from(instruction.stack_pointer_increment());
    let is_stack = guest == gpr::RSP;
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Call if is_stack => return Some(by),
        Mnemonic::Pop if is_stack && !targets => return Some(by),
        Mnemonic::Add | Mnemonic::Sub if targets && instruction.op_register(0) == register => {
            let constant = matches!(instruction.op_kind(1), OpKind::Immediate8to64 | OpKind::Immediate32to64);
            let value = constant.then(|| instruction.immediate(1) as i64)?;
            return Some(if instruction.mnemonic() == Mnemonic::Add { value } else { -value });
        }
        Mnemonic::Lea if targets && instruction.op_register(0) == register => {
            return (pointer_of(instruction) == Some(guest)).then(|| instruction.memory_displacement64() as i64);
        }
        _ => {}
    }
    None
}

/// Whether RBP is a frame pointer. Only user programs have them: RBPs used below themselves. Kernels use RBP as any other
/// register.
fn has_frame(steps: &[Step]) -> bool {
    let below = |step: &&Step| (step.instruction.memory_displacement64() as i64) < 0;
    steps.iter().filter(below).any(|step| operand_pointer(step) == Some(gpr::RBP))
}

/// The numbers of the bits that are set.
fn each(mut mask: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let number = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (number < 16).then_some(number)
    })
}

impl Plan {
    /// Decides what is checked where, in place of what was decided for another block.
    pub fn make(&mut self, steps: &[Step], user: bool) {
        self.clear();
        self.frame = user && has_frame(steps);
        let mut groups = [Group::default(); 16];
        let mut open = 0_u16;
        for (index, step) in steps.iter().enumerate() {
            if step.is_opaque() {
                each(open).for_each(|guest| self.close(&mut groups[guest], guest));
                open = 0;
                continue;
            }
            let pointer = operand_pointer(step);
            let mask = pointer.map_or(0, |guest| 1 << guest) | 1 << gpr::RSP;
            for guest in each(mask) {
                let Some(reached) = reach(step, guest, pointer == Some(guest)) else { continue };
                if !groups[guest].takes(&reached) {
                    self.close(&mut groups[guest], guest);
                }
                groups[guest].add(index, &reached);
                open |= 1 << guest;
            }
            for guest in each(open & step.written) {
                match moves(step, guest) {
                    Some(by) => groups[guest].moved = groups[guest].moved.wrapping_add(by),
                    None => {
                        self.close(&mut groups[guest], guest);
                        open &= !(1 << guest);
                    }
                }
            }
        }
        each(open).for_each(|guest| self.close(&mut groups[guest], guest));
        self.checks.sort_unstable_by_key(|(index, check)| (*index, check.guest));
    }

    /// Nothing is checked together.
    pub fn clear(&mut self) {
        self.checks.clear();
        (self.covered, self.frame) = ([0; 16], false);
    }

    /// Where the accesses of an instruction off a register have been found, if they have been checked.
    pub fn found(&self, index: usize, guest: usize) -> Option<Found> {
        let covered = self.covered[guest] >> index & 1 != 0;
        covered.then(|| self.place_of(guest))
    }

    fn place_of(&self, guest: usize) -> Found {
        match guest {
            gpr::RSP => Found::Stack(0),
            gpr::RBP if self.frame => Found::Stack(1),
            _ => Found::Table,
        }
    }

    /// Ends a group. One access alone is left to the general look-up, unless it is the stack's.
    fn close(&mut self, group: &mut Group, guest: usize) {
        let Group { members, low, high, writes, .. } = std::mem::take(group);
        let found = self.place_of(guest);
        let worthwhile = members.count_ones() > u32::from(found == Found::Table);
        let fits = high - low <= WIDEST && i32::try_from(low).is_ok() && i32::try_from(high).is_ok();
        if !worthwhile || !fits {
            return;
        }
        let (low, length) = (low as i32, (high - low) as i32);
        self.checks.push((members.trailing_zeros() as usize, Check { guest, low, length, writes, found }));
        self.covered[guest] |= members;
    }
}

impl Group {
    /// The range with another access.
    fn with(&self, reached: &Reach) -> (i64, i64) {
        let (low, high) = (self.moved.saturating_add(reached.low), self.moved.saturating_add(reached.high));
        if self.members == 0 { (low, high) } else { (self.low.min(low), self.high.max(high)) }
    }

    fn takes(&self, reached: &Reach) -> bool {
        let (low, high) = self.with(reached);
        self.members == 0 || high - low <= WIDEST
    }

    fn add(&mut self, index: usize, reached: &Reach) {
        if self.members == 0 {
            self.moved = 0;
        }
        (self.low, self.high) = self.with(reached);
        self.writes |= reached.writes;
        self.members |= 1 << index;
    }
}

#[cfg(test)]
mod tests;
