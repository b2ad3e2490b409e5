//! What a machine is made of, and why one could not be made or restored.

use crate::clock;
use crate::state::{Saved, saved, saved_choice};

/// Bytes of RAM a machine can have: room for a kernel, and half of what the CPU's 40 physical address bits reach.
pub(crate) const MEMORY: std::ops::RangeInclusive<u64> = 2 << 20..=1 << 39;

/// What a machine is made of. Part of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bytes of RAM.
    pub memory_bytes: u64,
    /// What the real-time clock shows at virtual time 0: seconds since 1970, UTC.
    pub epoch_seconds: u64,
    /// The first rate of virtual time, in 1/1024 ns per instruction.
    pub rate: u32,
    /// The kernel's first entropy; anything, but the same on both sides.
    pub seed: [u8; 32],
    /// The drives, in the order of [`crate::Machine::attach`].
    pub drives: Vec<DriveConfig>,
    /// The network cards, in the order of their slots and of [`crate::Input::Frame`].
    pub nics: Vec<NicConfig>,
    /// Whether there is a VGA.
    pub video: bool,
    /// What firmware tries to start from, in this order; what is not named is tried afterwards.
    pub boot_order: Vec<BootFrom>,
    /// Option ROMs that firmware starts for cards of their kind.
    pub option_roms: Vec<OptionRom>,
}
saved!(Config { memory_bytes, epoch_seconds, rate, seed, drives, nics, video, boot_order, option_roms });

/// A drive of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveConfig {
    /// Where it is plugged in.
    pub attachment: Attachment,
    /// What it is.
    pub kind: DriveKind,
    /// Its size in sectors of 512 bytes.
    pub sectors: u64,
    /// The serial number it tells; at most 20 ASCII characters are seen.
    pub serial: String,
    /// Whether the guest may not write to it.
    pub read_only: bool,
}
saved!(DriveConfig { attachment, kind, sectors, serial, read_only });

/// How a drive is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// To the PIIX3's IDE controller.
    Ide {
        /// 0 primary, 1 secondary.
        channel: u8,
        /// 0 master, 1 slave.
        unit: u8,
    },
    /// As a virtio block device in a slot of its own.
    Virtio,
}

impl Saved for Attachment {
    fn save(&self, out: &mut Vec<u8>) {
        match self {
            Attachment::Ide { channel, unit } => out.extend([0, *channel, *unit]),
            Attachment::Virtio => out.push(1),
        }
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        match u8::load(bytes)? {
            0 => Some(Attachment::Ide { channel: u8::load(bytes)?, unit: u8::load(bytes)? }),
            1 => Some(Attachment::Virtio),
            _ => None,
        }
    }
}

/// What a drive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveKind {
    /// A hard disk.
    Disk,
    /// A CD-ROM drive with its disc.
    Cdrom,
}
saved_choice!(DriveKind { Disk = 0, Cdrom = 1 });

/// A network card of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NicConfig {
    /// Which one.
    pub model: NicModel,
    /// Its address.
    pub mac: [u8; 6],
}
saved!(NicConfig { model, mac });

/// Models of network cards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NicModel {
    /// Intel 82540EM.
    E1000,
    /// Virtio.
    VirtioNet,
}
saved_choice!(NicModel { E1000 = 0, VirtioNet = 1 });

impl NicModel {
    /// PCI vendor and device.
    pub fn pci_identity(self) -> (u16, u16) {
        match self {
            NicModel::E1000 => (0x8086, 0x100e),
            NicModel::VirtioNet => (0x1af4, 0x1000),
        }
    }
}

/// Firmware of a card (PCI Firmware Specification 3.0, section 5). SeaBIOS takes it from the file `pciVVVV,DDDD.rom` of the
/// configuration device; the cards themselves have no ROM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionRom {
    /// PCI vendor of the cards it is for.
    pub vendor: u16,
    /// PCI device.
    pub device: u16,
    /// Its bytes.
    pub image: Vec<u8>,
}
saved!(OptionRom { vendor, device, image });

/// What firmware can start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootFrom {
    /// The first hard disk.
    Disk,
    /// The first CD-ROM.
    Cdrom,
    /// The first network card.
    Network,
}
saved_choice!(BootFrom { Disk = 0, Cdrom = 1, Network = 2 });

impl Default for Config {
    /// 512 MiB, 2024-01-01, 1 ns per instruction, a seed of zeros; no drive, no network card, no screen.
    fn default() -> Self {
        Config {
            memory_bytes: 512 << 20,
            epoch_seconds: 1_704_067_200,
            rate: clock::RATE_ONE,
            seed: [0; 32],
            drives: Vec::new(),
            nics: Vec::new(),
            video: false,
            boot_order: Vec::new(),
            option_roms: Vec::new(),
        }
    }
}

impl Config {
    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.save(out);
    }

    /// Takes a configuration off the front. `None`: the bytes are cut short.
    pub fn decode(bytes: &mut &[u8]) -> Option<Config> {
        Config::load(bytes)
    }
}

/// Why a machine could not be made or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// The configuration asks for too little or too much RAM.
    #[error("a machine cannot have {memory_bytes} bytes of RAM: give at least 2 MiB and at most 512 GiB")]
    MemorySize {
        /// Bytes asked for.
        memory_bytes: u64,
    },
    /// The host cannot run or hold it.
    #[error("the host cannot provide the machine: {0}")]
    Host(#[from] std::io::Error),
    /// The bytes are no saved state of this version.
    #[error("the saved state is cut short, damaged or of another version of ftemu")]
    Malformed,
    /// The saved state is that of a machine with another configuration.
    #[error("the saved state is that of a machine with {saved} bytes of RAM; this one has {own}")]
    OtherMemory {
        /// Bytes of RAM in the saved state.
        saved: u64,
        /// Bytes of RAM here.
        own: u64,
    },
    /// The saved state is that of a machine with other devices.
    #[error("the saved state is that of a machine with other drives, network cards or another screen than this one")]
    OtherDevices,
}
