//! The board: the chips, the wires between them, and the CPU's view of both ([`Bus`]).
//!
//! Every access first lets what is due happen, then reaches its chip, then settles the lines. So a line's value never
//! depends on how often somebody looked, and nothing else happens between two instructions.

pub use crate::chips::Chips;
use crate::io_apic;
use crate::map::{self, Unit, Window};
use crate::output::{Output, Outputs};
use ftemu_cpu::{Bus, Icount, Memory};

/// IA32_APIC_BASE and IA32_TSC_DEADLINE.
const MSR_APIC_BASE: u32 = 0x1b;
const MSR_TSC_DEADLINE: u32 = 0x6e0;

/// The board of one machine.
#[derive(Debug)]
pub struct Board {
    /// Its chips.
    pub chips: Chips,
    /// What has left the machine and was not drained yet.
    pub outputs: Outputs,
}

impl Board {
    /// A board with no output waiting.
    pub fn new(chips: Chips) -> Board {
        Board { chips, outputs: Outputs::default() }
    }

    /// When the first chip will do something by itself that can be noticed, in virtual nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        let chips = &self.chips;
        let (irq, pin, _) = map::INTERRUPTS[0];
        let pit_is_seen =
            chips.io_apic.is_unmasked(pin) || chips.pic.is_unmasked(irq) && chips.local_apic.lint0_is_open();
        let pit = if pit_is_seen { chips.pit.deadline() } else { None };
        [pit, chips.local_apic.deadline(), chips.rtc.deadline(), chips.power.deadline()].into_iter().flatten().min()
    }

    /// Lets all chips catch up with `now_ns` and settles the lines.
    pub fn tick(&mut self, now_ns: u64) {
        self.chips.local_apic.tick(now_ns);
        self.chips.rtc.tick(now_ns);
        self.chips.power.tick(now_ns);
        self.settle(now_ns);
    }

    /// Before an access: what is due happens first, and edges of a timer nobody was looking at count as masked.
    fn catch_up(&mut self, now_ns: u64) {
        if self.deadline().is_some_and(|deadline| deadline <= now_ns) {
            self.tick(now_ns);
        } else {
            self.settle_timer(now_ns);
        }
    }

    fn settle_timer(&mut self, now_ns: u64) {
        let timer = self.chips.pit.line(now_ns);
        if timer.rose && timer.high {
            self.set_interrupt(0, false);
        }
        self.set_interrupt(0, timer.high);
        self.chips.local_apic.set_lint0(self.chips.pic.interrupt());
    }

    /// Carries every line to where it is wired, and messages from the I/O to the local APIC.
    pub fn settle(&mut self, now_ns: u64) {
        self.settle_timer(now_ns);
        let chips = &self.chips;
        let lines = [chips.serial[1].line(), chips.serial[0].line(), chips.rtc.line(), chips.power.line()];
        for (index, high) in lines.into_iter().enumerate() {
            self.set_interrupt(index + 1, high);
        }
        self.send_messages();
        let chips = &mut self.chips;
        chips.local_apic.set_lint0(chips.pic.interrupt());
        chips.reset |= chips.keyboard_controller.take_reset() | chips.pci.take_reset();
    }

    fn set_interrupt(&mut self, index: usize, high: bool) {
        let (irq, pin, _) = map::INTERRUPTS[index];
        self.chips.pic.set_line(irq, high);
        self.chips.io_apic.set_line(pin, high);
    }

    fn send_messages(&mut self) {
        let chips = &mut self.chips;
        let requests = chips.io_apic.requests();
        for pin in (0..io_apic::PINS).filter(|pin| requests >> pin & 1 != 0) {
            let accepted = chips.local_apic.receive(&chips.io_apic.message(pin));
            chips.io_apic.sent(pin, accepted);
        }
    }

    /// Whether a maskable interrupt waits for the CPU.
    pub fn has_interrupt(&self) -> bool {
        self.chips.local_apic.interrupt() || self.chips.local_apic.external_interrupt()
    }

    /// The interrupt acknowledge cycle: the vector.
    pub fn acknowledge(&mut self, now_ns: u64) -> u8 {
        let chips = &mut self.chips;
        let vector = match chips.local_apic.interrupt() {
            true => chips.local_apic.acknowledge(),
            false => chips.pic.acknowledge(),
        };
        self.settle(now_ns);
        vector
    }

    fn read_unit(&mut self, now_ns: u64, unit: Unit, port: u16, size: u8) -> u32 {
        let chips = &mut self.chips;
        u32::from(match unit {
            Unit::Pic => chips.pic.read(port),
            Unit::Pit => chips.pit.read(now_ns, port),
            Unit::KeyboardController => chips.keyboard_controller.read(port),
            Unit::Rtc => chips.rtc.read(now_ns, port),
            Unit::Diagnostic => chips.diagnostic,
            Unit::PortA => chips.port_a,
            Unit::Com1 => chips.serial[0].read(port),
            Unit::Com2 => chips.serial[1].read(port),
            Unit::Power => return chips.power.read(now_ns, port, size),
            Unit::Pci => return chips.pci.read(port, size),
            Unit::Open => 0xff,
        })
    }

    fn write_unit(&mut self, now: Icount, unit: Unit, port: u16, size: u8, value: u32) {
        let now_ns = self.chips.clock.now_ns(now);
        let chips = &mut self.chips;
        let byte = value as u8;
        match unit {
            Unit::Pic => chips.pic.write(port, byte),
            Unit::Pit => chips.pit.write(now_ns, port, byte),
            Unit::KeyboardController => chips.keyboard_controller.write(port, byte),
            Unit::Rtc => chips.rtc.write(now_ns, port, byte),
            Unit::Diagnostic => chips.diagnostic = byte,
            Unit::PortA => {
                chips.reset |= byte & !chips.port_a & 1 != 0;
                chips.port_a = byte & 3;
            }
            Unit::Com1 => self.write_serial(now, 0, port, byte),
            Unit::Com2 => self.write_serial(now, 1, port, byte),
            Unit::Power => chips.power.write(now_ns, port, size, value),
            Unit::Pci => chips.pci.write(port, size, value),
            Unit::Open => {}
        }
    }

    fn write_serial(&mut self, now: Icount, port: u8, register: u16, byte: u8) {
        if let Some(byte) = self.chips.serial[usize::from(port)].write(register, byte) {
            self.outputs.serial(Icount(now.0 + 1), port, byte);
        }
    }

    /// Something other than bytes leaves the machine.
    pub fn emit(&mut self, count: Icount, output: Output) {
        self.outputs.push(count, output);
    }
}

/// The pieces of an access that units see: (offset, size). Accesses wider than a unit takes are split, unaligned ones
/// into bytes.
fn pieces(port: u16, size: u8) -> impl Iterator<Item = (u8, u8)> {
    let (_, width) = map::unit(port);
    let whole = size <= width && port.is_multiple_of(u16::from(size.max(1)));
    let step = if whole { size.max(1) } else { 1 };
    (0..size).step_by(usize::from(step)).map(move |offset| (offset, step))
}

impl Bus for Board {
    fn port_read(&mut self, _memory: &mut Memory, now: Icount, port: u16, size: u8) -> u32 {
        let now_ns = self.chips.clock.now_ns(now);
        self.catch_up(now_ns);
        let mut value = 0;
        for (offset, size) in pieces(port, size) {
            let port = port.wrapping_add(u16::from(offset));
            let mask = u32::MAX >> (32 - 8 * u32::from(size));
            value |= (self.read_unit(now_ns, map::unit(port).0, port, size) & mask) << (8 * offset);
        }
        self.settle(now_ns);
        value
    }

    fn port_write(&mut self, _memory: &mut Memory, now: Icount, port: u16, size: u8, value: u32) {
        let now_ns = self.chips.clock.now_ns(now);
        self.catch_up(now_ns);
        for (offset, size) in pieces(port, size) {
            let port = port.wrapping_add(u16::from(offset));
            let mask = u32::MAX >> (32 - 8 * u32::from(size));
            self.write_unit(now, map::unit(port).0, port, size, value >> (8 * offset) & mask);
        }
        self.settle(now_ns);
    }

    /// APIC registers are dwords at multiples of 16; a narrower or wider load gets its bytes of the dword.
    fn mmio_read(&mut self, _memory: &mut Memory, now: Icount, address: u64, size: u8) -> u64 {
        let now_ns = self.chips.clock.now_ns(now);
        self.catch_up(now_ns);
        let chips = &mut self.chips;
        let dword = match map::window(address & !3) {
            (Window::IoApic, offset) => chips.io_apic.read(offset),
            (Window::LocalApic, offset) if chips.local_apic.is_globally_enabled() => {
                chips.local_apic.read(now_ns, offset)
            }
            _ => return u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8))),
        };
        self.settle(now_ns);
        let mask = u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)));
        u64::from(dword) >> (8 * (address & 3)) & mask
    }

    /// Stores other than aligned dwords are dropped, as the SDM leaves them undefined.
    fn mmio_write(&mut self, _memory: &mut Memory, now: Icount, address: u64, size: u8, value: u64) {
        let now_ns = self.chips.clock.now_ns(now);
        self.catch_up(now_ns);
        let chips = &mut self.chips;
        let ended = match map::window(address) {
            _ if size < 4 || address & 3 != 0 => None,
            (Window::IoApic, offset) => {
                chips.io_apic.write(offset, value as u32);
                None
            }
            (Window::LocalApic, offset) if chips.local_apic.is_globally_enabled() => {
                chips.local_apic.write(now_ns, offset, value as u32)
            }
            _ => None,
        };
        if let Some(vector) = ended {
            chips.io_apic.end_of_interrupt(vector);
        }
        self.settle(now_ns);
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

    fn msr_write(&mut self, now: Icount, register: u32, value: u64) -> bool {
        let now_ns = self.chips.clock.now_ns(now);
        self.catch_up(now_ns);
        let accepted = match register {
            MSR_APIC_BASE => self.chips.local_apic.set_base(value),
            MSR_TSC_DEADLINE => {
                self.chips.local_apic.set_tsc_deadline(now_ns, value);
                true
            }
            _ => false,
        };
        self.settle(now_ns);
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
