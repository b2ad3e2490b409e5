//! The IDE function of the PIIX3 (82371SB, 290550, §2.3 and §2.6): two channels at the addresses and interrupts of the PC/AT
//! in compatibility mode, and a bus master for each.
//!
//! `bus_master` walks descriptor tables; a `channel` has two `device`s with a `task_file` each; `command` begins what
//! `transfer` carries on; `identify` and the rest answer. A CD-ROM drive takes its commands in a `packet`.

mod bus_master;
mod channel;
mod command;
mod device;
mod disc;
mod identify;
mod identify_packet;
mod mode_pages;
mod packet;
mod sense;
mod task_file;
mod transfer;

use crate::config::{Attachment, DriveConfig};
use crate::context::Context;
use crate::pci::device::PciDevice;
use crate::pci::function::{Function, Identity};
use crate::state::saved;
use channel::Channel;
use device::{Attached, Device};

/// The Data register of the primary channel; that of the secondary has bit 7 clear.
const DATA: u16 = 0x1f0;
/// IDETIM of the primary channel; the secondary's follows.
const IDETIM: u8 = 0x40;
/// IDETIM: the channel's addresses are decoded.
const IDE: u16 = 1 << 15;
/// The base address of the bus master's 16 ports.
const BMIBA: u8 = 4;
const COMMAND: u8 = 0x04;
const COMMAND_IO: u32 = 1 << 0;

/// The function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ide {
    function: Function,
    channels: [Channel; 2],
}
saved!(Ide { function, channels });

impl Ide {
    /// The function after power-on, with the drives that are attached to it. Neither channel is decoded yet.
    pub fn new(drives: &[DriveConfig]) -> Ide {
        let identity = Identity { vendor: 0x8086, device: 0x7010, class: 0x01_0180, ..Identity::default() };
        // IDETIM and SIDETIM; the Ultra DMA registers of the PIIX4, which some drivers write to, keep what they are given.
        let function = Function::new(&identity)
            .with_io_bar(BMIBA, 16)
            .with_register(IDETIM, &[0; 5], &[0xff, 0xb3, 0xff, 0xb3, 0xff])
            .with_register(0x48, &[0; 4], &[0x0f, 0x00, 0x33, 0x33]);
        let attached = |channel: u8, unit: u8| {
            let here = Attachment::Ide { channel, unit };
            let found = drives.iter().zip(0..=u8::MAX).find(|(drive, _)| drive.attachment == here);
            found.map(|(drive, index)| Attached::new(index, drive))
        };
        Ide { function, channels: [0, 1].map(|channel| Channel::new([0, 1].map(|unit| attached(channel, unit)))) }
    }

    /// The CD-ROM drive that is this one of the machine's drives.
    pub fn cdrom(&mut self, drive: u8) -> Option<&mut Device> {
        let mut devices = self.channels.iter_mut().flat_map(Channel::devices_mut);
        devices.find(|device| device.is_packet() && device.drive() == drive)
    }

    /// Decodes both channels, as firmware does before it starts an operating system.
    pub fn enable(&mut self) {
        for register in [IDETIM, IDETIM + 2] {
            self.function.write(register, 2, u32::from(IDE));
        }
        let command = self.function.read(COMMAND, 2);
        self.function.write(COMMAND, 2, command | COMMAND_IO);
    }

    /// The channel and the register behind a port; 8 is the control block.
    fn locate(&self, port: u16) -> Option<(usize, u8)> {
        let channel = usize::from(port & 0x80 == 0);
        let timing = self.function.read(IDETIM + 2 * channel as u8, 2);
        if timing & u32::from(IDE) == 0 || self.function.read(COMMAND, 2) & COMMAND_IO == 0 {
            return None;
        }
        let register = if port & 0x200 != 0 { 8 } else { port as u8 & 7 };
        Some((channel, register))
    }

    /// A load of `size` bytes from 1F0h-1F7h, 3F6h, 170h-177h or 376h.
    pub fn port_read(&mut self, context: &mut Context, port: u16, size: u8) -> u32 {
        match self.locate(port) {
            Some((channel, 8)) => u32::from(self.channels[channel].alternate_status()),
            Some((channel, register)) => self.channels[channel].read(context, register, size),
            None => u32::MAX,
        }
    }

    /// A store of `size` bytes to one of those ports.
    pub fn port_write(&mut self, context: &mut Context, port: u16, size: u8, value: u32) {
        let mastering = self.function.bus_master();
        match self.locate(port) {
            Some((channel, 8)) => self.channels[channel].write_control(value as u8),
            Some((channel, register)) => self.channels[channel].write(context, mastering, register, size, value),
            None => {}
        }
    }

    /// A load from a Data register that changes nothing but what the next one reads: no line, no request to a drive.
    /// `None`: it may, or it is none. So the board need not look around after most of the words of a block.
    pub fn data_read(&mut self, port: u16, size: u8) -> Option<u32> {
        if port | 0x80 != DATA {
            return None;
        }
        let (channel, _) = self.locate(port)?;
        self.channels[channel].data_within(size, true).map(|transfer| transfer.take(size))
    }

    /// A store of that kind. False: it is none, and was not done.
    pub fn data_write(&mut self, port: u16, size: u8, value: u32) -> bool {
        let place = if port | 0x80 == DATA { self.locate(port) } else { None };
        let transfer = place.and_then(|(channel, _)| self.channels[channel].data_within(size, false));
        transfer.map(|transfer| transfer.put(size, value)).is_some()
    }

    /// The interrupt line of a channel: IRQ 14 and 15.
    pub fn interrupt(&self, channel: usize) -> bool {
        self.channels[channel].line()
    }
}

impl PciDevice for Ide {
    fn function(&self) -> &Function {
        &self.function
    }

    fn function_mut(&mut self) -> &mut Function {
        &mut self.function
    }

    fn read(&mut self, _context: &mut Context, bar: u8, offset: u64, size: u8) -> u64 {
        match (bar, self.channels.get((offset / 8) as usize)) {
            (BMIBA, Some(channel)) => u64::from(channel.master_read(offset as u8 & 7, size)),
            _ => u64::MAX,
        }
    }

    fn write(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8, value: u64) {
        let mastering = self.function.bus_master();
        if let (BMIBA, Some(channel)) = (bar, self.channels.get_mut((offset / 8) as usize)) {
            channel.master_write(context, mastering, offset as u8 & 7, size, value as u32);
        }
    }

    /// In compatibility mode the channels have lines of their own.
    fn line(&self) -> bool {
        false
    }

    /// The drives know when their answers are due; nothing else happens by itself.
    fn deadline(&self) -> Option<u64> {
        None
    }

    fn tick(&mut self, context: &mut Context) {
        let mastering = self.function.bus_master();
        self.channels.iter_mut().for_each(|channel| channel.tick(context, mastering));
    }

    /// The bus may be free for a bus master from now on.
    fn configure(&mut self, register: u8, size: u8, value: u32, context: &mut Context) {
        self.function.write(register, size, value);
        let mastering = self.function.bus_master();
        self.channels.iter_mut().for_each(|channel| channel.run_master(context, mastering));
    }
}

#[cfg(test)]
mod tests;
