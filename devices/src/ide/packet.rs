//! What the CD-ROM drive does with a command packet (MMC-3 §6; SPC-2 §7; INF-8020i for ATAPI's own).
//!
//! A command ends with data, well, or with CHECK CONDITION: the sense key in the Error register and the rest for
//! REQUEST SENSE.

use super::device::Device;
use super::disc::{self, BLOCK, Disc};
use super::mode_pages;
use super::sense::{self, Sense};
use super::task_file::{ABRT, Width};
use super::transfer::{Goal, Manner};
use crate::context::Context;
use crate::state::saved;

/// A command packet.
pub type Packet = [u8; 12];

/// The state of the drive behind the registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// The command that was last given moves its data by DMA.
    pub dma: bool,
    /// Bytes of a block of it, 2 to FFFEh.
    pub limit: u32,
    /// For REQUEST SENSE.
    pub sense: Sense,
    /// The tray is open: there is no disc.
    pub open: bool,
    /// PREVENT ALLOW MEDIUM REMOVAL: the tray stays closed.
    pub locked: bool,
    /// The disc was loaded and nobody was told by a unit attention yet.
    pub changed: bool,
    /// The media event for GET EVENT STATUS NOTIFICATION: 0 none, 1 eject request, 2 new media, 3 media removal.
    pub event: u8,
}
saved!(Unit { dma, limit, sense, open, locked, changed, event });

/// How a packet command goes on.
enum Outcome {
    /// It has ended well.
    Done,
    /// With at most so many bytes.
    Data(Vec<u8>, usize),
    /// With blocks of the disc: the first and how many.
    Blocks(u64, u64),
}

/// The big-endian number in bytes of a packet.
fn number(packet: &Packet, bytes: std::ops::Range<usize>) -> u64 {
    packet[bytes].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

impl Device {
    /// The packet is complete.
    pub(super) fn packet(&mut self, context: &mut Context) {
        let packet: Packet = std::array::from_fn(|index| self.transfer.buffer.get(index).copied().unwrap_or(0));
        match self.packet_command(&packet) {
            Ok(Outcome::Done) => self.finish(),
            Ok(Outcome::Data(mut bytes, limit)) => {
                bytes.truncate(limit);
                match bytes.is_empty() {
                    true => self.finish(),
                    false => self.reply(bytes, self.data_manner()),
                }
            }
            Ok(Outcome::Blocks(_, 0)) => self.finish(),
            Ok(Outcome::Blocks(block, count)) => {
                let (sector, sectors) = (block * disc::SECTORS, count * disc::SECTORS);
                self.read_sectors(context, Goal::Read, sector, sectors, self.data_manner());
            }
            Err(sense) => self.check(sense),
        }
    }

    fn data_manner(&self) -> Manner {
        let Unit { dma, limit, .. } = self.unit;
        Manner { dma, block: limit, packet: true, durable: false, width: Width::Narrow }
    }

    /// CHECK CONDITION.
    pub(super) fn check(&mut self, sense: Sense) {
        self.unit.sense = sense;
        self.transfer.manner.packet = true;
        self.fail(sense.key << 4 | ABRT);
    }

    fn packet_command(&mut self, packet: &Packet) -> Result<Outcome, Sense> {
        let opcode = packet[0];
        let asks = matches!(opcode, REQUEST_SENSE | INQUIRY | GET_CONFIGURATION | GET_EVENT_STATUS_NOTIFICATION);
        if self.unit.changed && !asks {
            self.unit.changed = false;
            return Err(sense::MEDIUM_CHANGED);
        }
        if opcode != REQUEST_SENSE {
            self.unit.sense = sense::NONE;
        }
        self.about_the_drive(packet).unwrap_or_else(|| {
            let disc = self.disc()?;
            about_the_disc(packet, &disc)
        })
    }

    /// The commands that need no disc; `None`: it is none of them.
    fn about_the_drive(&mut self, packet: &Packet) -> Option<Result<Outcome, Sense>> {
        let length = number(packet, 7..9) as usize;
        Some(match packet[0] {
            REQUEST_SENSE => {
                let sense = std::mem::take(&mut self.unit.sense);
                Ok(Outcome::Data(sense.bytes().to_vec(), usize::from(packet[4])))
            }
            INQUIRY => inquiry(packet),
            START_STOP_UNIT => self.start_stop(packet[4]),
            PREVENT_ALLOW_MEDIUM_REMOVAL => {
                self.unit.locked = packet[4] & 1 != 0;
                Ok(Outcome::Done)
            }
            MODE_SENSE => mode_pages::sense(packet, &self.unit).map(|bytes| Outcome::Data(bytes, length)),
            GET_CONFIGURATION => {
                let start = number(packet, 2..4) as u16;
                let bytes = disc::configuration(self.disc().ok().as_ref(), packet[1] & 3, start);
                Ok(Outcome::Data(bytes, length))
            }
            GET_EVENT_STATUS_NOTIFICATION => self.event_status(packet, length),
            MECHANISM_STATUS => {
                let status = [0, u8::from(self.unit.open) << 4, 0, 0, 0, 1, 0, 0];
                Ok(Outcome::Data(status.to_vec(), number(packet, 8..10) as usize))
            }
            SET_CD_SPEED => Ok(Outcome::Done),
            _ => return None,
        })
    }

    /// The disc in the drive.
    fn disc(&self) -> Result<Disc, Sense> {
        match Disc::new(self.sectors()) {
            _ if self.unit.open => Err(sense::TRAY_OPEN),
            disc => disc.ok_or(sense::NO_MEDIUM),
        }
    }

    /// Start, stop, and with LoEj load and eject.
    fn start_stop(&mut self, operation: u8) -> Result<Outcome, Sense> {
        match operation & 3 {
            2 if self.unit.locked => return Err(sense::LOCKED),
            2 => {
                self.unit.event = if self.unit.open { self.unit.event } else { 3 };
                self.unit.open = true;
            }
            3 if self.unit.open => {
                self.unit.open = false;
                self.unit.changed = self.sectors() > 0;
                self.unit.event = 2;
            }
            _ => {}
        }
        Ok(Outcome::Done)
    }

    /// The button at the tray is pressed. A locked tray stays closed, but whoever asks hears of the wish (MMC-3 §6.1.8).
    pub fn press_eject(&mut self) {
        if self.unit.locked {
            self.unit.event = 1;
        } else if !self.unit.open {
            (self.unit.open, self.unit.event) = (true, 3);
        }
    }

    /// Somebody has put in a disc of so many sectors of 512 bytes, locked or not, and closed the tray.
    pub fn insert(&mut self, sectors: u64) {
        self.hold(sectors);
        self.unit.open = false;
        (self.unit.changed, self.unit.event) = (sectors > 0, 2);
    }

    /// The disc is one of so many sectors, and nobody has to be told.
    pub fn hold(&mut self, sectors: u64) {
        self.attached.iter_mut().for_each(|attached| attached.sectors = sectors);
    }

    /// Polled only; of the classes of events, media (4).
    fn event_status(&mut self, packet: &Packet, length: usize) -> Result<Outcome, Sense> {
        if packet[1] & 1 == 0 {
            return Err(sense::INVALID_FIELD);
        }
        if packet[4] & 1 << 4 == 0 {
            return Ok(Outcome::Data(vec![0, 2, 0x80, 1 << 4], length)); // no class of those asked for
        }
        let event = if length > 4 { std::mem::take(&mut self.unit.event) } else { 0 };
        let present = self.disc().is_ok();
        let status = u8::from(present) << 1 | u8::from(self.unit.open);
        Ok(Outcome::Data(vec![0, 6, 4, 1 << 4, event, status, 0, 0], length))
    }
}

/// The commands that need a disc.
fn about_the_disc(packet: &Packet, disc: &Disc) -> Result<Outcome, Sense> {
    let length = number(packet, 7..9) as usize;
    let address = number(packet, 2..6);
    match packet[0] {
        TEST_UNIT_READY => Ok(Outcome::Done),
        READ_CAPACITY => {
            let mut bytes = (disc.blocks() - 1).to_be_bytes().to_vec();
            bytes.extend(BLOCK.to_be_bytes());
            Ok(Outcome::Data(bytes, 8))
        }
        READ_10 => blocks(disc, address, length as u64),
        READ_12 => blocks(disc, address, number(packet, 6..10)),
        READ_CD => read_cd(packet, disc),
        SEEK if address < u64::from(disc.blocks()) => Ok(Outcome::Done),
        SEEK => Err(sense::OUT_OF_RANGE),
        READ_TOC => disc.table_of_contents(packet).map(|bytes| Outcome::Data(bytes, length)),
        READ_DISC_INFORMATION => Ok(Outcome::Data(disc::information(), length)),
        READ_DVD_STRUCTURE => {
            let bytes = disc.dvd_structure(packet[7])?;
            Ok(Outcome::Data(bytes, number(packet, 8..10) as usize))
        }
        READ_TRACK_INFORMATION => Ok(Outcome::Data(disc.track_information(), length)),
        _ => Err(sense::INVALID_OPCODE),
    }
}

fn blocks(disc: &Disc, block: u64, count: u64) -> Result<Outcome, Sense> {
    let within = block <= u64::from(disc.blocks()) && count <= u64::from(disc.blocks()) - block;
    if within { Ok(Outcome::Blocks(block, count)) } else { Err(sense::OUT_OF_RANGE) }
}

/// READ CD: of a data disc's fields the user data alone.
fn read_cd(packet: &Packet, disc: &Disc) -> Result<Outcome, Sense> {
    let sector_type = packet[1] >> 2 & 7;
    match packet[9] & 0xf8 {
        0x00 => Ok(Outcome::Done),
        0x10 if matches!(sector_type, 0 | 2) && packet[10] & 7 == 0 => {
            blocks(disc, number(packet, 2..6), number(packet, 6..9))
        }
        _ => Err(sense::INVALID_FIELD),
    }
}

/// INQUIRY: a removable CD-ROM drive on ATAPI. There are no vital product data.
fn inquiry(packet: &Packet) -> Result<Outcome, Sense> {
    if packet[1] & 1 != 0 || packet[2] != 0 {
        return Err(sense::INVALID_FIELD);
    }
    let mut bytes = vec![5, 0x80, 0x00, 0x21, 31, 0, 0, 0];
    bytes.extend(b"FTEMU   CD-ROM          1.0 ");
    Ok(Outcome::Data(bytes, number(packet, 3..5) as usize))
}

const TEST_UNIT_READY: u8 = 0x00;
const REQUEST_SENSE: u8 = 0x03;
const INQUIRY: u8 = 0x12;
const START_STOP_UNIT: u8 = 0x1b;
const PREVENT_ALLOW_MEDIUM_REMOVAL: u8 = 0x1e;
const READ_CAPACITY: u8 = 0x25;
const READ_10: u8 = 0x28;
const SEEK: u8 = 0x2b;
const READ_TOC: u8 = 0x43;
const GET_CONFIGURATION: u8 = 0x46;
const GET_EVENT_STATUS_NOTIFICATION: u8 = 0x4a;
const READ_DISC_INFORMATION: u8 = 0x51;
const READ_TRACK_INFORMATION: u8 = 0x52;
const MODE_SENSE: u8 = 0x5a;
const READ_12: u8 = 0xa8;
const READ_DVD_STRUCTURE: u8 = 0xad;
const SET_CD_SPEED: u8 = 0xbb;
const MECHANISM_STATUS: u8 = 0xbd;
const READ_CD: u8 = 0xbe;
