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
    /// The address register of PCI configuration mechanism #1, and the reset control register at CF9h.
    Pci,
    /// The data register of PCI configuration mechanism #1.
    PciConfiguration,
    /// What firmware is told of the machine.
    FirmwareConfig,
    /// Where firmware says what it does.
    DebugPort,
    /// System management control and status (APM): two bytes; a store to the first may raise SMI#.
    ManagementMode,
    /// The two channels of the PIIX3's IDE function.
    Ide,
    /// The VGA's ports.
    Vga,
    /// The VGA's Bochs display interface.
    Display,
    /// A PCI device whose window is here, or nobody: reads all ones, writes vanish.
    Open,
}

/// Ascending: first port, last port, how wide an access the unit takes as one (others are split), the unit.
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
    (0x00b2, 0x00b3, 1, Unit::ManagementMode),
    (0x0170, 0x0177, 4, Unit::Ide),
    (0x01ce, 0x01d0, 2, Unit::Display),
    (0x01f0, 0x01f7, 4, Unit::Ide),
    (0x02f8, 0x02ff, 1, Unit::Com2),
    (0x0376, 0x0376, 1, Unit::Ide),
    (0x03b4, 0x03b5, 1, Unit::Vga),
    (0x03ba, 0x03ba, 1, Unit::Vga),
    (0x03c0, 0x03cf, 1, Unit::Vga),
    (0x03d4, 0x03d5, 1, Unit::Vga),
    (0x03da, 0x03da, 1, Unit::Vga),
    (0x03f6, 0x03f6, 1, Unit::Ide),
    (0x03f8, 0x03ff, 1, Unit::Com1),
    (0x0402, 0x0402, 1, Unit::DebugPort),
    (0x04d0, 0x04d1, 1, Unit::Pic),
    (0x0510, 0x0510, 2, Unit::FirmwareConfig),
    (0x0511, 0x0511, 1, Unit::FirmwareConfig),
    (0x0514, 0x051b, 4, Unit::FirmwareConfig),
    (0x0600, 0x0605, 4, Unit::Power),
    (0x0608, 0x060b, 4, Unit::Power),
    (0x0cf8, 0x0cfb, 4, Unit::Pci),
    (0x0cfc, 0x0cff, 4, Unit::PciConfiguration),
];

/// The I/O APIC's pin of the 8254's counter 0, which is ISA interrupt 0; the others have the pin of their number.
pub const TIMER_PIN: u8 = 2;
/// ISA interrupts, 8259A inputs and I/O APIC pins alike. The keyboard's.
pub const KEYBOARD_IRQ: u8 = 1;
/// The mouse.
pub const MOUSE_IRQ: u8 = 12;
/// The two channels of the IDE function.
pub const IDE_IRQS: [u8; 2] = [14, 15];
/// COM2.
pub const COM2_IRQ: u8 = 3;
/// COM1.
pub const COM1_IRQ: u8 = 4;
/// MC146818.
pub const RTC_IRQ: u8 = 8;
/// ACPI's system control interrupt.
pub const SCI_IRQ: u8 = crate::power::SCI;
/// Interrupts that are level-triggered and active high: the SCI's, and where firmware and operating systems put those
/// of the PCI bus.
pub const LEVEL_IRQS: [u8; 4] = [5, 9, 10, 11];

/// Which of the four PCI interrupt lines (0: PIRQA) pin 1 (INTA) to 4 of a device is wired to: slots rotate.
pub const fn pirq(slot: u8, pin: u8) -> u8 {
    (slot >> 3).wrapping_add(pin).wrapping_sub(2) & 3
}

/// Who answers at a port, and how wide an access it takes.
pub fn unit(port: u16) -> (Unit, u8) {
    let index = PORTS.partition_point(|(_, last, ..)| *last < port);
    match PORTS.get(index) {
        Some((first, _, width, unit)) if *first <= port => (*unit, *width),
        _ => (Unit::Open, 1),
    }
}

/// Memory-mapped registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// I/O APIC.
    IoApic,
    /// Local APIC.
    LocalApic,
    /// Event timer.
    Hpet,
    /// The VGA's window.
    Video,
    /// A PCI device whose window is here, or nobody: reads all ones, writes vanish.
    Open,
}

/// First address, last address, window. RAM lies at 0 to A0000h, where the host bridge says so up to 100000h, from there to at
/// most 3 GiB, and from 4 GiB up.
pub const MEMORY: &[(u64, u64, Window)] = &[
    (0xa_0000, 0xb_ffff, Window::Video),
    (crate::io_apic::BASE, crate::io_apic::BASE + 0xfff, Window::IoApic),
    (crate::hpet::BASE, crate::hpet::BASE + crate::hpet::BYTES - 1, Window::Hpet),
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
        assert_eq!(window(0xb_8000), (Window::Video, 0x1_8000));
        assert_eq!(window(0xfed1_0000), (Window::Open, 0));
    }
}
