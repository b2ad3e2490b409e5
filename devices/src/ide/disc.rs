//! The disc in the CD-ROM drive: one session with one data track (MMC-3 §6.1.20 READ TOC, §6.1.9 GET CONFIGURATION,
//! §6.1.17 READ DISC INFORMATION, §6.1.18 READ DVD STRUCTURE).

use super::packet::Packet;
use super::sense::{self, Sense};

/// Bytes of a block.
pub const BLOCK: u32 = 2048;
/// Sectors of 512 bytes in a block.
pub const SECTORS: u64 = 4;
/// Frames before block 0: two seconds.
const PREGAP: u32 = 150;
/// A longer disc is a DVD: 80 minutes of 75 frames a second.
const CD_BLOCKS: u32 = 80 * 60 * 75;
/// The physical number of block 0 of a DVD.
const DVD_FIRST: u32 = 0x3_0000;
/// ADR 1, control: a data track.
const DATA_TRACK: u8 = 0x14;
const LEAD_OUT: u8 = 0xaa;
const PROFILE_CD_ROM: u16 = 0x0008;
const PROFILE_DVD_ROM: u16 = 0x0010;

/// A disc with at least one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disc {
    blocks: u32,
}

impl Disc {
    /// The disc of so many sectors of 512 bytes; a block that is not whole is not there. `None`: no block.
    pub fn new(sectors: u64) -> Option<Disc> {
        let blocks = u32::try_from(sectors / SECTORS).unwrap_or(u32::MAX);
        (blocks > 0).then_some(Disc { blocks })
    }

    /// Its length.
    pub fn blocks(&self) -> u32 {
        self.blocks
    }

    fn is_dvd(&self) -> bool {
        self.blocks > CD_BLOCKS
    }

    /// READ TOC/PMA/ATIP: formats 0 to 2. The format stands in byte 2 or, as INF-8020i has it, atop byte 9.
    pub(super) fn table_of_contents(&self, packet: &Packet) -> Result<Vec<u8>, Sense> {
        let msf = packet[1] & 2 != 0;
        let format = if packet[2] & 15 != 0 { packet[2] & 15 } else { packet[9] >> 6 };
        let entries = match format {
            0 => self.tracks(packet[6], msf)?,
            1 => [&[0, DATA_TRACK, 1, 0], &address(0, msf)[..]].concat(),
            2 if packet[6] <= 1 => self.raw_entries(),
            _ => return Err(sense::INVALID_FIELD),
        };
        let [high, low] = ((entries.len() + 2) as u16).to_be_bytes();
        Ok([&[high, low, 1, 1], &entries[..]].concat())
    }

    /// Format 0: the track, if it is not before `first`, and the lead-out.
    fn tracks(&self, first: u8, msf: bool) -> Result<Vec<u8>, Sense> {
        let mut entries = Vec::new();
        match first {
            0 | 1 => entries.extend([&[0, DATA_TRACK, 1, 0], &address(0, msf)[..]].concat()),
            LEAD_OUT => {}
            _ => return Err(sense::INVALID_FIELD),
        }
        entries.extend([&[0, DATA_TRACK, LEAD_OUT, 0], &address(self.blocks, msf)[..]].concat());
        Ok(entries)
    }

    /// Format 2: as in the lead-in. First track, last track, lead-out, track 1; addresses are minute, second, frame.
    fn raw_entries(&self) -> Vec<u8> {
        let entry = |point: u8, place: [u8; 3]| {
            let [minute, second, frame] = place;
            [1, DATA_TRACK, 0, point, 0, 0, 0, 0, minute, second, frame]
        };
        let place = |block: u32| {
            let [_, minute, second, frame] = address(block, true);
            [minute, second, frame]
        };
        [entry(0xa0, [1, 0, 0]), entry(0xa1, [1, 0, 0]), entry(0xa2, place(self.blocks)), entry(1, place(0))].concat()
    }

    /// READ TRACK INFORMATION: track 1, whole and closed.
    pub(super) fn track_information(&self) -> Vec<u8> {
        let mut bytes = vec![0; 36];
        bytes[1] = 34;
        (bytes[2], bytes[3]) = (1, 1); // track, session
        bytes[5] = 4; // data, recorded without interruption
        bytes[6] = 1; // mode 1
        bytes[24..28].copy_from_slice(&self.blocks.to_be_bytes());
        bytes
    }

    /// READ DVD STRUCTURE: physical format (0) and copyright (1).
    pub(super) fn dvd_structure(&self, format: u8) -> Result<Vec<u8>, Sense> {
        if !self.is_dvd() {
            return Err(sense::INCOMPATIBLE);
        }
        let mut body = match format {
            0 => vec![0; 2048],
            1 => vec![0; 4], // no copy protection
            _ => return Err(sense::INVALID_FIELD),
        };
        if format == 0 {
            let last = DVD_FIRST.saturating_add(self.blocks - 1);
            body[..3].copy_from_slice(&[0x01, 0x0f, 0x01]); // DVD-ROM 1, 120 mm, any rate, one embossed layer
            body[4..8].copy_from_slice(&DVD_FIRST.to_be_bytes());
            body[8..12].copy_from_slice(&last.to_be_bytes());
        }
        let [high, low] = ((body.len() + 2) as u16).to_be_bytes();
        Ok([&[high, low, 0, 0], &body[..]].concat())
    }
}

/// A block's address in four bytes, as its number or as minute, second and frame of a disc that ends where those do.
fn address(block: u32, msf: bool) -> [u8; 4] {
    if !msf {
        return block.to_be_bytes();
    }
    let frames = block.saturating_add(PREGAP);
    [0, (frames / 75 / 60).min(255) as u8, (frames / 75 % 60) as u8, (frames % 75) as u8]
}

/// READ DISC INFORMATION: a complete disc with one complete session.
pub(super) fn information() -> Vec<u8> {
    let mut bytes = vec![0; 34];
    bytes[1] = 32;
    bytes[2] = 0x0e; // last session complete, disc complete
    bytes[3..7].copy_from_slice(&[1, 1, 1, 1]); // first track, sessions, first and last track of the last session
    bytes[7] = 0x20; // unrestricted use
    bytes[16..24].fill(0xff); // no further session can begin anywhere
    bytes
}

/// GET CONFIGURATION: the features from `start`, all (`asked` 0), the current ones (1), or `start` alone (2).
pub(super) fn configuration(disc: Option<&Disc>, asked: u8, start: u16) -> Vec<u8> {
    let cd = disc.is_some_and(|disc| !disc.is_dvd());
    let dvd = disc.is_some_and(Disc::is_dvd);
    let profile = if dvd { PROFILE_DVD_ROM } else { u16::from(cd) * PROFILE_CD_ROM };
    let mut bytes = vec![0; 8];
    bytes[6..8].copy_from_slice(&profile.to_be_bytes());
    for (code, current, version, body) in features(cd, dvd) {
        let wanted = match asked {
            0 => code >= start,
            1 => code >= start && current,
            _ => code == start,
        };
        if wanted {
            bytes.extend(code.to_be_bytes());
            bytes.extend([version << 2 | u8::from(current) | persistent(code), body.len() as u8]);
            bytes.extend(body);
        }
    }
    let length = (bytes.len() - 4) as u32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// The features that are always current carry the bit "persistent".
fn persistent(code: u16) -> u8 {
    u8::from(code <= 3) << 1
}

/// Code, whether it is current, version, additional data.
fn features(cd: bool, dvd: bool) -> [(u16, bool, u8, Vec<u8>); 6] {
    let [dvd_high, dvd_low] = PROFILE_DVD_ROM.to_be_bytes();
    let [cd_high, cd_low] = PROFILE_CD_ROM.to_be_bytes();
    let profiles = vec![dvd_high, dvd_low, u8::from(dvd), 0, cd_high, cd_low, u8::from(cd), 0];
    [
        (0x0000, true, 0, profiles),
        (0x0001, true, 0, vec![0, 0, 0, 2]),                  // core: ATAPI
        (0x0003, true, 0, vec![0x29, 0, 0, 0]),               // removable medium: tray, ejects, locks
        (0x0010, cd || dvd, 0, vec![0, 0, 8, 0, 0, 1, 0, 0]), // random readable: blocks of 2048 bytes
        (0x001e, cd, 0, vec![]),                              // CD read
        (0x001f, dvd, 0, vec![]),                             // DVD read
    ]
}
