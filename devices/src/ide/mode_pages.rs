//! MODE SENSE (10): the pages of a CD-ROM drive's parameters (MMC-3 §7; SPC-2 §8.4). None can be changed.

use super::packet::{Packet, Unit};
use super::sense::{self, Sense};

const ERROR_RECOVERY: u8 = 0x01;
const AUDIO_CONTROL: u8 = 0x0e;
const CAPABILITIES: u8 = 0x2a;
const ALL: u8 = 0x3f;
/// Medium type: data disc of 120 mm; no disc; door open.
const DATA_DISC: u8 = 0x01;
const DOOR_OPEN: u8 = 0x71;

/// The answer: a header of eight bytes and the pages asked for.
pub fn sense(packet: &Packet, unit: &Unit) -> Result<Vec<u8>, Sense> {
    let (control, code) = (packet[2] >> 6, packet[2] & 0x3f);
    if control == 3 {
        return Err(sense::NOT_SAVED);
    }
    let mut pages = Vec::new();
    for page in [ERROR_RECOVERY, AUDIO_CONTROL, CAPABILITIES].into_iter().filter(|page| [*page, ALL].contains(&code)) {
        let mut bytes = page_bytes(page, unit);
        if control == 1 {
            bytes[2..].fill(0); // what can be changed: nothing
        }
        pages.extend(bytes);
    }
    if pages.is_empty() {
        return Err(sense::INVALID_FIELD);
    }
    let length = (pages.len() + 6) as u16;
    let medium = if unit.open { DOOR_OPEN } else { DATA_DISC };
    let [high, low] = length.to_be_bytes();
    Ok([&[high, low, medium, 0, 0, 0, 0, 0], &pages[..]].concat())
}

fn page_bytes(page: u8, unit: &Unit) -> Vec<u8> {
    match page {
        ERROR_RECOVERY => vec![page, 6, 0, 5, 0, 0, 0, 0],
        // Two channels at full volume.
        AUDIO_CONTROL => vec![page, 14, 4, 0, 0, 0, 0, 75, 1, 0xff, 2, 0xff, 0, 0, 0, 0],
        _ => capabilities(unit),
    }
}

/// CD/DVD capabilities and mechanical status: reads CD-R, CD-RW and DVD-ROM, a tray that locks and ejects.
fn capabilities(unit: &Unit) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes[..2].copy_from_slice(&[CAPABILITIES, 18]);
    bytes[2] = 0x0b; // reads CD-R, CD-RW, DVD-ROM
    bytes[4] = 0x70; // mode 2 form 1 and 2, several sessions
    bytes[6] = 0x29 | u8::from(unit.locked) << 1; // tray, ejects, locks, lock state
    bytes[8..10].copy_from_slice(&SPEED.to_be_bytes());
    bytes[12..14].copy_from_slice(&512_u16.to_be_bytes()); // KiB of buffer
    bytes[14..16].copy_from_slice(&SPEED.to_be_bytes());
    bytes
}

/// kB/s: 24 times an audio disc's.
const SPEED: u16 = 4234;
