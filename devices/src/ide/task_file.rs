//! The command block registers of one device (ATA/ATAPI-6 §6.2): each but Status and Error is two bytes deep, for
//! 48-bit addresses, and an address is a cylinder, head and sector, 28 bits or 48 bits.

use crate::state::saved;

/// Status: busy; the other bits mean nothing then.
pub const BSY: u8 = 1 << 7;
/// Status: device ready.
pub const DRDY: u8 = 1 << 6;
/// Status: seek complete, as devices up to ATA-3 say it and drivers still look for.
pub const DSC: u8 = 1 << 4;
/// Status: data request.
pub const DRQ: u8 = 1 << 3;
/// Status: the Error register says why (CHK of a packet device).
pub const ERR: u8 = 1 << 0;
/// Status of a device that waits for a command.
pub const READY: u8 = DRDY | DSC;

/// Error: command aborted.
pub const ABRT: u8 = 1 << 2;
/// Error: address not found.
pub const IDNF: u8 = 1 << 4;
/// Error: uncorrectable data.
pub const UNC: u8 = 1 << 6;

/// Device: the address is a block's number, not cylinder, head and sector.
const LBA: u8 = 1 << 6;
/// Device: bits 7 and 5 are obsolete and read 1.
pub const DEVICE_FIXED: u8 = 0xa0;

/// A register that remembers the content before the last write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// What was written last.
    pub current: u8,
    /// What was written before, seen while HOB is set.
    pub previous: u8,
}
saved!(Pair { current, previous });

impl Pair {
    /// A write by the host.
    pub fn write(&mut self, value: u8) {
        *self = Pair { current: value, previous: self.current };
    }

    /// What the host reads.
    pub fn read(self, previous: bool) -> u8 {
        if previous { self.previous } else { self.current }
    }
}

/// Heads and sectors of a track in addresses by cylinder, head and sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// 1 to 16.
    pub heads: u8,
    /// 1 to 255.
    pub sectors: u8,
}
saved!(Geometry { heads, sectors });

/// How a command gives its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 28 bits, or cylinder, head and sector.
    Narrow,
    /// 48 bits, with a count of 16 bits.
    Wide,
}

/// The registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskFile {
    /// Error.
    pub error: u8,
    /// Features.
    pub features: Pair,
    /// Sector Count; Interrupt Reason of a packet device.
    pub count: Pair,
    /// LBA Low, or sector number.
    pub low: Pair,
    /// LBA Mid, or cylinder low; Byte Count Low of a packet device.
    pub mid: Pair,
    /// LBA High, or cylinder high; Byte Count High of a packet device.
    pub high: Pair,
    /// Device.
    pub device: u8,
    /// Status.
    pub status: u8,
}
saved!(TaskFile { error, features, count, low, mid, high, device, status });

impl TaskFile {
    /// How many sectors a command asks for; zero means the most.
    pub fn sectors(&self, width: Width) -> u64 {
        let (count, most) = match width {
            Width::Narrow => (u64::from(self.count.current), 0x100),
            Width::Wide => (u64::from(self.count.previous) << 8 | u64::from(self.count.current), 0x1_0000),
        };
        if count == 0 { most } else { count }
    }

    /// The sector a command begins at; `None` where cylinder, head and sector name none.
    pub fn sector(&self, width: Width, geometry: Geometry) -> Option<u64> {
        let low = u64::from(self.high.current) << 16 | u64::from(self.mid.current) << 8 | u64::from(self.low.current);
        if width == Width::Wide {
            let previous = [self.high.previous, self.mid.previous, self.low.previous];
            return Some(previous.into_iter().fold(0, |sum, byte| sum << 8 | u64::from(byte)) << 24 | low);
        }
        let head = u64::from(self.device & 15);
        if self.device & LBA != 0 {
            return Some(head << 24 | low);
        }
        let (cylinder, sector) = (low >> 8, low & 0xff);
        let (heads, sectors) = (u64::from(geometry.heads), u64::from(geometry.sectors));
        let exists = head < heads && (1..=sectors).contains(&sector);
        exists.then(|| (cylinder * heads + head) * sectors + sector - 1)
    }

    /// Shows a sector's address, as a command does that stops at it or returns one.
    pub fn set_sector(&mut self, sector: u64, width: Width, geometry: Geometry) {
        let mut low = sector;
        let (heads, sectors) = (u64::from(geometry.heads.max(1)), u64::from(geometry.sectors.max(1)));
        if width == Width::Narrow {
            let head = if self.device & LBA != 0 {
                sector >> 24
            } else {
                let track = sector / sectors;
                low = ((track / heads) << 8) + sector % sectors + 1;
                track % heads
            };
            self.device = self.device & 0xf0 | head as u8 & 15;
        }
        let bytes = low.to_le_bytes();
        self.low = Pair { current: bytes[0], previous: bytes[3] };
        self.mid = Pair { current: bytes[1], previous: bytes[4] };
        self.high = Pair { current: bytes[2], previous: bytes[5] };
    }

    /// Byte Count, or the signature.
    pub fn set_bytes(&mut self, bytes: u16) {
        let [low, high] = bytes.to_le_bytes();
        self.mid.current = low;
        self.high.current = high;
    }

    /// Byte Count.
    pub fn bytes(&self) -> u16 {
        u16::from_le_bytes([self.mid.current, self.high.current])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry { heads: 16, sectors: 63 };

    #[test]
    fn addresses_of_three_kinds() {
        let mut file = TaskFile { device: 0xe1, ..TaskFile::default() };
        for pair in [&mut file.low, &mut file.mid, &mut file.high, &mut file.count] {
            pair.write(0x12);
            pair.write(0x34);
        }
        assert_eq!(file.sector(Width::Narrow, GEOMETRY), Some(0x0134_3434));
        assert_eq!(file.sector(Width::Wide, GEOMETRY), Some(0x1212_1234_3434));
        assert_eq!((file.sectors(Width::Narrow), file.sectors(Width::Wide)), (0x34, 0x1234));
        file.device = 0xa5;
        assert_eq!(file.sector(Width::Narrow, GEOMETRY), Some((0x3434 * 16 + 5) * 63 + 0x33));
        file.low.write(64);
        assert_eq!(file.sector(Width::Narrow, GEOMETRY), None);
        file.low.write(0);
        assert_eq!(file.sector(Width::Narrow, GEOMETRY), None);
    }

    #[test]
    fn what_is_shown_is_read_back() {
        let mut file = TaskFile::default();
        for (device, width, sector) in [
            (0xa0, Width::Narrow, 1_000_001),
            (0xe0, Width::Narrow, 0x0abc_def0),
            (0xe0, Width::Wide, 0x1234_5678_9abc),
        ] {
            file.device = device;
            file.set_sector(sector, width, GEOMETRY);
            assert_eq!(file.sector(width, GEOMETRY), Some(sector));
        }
    }

    #[test]
    fn a_count_of_zero_is_the_most() {
        let file = TaskFile::default();
        assert_eq!((file.sectors(Width::Narrow), file.sectors(Width::Wide)), (256, 65536));
    }
}
