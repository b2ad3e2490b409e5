//! The PCI bus as the board sees it: which device is in which slot, configuration accesses, and the windows behind
//! base addresses. The list of windows is made again whenever a configuration write may have moved one.

use super::{Board, Chips, Context, ones};
use crate::pci::device::{PciDevice, ROM};
use ftemu_cpu::{Icount, Memory};

/// Configuration registers that say where windows are: the command register, base addresses, the ROM's.
const WINDOW_REGISTERS: [std::ops::Range<u8>; 3] = [0x04..0x08, 0x10..0x28, 0x30..0x34];

/// Device and function numbers (5 and 3 bits) of what is on the board.
mod number {
    pub const HOST_BRIDGE: u8 = 0;
    pub const ISA_BRIDGE: u8 = 1 << 3;
    pub const POWER_MANAGEMENT: u8 = 1 << 3 | 3;
    pub const IDE: u8 = 1 << 3 | 1;
    pub const VGA: u8 = 2 << 3;
    /// From here on: network cards, virtio drives, virtio's source of entropy, virtio's console.
    pub const FIRST_CARD: u8 = 3 << 3;
}

/// What a reference to a device becomes, shared or not.
macro_rules! device {
    ($chips:expr, $slot:expr, $list:ident, $($reference:tt)+) => {{
        let chips = $chips;
        match $slot {
            number::HOST_BRIDGE => Some($($reference)+ chips.host_bridge),
            number::ISA_BRIDGE => Some($($reference)+ chips.isa_bridge),
            number::IDE => Some($($reference)+ chips.ide),
            number::POWER_MANAGEMENT => Some($($reference)+ chips.power_management),
            number::VGA => match $($reference)+ chips.vga {
                Some(vga) => Some(vga),
                None => None,
            },
            number::FIRST_CARD.. if $slot & 7 == 0 => {
                let (nics, disks) = (chips.nics.len(), chips.virtio_disks.len());
                let card = usize::from(($slot - number::FIRST_CARD) >> 3);
                match card {
                    card if card < nics => Some(chips.nics.$list(card)?),
                    card if card < nics + disks => Some(chips.virtio_disks.$list(card - nics)?),
                    card if card == nics + disks => Some($($reference)+ chips.entropy),
                    card if card == nics + disks + 1 => Some($($reference)+ chips.virtio_console),
                    _ => None,
                }
            }
            _ => None,
        }
    }};
}

impl Chips {
    /// The device with this number.
    pub fn pci_device(&self, slot: u8) -> Option<&dyn PciDevice> {
        device!(self, slot, get, &)
    }

    /// The device with this number, to be changed.
    pub fn pci_device_mut(&mut self, slot: u8) -> Option<&mut dyn PciDevice> {
        device!(self, slot, get_mut, &mut)
    }
}

/// A window of a device that is decoded now.
#[derive(Clone, Copy, Debug)]
struct Route {
    first: u64,
    last: u64,
    slot: u8,
    bar: u8,
}

/// Derived from the configuration spaces.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// Numbers of the devices that are there, ascending.
    pub(super) slots: Vec<u8>,
    ports: Vec<Route>,
    memory: Vec<Route>,
}

#[cfg(test)]
impl Routes {
    /// A port and an address in windows, if there are some.
    pub(super) fn somewhere(&self, random: &mut crate::state::Random) -> Option<(u16, u64)> {
        let mut choose = |routes: &[Route]| {
            let route = routes.get(random.below(routes.len().max(1) as u64) as usize)?;
            Some(route.first + (random.below(route.last - route.first) & !3))
        };
        Some((choose(&self.ports)? as u16, choose(&self.memory)?))
    }
}

fn find(routes: &[Route], address: u64) -> Option<(Route, u64)> {
    let route = routes.iter().find(|route| (route.first..=route.last).contains(&address))?;
    Some((*route, address - route.first))
}

impl Board {
    /// Makes the list of windows again.
    pub(super) fn find_routes(&mut self) {
        let chips = &self.chips;
        let mut routes = Routes::default();
        routes.slots.extend((0..=u8::MAX).filter(|slot| chips.pci_device(*slot).is_some()));
        for slot in &routes.slots {
            let Some(function) = chips.pci_device(*slot).map(PciDevice::function) else { continue };
            for bar in 0..=ROM {
                let base = if bar == ROM { function.rom_bar() } else { function.bar(bar) };
                let Some(first) = base else { continue };
                let route = Route { first, last: first + function.bar_length(bar) - 1, slot: *slot, bar };
                if function.bar_is_io(bar) { &mut routes.ports } else { &mut routes.memory }.push(route);
            }
        }
        self.routes = routes;
    }

    /// A device, and the world around it.
    pub(super) fn device<'a>(
        &'a mut self,
        memory: &'a mut Memory,
        now: Icount,
        slot: u8,
    ) -> Option<(&'a mut dyn PciDevice, Context<'a>)> {
        let now_ns = self.chips.clock.now_ns(now);
        let device = self.chips.pci_device_mut(slot)?;
        let (drives, outputs) = (&mut self.drives, &mut self.outputs);
        Some((device, Context { now, now_ns, memory, drives, outputs }))
    }

    /// Reads CFCh-CFFh.
    pub(super) fn read_configuration(&mut self, memory: &mut Memory, now: Icount, port: u16, size: u8) -> u32 {
        let Some((slot, register)) = self.chips.pci.target(port) else { return u32::MAX };
        let Some((device, mut context)) = self.device(memory, now, slot) else { return u32::MAX };
        let line = device.line();
        device.function_mut().set_interrupt_status(line);
        device.inspect(register, size, &mut context)
    }

    /// Writes CFCh-CFFh.
    pub(super) fn write_configuration(&mut self, memory: &mut Memory, now: Icount, port: u16, size: u8, value: u32) {
        let Some((slot, register)) = self.chips.pci.target(port) else { return };
        let Some((device, mut context)) = self.device(memory, now, slot) else { return };
        device.configure(register, size, value, &mut context);
        if WINDOW_REGISTERS.iter().any(|window| window.contains(&register)) {
            self.find_routes();
        }
        if slot == number::HOST_BRIDGE {
            self.place(memory);
        }
    }

    /// Whether a port is a PCI device's.
    pub(super) fn is_pci_port(&self, port: u16) -> bool {
        find(&self.routes.ports, u64::from(port)).is_some()
    }

    /// Reads a port of a PCI device; ones where there is none.
    pub(super) fn read_pci_port(&mut self, memory: &mut Memory, now: Icount, port: u16, size: u8) -> u32 {
        match find(&self.routes.ports, u64::from(port)) {
            Some((route, offset)) => self.read_route(memory, now, route, offset, size) as u32,
            None => u32::MAX,
        }
    }

    /// Writes a port of a PCI device.
    pub(super) fn write_pci_port(&mut self, memory: &mut Memory, now: Icount, port: u16, size: u8, value: u32) {
        if let Some((route, offset)) = find(&self.routes.ports, u64::from(port)) {
            self.write_route(memory, now, route, offset, size, u64::from(value));
        }
    }

    /// Reads memory behind a PCI device's base address; ones where there is none.
    pub(super) fn read_pci_memory(&mut self, memory: &mut Memory, now: Icount, address: u64, size: u8) -> u64 {
        match find(&self.routes.memory, address) {
            Some((route, offset)) => self.read_route(memory, now, route, offset, size),
            None => ones(size),
        }
    }

    /// Writes memory behind a PCI device's base address.
    pub(super) fn write_pci_memory(&mut self, memory: &mut Memory, now: Icount, address: u64, size: u8, value: u64) {
        if let Some((route, offset)) = find(&self.routes.memory, address) {
            self.write_route(memory, now, route, offset, size, value);
        }
    }

    fn read_route(&mut self, memory: &mut Memory, now: Icount, route: Route, offset: u64, size: u8) -> u64 {
        match self.device(memory, now, route.slot) {
            Some((device, mut context)) => device.read(&mut context, route.bar, offset, size),
            None => ones(size),
        }
    }

    fn write_route(&mut self, memory: &mut Memory, now: Icount, route: Route, offset: u64, size: u8, value: u64) {
        if let Some((device, mut context)) = self.device(memory, now, route.slot) {
            device.write(&mut context, route.bar, offset, size, value);
        }
    }
}
