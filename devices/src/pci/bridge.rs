//! Functions that are only configuration space: the PIIX3 ISA bridge and the PIIX4's power management (Intel 82371SB 290550
//! §2.2, 82371AB 290562 §7).
//!
//! The power management function's ports lie at 600h whatever software writes, as `power` decodes them. DEVACTB says from the
//! start that system management mode is set up, so that firmware leaves it alone; who sets it up all the same has it.

use crate::context::Context;
use crate::pci::device::PciDevice;
use crate::pci::function::{Function, Identity};
use crate::power;
use crate::state::saved;

/// DEVACTB, its last byte; APMC_EN: stores to port B2h raise SMI#.
const DEVACTB_HIGH: u8 = 0x5b;
const APMC_ENABLED: u32 = 1 << 1;
/// PIRQRC[A:D], the ISA interrupts of the four PCI interrupt lines.
const PIRQ_ROUTE: u8 = 0x60;
const PIRQ_NOT_ROUTED: u8 = 0x80;
/// What virtual machines carry as the subsystem of their chipset.
const SUBSYSTEM_VENDOR: u16 = 0x1af4;
const SUBSYSTEM: u16 = 0x1100;

/// A function without registers of its own behind base addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    function: Function,
}
saved!(Bridge { function });

pub(super) fn identity(device: u16, class: u32) -> Identity {
    Identity {
        vendor: 0x8086,
        device,
        class,
        subsystem_vendor: SUBSYSTEM_VENDOR,
        subsystem: SUBSYSTEM,
        ..Identity::default()
    }
}

/// 82371SB, function 0 of slot 1. No PCI interrupt is routed after reset.
pub fn isa_bridge() -> Bridge {
    let identity = Identity { multifunction: true, ..identity(0x7000, 0x06_0100) };
    let function = Function::new(&identity)
        .with_register(0x04, &[0x07, 0x00], &[])
        .with_register(0x4c, &[0x4d, 0, 0x03, 0], &[0xff; 4]) // IORT, -, XBCS
        .with_register(PIRQ_ROUTE, &[PIRQ_NOT_ROUTED; 4], &[0x8f; 4])
        .with_register(0x69, &[0x02, 0], &[0xff; 2]) // TOM, MSTAT
        .with_register(0x76, &[0x0c, 0x0c], &[0xff; 2]) // MBDMA[0:1]
        .with_register(0x78, &[0, 0], &[0xff; 2]) // PCSC
        .with_register(0x80, &[0, 0, 0], &[0xff; 3]); // APICBASE, -, DLC
    Bridge { function }
}

/// 82371AB, function 3: PMBA at 600h and enabled, no SMBus, APMC_EN set.
pub fn power_management() -> Bridge {
    let identity = Identity { revision: 3, interrupt_pin: 1, ..identity(0x7113, 0x06_8000) };
    let base = u32::from(power::EVENT_PORT) | 1;
    let function = Function::new(&identity)
        .with_register(0x04, &[0x01, 0x00], &[0x04])
        .with_register(0x3c, &[power::SCI], &[])
        .with_register(0x40, &base.to_le_bytes(), &[])
        .with_register(0x58, &[0, 0, 0, 0x02], &[0xff; 4]) // DEVACTB
        .with_register(0x80, &[1], &[])
        .with_register(0x90, &[1, 0, 0, 0], &[])
        .with_register(0xd2, &[0], &[0x0f]);
    Bridge { function }
}

/// Whether a store to port B2h raises a system management interrupt.
pub fn raises_smi(power_management: &Bridge) -> bool {
    power_management.function.read(DEVACTB_HIGH, 1) & APMC_ENABLED != 0
}

/// Where the ISA bridge sends PCI interrupt line `line` (0: PIRQA, to 3): an ISA interrupt that may be shared.
pub fn route(isa_bridge: &Bridge, line: u8) -> Option<u8> {
    let register = isa_bridge.function.read(PIRQ_ROUTE + (line & 3), 1) as u8;
    let irq = register & 0x0f;
    (register & PIRQ_NOT_ROUTED == 0 && matches!(irq, 3..=7 | 9..=12 | 14..=15)).then_some(irq)
}

impl PciDevice for Bridge {
    fn function(&self) -> &Function {
        &self.function
    }

    fn function_mut(&mut self) -> &mut Function {
        &mut self.function
    }

    fn read(&mut self, _context: &mut Context, _bar: u8, _offset: u64, size: u8) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
    }

    fn write(&mut self, _context: &mut Context, _bar: u8, _offset: u64, _size: u8, _value: u64) {}

    fn line(&self) -> bool {
        false
    }

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn tick(&mut self, _context: &mut Context) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_finds_what_it_looks_for() {
        let mut power = power_management();
        assert_eq!(power.function.read(0x00, 4), 0x7113_8086);
        assert_eq!(power.function.read(0x40, 4), 0x601);
        assert!(raises_smi(&power), "APMC_EN: firmware need not set the mode up");
        power.function.write(0x58, 4, 0);
        assert!(!raises_smi(&power));
        assert_eq!(isa_bridge().function.read(0x0e, 1), 0x80, "more than one function");
    }

    #[test]
    fn pirq_routing() {
        let mut isa = isa_bridge();
        assert!((0..4).all(|line| route(&isa, line).is_none()));
        for (value, irq) in [(0x0b, Some(11)), (0x8b, None), (0x08, None), (0x00, None), (0x05, Some(5))] {
            isa.function.write(0x62, 1, value);
            assert_eq!(route(&isa, 2), irq, "{value:#x}");
        }
    }
}
