//! Accesses to the chips at fixed addresses: the ISA side of the board.

use super::Board;
use crate::context::Context;
use crate::hpet;
use crate::map::{self, Unit, Window};
use crate::pci::bridge;
use ftemu_cpu::{Icount, Memory};

/// What the debug port reads where it is there.
const DEBUG_PORT_PRESENT: u8 = 0xe9;
/// Bytes of it that are kept.
const DEBUG_BYTES: usize = 64 << 10;

impl Board {
    /// Whether an access is taken as one. Otherwise it is split into bytes: accesses wider than the unit takes, and
    /// unaligned ones but for the display interface, whose data register lies across two words.
    pub(super) fn takes_whole(&self, port: u16, size: u8) -> bool {
        let (width, aligned) = match map::unit(port) {
            (Unit::Open, _) if self.is_pci_port(port) => (4, port.is_multiple_of(u16::from(size.max(1)))),
            (Unit::Display, width) => (width, true),
            (_, width) => (width, port.is_multiple_of(u16::from(size.max(1)))),
        };
        size <= width && aligned
    }

    pub(super) fn read_port(&mut self, memory: &mut Memory, now: Icount, port: u16, size: u8) -> u32 {
        let now_ns = self.chips.clock.now_ns(now);
        let chips = &mut self.chips;
        u32::from(match map::unit(port).0 {
            Unit::Pic => chips.pic.read(port),
            Unit::Pit => chips.pit.read(now_ns, port),
            Unit::KeyboardController => chips.keyboard_controller.read(now_ns, port),
            Unit::Rtc => chips.rtc.read(now_ns, port),
            Unit::Diagnostic => chips.diagnostic,
            Unit::PortA => chips.port_a,
            Unit::Com1 => chips.serial[0].read(port),
            Unit::Com2 => chips.serial[1].read(port),
            Unit::Power => return chips.power.read(now_ns, port, size),
            Unit::Pci => return chips.pci.read(port, size),
            Unit::PciConfiguration => return self.read_configuration(memory, now, port, size),
            Unit::FirmwareConfig => return chips.firmware_config.read(&self.items, port, size),
            Unit::DebugPort => DEBUG_PORT_PRESENT,
            Unit::ManagementMode => chips.management_mode[usize::from(port & 1)],
            Unit::Ide => {
                let (drives, outputs) = (&mut self.drives, &mut self.outputs);
                return chips.ide.port_read(&mut Context { now, now_ns, memory, drives, outputs }, port, size);
            }
            Unit::Vga | Unit::Display => {
                return chips.vga.as_mut().map_or(u32::MAX, |vga| u32::from(vga.port_read(now_ns, port)));
            }
            Unit::Open => return self.read_pci_port(memory, now, port, size),
        })
    }

    pub(super) fn write_port(&mut self, memory: &mut Memory, now: Icount, port: u16, size: u8, value: u32) {
        let now_ns = self.chips.clock.now_ns(now);
        let chips = &mut self.chips;
        let byte = value as u8;
        match map::unit(port).0 {
            Unit::Pic => chips.pic.write(port, byte),
            Unit::Pit => chips.pit.write(now_ns, port, byte),
            Unit::KeyboardController => {
                chips.keyboard_controller.write(now_ns, port, byte);
                memory.set_line_20(chips.line_20());
            }
            Unit::Rtc => chips.rtc.write(now_ns, port, byte),
            Unit::Diagnostic => chips.diagnostic = byte,
            Unit::PortA => {
                chips.reset |= byte & !chips.port_a & 1 != 0;
                chips.port_a = byte & 3;
                memory.set_line_20(chips.line_20());
            }
            Unit::Com1 => self.write_serial(now, 0, port, byte),
            Unit::Com2 => self.write_serial(now, 1, port, byte),
            Unit::Power => chips.power.write(now_ns, port, size, value),
            Unit::Pci => chips.pci.write(port, size, value),
            Unit::FirmwareConfig => chips.firmware_config.write(&self.items, memory, port, size, value),
            Unit::DebugPort => {
                if self.debug.len() == DEBUG_BYTES {
                    self.debug.pop_front();
                }
                self.debug.push_back(byte);
            }
            Unit::ManagementMode => {
                chips.management_mode[usize::from(port & 1)] = byte;
                let wanted = chips.host_bridge.has_management() && bridge::raises_smi(&chips.power_management);
                chips.management_interrupt |= port & 1 == 0 && wanted;
            }
            Unit::Ide => {
                let (drives, outputs) = (&mut self.drives, &mut self.outputs);
                chips.ide.port_write(&mut Context { now, now_ns, memory, drives, outputs }, port, size, value);
            }
            Unit::Vga | Unit::Display => {
                if let Some(vga) = &mut chips.vga {
                    vga.port_write(memory, port, value as u16);
                }
            }
            Unit::PciConfiguration => self.write_configuration(memory, now, port, size, value),
            Unit::Open => self.write_pci_port(memory, now, port, size, value),
        }
    }

    fn write_serial(&mut self, now: Icount, port: u8, register: u16, byte: u8) {
        if let Some(byte) = self.chips.serial[usize::from(port)].write(register, byte) {
            self.outputs.serial(Icount(now.0 + 1), port, byte);
        }
    }

    /// Loads from addresses that are neither RAM nor an APIC's.
    pub(super) fn read_window(&mut self, memory: &mut Memory, now: Icount, address: u64, size: u8) -> u64 {
        match (map::window(address).0, &mut self.chips.vga) {
            (Window::Video, Some(vga)) => vga.window_read(memory, address, size),
            (Window::Hpet, _) => {
                let now_ns = self.chips.clock.now_ns(now);
                self.chips.hpet.read(now_ns, address - hpet::BASE, size)
            }
            _ => self.read_pci_memory(memory, now, address, size),
        }
    }

    /// Stores to such addresses.
    pub(super) fn write_window(&mut self, memory: &mut Memory, now: Icount, address: u64, size: u8, value: u64) {
        match (map::window(address).0, &mut self.chips.vga) {
            (Window::Video, Some(vga)) => vga.window_write(memory, address, size, value),
            (Window::Hpet, _) => {
                let now_ns = self.chips.clock.now_ns(now);
                self.chips.hpet.write(now_ns, address - hpet::BASE, size, value);
            }
            _ => self.write_pci_memory(memory, now, address, size, value),
        }
    }
}
