//! All chips of the board, and what they look like when an operating system is started.

use crate::clock::Clock;
use crate::io_apic::IoApic;
use crate::keyboard_controller::KeyboardController;
use crate::local_apic::LocalApic;
use crate::pci::Pci;
use crate::pic::Pic;
use crate::pit::Pit;
use crate::power::{self, Power};
use crate::rtc::Rtc;
use crate::state::saved;
use crate::uart::Uart;

/// All chips but the CPU and RAM. Its fields are the machine's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chips {
    /// Virtual time.
    pub clock: Clock,
    /// 8259A pair.
    pub pic: Pic,
    /// I/O APIC.
    pub io_apic: IoApic,
    /// Local APIC.
    pub local_apic: LocalApic,
    /// 8254.
    pub pit: Pit,
    /// MC146818.
    pub rtc: Rtc,
    /// COM1 and COM2.
    pub serial: [Uart; 2],
    /// ACPI fixed hardware.
    pub power: Power,
    /// 8042.
    pub keyboard_controller: KeyboardController,
    /// PCI.
    pub pci: Pci,
    /// The byte at port 80h.
    pub diagnostic: u8,
    /// Port 92h.
    pub port_a: u8,
    /// A reset was asked for and not yet carried out.
    pub reset: bool,
}
saved!(Chips {
    clock,
    pic,
    io_apic,
    local_apic,
    pit,
    rtc,
    serial,
    power,
    keyboard_controller,
    pci,
    diagnostic,
    port_a,
    reset,
});

impl Chips {
    /// Chips after power-on, as PC firmware would leave them for an operating system.
    pub fn new(clock: Clock, rtc: Rtc) -> Chips {
        let mut chips = Chips {
            clock,
            pic: Pic::default(),
            io_apic: IoApic::default(),
            local_apic: LocalApic::default(),
            pit: Pit::default(),
            rtc,
            serial: Default::default(),
            power: Power::default(),
            keyboard_controller: KeyboardController::default(),
            pci: Pci::default(),
            diagnostic: 0,
            port_a: 2,
            reset: false,
        };
        chips.local_apic.set_virtual_wire();
        chips.pic.write(0x4d0 + u16::from(power::SCI / 8), 1 << (power::SCI % 8));
        chips
    }
}
