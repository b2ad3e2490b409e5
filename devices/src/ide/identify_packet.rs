//! IDENTIFY PACKET DEVICE: the 256 words a CD-ROM drive says about itself (ATA/ATAPI-6 §8.16, table 32).

use super::device::Device;
use super::identify::{modes, seal, text};

/// NOP, DEVICE RESET, PACKET, power management.
const COMMANDS_82: u16 = 1 << 14 | 1 << 9 | 1 << 4 | 1 << 3;
const FIRMWARE: &str = "1.0";
const MODEL: &str = "FTEMU CD-ROM";

/// The words, in 512 bytes.
pub fn words(device: &Device) -> Vec<u8> {
    let mut words = [0u16; 256];
    text(&mut words[10..20], device.attached.as_ref().map_or("", |attached| &attached.serial));
    text(&mut words[23..27], FIRMWARE);
    text(&mut words[27..47], MODEL);
    // A packet device of CD-ROM type, removable, asks for the packet within 50 us without interrupt; 12 bytes.
    words[0] = 2 << 14 | 5 << 8 | 1 << 7 | 2 << 5;
    words[49] = 1 << 11 | 1 << 10 | 1 << 9 | 1 << 8; // IORDY, LBA, DMA
    (words[82], words[83], words[84]) = (COMMANDS_82, 1 << 14, 1 << 14);
    (words[85], words[86], words[87]) = (COMMANDS_82, 0, 1 << 14);
    modes(&mut words, device.settings.dma_mode);
    seal(words)
}
