//! IDENTIFY DEVICE: the 256 words a disk says about itself (ATA/ATAPI-6 §8.15, table 27).

use super::command::{MULTIPLE, RANGES};
use super::device::Device;

/// NOP, look-ahead, write cache, power management.
const COMMANDS_82: u16 = 1 << 14 | 1 << 6 | 1 << 5 | 1 << 3;
/// FLUSH CACHE EXT, FLUSH CACHE, 48-bit addresses.
const COMMANDS_83: u16 = 1 << 14 | 1 << 13 | 1 << 12 | 1 << 10;
/// WRITE DMA FUA EXT and WRITE MULTIPLE FUA EXT.
const COMMANDS_84: u16 = 1 << 14 | 1 << 6;
/// The version of the firmware: that of this chip.
const FIRMWARE: &str = "1.0";
const MODEL: &str = "FTEMU HARDDISK";

/// The words, in 512 bytes.
pub fn words(device: &Device) -> Vec<u8> {
    let mut words = [0u16; 256];
    let settings = &device.settings;
    capacity(&mut words, device);
    text(&mut words[10..20], device.attached.as_ref().map_or("", |attached| &attached.serial));
    text(&mut words[23..27], FIRMWARE);
    text(&mut words[27..47], MODEL);
    words[0] = 0x0040; // fixed disk
    words[47] = 0x8000 | u16::from(MULTIPLE);
    words[49] = 1 << 13 | 1 << 11 | 1 << 10 | 1 << 9 | 1 << 8; // standby timer, IORDY, LBA, DMA
    words[50] = 1 << 14;
    words[59] = u16::from(settings.multiple) | u16::from(settings.multiple != 0) << 8;
    (words[82], words[83], words[84]) = (COMMANDS_82, COMMANDS_83, COMMANDS_84);
    words[85] = COMMANDS_82 & !(1 << 6 | 1 << 5);
    words[85] |= u16::from(settings.look_ahead) << 6 | u16::from(settings.write_cache) << 5;
    (words[86], words[87]) = (COMMANDS_83 & !(1 << 14), COMMANDS_84);
    words[105] = RANGES as u16;
    words[106] = 1 << 14; // a physical sector is a logical one
    words[169] = 1; // TRIM
    modes(&mut words, settings.dma_mode);
    seal(words)
}

/// Size and geometry, by all three kinds of address.
fn capacity(words: &mut [u16; 256], device: &Device) {
    let sectors = device.sectors();
    let cylinders = |heads: u64, track: u64| (sectors / (heads * track).max(1)).clamp(1, 16383) as u16;
    (words[1], words[3], words[6]) = (cylinders(16, 63), 16, 63);
    let geometry = device.settings.geometry;
    let (heads, track) = (u16::from(geometry.heads), u16::from(geometry.sectors));
    let current = cylinders(u64::from(heads), u64::from(track));
    (words[54], words[55], words[56]) = (current, heads, track);
    number(&mut words[57..59], u64::from(current) * u64::from(heads) * u64::from(track));
    number(&mut words[60..62], sectors.min(0x0fff_ffff));
    number(&mut words[100..104], sectors.min(1 << 48));
}

/// PIO, multiword DMA and Ultra DMA modes, and which is chosen; the versions of the standard; the cable.
pub fn modes(words: &mut [u16; 256], chosen: u8) {
    let selected = |kind: u8| if chosen & 0xf8 == kind { 1 << (8 + (chosen & 7)) } else { 0 };
    words[53] = 7; // words 54-58, 64-70 and 88 mean something
    words[63] = 0x07 | selected(0x20);
    words[64] = 0x03; // PIO 3 and 4
    words[65..69].fill(120); // ns of a cycle
    words[80] = 0x00f0; // ATA/ATAPI-4 to -7
    words[88] = 0x3f | selected(0x40);
    words[93] = 1 << 14 | 1 << 13 | 1; // 80 conductors
}

/// A number of several words, the low one first.
fn number(words: &mut [u16], value: u64) {
    words.iter_mut().enumerate().for_each(|(index, word)| *word = (value >> (16 * index)) as u16);
}

/// Text: two characters a word, the first in the high byte, filled up with spaces; what is not printable is a space.
pub fn text(words: &mut [u16], text: &str) {
    let mut bytes = text.bytes().map(|byte| if byte.is_ascii_graphic() { byte } else { b' ' });
    for word in words {
        let [high, low] = [(); 2].map(|()| bytes.next().unwrap_or(b' '));
        *word = u16::from_be_bytes([high, low]);
    }
}

/// The words as bytes, with the checksum of word 255.
pub fn seal(mut words: [u16; 256]) -> Vec<u8> {
    words[255] = 0x00a5;
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    bytes[511] = sum.wrapping_neg();
    bytes
}
