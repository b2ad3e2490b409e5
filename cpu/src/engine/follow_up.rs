//! Rust code on the guest between instructions, and what must be dropped because of what it changed.
#![allow(unsafe_code)]

use super::options::Optimisation;
use super::tlb::Tlb;
use super::{Engine, Exit};
use crate::bus::{Bus, Icount};
use crate::exception::Exception;
use crate::execution::{Cached, Execution, Translations};
use crate::memory::{Memory, PAGE};
use crate::paging::{Format, Translation};
use crate::state::control;
use crate::system;

impl Engine {
    /// Delivers an exception of the instruction at RIP.
    pub(super) fn raise(&mut self, exception: Exception) {
        self.tally.raised += 1;
        self.exit = Exit::Lookup;
        self.shutdown |= self.execution(|x| system::deliver::exception(x, exception)).is_err();
    }

    /// Delivers an external interrupt; false is a triple fault.
    pub fn interrupt(&mut self, bus: &mut dyn Bus, vector: u8) -> bool {
        // SAFETY: as in `run`.
        let bus: *mut dyn Bus = unsafe { std::mem::transmute::<&mut dyn Bus, *mut (dyn Bus + 'static)>(bus) };
        self.bus = Some(bus);
        let delivered = self.execution(|x| system::deliver::interrupt(x, vector)).is_ok();
        self.raise_debug();
        self.bus = None;
        delivered
    }

    /// Enters system management mode.
    pub fn management_interrupt(&mut self, bus: &mut dyn Bus) {
        // SAFETY: as in `run`.
        let bus: *mut dyn Bus = unsafe { std::mem::transmute::<&mut dyn Bus, *mut (dyn Bus + 'static)>(bus) };
        self.bus = Some(bus);
        self.execution(system::management::enter);
        self.bus = None;
    }

    /// Runs Rust code on the guest between instructions, and follows up on what it changed.
    pub(super) fn execution<R>(&mut self, action: impl FnOnce(&mut Execution) -> R) -> R {
        self.execution_at(self.count, action).0
    }

    /// As `execution`, at a count inside a block. Also tells whether paging or privilege changed.
    pub(super) fn execution_at<R>(&mut self, now: u64, action: impl FnOnce(&mut Execution) -> R) -> (R, bool) {
        // SAFETY: the frame and the bus are apart from `self.memory`; the bus pointer is valid during a run.
        let (state, bus) = unsafe { (&mut (*self.mapping.get()).state, &mut *self.bus.expect("during a run")) };
        let before = (state.cr0, state.cr3, state.cr4, state.efer, state.cpl);
        let segments_before = self.segment_mode;
        let looks =
            [Optimisation::SystemLookup, Optimisation::InlineLookup].iter().all(|&one| self.optimisations.has(one));
        let cached = looks.then(|| Cached::new(&mut self.tlb, state));
        let mut execution = Execution { state, memory: &mut self.memory, bus, now: Icount(now), device: false, cached };
        let result = action(&mut execution);
        self.device |= execution.device;
        self.refresh_segments();
        let watch_changed = self.refresh_watch();
        let state = self.state();
        let after = (state.cr0, state.cr3, state.cr4, state.efer, state.cpl);
        if before == after {
            return (result, watch_changed || segments_before != self.segment_mode);
        }
        let format = Format::of(state);
        let paging = control::CR0_PG | control::CR0_WP;
        if (before.0 ^ after.0) & paging != 0 || before.2 != after.2 || before.3 != after.3 {
            self.tlb.flush(&mut self.memory);
            self.tlb.set_format(format);
        } else if before.1 != after.1 && !self.optimisations.has(Optimisation::SharedSpaces) {
            self.tlb.flush(&mut self.memory);
        } else if before.1 != after.1 {
            self.tlb.switch_space(&mut self.memory, before.1, after.1);
        }
        (result, true)
    }

    /// Drops what was derived from bytes that have changed.
    pub(super) fn drop_stale(&mut self) {
        while self.memory.has_touched() {
            if self.memory.take_moved() {
                self.forget_derived();
            }
            if self.memory.take_remapped() {
                self.tlb.flush(&mut self.memory);
            }
            while let Some(touched) = self.memory.take_touched() {
                if touched.table {
                    self.tlb.table_changed(&mut self.memory, touched.address, touched.length);
                }
                if touched.code {
                    let (address, length) = (touched.address, touched.length);
                    self.blocks.bytes_changed(&mut self.memory, &mut self.tlb, &mut self.buffer, address, length);
                }
            }
        }
    }
}

/// What the data TLB knows serves Rust code, too.
impl Translations for Tlb {
    fn find(&mut self, memory: &Memory, user: bool, linear: u64, write: bool) -> Option<u64> {
        let host = self.host(user, linear, write)? as u64;
        Some(memory.address_of(memory.page_of_host(host)) + linear % PAGE)
    }

    fn keep(&mut self, memory: &mut Memory, user: bool, linear: u64, found: &Translation, write: bool) {
        self.fill(memory, user, linear, found, write);
    }
}
