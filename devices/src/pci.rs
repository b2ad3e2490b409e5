//! PCI configuration mechanism #1 and the two functions that make a PC: the i440FX host bridge and the PIIX3 ISA
//! bridge (PCI 2.1 §3.7.4.1; Intel 82441FX 290549, 82371SB 290550). No other device is on the bus yet.

pub mod device;
pub mod function;

use crate::state::saved;

/// The reset control register, a byte inside of the address register's dword (82371SB §2.5.5).
const RESET_CONTROL: u16 = 0xcf9;
const HOST_BRIDGE: usize = 0;
const ISA_BRIDGE: usize = 1;

/// Configuration space of one function.
type Space = [u8; 256];

/// The bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pci {
    address: u32,
    reset_control: u8,
    reset: bool,
    functions: [Space; 2],
}
saved!(Pci { address, reset_control, reset, functions });

impl Default for Pci {
    fn default() -> Self {
        let host = function(0x8086, 0x1237, 0x0600_0002, 0x00, 0x0006);
        let isa = function(0x8086, 0x7000, 0x0601_0000, 0x80, 0x0007);
        Pci { address: 0, reset_control: 0, reset: false, functions: [host, isa] }
    }
}

fn function(vendor: u16, device: u16, class_revision: u32, header: u8, command: u16) -> Space {
    let mut space = [0; 256];
    space[0x00..0x02].copy_from_slice(&vendor.to_le_bytes());
    space[0x02..0x04].copy_from_slice(&device.to_le_bytes());
    space[0x04..0x06].copy_from_slice(&command.to_le_bytes());
    space[0x06..0x08].copy_from_slice(&0x0200_u16.to_le_bytes()); // medium DEVSEL
    space[0x08..0x0c].copy_from_slice(&class_revision.to_le_bytes());
    space[0x0e] = header;
    if class_revision >> 16 == 0x0601 {
        space[0x60..0x64].fill(0x80); // PIRQ A-D not routed
    }
    space
}

/// Bytes of a function that software may change.
fn is_writable(function: usize, register: usize) -> bool {
    match function {
        HOST_BRIDGE => matches!(register, 0x50..=0x72),
        ISA_BRIDGE => matches!(register, 0x4c..=0x4f | 0x60..=0x63 | 0x69..=0x6a | 0x76..=0x82),
        _ => false,
    }
}

impl Pci {
    /// Reads CF8h-CFFh.
    pub fn read(&mut self, port: u16, size: u8) -> u32 {
        match port {
            0xcf8 if size == 4 => self.address,
            RESET_CONTROL if size == 1 => u32::from(self.reset_control),
            0xcfc..=0xcff => {
                let bytes: [u8; 4] = std::array::from_fn(|index| match self.locate(port, index) {
                    Some((function, register)) if index < usize::from(size) => self.functions[function][register],
                    _ => 0xff,
                });
                u32::from_le_bytes(bytes)
            }
            _ => u32::MAX,
        }
    }

    /// Writes CF8h-CFFh.
    pub fn write(&mut self, port: u16, size: u8, value: u32) {
        match port {
            0xcf8 if size == 4 => self.address = value & 0x8fff_fffc,
            RESET_CONTROL if size == 1 => {
                let rises = value as u8 & !self.reset_control & 4 != 0;
                self.reset |= rises;
                self.reset_control = value as u8 & 2;
            }
            0xcfc..=0xcff => {
                for (index, byte) in value.to_le_bytes().into_iter().take(usize::from(size)).enumerate() {
                    if let Some((function, register)) = self.locate(port, index)
                        && is_writable(function, register)
                    {
                        self.functions[function][register] = byte;
                    }
                }
            }
            _ => {}
        }
    }

    /// The function and register that byte `index` of an access at `port` means; `None` where nobody answers. Bits
    /// 24-27 would select extended registers, as this CPU vendor's parts have it; these functions have none.
    fn locate(&self, port: u16, index: usize) -> Option<(usize, usize)> {
        let offset = usize::from(port & 3) + index;
        let (bus, device_function) = (self.address >> 16 & 0xfff, self.address >> 8 & 0xff);
        if self.address >> 31 == 0 || bus != 0 || offset > 3 {
            return None;
        }
        let function = match device_function {
            0x00 => HOST_BRIDGE,
            0x08 => ISA_BRIDGE,
            _ => return None,
        };
        Some((function, (self.address & 0xfc) as usize + offset))
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

    fn dword(pci: &mut Pci, address: u32) -> u32 {
        pci.write(0xcf8, 4, address);
        pci.read(0xcfc, 4)
    }

    #[test]
    fn mechanism_1_finds_two_functions() {
        let mut pci = Pci::default();
        assert_eq!(dword(&mut pci, 0x8000_0000), 0x1237_8086);
        assert_eq!(dword(&mut pci, 0x8000_0800), 0x7000_8086);
        assert_eq!(dword(&mut pci, 0x8000_0808), 0x0601_0000);
        assert_eq!(dword(&mut pci, 0x8000_1000), u32::MAX);
        assert_eq!(dword(&mut pci, 0x8001_0000), u32::MAX);
        assert_eq!(dword(&mut pci, 0x8100_0000), u32::MAX, "no extended registers");
        assert_eq!(dword(&mut pci, 0x0000_0000), u32::MAX, "not enabled");
        assert_eq!(pci.read(0xcf8, 4), 0);
    }

    #[test]
    fn narrow_accesses_and_read_only_registers() {
        let mut pci = Pci::default();
        dword(&mut pci, 0x8000_0008);
        assert_eq!(pci.read(0xcfe, 2), 0xffff_0600);
        pci.write(0xcfe, 2, 0);
        assert_eq!(pci.read(0xcfe, 2), 0xffff_0600);
        dword(&mut pci, 0x8000_0860);
        pci.write(0xcfd, 1, 0x0b);
        assert_eq!(pci.read(0xcfc, 4), 0x8080_0b80);
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
            match random.below(2) {
                0 => pci.write(port, size, random.next() as u32 & 0x8000_ffff),
                _ => drop(pci.read(port, size)),
            }
        }
        assert_round_trip(&pci);
    }
}
