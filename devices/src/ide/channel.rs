//! One channel: two devices, the registers they share, and the bus master between them and memory (ATA/ATAPI-6 §6;
//! 82371SB §2.6).
//!
//! Stores to the command block reach both devices; loads come from the selected one.

use super::bus_master::BusMaster;
use super::command::EXECUTE_DEVICE_DIAGNOSTIC;
use super::device::{Attached, Device};
use super::task_file::DEVICE_FIXED;
use super::transfer::Transfer;
use crate::context::Context;
use crate::state::saved;

/// Device Control: interrupts are off.
const NIEN: u8 = 1 << 1;
/// Device Control: software reset.
const SRST: u8 = 1 << 2;
/// Device Control: loads see what registers held before the last store.
const HOB: u8 = 1 << 7;
/// Device: the second one.
const DEV: u8 = 1 << 4;

/// The registers of the command block.
const DATA: u8 = 0;
const ERROR_FEATURES: u8 = 1;
const SECTOR_COUNT: u8 = 2;
const LBA_LOW: u8 = 3;
const LBA_MID: u8 = 4;
const LBA_HIGH: u8 = 5;
const DEVICE: u8 = 6;
const STATUS_COMMAND: u8 = 7;

/// The channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Channel {
    devices: [Device; 2],
    /// The Device register's choice: 0 or 1.
    selected: u8,
    /// Device Control.
    control: u8,
    master: BusMaster,
    /// INTRQ when it was last looked at.
    line: bool,
}
saved!(Channel { devices, selected, control, master, line });

impl Channel {
    /// A channel after power-on.
    pub fn new(attached: [Option<Attached>; 2]) -> Channel {
        Channel { devices: attached.map(Device::new), ..Channel::default() }
    }

    fn selected(&self) -> &Device {
        &self.devices[usize::from(self.selected & 1)]
    }

    fn selected_mut(&mut self) -> &mut Device {
        &mut self.devices[usize::from(self.selected & 1)]
    }

    /// Both devices.
    pub fn devices_mut(&mut self) -> &mut [Device; 2] {
        &mut self.devices
    }

    /// A load from the command block; only the Data register is wider than a byte. A channel without devices is pulled
    /// low, and so is the status of a device that is not there.
    pub fn read(&mut self, context: &mut Context, register: u8, size: u8) -> u32 {
        if !self.devices.iter().any(Device::is_attached) {
            return 0;
        }
        let hob = self.control & HOB != 0;
        let device = self.selected_mut();
        let file = &device.file;
        u32::from(match register {
            DATA => {
                let value = device.data_read(context, size);
                self.settle();
                return value;
            }
            ERROR_FEATURES => file.error,
            SECTOR_COUNT => file.count.read(hob),
            LBA_LOW => file.low.read(hob),
            LBA_MID => file.mid.read(hob),
            LBA_HIGH => file.high.read(hob),
            DEVICE => file.device | DEVICE_FIXED,
            _ => {
                device.interrupt = false;
                self.settle();
                self.alternate_status()
            }
        })
    }

    /// The transfer that an access of `size` bytes to the Data register goes on with, if it does not end a block.
    pub fn data_within(&mut self, size: u8, to_host: bool) -> Option<&mut Transfer> {
        let transfer = &mut self.selected_mut().transfer;
        let moves = if to_host { transfer.is_to_host() } else { transfer.is_from_host() };
        (moves && transfer.has_within(size)).then_some(transfer)
    }

    /// Alternate Status: the interrupt stays.
    pub fn alternate_status(&self) -> u8 {
        let device = self.selected();
        if device.is_attached() { device.file.status } else { 0 }
    }

    /// A store to the command block. `mastering`: the function may use the bus.
    pub fn write(&mut self, context: &mut Context, mastering: bool, register: u8, size: u8, value: u32) {
        let byte = value as u8;
        if register == DATA {
            self.selected_mut().data_write(context, size, value);
        } else {
            self.control &= !HOB;
            match register {
                STATUS_COMMAND if byte == EXECUTE_DEVICE_DIAGNOSTIC => self.diagnose(),
                STATUS_COMMAND => self.selected_mut().command(context, byte),
                _ if self.selected().is_busy() => {}
                _ => self.set_register(register, byte),
            }
            self.run_master(context, mastering);
        }
        self.settle();
    }

    fn set_register(&mut self, register: u8, byte: u8) {
        for device in &mut self.devices {
            let file = &mut device.file;
            match register {
                ERROR_FEATURES => file.features.write(byte),
                SECTOR_COUNT => file.count.write(byte),
                LBA_LOW => file.low.write(byte),
                LBA_MID => file.mid.write(byte),
                LBA_HIGH => file.high.write(byte),
                _ => file.device = byte | DEVICE_FIXED,
            }
        }
        if register == DEVICE {
            self.selected = u8::from(byte & DEV != 0);
        }
    }

    /// A store to Device Control.
    pub fn write_control(&mut self, byte: u8) {
        let changed = byte ^ self.control;
        self.control = byte & (NIEN | SRST | HOB);
        if changed & SRST != 0 {
            self.selected = 0;
            for device in &mut self.devices {
                if byte & SRST != 0 { device.hold_reset() } else { device.release_reset() }
            }
        }
        self.settle();
    }

    /// EXECUTE DEVICE DIAGNOSTIC: both devices, and device 0 answers.
    fn diagnose(&mut self) {
        if self.selected().is_busy() {
            return;
        }
        self.selected = 0;
        self.devices.iter_mut().for_each(Device::reset);
        let first = &mut self.devices[0];
        first.interrupt = first.is_attached() && !first.is_busy();
    }

    /// A load of `size` bytes from the bus master's registers.
    pub fn master_read(&self, register: u8, size: u8) -> u32 {
        (0..size.min(4)).fold(0, |value, index| {
            value | u32::from(self.master.read(register.wrapping_add(index))) << (8 * u32::from(index))
        })
    }

    /// A store of `size` bytes to the bus master's registers.
    pub fn master_write(&mut self, context: &mut Context, mastering: bool, register: u8, size: u8, value: u32) {
        let mut starts = false;
        for (index, byte) in (0..size.min(4)).zip(value.to_le_bytes()) {
            starts |= self.master.write(register.wrapping_add(index), byte);
        }
        if starts {
            self.run_master(context, mastering);
        }
    }

    /// Moves what a device and memory have for each other, if the bus master is started and may use the bus.
    pub fn run_master(&mut self, context: &mut Context, mastering: bool) {
        for device in self.devices.iter_mut().filter(|device| mastering && device.transfer.manner.dma) {
            let transfer = &mut device.transfer;
            if transfer.is_to_host() && self.master.moves(true) {
                let moved = self.master.store(context.memory, transfer.rest());
                transfer.position += moved as u32;
                if transfer.rest().is_empty() {
                    device.sent(context);
                }
            } else if transfer.is_from_host() && self.master.moves(false) {
                let moved = self.master.fetch(context.memory, transfer.rest());
                transfer.position += moved as u32;
                if transfer.rest().is_empty() {
                    device.received(context);
                }
            }
        }
        self.settle();
    }

    /// INTRQ.
    pub fn line(&self) -> bool {
        self.line
    }

    /// INTRQ follows the selected device; its rise is noted by the bus master.
    fn settle(&mut self) {
        let line = self.selected().interrupt && self.selected().is_attached() && self.control & NIEN == 0;
        if line && !self.line {
            self.master.interrupt();
        }
        self.line = line;
    }

    /// Takes the drives' answers that are there.
    pub fn tick(&mut self, context: &mut Context, mastering: bool) {
        self.devices.iter_mut().for_each(|device| device.tick(context));
        self.run_master(context, mastering);
    }
}
