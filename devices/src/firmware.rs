//! Starting with firmware: the BIOS image where an x86 begins, and what CMOS RAM tells it (SeaBIOS `CMOS_*`; the
//! assignments are those of every PC BIOS, and Bochs' for what came later).

use crate::board::Regions;
use crate::board::regions::BIOS_BYTES;
use crate::checkpoint::{Boot, Start};
use crate::chips::Chips;
use crate::config::{Attachment, BootFrom, Config, DriveKind, OptionRom};
use crate::machine::Machine;
use crate::rtc::Rtc;
use crate::state::saved;
use ftemu_cpu::memory::LOW_END;
use ftemu_cpu::state::{Segment, TableRegister, control, rflags, segment};
use ftemu_cpu::{Cpu, State};
use std::sync::Arc;

/// BIOS images come in whole blocks of this.
const BLOCK: usize = 64 << 10;

/// What is started; kept, so that a reset starts it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Firmware {
    /// The BIOS: 64 to 256 KiB, a multiple of 64 KiB.
    pub bios: Vec<u8>,
    /// The VGA's BIOS, at most 64 KiB; used if there is a VGA.
    pub video_bios: Vec<u8>,
}
saved!(Firmware { bios, video_bios });

/// Why firmware cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FirmwareError {
    /// The BIOS image is no multiple of 64 KiB, or too long.
    #[error("the BIOS image has {bytes} bytes: it must have 64, 128, 192 or 256 KiB")]
    BiosSize {
        /// Its length.
        bytes: usize,
    },
    /// The video BIOS image is too long.
    #[error("the video BIOS image has {bytes} bytes: it must not have more than 64 KiB")]
    VideoBiosSize {
        /// Its length.
        bytes: usize,
    },
}

impl Firmware {
    /// Whether it fits.
    ///
    /// # Errors
    /// [`FirmwareError`].
    pub fn check(&self) -> Result<(), FirmwareError> {
        let (bios, video) = (self.bios.len(), self.video_bios.len());
        if bios == 0 || !bios.is_multiple_of(BLOCK) || bios as u64 > BIOS_BYTES {
            return Err(FirmwareError::BiosSize { bytes: bios });
        }
        if video > BLOCK {
            return Err(FirmwareError::VideoBiosSize { bytes: video });
        }
        Ok(())
    }

    /// Puts the images in place and the CPU at the reset vector. [`Firmware::check`] must have said that it fits.
    pub(crate) fn start(&self, cpu: &mut Cpu, regions: &Regions, chips: &Chips) {
        let memory = cpu.memory_mut();
        let length = self.bios.len();
        memory.region_store(regions.bios, BIOS_BYTES.saturating_sub(length as u64), &self.bios);
        if let Some(vga) = &chips.vga {
            vga.set_rom(memory, &self.video_bios);
        }
        *cpu.state_mut() = reset_state();
        cpu.forget_derived();
    }
}

impl Machine {
    /// Puts a BIOS in place and the CPU at the reset vector. It is kept: a reset starts it again.
    ///
    /// # Errors
    /// [`FirmwareError`]; the machine is as before then.
    pub fn load_firmware(&mut self, firmware: Firmware) -> Result<(), FirmwareError> {
        firmware.check()?;
        firmware.start(&mut self.cpu, &self.board.regions, &self.board.chips);
        self.boot = Some(Arc::new(Boot::new(Start::Firmware(firmware))));
        Ok(())
    }

    /// What firmware has said to its debug port since the last call, the last 64 KiB of it. No part of the state.
    pub fn take_debug(&mut self) -> Vec<u8> {
        self.board.debug.drain(..).collect()
    }
}

/// Registers after RESET (SDM Vol. 3A table 9-1): real mode, execution begins at FFFFFFF0h.
fn reset_state() -> State {
    let data = Segment { selector: 0, base: 0, limit: 0xffff, attributes: 0x93 };
    let mut state = State { rip: 0xfff0, rflags: rflags::FIXED, ..State::default() };
    state.segments = [data; 6];
    state.segments[segment::CS] = Segment { selector: 0xf000, base: 0xffff_0000, limit: 0xffff, attributes: 0x9b };
    state.ldtr = Segment { attributes: 0x82, ..data };
    state.tr = Segment { attributes: 0x8b, ..data };
    (state.gdtr, state.idtr) = (TableRegister { base: 0, limit: 0xffff }, TableRegister { base: 0, limit: 0xffff });
    state.cr0 = control::CR0_CD | control::CR0_NW | control::CR0_ET;
    state.pat = 0x0007_0406_0007_0406;
    state.smbase = 0x3_0000;
    state.dr[6] = 0xffff_0ff0;
    state.dr[7] = 0x400;
    state
}

/// CMOS bytes.
mod cmos {
    pub const EQUIPMENT: u8 = 0x14;
    pub const BASE_MEMORY: u8 = 0x15;
    pub const EXTENDED_MEMORY: u8 = 0x17;
    pub const EXTENDED_MEMORY_FOUND: u8 = 0x30;
    pub const ABOVE_16_MIB: u8 = 0x34;
    pub const BOOT_THIRD: u8 = 0x38;
    pub const TRANSLATION: u8 = 0x39;
    pub const BOOT_FIRST: u8 = 0x3d;
    pub const ABOVE_4_GIB: u8 = 0x5b;
}

/// The PCI slot of the first network card; virtio drives follow the cards.
const FIRST_CARD_SLOT: usize = 3;
/// Coprocessor and mouse.
const EQUIPMENT: u8 = 0x06;
/// Sectors that 1024 cylinders with 16 heads of 63 sectors hold; larger disks are translated to more heads.
const UNTRANSLATED_SECTORS: u64 = 1024 * 16 * 63;
const TRANSLATE_LBA: u8 = 1;

/// Writes down in CMOS RAM what firmware looks for there.
pub(crate) fn describe(rtc: &mut Rtc, config: &Config) {
    let low = config.memory_bytes.min(LOW_END);
    let kib = |bytes: u64| u16::try_from(bytes >> 10).unwrap_or(u16::MAX);
    let extended = kib(low.saturating_sub(1 << 20));
    let blocks = |bytes: u64| (bytes >> 16) as u32;
    set_word(rtc, cmos::BASE_MEMORY, 640);
    set_word(rtc, cmos::EXTENDED_MEMORY, extended);
    set_word(rtc, cmos::EXTENDED_MEMORY_FOUND, extended);
    set_word(rtc, cmos::ABOVE_16_MIB, blocks(low.saturating_sub(16 << 20)) as u16);
    let high = blocks(config.memory_bytes - low).to_le_bytes();
    (cmos::ABOVE_4_GIB..).zip(high).take(3).for_each(|(index, byte)| rtc.set_ram(index, byte));
    rtc.set_ram(cmos::EQUIPMENT, EQUIPMENT);
    rtc.set_ram(cmos::TRANSLATION, translation(config));
    let [first, second, third] = boot_order(&config.boot_order);
    rtc.set_ram(cmos::BOOT_FIRST, first | second << 4);
    rtc.set_ram(cmos::BOOT_THIRD, third << 4 | 1); // and no check of a floppy's signature
}

fn set_word(rtc: &mut Rtc, index: u8, value: u16) {
    let [low, high] = value.to_le_bytes();
    rtc.set_ram(index, low);
    rtc.set_ram(index + 1, high);
}

/// Two bits for each IDE disk: how its geometry is translated.
fn translation(config: &Config) -> u8 {
    let disks = config.drives.iter().filter(|drive| drive.kind == DriveKind::Disk);
    disks.fold(0, |bits, drive| match drive.attachment {
        Attachment::Ide { channel: channel @ 0..=1, unit: unit @ 0..=1 } if drive.sectors > UNTRANSLATED_SECTORS => {
            bits | TRANSLATE_LBA << (4 * channel + 2 * unit)
        }
        _ => bits,
    })
}

/// As numbers of the BIOS.
fn boot_order(wanted: &[BootFrom]) -> [u8; 3] {
    kinds_in_order(wanted).map(|from| match from {
        BootFrom::Disk => 2,
        BootFrom::Cdrom => 3,
        BootFrom::Network => 4,
    })
}

/// What is named in its order, then the rest.
fn kinds_in_order(wanted: &[BootFrom]) -> [BootFrom; 3] {
    let mut order = [BootFrom::Disk, BootFrom::Cdrom, BootFrom::Network];
    order.sort_by_key(|from| wanted.iter().position(|named| named == from).unwrap_or(wanted.len()));
    order
}

/// Files of the configuration device: what firmware tries, and what it starts network cards with.
pub(crate) fn boot_files(config: &Config) -> Vec<(String, Vec<u8>)> {
    let rom = |rom: &OptionRom| (format!("pci{:04x},{:04x}.rom", rom.vendor, rom.device), rom.image.clone());
    let roms = config.option_roms.iter().map(rom);
    roms.chain([("bootorder".to_owned(), boot_list(config))]).collect()
}

/// The file `bootorder`: paths of drives and network cards in the order in which firmware is to try them, kind by kind,
/// those of a kind as they are configured (SeaBIOS, "Boot_order"; the names are Open Firmware's).
fn boot_list(config: &Config) -> Vec<u8> {
    let mut virtio_slots = FIRST_CARD_SLOT + config.nics.len()..;
    let paths: Vec<(DriveKind, String)> = config
        .drives
        .iter()
        .map(|drive| match drive.attachment {
            Attachment::Ide { channel, unit } => {
                (drive.kind, format!("/pci@i0cf8/ide@1,1/drive@{channel:x}/disk@{unit:x}"))
            }
            Attachment::Virtio => {
                (drive.kind, format!("/pci@i0cf8/scsi@{:x}/disk@0,0", virtio_slots.next().unwrap_or_default()))
            }
        })
        .collect();
    let mut lines: Vec<String> = Vec::new();
    for from in kinds_in_order(&config.boot_order) {
        let kind = match from {
            BootFrom::Disk => DriveKind::Disk,
            BootFrom::Cdrom => DriveKind::Cdrom,
            BootFrom::Network => {
                let cards = (FIRST_CARD_SLOT..).take(config.nics.len());
                lines.extend(cards.map(|slot| format!("/pci@i0cf8/ethernet@{slot:x}")));
                continue;
            }
        };
        lines.extend(paths.iter().filter(|(of, _)| *of == kind).map(|(_, path)| path.clone()));
    }
    let mut text = lines.join("\n").into_bytes();
    text.push(0);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DriveConfig, NicConfig, NicModel};

    fn cell(rtc: &mut Rtc, index: u8) -> u8 {
        rtc.write(0, 0x70, index);
        rtc.read(0, 0x71)
    }

    fn described(config: &Config) -> Rtc {
        let mut rtc = Rtc::new(0);
        describe(&mut rtc, config);
        rtc
    }

    #[test]
    fn memory_as_firmware_adds_it_up() {
        let mut rtc = described(&Config { memory_bytes: 5 << 30, ..Config::default() });
        let word = |rtc: &mut Rtc, index| u64::from(cell(rtc, index)) | u64::from(cell(rtc, index + 1)) << 8;
        assert_eq!((word(&mut rtc, 0x34) << 16) + (16 << 20), 3 << 30);
        assert_eq!((word(&mut rtc, 0x5b) | u64::from(cell(&mut rtc, 0x5d)) << 16) << 16, 2 << 30);
        assert_eq!(word(&mut rtc, 0x30), 0xffff);
        let mut rtc = described(&Config { memory_bytes: 8 << 20, ..Config::default() });
        assert_eq!((word(&mut rtc, 0x34), word(&mut rtc, 0x17)), (0, 7 << 10));
    }

    #[test]
    fn boot_order_and_disk_translation() {
        let drive = |unit, sectors| DriveConfig {
            attachment: Attachment::Ide { channel: 1, unit },
            kind: DriveKind::Disk,
            sectors,
            serial: String::new(),
            read_only: false,
        };
        let drives = vec![drive(0, 1 << 19), drive(1, 1 << 24)];
        let mut rtc = described(&Config { drives, boot_order: vec![BootFrom::Cdrom], ..Config::default() });
        assert_eq!((cell(&mut rtc, 0x3d), cell(&mut rtc, 0x38)), (0x23, 0x41));
        assert_eq!(cell(&mut rtc, 0x39), 0b0100_0000);
    }

    #[test]
    fn drives_are_tried_in_their_order() {
        let drive =
            |attachment, kind| DriveConfig { attachment, kind, sectors: 64, serial: String::new(), read_only: false };
        let disc = drive(Attachment::Ide { channel: 1, unit: 0 }, DriveKind::Cdrom);
        let [first, second] = [Attachment::Virtio, Attachment::Ide { channel: 0, unit: 1 }];
        let drives = vec![disc, drive(first, DriveKind::Disk), drive(second, DriveKind::Disk)];
        let nics = vec![NicConfig { model: NicModel::E1000, mac: [0; 6] }];
        let list = boot_list(&Config { drives, nics, ..Config::default() });
        let expected = "/pci@i0cf8/scsi@4/disk@0,0\n/pci@i0cf8/ide@1,1/drive@0/disk@1\n/pci@i0cf8/ide@1,1/drive@1/disk@0\n/pci@i0cf8/ethernet@3\0";
        assert_eq!(String::from_utf8(list).unwrap(), expected);
    }

    #[test]
    fn option_roms_are_files_named_by_their_cards() {
        let (vendor, device) = NicModel::VirtioNet.pci_identity();
        let option_roms = vec![OptionRom { vendor, device, image: vec![0x55, 0xaa] }];
        let files = boot_files(&Config { option_roms, ..Config::default() });
        assert_eq!(files[0], ("pci1af4,1000.rom".to_owned(), vec![0x55, 0xaa]));
        assert_eq!(files[1].0, "bootorder");
    }

    #[test]
    fn images_of_impossible_length_are_refused() {
        let firmware = |bios, video| Firmware { bios: vec![0; bios], video_bios: vec![0; video] };
        for bios in [0, 1000, 320 << 10] {
            assert_eq!(firmware(bios, 0).check(), Err(FirmwareError::BiosSize { bytes: bios }));
        }
        assert_eq!(firmware(BLOCK, BLOCK + 1).check(), Err(FirmwareError::VideoBiosSize { bytes: BLOCK + 1 }));
        assert_eq!(firmware(256 << 10, 0).check(), Ok(()));
    }

    #[test]
    fn the_reset_vector_is_the_images_last_paragraph() {
        let config = Config { video: true, ..Config::default() };
        let mut machine = Machine::new(&config).unwrap();
        let mut bios = vec![0x90; 256 << 10];
        bios[(256 << 10) - 16] = 0xea;
        machine.load_firmware(Firmware { bios, video_bios: vec![0x55; 512] }).unwrap();
        let state = machine.cpu().state();
        let start = state.segments[segment::CS].base + state.rip;
        let mut byte = [0];
        assert!(machine.cpu().memory().read(start, &mut byte));
        assert_eq!((start, byte), (0xffff_fff0, [0xea]));
        assert!(machine.cpu().memory().read(0xf_fff0, &mut byte));
        assert_eq!(byte, [0xea]);
    }
}
