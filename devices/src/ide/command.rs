//! What a device does with the Command register (ATA/ATAPI-6 §8; the codes of old commands: ATA-3).

use super::device::Device;
use super::task_file::{ABRT, BSY, DRQ, IDNF, Width};
use super::transfer::{COMMAND, Goal, Manner, SECTOR};
use super::{identify, identify_packet};
use crate::context::Context;
use crate::storage::Request;

/// The most sectors of a block in READ MULTIPLE and WRITE MULTIPLE.
pub const MULTIPLE: u8 = 16;
/// The most sectors of ranges in DATA SET MANAGEMENT.
pub const RANGES: u64 = 8;

const NOP: u8 = 0x00;
const DATA_SET_MANAGEMENT: u8 = 0x06;
pub const DEVICE_RESET: u8 = 0x08;
const READ_NATIVE_MAX_ADDRESS_EXT: u8 = 0x27;
/// Handled by the channel: it is for both devices.
pub const EXECUTE_DEVICE_DIAGNOSTIC: u8 = 0x90;
const INITIALIZE_DEVICE_PARAMETERS: u8 = 0x91;
const PACKET: u8 = 0xa0;
const IDENTIFY_PACKET_DEVICE: u8 = 0xa1;
const SET_MULTIPLE_MODE: u8 = 0xc6;
const CHECK_POWER_MODE: u8 = 0xe5;
const FLUSH_CACHE: u8 = 0xe7;
const FLUSH_CACHE_EXT: u8 = 0xea;
const IDENTIFY_DEVICE: u8 = 0xec;
const SET_FEATURES: u8 = 0xef;
const READ_NATIVE_MAX_ADDRESS: u8 = 0xf8;

/// A command that addresses sectors.
#[derive(Clone, Copy)]
struct Access {
    goal: Goal,
    width: Width,
    dma: bool,
    multiple: bool,
    durable: bool,
}

/// The commands that address sectors: even READ, WRITE and VERIFY, and their odd twins "without retry".
fn access(code: u8) -> Option<Access> {
    use Goal::{Read, Verify, Write};
    use Width::{Narrow, Wide};
    let (goal, width, dma, multiple) = match code {
        0x20 | 0x21 => (Read, Narrow, false, false),   // READ SECTOR(S)
        0x24 => (Read, Wide, false, false),            // READ SECTOR(S) EXT
        0x25 => (Read, Wide, true, false),             // READ DMA EXT
        0x29 => (Read, Wide, false, true),             // READ MULTIPLE EXT
        0x30 | 0x31 => (Write, Narrow, false, false),  // WRITE SECTOR(S)
        0x34 => (Write, Wide, false, false),           // WRITE SECTOR(S) EXT
        0x35 | 0x3d => (Write, Wide, true, false),     // WRITE DMA EXT, WRITE DMA FUA EXT
        0x39 | 0xce => (Write, Wide, false, true),     // WRITE MULTIPLE EXT, WRITE MULTIPLE FUA EXT
        0x40 | 0x41 => (Verify, Narrow, false, false), // READ VERIFY SECTOR(S)
        0x42 => (Verify, Wide, false, false),          // READ VERIFY SECTOR(S) EXT
        0xc4 => (Read, Narrow, false, true),           // READ MULTIPLE
        0xc5 => (Write, Narrow, false, true),          // WRITE MULTIPLE
        0xc8 | 0xc9 => (Read, Narrow, true, false),    // READ DMA
        0xca | 0xcb => (Write, Narrow, true, false),   // WRITE DMA
        _ => return None,
    };
    Some(Access { goal, width, dma, multiple, durable: matches!(code, 0x3d | 0xce) })
}

impl Device {
    /// A store to the Command register. A device that is busy or moves data takes DEVICE RESET alone, an empty place
    /// nothing.
    pub fn command(&mut self, context: &mut Context, code: u8) {
        let occupied = self.file.status & (BSY | DRQ) != 0;
        if !self.is_attached() || self.held || occupied && !(self.is_packet() && code == DEVICE_RESET) {
            return;
        }
        self.interrupt = false;
        self.file.error = 0;
        match (code, self.is_packet()) {
            (SET_FEATURES, _) => self.set_features(),
            (0x94..=0x99 | 0xe0..=0xe3 | CHECK_POWER_MODE | 0xe6, _) => self.power(context, code),
            (DEVICE_RESET, true) => self.reset(),
            (PACKET, true) => self.begin_packet(),
            (IDENTIFY_PACKET_DEVICE, true) => self.reply(identify_packet::words(self), Manner::default()),
            (IDENTIFY_DEVICE | 0x20 | 0x21, true) => {
                self.sign();
                self.fail(ABRT);
            }
            (_, false) => self.disk_command(context, code),
            _ => self.fail(ABRT),
        }
    }

    fn disk_command(&mut self, context: &mut Context, code: u8) {
        if let Some(access) = access(code) {
            return self.access(context, access);
        }
        match code {
            IDENTIFY_DEVICE => self.reply(identify::words(self), Manner::default()),
            DATA_SET_MANAGEMENT => self.data_set_management(),
            0x10..=0x1f => self.finish(), // RECALIBRATE
            0x70..=0x7f => match self.file.sector(Width::Narrow, self.settings.geometry) {
                Some(sector) if sector < self.sectors() => self.finish(), // SEEK
                _ => self.fail(IDNF),
            },
            INITIALIZE_DEVICE_PARAMETERS => self.initialize_device_parameters(),
            SET_MULTIPLE_MODE => self.set_multiple_mode(),
            FLUSH_CACHE | FLUSH_CACHE_EXT => self.end_with(context, Request::Flush),
            READ_NATIVE_MAX_ADDRESS => self.show_last(Width::Narrow),
            READ_NATIVE_MAX_ADDRESS_EXT => self.show_last(Width::Wide),
            // NOP says that it was one; SMART is not there.
            NOP => self.fail(ABRT),
            _ => self.fail(ABRT),
        }
    }

    fn access(&mut self, context: &mut Context, access: Access) {
        let Access { goal, width, dma, multiple, durable } = access;
        let writes = goal == Goal::Write;
        let read_only = self.attached.as_ref().is_none_or(|attached| attached.read_only);
        if multiple && self.settings.multiple == 0 || writes && read_only {
            return self.fail(ABRT);
        }
        let count = self.file.sectors(width);
        let sector = self.file.sector(width, self.settings.geometry);
        let Some(sector) = sector.filter(|sector| *sector <= self.sectors() && count <= self.sectors() - sector) else {
            return self.fail(IDNF);
        };
        self.settings.power = 0xff;
        let block = SECTOR * if multiple { u32::from(self.settings.multiple) } else { 1 };
        let durable = writes && (durable || !self.settings.write_cache);
        let manner = Manner { dma, block, packet: false, durable, width };
        match writes {
            true => self.write_sectors(sector, count, manner),
            false => self.read_sectors(context, goal, sector, count, manner),
        }
    }

    /// TRIM, the only kind there is: a list of ranges comes by DMA (ATA8-ACS §7.10).
    fn data_set_management(&mut self) {
        let count = self.file.sectors(Width::Wide);
        let read_only = self.attached.as_ref().is_none_or(|attached| attached.read_only);
        if self.file.features.current != 1 || count > RANGES || read_only {
            return self.fail(ABRT);
        }
        let manner = Manner { dma: true, width: Width::Wide, ..Manner::default() };
        self.receive(Goal::Ranges, count as u32 * SECTOR, manner);
    }

    fn initialize_device_parameters(&mut self) {
        let (heads, sectors) = ((self.file.device & 15) + 1, self.file.count.current);
        if sectors == 0 {
            return self.fail(ABRT);
        }
        (self.settings.geometry.heads, self.settings.geometry.sectors) = (heads, sectors);
        self.finish();
    }

    fn set_multiple_mode(&mut self) {
        let count = self.file.count.current;
        if count > MULTIPLE || count != 0 && !count.is_power_of_two() {
            return self.fail(ABRT);
        }
        self.settings.multiple = count;
        self.finish();
    }

    fn show_last(&mut self, width: Width) {
        let most = if width == Width::Wide { 1 << 48 } else { 1 << 28 };
        let last = self.sectors().clamp(1, most) - 1;
        self.file.device |= 1 << 6;
        self.file.set_sector(last, width, self.settings.geometry);
        self.finish();
    }

    /// The power management commands, with their codes from before ATA-4. STANDBY makes what was written durable.
    fn power(&mut self, context: &mut Context, code: u8) {
        match code {
            0x94 | 0x96 | 0x99 | 0xe0 | 0xe2 | 0xe6 => {
                self.settings.power = 0x00; // STANDBY (IMMEDIATE), SLEEP
                if !self.is_packet() {
                    return self.end_with(context, Request::Flush);
                }
            }
            0x98 | CHECK_POWER_MODE => self.file.count.current = self.settings.power,
            _ => self.settings.power = 0x80, // IDLE (IMMEDIATE)
        }
        self.finish();
    }

    fn set_features(&mut self) {
        let mode = self.file.count.current;
        match self.file.features.current {
            0x02 => self.settings.write_cache = true,
            0x82 => self.settings.write_cache = false,
            0x55 => self.settings.look_ahead = false,
            0xaa => self.settings.look_ahead = true,
            0x66 | 0xcc => {} // reverting to power-on defaults
            0x03 => match mode {
                0x00 | 0x01 | 0x08..=0x0c => {} // PIO
                0x20..=0x22 | 0x40..=0x45 => self.settings.dma_mode = mode,
                _ => return self.fail(ABRT),
            },
            _ => return self.fail(ABRT),
        }
        self.finish();
    }

    /// PACKET: the packet itself comes through the Data register (§9.8).
    fn begin_packet(&mut self) {
        let features = self.file.features.current;
        // A limit that means nothing or is odd at its top is the most there can be.
        let block = match self.file.bytes() {
            0 | 0xffff => 0xfffe,
            limit => u32::from(limit.max(2)),
        };
        if features & 2 != 0 {
            return self.fail(ABRT); // overlapped
        }
        self.file.count.current = COMMAND;
        self.unit.dma = features & 1 != 0;
        self.unit.limit = block;
        let manner = Manner { packet: true, ..Manner::default() };
        self.receive(Goal::Packet, 12, manner);
    }
}
