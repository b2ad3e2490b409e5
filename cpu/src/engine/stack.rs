//! Accesses to the stack: one look-up for all of a block, and no table on the way from the stack pointer to the bytes.
//!
//! The frame remembers, for each privilege, the page that RSP (and that an RBP used as a frame pointer) last pointed into,
//! if it may be read and written. All accesses of a block at constant distances from such a pointer are checked together,
//! before the first of them, against that page; each then only adds what leads from linear to host addresses. Where the
//! check fails and the page cannot be exchanged, the block goes on in its general translation ([`Mode::GENERAL`]) at the
//! same instruction. What drops the page poisons its entry: an access that was already checked faults on the host,
//! and its instruction is repeated alone.
//!
//! [`Mode::GENERAL`]: super::blocks::Mode::GENERAL

use super::builder::{Builder, Place, host};
use super::cold::Cold;
use super::frame::StackPage;
use super::sites::Site;
use crate::state::gpr;
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};
use std::mem::offset_of;

/// Bytes between the ends of what is checked at once, at most: what crosses a page is never found.
const WIDEST: i64 = 1024;

/// A register that points into the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// RSP.
    Stack,
    /// RBP.
    Frame,
}

impl Pointer {
    /// Both, in the order of the frame's entries.
    pub const ALL: [Pointer; 2] = [Pointer::Stack, Pointer::Frame];

    fn guest(self) -> usize {
        match self {
            Pointer::Stack => gpr::RSP,
            Pointer::Frame => gpr::RBP,
        }
    }

    /// The host register with its value.
    fn host(self) -> u8 {
        match self {
            Pointer::Stack => host::R15,
            Pointer::Frame => gpr::RBP as u8,
        }
    }
}

/// What must be found in the stack's page before an instruction, relative to the pointer's value then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Relative to which register.
    pub pointer: Pointer,
    /// The first byte.
    pub low: i32,
    /// Bytes, 1 to [`WIDEST`].
    pub length: i32,
}

/// What is known of an instruction's accesses to the stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be checked before it.
    pub checks: Vec<Check>,
    /// Its accesses relative to RSP have been checked.
    pub stack: bool,
    /// Its accesses relative to RBP have been checked.
    pub frame: bool,
}

/// Accesses off one pointer whose distances are known.
#[derive(Clone, Copy)]
struct Group {
    /// The instruction before which it is checked.
    first: usize,
    /// Relative to the pointer's value there.
    low: i64,
    high: i64,
    /// What has been added to the pointer since.
    moved: i64,
}

/// The pointer a memory operand is at a constant distance from.
fn pointer_of(instruction: &Instruction) -> Option<Pointer> {
    let simple = instruction.memory_index() == Register::None && instruction.segment_prefix() == Register::None;
    match instruction.memory_base() {
        Register::RSP if simple => Some(Pointer::Stack),
        Register::RBP if simple => Some(Pointer::Frame),
        _ => None,
    }
}

fn has_memory(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| instruction.op_kind(operand) == OpKind::Memory)
        && instruction.mnemonic() != Mnemonic::Lea
}

/// The bytes an instruction reaches off a pointer, relative to its value before.
fn reach(instruction: &Instruction, pointer: Pointer) -> Option<(i64, i64)> {
    let mut all: Option<(i64, i64)> = None;
    let mut add = |low: i64, length: i64| {
        let (from, to) = all.unwrap_or((low, low + length));
        all = Some((from.min(low), to.max(low + length)));
    };
    if has_memory(instruction) && pointer_of(instruction) == Some(pointer) {
        let size = instruction.memory_size().size() as i64;
        if size == 0 {
            return None;
        }
        add(instruction.memory_displacement64() as i64, size);
    }
    if pointer == Pointer::Stack {
        let by = i64::from(instruction.stack_pointer_increment());
        match instruction.mnemonic() {
            Mnemonic::Push | Mnemonic::Call => add(by, -by),
            Mnemonic::Pop => add(0, by),
            Mnemonic::Ret => add(0, 8),
            _ => {}
        }
    }
    all
}

/// What an instruction adds to a pointer; `None`: it is not known.
fn moves(instruction: &Instruction, pointer: Pointer, factory: &mut InstructionInfoFactory) -> Option<i64> {
    let register = Register::RAX + pointer.guest() as u32;
    let targets = instruction.op_count() > 0
        && instruction.op_kind(0) == OpKind::Register
        && instruction.op_register(0).full_register() == register;
    let by = i64::from(instruction.stack_pointer_increment());
    match instruction.mnemonic() {
        Mnemonic::Push | Mnemonic::Call if pointer == Pointer::Stack => return Some(by),
        Mnemonic::Pop if pointer == Pointer::Stack && !targets => return Some(by),
        Mnemonic::Push | Mnemonic::Call | Mnemonic::Pop if !targets => return Some(0),
        Mnemonic::Add | Mnemonic::Sub if targets && instruction.op_register(0) == register => {
            let constant = matches!(instruction.op_kind(1), OpKind::Immediate8to64 | OpKind::Immediate32to64);
            let value = constant.then(|| instruction.immediate(1) as i64)?;
            return Some(if instruction.mnemonic() == Mnemonic::Add { value } else { -value });
        }
        Mnemonic::Lea if targets && instruction.op_register(0) == register => {
            let itself = pointer_of(instruction) == Some(pointer);
            return itself.then(|| instruction.memory_displacement64() as i64);
        }
        _ => {}
    }
    let written = factory.info(instruction).used_registers().iter().any(|used| {
        use iced_x86::OpAccess::*;
        used.register().full_register() == register
            && matches!(used.access(), Write | CondWrite | ReadWrite | ReadCondWrite)
    });
    (!written).then_some(0)
}

/// Decides what is checked where. `opaque`: instructions that Rust executes, or that raise. Only user programs have frame
/// pointers; kernels use RBP as any other register.
pub fn plan(instructions: &[Instruction], user: bool, opaque: impl Fn(&Instruction) -> bool) -> Vec<Plan> {
    let mut factory = InstructionInfoFactory::new();
    let mut plans = vec![Plan::default(); instructions.len()];
    for pointer in Pointer::ALL {
        // An RBP that is used below itself is a frame pointer; any other is left to the general look-up.
        let below = |one: &Instruction| {
            has_memory(one) && pointer_of(one) == Some(pointer) && (one.memory_displacement64() as i64) < 0
        };
        if pointer == Pointer::Frame && !(user && instructions.iter().any(below)) {
            continue;
        }
        let mut group: Option<Group> = None;
        for (index, instruction) in instructions.iter().enumerate() {
            if opaque(instruction) {
                close(&mut plans, group.take(), pointer);
                continue;
            }
            if let Some(reached) = reach(instruction, pointer) {
                group = join(&mut plans, group, index, reached, pointer);
                let covered = group.is_some();
                match pointer {
                    Pointer::Stack => plans[index].stack = covered,
                    Pointer::Frame => plans[index].frame = covered,
                }
            }
            match moves(instruction, pointer, &mut factory) {
                Some(by) => group = group.map(|group| Group { moved: group.moved + by, ..group }),
                None => close(&mut plans, group.take(), pointer),
            }
        }
        close(&mut plans, group, pointer);
    }
    plans
}

/// The group that an instruction's accesses belong to: the one there is, or a new one if that would get too wide.
fn join(
    plans: &mut [Plan],
    group: Option<Group>,
    index: usize,
    (low, high): (i64, i64),
    pointer: Pointer,
) -> Option<Group> {
    if let Some(old) = group {
        let wider = Group { low: old.low.min(old.moved + low), high: old.high.max(old.moved + high), ..old };
        if wider.high - wider.low <= WIDEST {
            return Some(wider);
        }
    }
    close(plans, group, pointer);
    let fits = high - low <= WIDEST && i32::try_from(low).is_ok();
    fits.then_some(Group { first: index, low, high, moved: 0 })
}

fn close(plans: &mut [Plan], group: Option<Group>, pointer: Pointer) {
    if let Some(Group { first, low, high, .. }) = group {
        plans[first].checks.push(Check { pointer, low: low as i32, length: (high - low) as i32 });
    }
}

impl Builder<'_> {
    /// Where the memory operand is, if it has been checked.
    pub fn checked_operand(&mut self, instruction: &Instruction) -> Option<Place> {
        let pointer = pointer_of(instruction)?;
        let displacement = instruction.memory_displacement64() as i32;
        self.checked(pointer, displacement)
    }

    /// The bytes at a distance from RSP, if they have been checked.
    pub fn checked_stack(&mut self, displacement: i32) -> Option<Place> {
        self.checked(Pointer::Stack, displacement)
    }

    /// Brings what leads from linear to host addresses to R13.
    fn checked(&mut self, pointer: Pointer, displacement: i32) -> Option<Place> {
        let known = match pointer {
            Pointer::Stack => self.plan.stack,
            Pointer::Frame => self.plan.frame,
        };
        known.then(|| {
            self.load(host::R13, self.tables.page(pointer, offset_of!(StackPage, addend)));
            // With R13 as the base a fault is #GP on the host, whatever the other register.
            Place { base: host::R13, index: Some(pointer.host()), displacement }
        })
    }

    /// Emits the checks of an instruction.
    pub fn check_stack(&mut self) {
        for check in std::mem::take(&mut self.plan.checks) {
            let pointer = Some((check.pointer.host(), 1));
            self.load(host::RCX, self.tables.page(check.pointer, offset_of!(StackPage, tag)));
            // The page is not chosen by the address: both ends may lie beyond it.
            self.lea(host::R10, Some(host::RCX), pointer, check.low, true);
            self.lea(host::RCX, Some(host::RCX), pointer, check.low + check.length - 1, true);
            self.bytes(&[0xc4, 0x42, 0xdb, 0xf7, 0xd2]); // shrx r10, r10, rsp (12)
            self.bytes(&[0xc4, 0xe2, 0xdb, 0xf7, 0xc9]); // shrx rcx, rcx, rsp (12)
            self.lea(host::RCX, Some(host::RCX), Some((host::R10, 1)), 0, true);
            let jump = self.unless_zero();
            let back = self.out.len();
            self.cold.push(Cold::StackPage { index: self.index, jump, back, check });
        }
    }

    /// The page is another one than the last: takes it from the tables, or goes on in the general translation.
    pub(super) fn cold_stack_page(&mut self, index: u8, jump: usize, back: usize, check: Check) {
        self.index = index;
        self.mark();
        self.aim_here(jump);
        self.lea(host::R10, Some(check.pointer.host()), None, check.low, true);
        self.bytes(&[0xc4, 0x43, 0xfb, 0xf0, 0xea, 12]); // rorx r13, r10, 12
        self.bytes(&[0x45, 0x0f, 0xb7, 0xed]); // movzx r13d, r13w
        self.bytes(&[0x4a, 0x8b, 0x8c, 0xec]); // mov rcx, [rsp+r13*8+write]
        self.bytes(&self.tables.write.to_le_bytes());
        self.lea(host::RCX, Some(host::RCX), Some((host::R10, 1)), check.length - 1, true);
        self.bytes(&[0xc4, 0xe2, 0xdb, 0xf7, 0xc9]); // shrx rcx, rcx, rsp (12)
        let general = self.unless_zero();
        self.bytes(&[0x4a, 0x8b, 0x8c, 0xec]); // mov rcx, [rsp+r13*8+write]
        self.bytes(&self.tables.write.to_le_bytes());
        self.store(host::RCX, self.tables.page(check.pointer, offset_of!(StackPage, tag)));
        self.store(host::R13, self.tables.page(check.pointer, offset_of!(StackPage, slot)));
        self.bytes(&[0x4a, 0x8b, 0x8c, 0xec]); // mov rcx, [rsp+r13*8+addend]
        self.bytes(&self.tables.addend.to_le_bytes());
        self.store(host::RCX, self.tables.page(check.pointer, offset_of!(StackPage, addend)));
        self.jump_to(self.base + back as u64);
        let stub = self.here();
        self.aim(general, stub);
        self.service(Site::General { block: self.block, index, jump: self.base + general as u64, stub });
    }
}

#[cfg(test)]
mod tests;
