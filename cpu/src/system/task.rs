//! Hardware task switches (APM vol. 2 §12.3), outside long mode: by JMP, CALL, interrupts and IRET, between 16- and 32-bit
//! TSSs.
//!
//! Up to the point of no return nothing but memory changes. Faults after it belong to the new task.

mod image;

use super::frame::Stack;
use super::segments::{self, Descriptor, Raise};
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::Access;
use crate::state::{Segment, control, rflags, segment};
use image::Image;

const LDT: u8 = 2;
/// What makes an available TSS a busy one.
const BUSY: u8 = 2;
/// Flags that a task can have.
const FLAGS: u64 = 0x3f_7fd7;
/// DR7.L0-L3 and LE.
const LOCAL_BREAKPOINTS: u64 = 0x155;
/// DR6.BT.
const TASK_TRAP: u64 = 1 << 15;

/// What switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// JMP: the old task is left.
    Jump,
    /// CALL: the new task is nested in the old one.
    Call,
    /// An exception or interrupt: nested too. It may push an error code and save RF.
    Event {
        /// To be pushed on the new task's stack.
        error: Option<u32>,
        /// RF in the saved flags.
        resume: bool,
    },
    /// IRET with NT set: back to the task this one is nested in.
    Return,
}

impl Cause {
    fn nests(self) -> bool {
        matches!(self, Cause::Call | Cause::Event { .. })
    }
}

/// Switches to the task that a task gate names.
///
/// # Errors
/// As [`switch`]; #GP and #NP for the selector in the gate.
pub fn through_gate(x: &mut Execution, gate: &Descriptor, cause: Cause, next: u64) -> Result<(), Exception> {
    let selector = gate.gate_selector();
    if segments::is_null(selector) {
        return Err(Exception::general_protection(0));
    }
    let task = fetch(x, selector, Exception::general_protection)?;
    switch(x, selector, &task, cause, next)
}

/// IRET with NT set.
///
/// # Errors
/// As [`switch`]; #TS where the TSS does not name a task to return to.
pub fn return_to_outer(x: &mut Execution, next: u64) -> Result<(), Exception> {
    let selector = x.read_system(x.state.tr.base, 2)? as u16;
    let task = fetch(x, selector, Exception::invalid_tss)?;
    switch(x, selector, &task, Cause::Return, next)
}

/// A descriptor of the GDT.
fn fetch(x: &mut Execution, selector: u16, raise: Raise) -> Result<Descriptor, Exception> {
    if selector & 4 != 0 {
        return Err(raise(segments::error_code(selector)));
    }
    segments::fetch(x, selector, raise)
}

/// Switches to the task of `found`, which `selector` names; the old task goes on at `next` some day.
///
/// # Errors
/// What is wrong with the TSS, before anything has changed; or what the new task raises at its very start.
pub fn switch(x: &mut Execution, selector: u16, found: &Descriptor, cause: Cause, next: u64) -> Result<(), Exception> {
    let mut loaded = check(x, selector, found, cause)?;
    let image = Image::read(x, &loaded)?;
    leave(x, cause, next, &loaded)?;
    if cause != Cause::Return {
        set_busy(x, selector, true)?;
    }
    loaded.attributes |= u16::from(BUSY);
    x.state.tr = loaded;
    x.state.cr0 |= control::CR0_TS;
    x.state.dr[7] &= !LOCAL_BREAKPOINTS;
    install(x, &image, cause);
    x.restore_resume_flag(image.flags);
    enter(x, &image)?;
    if let Cause::Event { error: Some(error), .. } = cause {
        let mut stack = Stack::current(x);
        stack.push(x, if image.wide { 4 } else { 2 }, u64::from(error))?;
        stack.commit(x);
    }
    if x.state.rip > u64::from(x.state.segments[segment::CS].limit) {
        return Err(Exception::general_protection(0));
    }
    if image.traps {
        x.state.dr[6] |= TASK_TRAP;
        return Err(Exception::debug());
    }
    Ok(())
}

/// Type, presence and limit of the new TSS.
fn check(x: &Execution, selector: u16, found: &Descriptor, cause: Cause) -> Result<Segment, Exception> {
    let error = segments::error_code(selector);
    let (raise, kinds): (Raise, _) = match cause {
        Cause::Return => (Exception::invalid_tss, [3, 11]),
        _ => (Exception::general_protection, [1, 9]),
    };
    if x.state.is_long_active() || selector & 4 != 0 || found.is_user() || !kinds.contains(&found.kind()) {
        return Err(raise(error));
    }
    if !found.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    let loaded = found.segment(selector);
    let least = if found.is_wide() { image::WIDE_BYTES } else { image::SMALL_BYTES };
    if u64::from(loaded.limit) + 1 < least {
        return Err(Exception::invalid_tss(error));
    }
    Ok(loaded)
}

/// Saves the old task, and links the new one to it where it nests.
fn leave(x: &mut Execution, cause: Cause, next: u64, new: &Segment) -> Result<(), Exception> {
    let old = x.state.tr;
    let mut flags = x.state.rflags;
    match cause {
        Cause::Return => flags &= !rflags::NT,
        Cause::Event { resume: true, .. } => flags |= rflags::RF,
        _ => {}
    }
    if cause.nests() {
        x.probe(new.base, 2, Access::write(false))?;
    }
    Image::save(x, &old, next, flags)?;
    if cause.nests() {
        x.write_system(new.base, 2, u64::from(old.selector))?;
    } else {
        set_busy(x, old.selector, false)?;
    }
    Ok(())
}

/// Marks the descriptor of a TSS in the GDT.
fn set_busy(x: &mut Execution, selector: u16, busy: bool) -> Result<(), Exception> {
    let at = x.state.gdtr.base.wrapping_add(u64::from(selector & 0xfff8) + 5) & 0xffff_ffff;
    let byte = x.read_system(at, 1)?;
    let bit = u64::from(BUSY);
    x.write_system(at, 1, if busy { byte | bit } else { byte & !bit })
}

/// The new task's registers: the point of no return. Segments have no hidden parts yet.
fn install(x: &mut Execution, image: &Image, cause: Cause) {
    let state = &mut *x.state;
    if image.wide && state.cr0 & control::CR0_PG != 0 {
        state.cr3 = image.cr3;
    }
    let nested = if cause.nests() { rflags::NT } else { 0 };
    state.rflags = image.flags & FLAGS & !rflags::RF | rflags::FIXED | nested;
    state.rip = image.rip;
    state.gpr[..8].copy_from_slice(&image.gpr);
    for (register, &selector) in image.segments.iter().enumerate() {
        state.segments[register] = segments::null(selector);
    }
    state.ldtr = segments::null(image.ldt);
    state.cpl = if state.is_virtual_8086() { 3 } else { segments::rpl(image.segments[segment::CS]) };
    state.halted = false;
    (state.interrupt_shadow, state.debug_shadow) = (false, false);
}

/// Loads LDTR and the segments.
fn enter(x: &mut Execution, image: &Image) -> Result<(), Exception> {
    if !segments::is_null(image.ldt) {
        let error = Exception::invalid_tss(segments::error_code(image.ldt));
        let found = fetch(x, image.ldt, Exception::invalid_tss)?;
        if found.is_user() || found.kind() != LDT || !found.is_present() {
            return Err(error);
        }
        x.state.ldtr = found.segment(image.ldt);
    }
    if x.state.is_virtual_8086() {
        x.state.segments = image.segments.map(segments::virtual_8086);
        return Ok(());
    }
    x.state.segments[segment::CS] = code(x, image.segments[segment::CS])?;
    let (selector, cpl) = (image.segments[segment::SS], x.state.cpl);
    if segments::is_null(selector) {
        return Err(Exception::invalid_tss(0));
    }
    x.state.segments[segment::SS] = segments::stack_segment(x, selector, cpl, Exception::invalid_tss)?;
    for register in [segment::DS, segment::ES, segment::FS, segment::GS] {
        let selector = image.segments[register];
        x.state.segments[register] = segments::data_segment(x, selector, Exception::invalid_tss)?;
    }
    Ok(())
}

fn code(x: &mut Execution, selector: u16) -> Result<Segment, Exception> {
    let error = segments::error_code(selector);
    if segments::is_null(selector) {
        return Err(Exception::invalid_tss(0));
    }
    let found = segments::fetch(x, selector, Exception::invalid_tss)?;
    let level = segments::rpl(selector);
    let matches = if found.is_conforming() { found.dpl() <= level } else { found.dpl() == level };
    if !found.is_code() || !matches {
        return Err(Exception::invalid_tss(error));
    }
    if !found.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    segments::access(x, &found, selector)
}
