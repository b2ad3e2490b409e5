//! PCI: configuration mechanism #1 and the reset control register (PCI 2.1 §3.7.4.1; Intel 82371SB 290550 §2.5.5).
//! What answers is in `function` and `device`; which device is in which slot, the board knows.

pub mod bridge;
pub mod device;
pub mod function;
pub mod host_bridge;

use crate::state::saved;

/// The reset control register, a byte inside of the address register's dword.
const RESET_CONTROL: u16 = 0xcf9;

/// The host bridge's ports, CF8h-CFFh.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pci {
    address: u32,
    reset_control: u8,
    reset: bool,
}
saved!(Pci { address, reset_control, reset });

impl Pci {
    /// Reads CF8h-CFBh.
    pub fn read(&self, port: u16, size: u8) -> u32 {
        match port {
            0xcf8 if size == 4 => self.address,
            RESET_CONTROL if size == 1 => u32::from(self.reset_control),
            _ => u32::MAX,
        }
    }

    /// Writes CF8h-CFBh.
    pub fn write(&mut self, port: u16, size: u8, value: u32) {
        match port {
            0xcf8 if size == 4 => self.address = value & 0x8fff_fffc,
            RESET_CONTROL if size == 1 => {
                let rises = value as u8 & !self.reset_control & 4 != 0;
                self.reset |= rises;
                self.reset_control = value as u8 & 2;
            }
            _ => {}
        }
    }

    /// What an access at CFCh-CFFh means: device and function (5 bits, 3 bits), and the register. `None`: another bus,
    /// or not enabled. Bits 24-27 would select extended registers, as this CPU vendor's parts have it; these functions
    /// have none.
    pub fn target(&self, port: u16) -> Option<(u8, u8)> {
        if self.address >> 31 == 0 || self.address >> 16 & 0xfff != 0 {
            return None;
        }
        Some(((self.address >> 8) as u8, self.address as u8 | (port & 3) as u8))
    }

    /// Whether software asked for a reset; clears it.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Random, assert_round_trip};

    fn target(address: u32) -> Option<(u8, u8)> {
        let mut pci = Pci::default();
        pci.write(0xcf8, 4, address);
        pci.target(0xcfe)
    }

    #[test]
    fn mechanism_1_names_function_and_register() {
        assert_eq!(target(0x8000_0000), Some((0, 2)));
        assert_eq!(target(0x8000_0b40), Some((0x0b, 0x42)));
        assert_eq!(target(0x8001_0000), None, "another bus");
        assert_eq!(target(0x8100_0000), None, "no extended registers");
        assert_eq!(target(0x0000_0000), None, "not enabled");
        let mut pci = Pci::default();
        pci.write(0xcf8, 4, 0xffff_ffff);
        assert_eq!(pci.read(0xcf8, 4), 0x8fff_fffc);
        assert_eq!(pci.read(0xcf8, 2), u32::MAX);
    }

    #[test]
    fn reset_control_register() {
        let mut pci = Pci::default();
        pci.write(0xcf9, 1, 2);
        assert!(!pci.take_reset());
        pci.write(0xcf9, 1, 6);
        assert!(pci.take_reset());
        assert!(!pci.take_reset());
    }

    #[test]
    fn random_accesses_never_panic_and_states_round_trip() {
        let mut random = Random(0x440f);
        let mut pci = Pci::default();
        for _ in 0..20_000 {
            let (port, size) = (0xcf8 + random.below(8) as u16, 1 << random.below(3));
            match random.below(3) {
                0 => pci.write(port, size, random.next() as u32 & 0x8000_ffff),
                1 => assert!(pci.target(port).is_none_or(|(_, register)| u16::from(register) & 3 == port & 3)),
                _ => assert!(pci.read(port, size) != 0x1234_5679),
            }
        }
        assert_round_trip(&pci);
    }
}
