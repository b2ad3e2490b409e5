//! Intel's 82540EM gigabit Ethernet controller (8086:100E, "PRO/1000 MT Desktop"), by Intel's PCI/PCI-X Family of Gigabit
//! Ethernet Controllers Software Developer's Manual.
//!
//! In the order data flows: frames come in through `filter` and `receive` into the `ring` of software, and go out through
//! `transmit` and `offload`; `interrupts` says when software hears of it. `eeprom` and `phy` are the chips beside it.
//! Wake-up, flash, flow control and jumbo buffers beyond 16 KiB are registers without effect.

mod checksum;
mod eeprom;
mod filter;
mod interrupts;
mod offload;
mod phy;
mod receive;
mod registers;
mod ring;
mod statistics;
mod transmit;

use crate::context::Context;
use crate::output::Output;
use crate::pci::device::PciDevice;
use crate::pci::function::{Function, Identity};
use crate::state::saved;
use eeprom::Eeprom;
use filter::Filter;
use interrupts::Interrupts;
use phy::Phy;
use receive::Receiver;
use registers::*;
use statistics::Statistics;
use transmit::Transmitter;

const VENDOR: u16 = 0x8086;
const DEVICE: u16 = 0x100e;
/// PRO/1000 MT Desktop.
const SUBSYSTEM: u16 = 0x001e;
/// Bytes of registers in memory, and of the window to them in I/O space.
const REGISTERS: u64 = 128 << 10;
const IO_WINDOW: u64 = 64;
const IOADDR: u64 = 0;
const IODATA: u64 = 4;

/// The controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct E1000 {
    function: Function,
    /// Which of the machine's network interfaces it is.
    nic: u8,
    ctrl: u32,
    plain: [u32; PLAIN.len()],
    io_address: u32,
    eeprom: Eeprom,
    phy: Phy,
    interrupts: Interrupts,
    filter: Filter,
    receiver: Receiver,
    transmitter: Transmitter,
    statistics: Statistics,
    /// The link as software was told last.
    link: bool,
}
saved!(E1000 {
    function,
    nic,
    ctrl,
    plain,
    io_address,
    eeprom,
    phy,
    interrupts,
    filter,
    receiver,
    transmitter,
    statistics,
    link,
});

impl E1000 {
    /// Network interface number `nic` with this address, after power-on; the cable is plugged in.
    pub fn new(nic: u8, mac: [u8; 6]) -> E1000 {
        let identity = Identity {
            vendor: VENDOR,
            device: DEVICE,
            revision: 2,
            class: 0x02_0000,
            subsystem_vendor: VENDOR,
            subsystem: SUBSYSTEM,
            interrupt_pin: 1,
            multifunction: false,
        };
        E1000 {
            function: Function::new(&identity).with_memory_bar(0, REGISTERS, false).with_io_bar(1, IO_WINDOW),
            nic,
            ctrl: CTRL_FD,
            plain: PLAIN.map(|(_, _, reset)| reset),
            io_address: 0,
            eeprom: Eeprom::new(mac, DEVICE, SUBSYSTEM),
            phy: Phy::default(),
            interrupts: Interrupts::default(),
            filter: Filter::new(mac),
            receiver: Receiver::default(),
            transmitter: Transmitter::default(),
            statistics: Statistics::default(),
            link: true,
        }
    }

    /// CTRL.RST: everything but the PHY, the EEPROM and the configuration space.
    fn reset(&mut self) {
        let fresh = E1000::new(self.nic, self.eeprom.mac());
        (self.ctrl, self.plain) = (fresh.ctrl, fresh.plain);
        (self.interrupts, self.filter, self.receiver) = (fresh.interrupts, fresh.filter, fresh.receiver);
        (self.transmitter, self.statistics) = (fresh.transmitter, fresh.statistics);
    }

    /// A frame (from the destination address on, without frame check sequence) comes in by the cable.
    pub fn receive(&mut self, context: &mut Context, frame: &[u8]) {
        if self.phy.link() && !self.loops() {
            self.take(context, Some(frame));
        }
    }

    /// The cable is plugged in or pulled.
    pub fn set_cable(&mut self, context: &mut Context, plugged: bool) {
        self.phy.set_cable(plugged, context.now_ns);
        self.watch_link(context.now_ns);
    }

    /// The cable is plugged in.
    pub fn cable(&self) -> bool {
        self.phy.cable()
    }

    /// Frames that will surely not be lost for want of room.
    pub fn room(&self) -> usize {
        self.receiver.room(self.plain(PBA) & 0xffff)
    }

    fn watch_link(&mut self, now_ns: u64) {
        let link = self.phy.link();
        if std::mem::replace(&mut self.link, link) != link {
            self.interrupts.raise(ICR_LSC, now_ns);
        }
    }

    fn loops(&self) -> bool {
        self.phy.loops() || self.receiver.rctl & RCTL_LBM != 0
    }

    fn plain(&self, register: u32) -> u32 {
        let index = PLAIN.iter().position(|(offset, ..)| *offset == register);
        index.map_or(0, |index| self.plain[index])
    }

    /// Takes in a frame, or only moves those that wait.
    fn take(&mut self, context: &mut Context, frame: Option<&[u8]>) {
        let mut around = receive::Surroundings {
            buffer: self.plain(PBA) & 0xffff,
            rxcsum: self.plain(RXCSUM),
            vlan_type: self.plain(VET) as u16,
            strip: self.ctrl & CTRL_VME != 0,
            master: self.function.bus_master(),
            filter: &self.filter,
            interrupts: &mut self.interrupts,
            statistics: &mut self.statistics,
            memory: context.memory,
            now_ns: context.now_ns,
        };
        match frame {
            Some(frame) => self.receiver.take(frame, &mut around),
            None => self.receiver.deliver(&mut around),
        }
    }

    /// Sends what is ready.
    fn transmit(&mut self, context: &mut Context) {
        if !self.function.bus_master() {
            return;
        }
        let mut around = transmit::Surroundings {
            tctl: self.plain(TCTL),
            vlan_type: (self.ctrl & CTRL_VME != 0).then_some(self.plain(VET) as u16),
            interrupts: &mut self.interrupts,
            statistics: &mut self.statistics,
            memory: context.memory,
            now_ns: context.now_ns,
        };
        let loops = self.phy.loops() || self.receiver.rctl & RCTL_LBM != 0;
        for frame in self.transmitter.run(&mut around) {
            if loops {
                self.take(context, Some(&frame));
            } else if self.phy.link() {
                context.outputs.push(context.now, Output::Frame { nic: self.nic, bytes: frame });
            }
        }
    }

    fn status(&self) -> u32 {
        let (speed, duplex) = self.phy.speed();
        let up = if self.phy.link() { STATUS_LU } else { 0 };
        let full = if duplex { STATUS_FD } else { 0 };
        let speed = u32::from(speed);
        full | up | speed << STATUS_SPEED | speed << STATUS_ASDV
    }

    fn read_register(&mut self, context: &mut Context, offset: u32) -> u32 {
        let offset = modern(offset);
        let word = |range: &std::ops::Range<u32>| ((offset - range.start) / 4) as usize;
        match offset {
            CTRL => self.ctrl,
            STATUS => self.status(),
            EECD => self.eeprom.eecd(),
            EERD => self.eeprom.eerd(),
            MDIC => self.phy.mdic(),
            ICR => self.interrupts.take_icr(context.now_ns),
            ITR => self.interrupts.itr(),
            IMS => self.interrupts.mask(),
            RCTL => self.receiver.rctl,
            RDBAL..=RDT => self.receiver.ring.read(offset - RDBAL),
            RDTR => self.interrupts.receive.packet,
            RADV => self.interrupts.receive.absolute,
            TDBAL..=TDT => self.transmitter.ring.read(offset - TDBAL),
            TIDV => self.interrupts.transmit.packet,
            TADV => self.interrupts.transmit.absolute,
            _ if STATISTICS.contains(&offset) => self.statistics.take(offset),
            _ if MTA.contains(&offset) => self.filter.multicast[word(&MTA)],
            _ if RAL.contains(&offset) => self.filter.addresses[word(&RAL)],
            _ if VFTA.contains(&offset) => self.filter.vlans[word(&VFTA)],
            _ => self.plain(offset),
        }
    }

    fn write_register(&mut self, context: &mut Context, offset: u32, value: u32) {
        let now_ns = context.now_ns;
        let offset = modern(offset);
        let word = |range: &std::ops::Range<u32>| ((offset - range.start) / 4) as usize;
        match offset {
            CTRL => self.write_ctrl(value, now_ns),
            EECD => self.eeprom.set_eecd(value),
            EERD => self.eeprom.set_eerd(value),
            MDIC => {
                if self.phy.set_mdic(value, now_ns) {
                    self.interrupts.raise(ICR_MDAC, now_ns);
                }
                self.watch_link(now_ns);
            }
            ICR => self.interrupts.clear(value, now_ns),
            ITR => self.interrupts.set_itr(value, now_ns),
            ICS => self.interrupts.raise(value, now_ns),
            IMS => self.interrupts.enable(value, now_ns),
            IMC => self.interrupts.disable(value, now_ns),
            RCTL => {
                self.receiver.set_rctl(value);
                self.take(context, None);
            }
            RDBAL..=RDT => {
                self.receiver.ring.write(offset - RDBAL, value);
                if offset == RDT {
                    self.take(context, None);
                }
            }
            RDTR => {
                self.interrupts.receive.packet = value & 0xffff;
                if value >> 31 != 0 {
                    self.interrupts.flush_receive(now_ns);
                }
            }
            RADV => self.interrupts.receive.absolute = value & 0xffff,
            TDBAL..=TDT => {
                self.transmitter.ring.write(offset - TDBAL, value);
                if offset == TDT {
                    self.transmit(context);
                }
            }
            TIDV => self.interrupts.transmit.packet = value & 0xffff,
            TADV => self.interrupts.transmit.absolute = value & 0xffff,
            _ if MTA.contains(&offset) => self.filter.multicast[word(&MTA)] = value,
            _ if RAL.contains(&offset) => {
                let index = word(&RAL);
                self.filter.addresses[index] = if index % 2 == 0 { value } else { value & 0x8003_ffff };
            }
            _ if VFTA.contains(&offset) => self.filter.vlans[word(&VFTA)] = value,
            _ => self.write_plain(context, offset, value),
        }
    }

    fn write_plain(&mut self, context: &mut Context, offset: u32, value: u32) {
        let Some(index) = PLAIN.iter().position(|(register, ..)| *register == offset) else { return };
        let mask = PLAIN[index].1;
        self.plain[index] = self.plain[index] & !mask | value & mask;
        if offset == TCTL {
            self.transmit(context);
        }
    }

    fn write_ctrl(&mut self, value: u32, now_ns: u64) {
        if value & CTRL_RST != 0 {
            self.reset();
        } else {
            self.ctrl = value & !CTRL_PHY_RST;
        }
        if value & CTRL_PHY_RST != 0 {
            self.phy.reset(now_ns);
        }
        self.watch_link(now_ns);
    }
}

impl PciDevice for E1000 {
    fn function(&self) -> &Function {
        &self.function
    }

    fn function_mut(&mut self) -> &mut Function {
        &mut self.function
    }

    fn read(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8) -> u64 {
        let value = match (bar, offset & !3) {
            (0, aligned) if aligned < REGISTERS => {
                let low = self.read_register(context, aligned as u32);
                let high = if size == 8 { self.read_register(context, aligned as u32 + 4) } else { 0 };
                u64::from(high) << 32 | u64::from(low)
            }
            (1, IOADDR) => u64::from(self.io_address),
            (1, IODATA) => u64::from(self.read_register(context, self.io_address)),
            (1, _) => 0,
            _ => u64::MAX,
        };
        value >> (8 * (offset & 3))
    }

    /// Registers are written as a whole; what is less has no effect.
    fn write(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8, value: u64) {
        match (bar, offset, size) {
            (0, _, 4 | 8) if offset < REGISTERS && offset & 3 == 0 => {
                self.write_register(context, offset as u32, value as u32);
                if size == 8 {
                    self.write_register(context, offset as u32 + 4, (value >> 32) as u32);
                }
            }
            (1, IOADDR, 4) => self.io_address = value as u32 & (REGISTERS as u32 - 4),
            (1, IODATA, 4) => self.write_register(context, self.io_address, value as u32),
            _ => {}
        }
    }

    fn line(&self) -> bool {
        self.interrupts.line() && !self.function.interrupt_disabled()
    }

    fn deadline(&self) -> Option<u64> {
        let transmit = self.transmitter.deadline(self.plain(TCTL)).filter(|_| self.function.bus_master());
        [self.interrupts.deadline(), self.phy.deadline(), transmit].into_iter().flatten().min()
    }

    fn tick(&mut self, context: &mut Context) {
        self.phy.tick(context.now_ns);
        self.watch_link(context.now_ns);
        self.transmit(context);
        self.interrupts.tick(context.now_ns);
    }
}

#[cfg(test)]
mod tests;
