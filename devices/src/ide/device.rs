//! One device of a channel: its registers, its settings, how a command ends and how it is reset. A device that is not
//! attached has registers too, because device 0 answers for it, but its status is 0.

use super::command::MULTIPLE;
use super::packet::Unit;
use super::sense;
use super::task_file::{ABRT, BSY, DEVICE_FIXED, ERR, Geometry, Pair, READY, TaskFile, UNC};
use super::transfer::{COMMAND, Goal, Stage, TO_HOST, Transfer};
use crate::config::{DriveConfig, DriveKind};
use crate::state::saved;

/// The signatures of a disk, of a packet device and of nothing, in Byte Count (ATA/ATAPI-6 §9.12).
const DISK_SIGNATURE: u16 = 0x0000;
const PACKET_SIGNATURE: u16 = 0xeb14;
const NO_SIGNATURE: u16 = 0xffff;
/// Error after a reset or diagnostic: device 0 passed, and device 1 passed or is absent.
const PASSED: u8 = 1;

/// What is plugged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// A disk or a CD-ROM drive.
    pub kind: DriveKind,
    /// Its number among the machine's drives.
    pub drive: u8,
    /// Sectors of 512 bytes; of a CD-ROM drive: of the disc, 0 without one.
    pub sectors: u64,
    /// The serial number it tells.
    pub serial: String,
    /// Writes are refused.
    pub read_only: bool,
}
saved!(Attached { kind, drive, sectors, serial, read_only });

impl Attached {
    /// Drive `drive` of the machine.
    pub fn new(drive: u8, config: &DriveConfig) -> Attached {
        let DriveConfig { attachment: _, kind, sectors, serial, read_only } = config;
        Attached { kind: *kind, drive, sectors: *sectors, serial: serial.clone(), read_only: *read_only }
    }
}

/// What SET FEATURES and its like have chosen. A reset by software leaves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For addresses by cylinder, head and sector.
    pub geometry: Geometry,
    /// Sectors of a block in READ MULTIPLE and WRITE MULTIPLE; 0: these commands are off.
    pub multiple: u8,
    /// Sector Count of SET FEATURES - set transfer mode: 2xh multiword DMA, 4xh Ultra DMA.
    pub dma_mode: u8,
    /// Writes may end before they are durable.
    pub write_cache: bool,
    /// Read look-ahead; a flag only.
    pub look_ahead: bool,
    /// What CHECK POWER MODE says: FFh active, 80h idle, 00h standby.
    pub power: u8,
}
saved!(Settings { geometry, multiple, dma_mode, write_cache, look_ahead, power });

impl Default for Settings {
    fn default() -> Self {
        Settings {
            geometry: Geometry { heads: 16, sectors: 63 },
            multiple: MULTIPLE,
            dma_mode: 0x22,
            write_cache: true,
            look_ahead: true,
            power: 0xff,
        }
    }
}

/// A place on a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    pub(super) attached: Option<Attached>,
    pub(super) file: TaskFile,
    pub(super) settings: Settings,
    pub(super) transfer: Transfer,
    /// The packet device's state.
    pub(super) unit: Unit,
    /// An interrupt is pending (ATA/ATAPI-6 §5.2.9).
    pub(super) interrupt: bool,
    /// SRST is set.
    pub(super) held: bool,
}
saved!(Device { attached, file, settings, transfer, unit, interrupt, held });

impl Device {
    /// A device after power-on, or an empty place.
    pub fn new(attached: Option<Attached>) -> Device {
        let mut device = Device { attached, ..Device::default() };
        device.end_reset();
        device
    }

    /// Whether there is one.
    pub fn is_attached(&self) -> bool {
        self.attached.is_some()
    }

    /// Whether it takes command packets.
    pub fn is_packet(&self) -> bool {
        self.attached.as_ref().is_some_and(|attached| attached.kind == DriveKind::Cdrom)
    }

    /// Whether its registers cannot be written.
    pub fn is_busy(&self) -> bool {
        self.file.status & BSY != 0
    }

    /// The number of its drive.
    pub(super) fn drive(&self) -> u8 {
        self.attached.as_ref().map_or(u8::MAX, |attached| attached.drive)
    }

    /// Its size in sectors of 512 bytes.
    pub(super) fn sectors(&self) -> u64 {
        self.attached.as_ref().map_or(0, |attached| attached.sectors)
    }

    /// The command has ended well.
    pub(super) fn finish(&mut self) {
        self.end(READY);
    }

    /// The command has ended with bits of the Error register.
    pub(super) fn fail(&mut self, error: u8) {
        self.file.error = error;
        self.end(READY | ERR);
    }

    fn end(&mut self, status: u8) {
        if self.transfer.manner.packet {
            self.file.count.current = COMMAND | TO_HOST;
        }
        self.transfer = Transfer::default();
        self.file.status = status;
        self.interrupt = true;
    }

    /// The drive could not read what is at hand.
    pub(super) fn unreadable(&mut self) {
        if self.transfer.manner.packet {
            return self.check(sense::UNRECOVERED_READ);
        }
        self.show_piece();
        self.fail(UNC);
    }

    /// The drive could not write or flush.
    pub(super) fn unwritable(&mut self) {
        self.show_piece();
        self.fail(ABRT);
    }

    fn show_piece(&mut self) {
        self.file.set_sector(self.transfer.piece, self.transfer.manner.width, self.settings.geometry);
    }

    /// SRST was set: whatever ran is forgotten.
    pub fn hold_reset(&mut self) {
        self.held = true;
        self.begin_reset();
    }

    /// SRST was cleared.
    pub fn release_reset(&mut self) {
        self.held = false;
        if self.transfer.pending.is_none() {
            self.end_reset();
        }
    }

    /// DEVICE RESET or EXECUTE DEVICE DIAGNOSTIC. What the drive still works on is waited for and dropped.
    pub(super) fn reset(&mut self) {
        self.begin_reset();
        self.release_reset();
    }

    fn begin_reset(&mut self) {
        let pending = self.transfer.pending;
        self.transfer = Transfer { goal: Goal::Reset, stage: Stage::Drive, pending, ..Transfer::default() };
        self.interrupt = false;
        self.file.status = BSY;
    }

    /// The reset is done: the signature.
    pub(super) fn end_reset(&mut self) {
        if self.held {
            return;
        }
        self.transfer = Transfer::default();
        self.file.error = PASSED;
        self.file.device = DEVICE_FIXED;
        self.file.status = if self.is_packet() || !self.is_attached() { 0 } else { READY };
        self.sign();
    }

    /// Puts the signature in the registers.
    pub(super) fn sign(&mut self) {
        let signature = match (self.is_attached(), self.is_packet()) {
            (false, _) => NO_SIGNATURE,
            (true, true) => PACKET_SIGNATURE,
            (true, false) => DISK_SIGNATURE,
        };
        let one = Pair { current: 1, previous: 0 };
        (self.file.count, self.file.low) = (one, one);
        (self.file.mid, self.file.high) = (Pair::default(), Pair::default());
        self.file.set_bytes(signature);
    }
}
