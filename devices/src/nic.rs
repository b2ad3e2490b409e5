//! A network card of any model, as the board and the outside see it.

use crate::config::{NicConfig, NicModel};
use crate::context::Context;
use crate::e1000::E1000;
use crate::pci::device::PciDevice;
use crate::pci::function::Function;
use crate::state::Saved;
use crate::virtio::{Network, Virtio};

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nic {
    /// Intel 82540EM.
    E1000(Box<E1000>),
    /// Virtio.
    Virtio(Box<Virtio<Network>>),
}

impl Nic {
    /// Card number `number` after power-on, with its cable plugged in.
    pub fn new(number: u8, config: &NicConfig) -> Nic {
        match config.model {
            NicModel::E1000 => Nic::E1000(Box::new(E1000::new(number, config.mac))),
            NicModel::VirtioNet => Nic::Virtio(Box::new(Virtio::new(Network::new(number, config.mac)))),
        }
    }

    /// A frame comes in by the cable.
    pub fn receive(&mut self, context: &mut Context, frame: &[u8]) {
        match self {
            Nic::E1000(card) => card.receive(context, frame),
            Nic::Virtio(card) => card.receive(frame, context),
        }
    }

    /// The cable is plugged in or pulled.
    pub fn set_link(&mut self, context: &mut Context, up: bool) {
        match self {
            Nic::E1000(card) => card.set_cable(context, up),
            Nic::Virtio(card) => card.set_link(up),
        }
    }

    /// The cable is plugged in.
    pub fn link(&self) -> bool {
        match self {
            Nic::E1000(card) => card.cable(),
            Nic::Virtio(card) => card.link(),
        }
    }

    /// Frames that it will surely take: more at once may be lost.
    pub fn room(&self) -> usize {
        match self {
            Nic::E1000(card) => card.room(),
            Nic::Virtio(card) => card.room(),
        }
    }

    fn device(&self) -> &dyn PciDevice {
        match self {
            Nic::E1000(card) => card.as_ref(),
            Nic::Virtio(card) => card.as_ref(),
        }
    }

    fn device_mut(&mut self) -> &mut dyn PciDevice {
        match self {
            Nic::E1000(card) => card.as_mut(),
            Nic::Virtio(card) => card.as_mut(),
        }
    }
}

impl Saved for Nic {
    fn save(&self, out: &mut Vec<u8>) {
        match self {
            Nic::E1000(card) => {
                out.push(0);
                card.save(out);
            }
            Nic::Virtio(card) => {
                out.push(1);
                card.save(out);
            }
        }
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        match u8::load(bytes)? {
            0 => Some(Nic::E1000(Box::new(E1000::load(bytes)?))),
            1 => Some(Nic::Virtio(Box::new(Virtio::load(bytes)?))),
            _ => None,
        }
    }
}

impl PciDevice for Nic {
    fn function(&self) -> &Function {
        self.device().function()
    }

    fn function_mut(&mut self) -> &mut Function {
        self.device_mut().function_mut()
    }

    fn read(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8) -> u64 {
        self.device_mut().read(context, bar, offset, size)
    }

    fn write(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8, value: u64) {
        self.device_mut().write(context, bar, offset, size, value);
    }

    fn line(&self) -> bool {
        self.device().line()
    }

    fn deadline(&self) -> Option<u64> {
        self.device().deadline()
    }

    fn tick(&mut self, context: &mut Context) {
        self.device_mut().tick(context);
    }

    fn configure(&mut self, register: u8, size: u8, value: u32, context: &mut Context) {
        self.device_mut().configure(register, size, value, context);
    }

    fn inspect(&mut self, register: u8, size: u8, context: &mut Context) -> u32 {
        self.device_mut().inspect(register, size, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Input, Machine};

    #[test]
    fn a_card_without_a_driver_has_room_for_what_it_drops() {
        let cards = [NicModel::E1000, NicModel::VirtioNet].map(|model| Nic::new(0, &NicConfig { model, mac: [2; 6] }));
        assert!(cards.iter().all(|card| card.room() == usize::MAX));
    }

    #[test]
    fn a_reset_does_not_plug_a_cable_in() {
        let card = |model| NicConfig { model, mac: [2; 6] };
        let nics = vec![card(NicModel::E1000), card(NicModel::VirtioNet), card(NicModel::E1000)];
        let mut machine =
            Machine::new(&Config { nics, memory_bytes: 4 << 20, ..Config::default() }).expect("a machine");
        for nic in [0, 1] {
            machine.apply(&Input::Link { nic, up: false });
        }
        machine.apply(&Input::Reset);
        let links: Vec<bool> = machine.chips().nics.iter().map(Nic::link).collect();
        assert_eq!(links, [false, false, true]);
        machine.apply(&Input::Link { nic: 0, up: true });
        assert!(machine.chips().nics[0].link());
    }
}
