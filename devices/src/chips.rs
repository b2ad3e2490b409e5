//! All chips of the board, and what they look like when an operating system is started.

use crate::board::Regions;
use crate::clock::Clock;
use crate::config::{Attachment, Config};
use crate::firmware;
use crate::firmware_config::FirmwareConfig;
use crate::hpet::Hpet;
use crate::ide::Ide;
use crate::io_apic::IoApic;
use crate::keyboard_controller::KeyboardController;
use crate::local_apic::LocalApic;
use crate::nic::Nic;
use crate::pci::Pci;
use crate::pci::bridge::{self, Bridge};
use crate::pci::host_bridge::HostBridge;
use crate::pic::Pic;
use crate::pit::Pit;
use crate::power::{self, Power};
use crate::rtc::Rtc;
use crate::state::saved;
use crate::uart::Uart;
use crate::vga::Vga;
use crate::virtio::{Block, Console, Entropy, Virtio};

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
    /// Event timer.
    pub hpet: Hpet,
    /// Firmware's configuration device.
    pub firmware_config: FirmwareConfig,
    /// Ports B2h and B3h.
    pub management_mode: [u8; 2],
    /// A system management interrupt waits for the CPU.
    pub management_interrupt: bool,
    /// PCI configuration ports.
    pub pci: Pci,
    /// i440FX.
    pub host_bridge: HostBridge,
    /// PIIX3.
    pub isa_bridge: Bridge,
    /// The power management function of the PIIX4.
    pub power_management: Bridge,
    /// The PIIX3's IDE function.
    pub ide: Ide,
    /// VGA.
    pub vga: Option<Vga>,
    /// Network cards, in the order of the configuration.
    pub nics: Vec<Nic>,
    /// Drives attached by virtio, in the order of the configuration.
    pub virtio_disks: Vec<Virtio<Block>>,
    /// Virtio's source of entropy.
    pub entropy: Virtio<Entropy>,
    /// Virtio's console.
    pub virtio_console: Virtio<Console>,
    /// The byte at port 80h.
    pub diagnostic: u8,
    /// Port 92h.
    pub port_a: u8,
    /// A reset was asked for and not yet carried out.
    pub reset: bool,
}
saved!(Chips {
    clock as "virtual clock",
    pic as "8259 pair",
    io_apic as "I/O APIC",
    local_apic as "local APIC",
    pit as "8254",
    rtc as "RTC",
    serial as ["COM1", "COM2"],
    power as "ACPI power",
    keyboard_controller as "8042",
    hpet as "HPET",
    firmware_config as "firmware configuration",
    management_mode as "APM control",
    management_interrupt as "SMI request",
    pci as "PCI",
    host_bridge as "82441FX",
    isa_bridge as "PIIX3",
    power_management as "PIIX4 power management",
    ide as "PIIX3 IDE",
    vga as "VGA",
    nics as "network cards",
    virtio_disks as "virtio disks",
    entropy as "virtio entropy",
    virtio_console as "virtio console",
    diagnostic as "port 80h",
    port_a as "port 92h",
    reset as "reset request",
});

impl Chips {
    /// Whether these are chips of a machine with this configuration; a state that was loaded may be of another.
    pub fn fit(&self, config: &Config) -> bool {
        let disks = config.drives.iter().filter(|drive| drive.attachment == Attachment::Virtio).count();
        self.vga.is_some() == config.video && self.nics.len() == config.nics.len() && self.virtio_disks.len() == disks
    }

    /// Whether the CPU's address line 20 is open: either switch does it.
    pub fn line_20(&self) -> bool {
        self.keyboard_controller.a20() || self.port_a & 2 != 0
    }

    /// Chips after power-on.
    pub fn new(config: &Config, regions: &Regions, clock: Clock, mut rtc: Rtc) -> Chips {
        firmware::describe(&mut rtc, config);
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
            hpet: Hpet::default(),
            firmware_config: FirmwareConfig::default(),
            management_mode: [0; 2],
            management_interrupt: false,
            pci: Pci::default(),
            host_bridge: HostBridge::default(),
            isa_bridge: bridge::isa_bridge(),
            power_management: bridge::power_management(),
            ide: Ide::new(&config.drives),
            vga: regions.video.map(Vga::new),
            nics: (0..).zip(&config.nics).map(|(number, nic)| Nic::new(number, nic)).collect(),
            virtio_disks: virtio_disks(config),
            entropy: Virtio::new(Entropy::new(config.seed)),
            virtio_console: Virtio::new(Console::default()),
            diagnostic: 0,
            port_a: 2,
            reset: false,
        };
        chips.local_apic.set_virtual_wire();
        chips.pic.write(0x4d0 + u16::from(power::SCI / 8), 1 << (power::SCI % 8));
        chips
    }
}

/// The drives of a configuration that are attached by virtio.
fn virtio_disks(config: &Config) -> Vec<Virtio<Block>> {
    let drives = (0..).zip(&config.drives).filter(|(_, drive)| drive.attachment == Attachment::Virtio);
    drives
        .map(|(number, drive)| Virtio::new(Block::new(number, drive.sectors, drive.read_only, &drive.serial)))
        .collect()
}
