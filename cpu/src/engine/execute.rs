//! Instructions executed in Rust and exceptions, in the middle of translated code: how the block goes on behind them, and
//! when another one is entered straight.

use super::frame::pack_flags;
use super::options::Optimisation;
use super::{Engine, Exit};
use crate::exception::Exception;
use crate::state::rflags;
use crate::system::{self, Flow};
use iced_x86::{Instruction, OpKind};

/// An instruction as it would have been decoded at another address.
fn moved_to(instruction: &Instruction, rip: u64) -> Instruction {
    let mut moved = *instruction;
    let distance = rip.wrapping_sub(instruction.ip());
    moved.set_ip(rip);
    if distance != 0 && instruction.is_ip_rel_memory_operand() {
        moved.set_memory_displacement64(instruction.memory_displacement64().wrapping_add(distance));
    }
    if distance != 0 && instruction.op0_kind() == OpKind::NearBranch64 {
        moved.set_near_branch64(instruction.near_branch64().wrapping_add(distance));
    }
    moved
}

impl Engine {
    /// Whether translated code may go on at RIP, after something that may have changed anything.
    fn may_go_on(&mut self, block: u32) -> bool {
        let state = self.state();
        let window = self.interrupt_waiting && state.rflags & rflags::IF != 0;
        let special = state.interrupt_shadow || state.halted || state.debug_pending != 0;
        let alone = block == super::SCRATCH_BLOCK || self.block(block).mode.isolated();
        let stops = window || special || alone || state.rflags & rflags::TF != 0 || self.device || self.shutdown;
        !stops && !self.memory.has_touched() && self.optimisations.has(Optimisation::DirectEntry)
    }

    /// Delivers an exception of the instruction at RIP, and goes on in its handler if nothing else is to be seen to.
    pub(super) fn raise_and_go_on(&mut self, block: u32, exception: Exception) -> u32 {
        let alone = block == super::SCRATCH_BLOCK || self.block(block).mode.isolated();
        if alone || !self.optimisations.has(Optimisation::DirectEntry) {
            return self.leave_with(Exit::Raised(exception));
        }
        self.sync_flags();
        self.count = self.limit - (self.frame().budget - self.guard.base());
        self.raise(exception);
        let frame = self.frame();
        frame.packed_flags = pack_flags(frame.state.rflags);
        if self.may_go_on(block) { self.go_on(None) } else { self.leave_with(Exit::Lookup) }
    }

    /// Executes a string instruction where that is simple; `None`: it must be done thoroughly.
    fn execute_quickly(
        &mut self,
        block: u32,
        rip: u64,
        instruction: &Instruction,
        allowance: u64,
        rest: u64,
        after: u64,
    ) -> Option<u32> {
        let mode = self.block(block).mode;
        let wanted = self.optimisations.has(Optimisation::QuickStrings);
        if !wanted || !instruction.is_string_instruction() || mode.isolated() {
            return None;
        }
        let done = self.quick_string(mode, instruction, allowance)?;
        let frame = self.frame();
        frame.budget -= done.count - 1;
        if done.finished && self.optimisations.has(Optimisation::StayInBlock) {
            return Some(self.resume_at(block, after));
        }
        if !done.finished {
            self.note_repetition();
        }
        let frame = self.frame();
        frame.budget += rest - 1;
        frame.state.rip = if done.finished { instruction.next_ip() } else { rip };
        Some(self.leave_with(Exit::Lookup))
    }

    /// Executes an instruction in Rust.
    pub(super) fn execute(&mut self, block: u32, index: u8, instruction: &Instruction, after: u64) -> u32 {
        let rip = self.rip_in(block, index);
        let instruction = &moved_to(instruction, rip);
        let rest = self.block(block).together(index);
        let allowance = self.frame().budget - self.guard.base() + rest;
        let mut completed = 0;
        let allowance = if rest == 1 { allowance } else { 1 };
        if let Some(resumed) = self.execute_quickly(block, rip, instruction, allowance, rest, after) {
            return resumed;
        }
        self.sync_flags();
        self.frame().state.rip = rip;
        let now = self.now(block, index);
        let (result, changed) = self.execution_at(now, |x| system::execute(x, instruction, allowance, &mut completed));
        let interrupt_waiting = self.interrupt_waiting;
        let frame = self.frame();
        frame.packed_flags = pack_flags(frame.state.rflags);
        let executed = match result {
            Ok(executed) => executed,
            Err(exception) => {
                frame.budget = frame.budget + rest - completed;
                return self.raise_and_go_on(block, exception);
            }
        };
        let state = &frame.state;
        let window = interrupt_waiting && state.rflags & rflags::IF != 0;
        let stays = executed.flow == Flow::Next
            && executed.count == 1
            && !changed
            && !window
            && !state.interrupt_shadow
            && !state.halted
            && state.debug_pending == 0
            && state.rflags & rflags::TF == 0;
        let stays = stays && self.optimisations.has(Optimisation::StayInBlock);
        if stays && !self.device && !self.memory.has_touched() {
            return self.resume_at(block, after);
        }
        let ends = executed.flow == Flow::Jump || executed.flow == Flow::Next && executed.count == 1;
        let frame = self.frame();
        frame.budget = frame.budget + rest - executed.count;
        if ends && self.may_go_on(block) {
            return self.go_on(None);
        }
        let frame = self.frame();
        frame.state.halted |= executed.flow == Flow::Halt;
        if executed.flow == Flow::Again {
            self.note_repetition();
        }
        self.leave_with(Exit::Lookup)
    }
}
