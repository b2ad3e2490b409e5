//! The board: the chips, the wires between them, and the CPU's view of both ([`Bus`]).
//!
//! Every access first lets what is due happen, then reaches its chip, then settles the lines. So a line's value never
//! depends on how often somebody looked, and nothing else happens between two instructions.

mod deadlines;
mod lines;
pub(crate) mod regions;
mod slots;
mod units;

use crate::acpi::Described;
pub use crate::chips::Chips;
use crate::config::Config;
use crate::context::Context;
use crate::drives::Drives;
use crate::firmware;
use crate::firmware_config::Items;
use crate::map::{self, Window};
use crate::output::{Output, Outputs};
use deadlines::{Deadlines, Effect, effect_of_read, effect_of_write};
use ftemu_cpu::{Bus, Icount, Memory};
pub use regions::Regions;
use slots::Routes;
use std::collections::VecDeque;

/// IA32_APIC_BASE and IA32_TSC_DEADLINE.
const MSR_APIC_BASE: u32 = 0x1b;
const MSR_TSC_DEADLINE: u32 = 0x6e0;

/// The board of one machine.
#[derive(Debug)]
pub struct Board {
    /// Its chips.
    pub chips: Chips,
    /// Its drives.
    pub drives: Drives,
    /// Its memory besides RAM.
    pub regions: Regions,
    /// What has left the machine and was not drained yet.
    pub outputs: Outputs,
    /// What firmware reads of the configuration: derived from it.
    items: Items,
    /// What firmware has said to its debug port lately, for people. No state.
    pub debug: VecDeque<u8>,
    /// Where the windows of PCI devices are: derived from their configuration spaces.
    routes: Routes,
    /// The lines as they were carried last, and whether the event timer had the real-time clock's place then.
    carried: Option<(u16, bool)>,
    /// When something is due: derived from all chips.
    deadlines: Deadlines,
}

impl Board {
    /// A board with no output waiting and nothing under way in its drives.
    pub fn new(config: &Config, memory: &Memory, chips: Chips, regions: Regions) -> Board {
        let shapes = config.drives.iter().map(|drive| (drive.sectors, drive.read_only));
        let (drives, outputs) = (Drives::new(shapes), Outputs::default());
        let (routes, deadlines) = (Routes::default(), Deadlines::default());
        let described = Described { low_bytes: memory.low_size(), video: config.video };
        let items = Items::new(&described, memory.size() - memory.low_size(), firmware::boot_files(config));
        let mut board =
            Board { chips, drives, regions, outputs, items, debug: VecDeque::new(), routes, carried: None, deadlines };
        board.find_routes();
        board
    }

    /// Other chips: after a reset or a load. What is derived from them is made again.
    pub fn replace_chips(&mut self, memory: &mut Memory, chips: Chips) {
        self.chips = chips;
        self.carried = None;
        self.find_routes();
        self.forget_deadlines();
        self.place(memory);
        if let Some(vga) = &self.chips.vga {
            vga.place(memory);
        }
    }

    /// Brings what answers below 1 MiB, and the CPU's address line 20, in line with the chips.
    pub(crate) fn place(&self, memory: &mut Memory) {
        self.chips.host_bridge.place(memory, self.regions.bios);
        memory.set_line_20(self.chips.line_20());
    }

    /// Lets all chips catch up with `now` and settles the lines.
    pub fn tick(&mut self, memory: &mut Memory, now: Icount) {
        let now_ns = self.chips.clock.now_ns(now);
        self.chips.local_apic.tick(now_ns);
        self.chips.rtc.tick(now_ns);
        self.chips.power.tick(now_ns);
        self.chips.keyboard_controller.tick(now_ns);
        self.chips.hpet.tick(now_ns);
        for slot in 0..self.routes.slots.len() {
            if let Some((device, mut context)) = self.device(memory, now, self.routes.slots[slot]) {
                device.tick(&mut context);
            }
        }
        self.forget_deadlines();
        self.settle(now_ns);
    }

    /// Before an access: what is due happens first, and edges of a timer nobody was looking at count as masked.
    fn catch_up(&mut self, memory: &mut Memory, now: Icount, effect: Effect) {
        let now_ns = self.chips.clock.now_ns(now);
        if self.deadline().is_some_and(|deadline| deadline <= now_ns) {
            self.tick(memory, now);
        } else if effect != Effect::Nothing {
            self.settle_timer(now_ns);
        }
    }

    /// Something other than bytes leaves the machine.
    pub fn emit(&mut self, count: Icount, output: Output) {
        self.outputs.push(count, output);
    }
}

/// The pieces of an access that units see: (offset, size).
fn pieces(size: u8, whole: bool) -> impl Iterator<Item = (u8, u8)> {
    let step = if whole { size.max(1) } else { 1 };
    (0..size).step_by(usize::from(step)).map(move |offset| (offset, step))
}

/// All ones in `size` bytes.
fn ones(size: u8) -> u64 {
    u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
}

impl Bus for Board {
    fn port_read(&mut self, memory: &mut Memory, now: Icount, port: u16, size: u8) -> u32 {
        if let Some(value) = self.chips.ide.data_read(port, size) {
            return value;
        }
        let whole = self.takes_whole(port, size);
        let effect = if whole { effect_of_read(map::unit(port).0) } else { Effect::All };
        self.catch_up(memory, now, effect);
        let mut value = 0;
        for (offset, size) in pieces(size, whole) {
            let port = port.wrapping_add(u16::from(offset));
            let piece = self.read_port(memory, now, port, size);
            value |= (piece & ones(size) as u32) << (8 * offset);
        }
        self.conclude(self.chips.clock.now_ns(now), effect);
        value
    }

    fn port_read_row(&mut self, port: u16, size: u8, bytes: &mut [u8]) -> usize {
        let width = usize::from(size.max(1));
        let mut filled = 0;
        for element in bytes.chunks_exact_mut(width) {
            let Some(value) = self.chips.ide.data_read(port, size) else { break };
            element.copy_from_slice(&value.to_le_bytes()[..width]);
            filled += width;
        }
        filled
    }

    fn port_write_row(&mut self, port: u16, size: u8, bytes: &[u8]) -> usize {
        let width = usize::from(size.max(1));
        let taken = bytes.chunks_exact(width).take_while(|element| {
            let mut value = [0; 4];
            value[..width].copy_from_slice(element);
            self.chips.ide.data_write(port, size, u32::from_le_bytes(value))
        });
        taken.count() * width
    }

    fn port_write(&mut self, memory: &mut Memory, now: Icount, port: u16, size: u8, value: u32) {
        if self.chips.ide.data_write(port, size, value) {
            return;
        }
        let whole = self.takes_whole(port, size);
        let effect = if whole { effect_of_write(map::unit(port).0, port) } else { Effect::All };
        self.catch_up(memory, now, effect);
        for (offset, size) in pieces(size, whole) {
            let port = port.wrapping_add(u16::from(offset));
            self.write_port(memory, now, port, size, value >> (8 * offset) & ones(size) as u32);
        }
        self.conclude(self.chips.clock.now_ns(now), effect);
    }

    /// APIC registers are dwords at multiples of 16; a narrower or wider load gets its bytes of the dword.
    fn mmio_read(&mut self, memory: &mut Memory, now: Icount, address: u64, size: u8) -> u64 {
        let now_ns = self.chips.clock.now_ns(now);
        let effect = match self.effect_of_window(address) {
            Effect::Fixed => Effect::Nothing,
            effect => effect,
        };
        self.catch_up(memory, now, effect);
        let chips = &mut self.chips;
        let value = match map::window(address & !3) {
            (Window::IoApic, offset) => u64::from(chips.io_apic.read(offset)) >> (8 * (address & 3)),
            (Window::LocalApic, offset) if chips.local_apic.is_globally_enabled() => {
                u64::from(chips.local_apic.read(now_ns, offset)) >> (8 * (address & 3))
            }
            _ => self.read_window(memory, now, address, size),
        };
        self.conclude(now_ns, effect);
        value & ones(size)
    }

    /// Stores to APICs other than aligned dwords are dropped, as the SDM leaves them undefined.
    fn mmio_write(&mut self, memory: &mut Memory, now: Icount, address: u64, size: u8, value: u64) {
        let now_ns = self.chips.clock.now_ns(now);
        let effect = self.effect_of_window(address);
        self.catch_up(memory, now, effect);
        let chips = &mut self.chips;
        match map::window(address) {
            (Window::IoApic | Window::LocalApic, _) if size < 4 || address & 3 != 0 => {}
            (Window::IoApic, offset) => chips.io_apic.write(offset, value as u32),
            (Window::LocalApic, offset) if chips.local_apic.is_globally_enabled() => {
                if let Some(vector) = chips.local_apic.write(now_ns, offset, value as u32) {
                    chips.io_apic.end_of_interrupt(vector);
                }
            }
            _ => self.write_window(memory, now, address, size, value & ones(size)),
        }
        self.conclude(now_ns, effect);
    }

    fn time_stamp(&self, now: Icount) -> u64 {
        self.chips.clock.now_ns(now)
    }

    fn msr_read(&mut self, _now: Icount, register: u32) -> Option<u64> {
        match register {
            MSR_APIC_BASE => Some(self.chips.local_apic.base()),
            MSR_TSC_DEADLINE => Some(self.chips.local_apic.tsc_deadline()),
            _ => None,
        }
    }

    /// An MSR of the local APIC touches no memory, so nothing of a device need happen before: the board ticks at its
    /// deadline anyway.
    fn msr_write(&mut self, now: Icount, register: u32, value: u64) -> bool {
        let now_ns = self.chips.clock.now_ns(now);
        self.chips.local_apic.tick(now_ns);
        self.settle_timer(now_ns);
        let accepted = match register {
            MSR_APIC_BASE => self.chips.local_apic.set_base(value),
            MSR_TSC_DEADLINE => {
                self.chips.local_apic.set_tsc_deadline(now_ns, value);
                true
            }
            _ => false,
        };
        self.conclude(now_ns, Effect::Fixed);
        accepted
    }

    fn task_priority(&mut self) -> u8 {
        self.chips.local_apic.task_priority_class()
    }

    fn set_task_priority(&mut self, _now: Icount, class: u8) {
        self.chips.local_apic.set_task_priority_class(class);
    }
}

#[cfg(test)]
mod tests;
