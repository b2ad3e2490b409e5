//! When the board must be looked at again, and which accesses change nothing about that.
//!
//! Deadlines of chips are asked for after every instruction that reaches the board, so they are remembered: those of
//! the chips at fixed addresses, and those of the PCI bus and its drives. Remembering is invisible: whatever can change
//! a deadline forgets it.

use super::Board;
use crate::map::{self, Unit, Window};
use std::cell::Cell;

/// What is remembered; `None`: to be found again.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    fixed: Cell<Option<Option<u64>>>,
    bus: Cell<Option<Option<u64>>>,
}

/// What an access may have changed besides the unit it reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// No line and no deadline.
    Nothing,
    /// Lines and deadlines of chips at fixed addresses.
    Fixed,
    /// Those, and lines and deadlines of PCI devices and drives.
    All,
}

/// What a load changes. Time passes in some chips when they are looked at, but what is due then was due anyway.
pub(super) fn effect_of_read(unit: Unit) -> Effect {
    match unit {
        Unit::Diagnostic | Unit::PortA | Unit::Power | Unit::Pci => Effect::Nothing,
        Unit::FirmwareConfig | Unit::DebugPort | Unit::ManagementMode => Effect::Nothing,
        Unit::Vga | Unit::Display | Unit::Pit => Effect::Nothing,
        Unit::Pic | Unit::KeyboardController | Unit::Rtc | Unit::Com1 | Unit::Com2 => Effect::Fixed,
        Unit::Ide | Unit::Open | Unit::PciConfiguration => Effect::All,
    }
}

/// What a store changes.
pub(super) fn effect_of_write(unit: Unit, port: u16) -> Effect {
    match unit {
        Unit::Diagnostic | Unit::DebugPort | Unit::ManagementMode | Unit::Vga | Unit::Display => Effect::Nothing,
        Unit::FirmwareConfig => Effect::Nothing,
        Unit::Pci if port == 0xcf8 => Effect::Nothing,
        Unit::Pic | Unit::Pit | Unit::KeyboardController | Unit::Rtc | Unit::Com1 | Unit::Com2 => Effect::Fixed,
        Unit::PortA | Unit::Power | Unit::Pci => Effect::Fixed,
        Unit::Ide | Unit::Open | Unit::PciConfiguration => Effect::All,
    }
}

impl Board {
    /// What a store to registers in memory changes; a load from the same ones at fixed addresses changes nothing.
    pub(super) fn effect_of_window(&self, address: u64) -> Effect {
        match map::window(address).0 {
            Window::Video if self.chips.vga.is_some() => Effect::Nothing,
            Window::LocalApic if self.chips.local_apic.is_globally_enabled() => Effect::Fixed,
            Window::IoApic | Window::Hpet => Effect::Fixed,
            Window::Video | Window::LocalApic | Window::Open => Effect::All,
        }
    }

    /// When the first chip will do something by itself that can be noticed, in virtual nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        let fixed = remembered(&self.deadlines.fixed, || self.fixed_deadline());
        let bus = remembered(&self.deadlines.bus, || self.bus_deadline());
        [fixed, bus].into_iter().flatten().min()
    }

    fn fixed_deadline(&self) -> Option<u64> {
        let chips = &self.chips;
        let pit_is_seen =
            chips.io_apic.is_unmasked(map::TIMER_PIN) || chips.pic.is_unmasked(0) && chips.local_apic.lint0_is_open();
        let pit = if pit_is_seen && !chips.hpet.replaces_legacy() { chips.pit.deadline() } else { None };
        let (keyboard, hpet) = (chips.keyboard_controller.deadline(), chips.hpet.deadline());
        let all = [pit, chips.local_apic.deadline(), chips.rtc.deadline(), chips.power.deadline(), keyboard, hpet];
        all.into_iter().flatten().min()
    }

    fn bus_deadline(&self) -> Option<u64> {
        let slots = self.routes.slots.iter().filter_map(|slot| self.chips.pci_device(*slot)?.deadline());
        slots.chain(self.drives.deadline()).min()
    }

    /// Something may have changed a deadline.
    pub fn forget_deadlines(&mut self) {
        self.deadlines = Deadlines::default();
    }

    /// After an access: settles lines and forgets deadlines as far as it may have changed them.
    pub(super) fn conclude(&mut self, now_ns: u64, effect: Effect) {
        match effect {
            Effect::Nothing => return,
            Effect::Fixed => self.deadlines.fixed.set(None),
            Effect::All => self.forget_deadlines(),
        }
        self.settle(now_ns);
    }
}

fn remembered(cell: &Cell<Option<Option<u64>>>, find: impl FnOnce() -> Option<u64>) -> Option<u64> {
    if let Some(known) = cell.get() {
        return known;
    }
    let found = find();
    cell.set(Some(found));
    found
}
