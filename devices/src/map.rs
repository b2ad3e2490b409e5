//! The port and memory map: what answers where. Compare it with any PC reference; there is no second place.

/// The chips that answer at addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// 8259A pair and its edge/level registers.
    Pic,
    /// 8254, port 61h included.
    Pit,
    /// 8042.
    KeyboardController,
    /// MC146818.
    Rtc,
    /// The power-on self-test's display: keeps a byte, shows nothing.
    Diagnostic,
    /// System control port A: fast reset, A20.
    PortA,
    /// 16550A, COM1.
    Com1,
    /// 16550A, COM2.
    Com2,
    /// ACPI PM1 event and control blocks, PM timer.
    Power,
    /// PCI configuration mechanism #1, and the reset control register at CF9h.
    Pci,
    /// Nobody: reads all ones, writes vanish.
    Open,
}

/// First port, last port, how wide an access the unit takes as one (others are split), the unit.
pub const PORTS: &[(u16, u16, u8, Unit)] = &[
    (0x0020, 0x0021, 1, Unit::Pic),
    (0x0040, 0x0043, 1, Unit::Pit),
    (0x0060, 0x0060, 1, Unit::KeyboardController),
    (0x0061, 0x0061, 1, Unit::Pit),
    (0x0064, 0x0064, 1, Unit::KeyboardController),
    (0x0070, 0x0071, 1, Unit::Rtc),
    (0x0080, 0x0080, 1, Unit::Diagnostic),
    (0x0092, 0x0092, 1, Unit::PortA),
    (0x00a0, 0x00a1, 1, Unit::Pic),
    (0x02f8, 0x02ff, 1, Unit::Com2),
    (0x03f8, 0x03ff, 1, Unit::Com1),
    (0x04d0, 0x04d1, 1, Unit::Pic),
    (0x0600, 0x0605, 4, Unit::Power),
    (0x0608, 0x060b, 4, Unit::Power),
    (0x0cf8, 0x0cff, 4, Unit::Pci),
];

/// Interrupt lines: 8259A input, I/O APIC pin, source. Pins 0 and 10-23 and the inputs not named are not connected.
pub const INTERRUPTS: &[(u8, u8, &str)] =
    &[(0, 2, "8254 counter 0"), (3, 3, "COM2"), (4, 4, "COM1"), (8, 8, "MC146818"), (9, 9, "ACPI SCI, level")];

/// Who answers at a port, and how wide an access it takes.
pub fn unit(port: u16) -> (Unit, u8) {
    PORTS
        .iter()
        .find(|(first, last, ..)| (*first..=*last).contains(&port))
        .map_or((Unit::Open, 1), |(_, _, width, unit)| (*unit, *width))
}

/// Memory-mapped registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// I/O APIC.
    IoApic,
    /// Local APIC.
    LocalApic,
    /// Nobody: reads all ones, writes vanish.
    Open,
}

/// First address, last address, window. RAM lies at 0 to A0000h, C0000h to at most 3 GiB, and from 4 GiB up.
pub const MEMORY: &[(u64, u64, Window)] = &[
    (crate::io_apic::BASE, crate::io_apic::BASE + 0xfff, Window::IoApic),
    (crate::local_apic::BASE, crate::local_apic::BASE + 0xfff, Window::LocalApic),
];

/// Who answers at a guest-physical address that is not RAM, and the offset in its window.
pub fn window(address: u64) -> (Window, u64) {
    MEMORY
        .iter()
        .find(|(first, last, _)| (*first..=*last).contains(&address))
        .map_or((Window::Open, 0), |(first, _, window)| (*window, address - first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_ordered_and_do_not_overlap() {
        assert!(PORTS.windows(2).all(|pair| pair[0].0 <= pair[0].1 && pair[0].1 < pair[1].0));
        assert!(MEMORY.windows(2).all(|pair| pair[0].0 <= pair[0].1 && pair[0].1 < pair[1].0));
        assert_eq!(unit(0x3fd), (Unit::Com1, 1));
        assert_eq!(unit(0x3e8), (Unit::Open, 1));
        assert_eq!(window(0xfee0_00b0), (Window::LocalApic, 0xb0));
        assert_eq!(window(0xb_8000), (Window::Open, 0));
    }
}
