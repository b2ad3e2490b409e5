//! The Bochs display interface (Bochs documentation, "VBE extension", interface version B0C5h): any resolution, packed
//! pixels, a linear framebuffer and 64 KiB banks, behind an index and a 16-bit data register.

use super::vram;
use crate::state::saved;

/// Register numbers.
pub mod register {
    /// Interface version.
    pub const ID: u16 = 0;
    /// Pixels in a line.
    pub const XRES: u16 = 1;
    /// Lines.
    pub const YRES: u16 = 2;
    /// Bits in a pixel.
    pub const BPP: u16 = 3;
    /// On, capabilities, DAC width, linear framebuffer, keep the memory.
    pub const ENABLE: u16 = 4;
    /// Which 64 KiB are at A0000h.
    pub const BANK: u16 = 5;
    /// Pixels from a line to the next.
    pub const VIRTUAL_WIDTH: u16 = 6;
    /// Lines in memory.
    pub const VIRTUAL_HEIGHT: u16 = 7;
    /// First pixel shown.
    pub const X_OFFSET: u16 = 8;
    /// First line shown.
    pub const Y_OFFSET: u16 = 9;
    /// Display memory in units of 64 KiB.
    pub const VIDEO_MEMORY: u16 = 10;
}
use register::{BANK, BPP, ENABLE, ID, VIDEO_MEMORY, VIRTUAL_HEIGHT, VIRTUAL_WIDTH, X_OFFSET, XRES, Y_OFFSET, YRES};

const VERSION_FIRST: u16 = 0xb0c0;
const VERSION: u16 = 0xb0c5;
const ENABLED: u16 = 1;
const CAPABILITIES: u16 = 2;
const EIGHT_BIT_DAC: u16 = 0x20;
const KEEP_MEMORY: u16 = 0x80;
const ENABLE_BITS: u16 = ENABLED | CAPABILITIES | EIGHT_BIT_DAC | 0x40 | KEEP_MEMORY;
/// The largest mode: what 16 MiB hold at 32 bits in a pixel.
const MAXIMUM: [u16; 3] = [2560, 1600, 32];

/// What the interface shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Pixels in a line.
    pub width: u16,
    /// Lines.
    pub height: u16,
    /// Bits in a pixel: 8, 15, 16, 24 or 32.
    pub bits: u16,
    /// Bytes from a line to the next.
    pub pitch: u64,
    /// Where the first pixel lies.
    pub start: u64,
}

/// The registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispi {
    index: u16,
    version: u16,
    resolution: [u16; 3],
    enable: u16,
    bank: u16,
    virtual_width: u16,
    offset: [u16; 2],
}
saved!(Dispi { index, version, resolution, enable, bank, virtual_width, offset });

impl Default for Dispi {
    fn default() -> Self {
        let (index, enable, bank, virtual_width) = (0, 0, 0, 0);
        Dispi { index, version: VERSION, resolution: [0; 3], enable, bank, virtual_width, offset: [0; 2] }
    }
}

impl Dispi {
    /// Port 1CEh: the index.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Port 1CEh.
    pub fn select(&mut self, index: u16) {
        self.index = index;
    }

    /// Reads a register.
    pub fn read(&self, register: u16) -> u16 {
        let capability = self.enable & CAPABILITIES != 0;
        match register {
            ID => self.version,
            XRES | YRES | BPP if capability => MAXIMUM[usize::from(register - XRES)],
            XRES | YRES | BPP => self.resolution[usize::from(register - XRES)],
            ENABLE => self.enable,
            BANK => self.bank,
            VIRTUAL_WIDTH => self.virtual_width,
            VIRTUAL_HEIGHT => self.virtual_height(),
            X_OFFSET | Y_OFFSET => self.offset[usize::from(register - X_OFFSET)],
            VIDEO_MEMORY => (vram::BYTES >> 16) as u16,
            _ => 0,
        }
    }

    /// Writes a register. `true`: display memory is to be cleared.
    #[must_use]
    pub fn write(&mut self, register: u16, value: u16) -> bool {
        match register {
            ID if (VERSION_FIRST..=VERSION).contains(&value) => self.version = value,
            // A mode that runs keeps its shape.
            XRES | YRES | BPP if self.is_enabled() => {}
            XRES | YRES | BPP => self.resolution[usize::from(register - XRES)] = value,
            ENABLE => return self.set_enable(value),
            BANK => self.bank = value & ((vram::BYTES >> 16) - 1) as u16,
            VIRTUAL_WIDTH => self.set_virtual_width(value),
            X_OFFSET | Y_OFFSET => self.offset[usize::from(register - X_OFFSET)] = value,
            _ => {}
        }
        false
    }

    fn set_enable(&mut self, value: u16) -> bool {
        let value = value & ENABLE_BITS;
        let starts = value & ENABLED != 0 && !self.is_enabled();
        if starts && !self.is_valid() {
            self.enable = value & !ENABLED;
            return false;
        }
        self.enable = value;
        if starts {
            self.virtual_width = self.resolution[0];
            self.offset = [0; 2];
            self.bank = 0;
        }
        starts && value & KEEP_MEMORY == 0
    }

    /// Whether there is memory for the mode in the registers.
    fn is_valid(&self) -> bool {
        let [width, height, bits] = self.resolution;
        let bytes = u64::from(width) * u64::from(height) * self.pixel_bytes();
        matches!(bits, 8 | 15 | 16 | 24 | 32)
            && (1..=MAXIMUM[0]).contains(&width)
            && (1..=MAXIMUM[1]).contains(&height)
            && bytes <= vram::BYTES
    }

    fn set_virtual_width(&mut self, pixels: u16) {
        let pitch = u64::from(pixels) * self.pixel_bytes();
        if pixels >= self.resolution[0] && pitch * u64::from(self.resolution[1]) <= vram::BYTES {
            self.virtual_width = pixels;
        }
    }

    fn virtual_height(&self) -> u16 {
        let pitch = u64::from(self.virtual_width) * self.pixel_bytes();
        u16::try_from(vram::BYTES.checked_div(pitch).unwrap_or(0)).unwrap_or(u16::MAX)
    }

    fn pixel_bytes(&self) -> u64 {
        u64::from(self.resolution[2]).div_ceil(8)
    }

    /// Whether it has taken over from the VGA.
    pub fn is_enabled(&self) -> bool {
        self.enable & ENABLED != 0
    }

    /// Whether the DAC's components have 8 bits.
    pub fn eight_bit_dac(&self) -> bool {
        self.enable & EIGHT_BIT_DAC != 0
    }

    /// Where in display memory an offset of the window at A0000h lies.
    pub fn banked(&self, offset: u32) -> u64 {
        (u64::from(self.bank) << 16) + u64::from(offset)
    }

    /// What is shown while it is enabled.
    pub fn mode(&self) -> Option<Mode> {
        let [width, height, bits] = self.resolution;
        // What was loaded from a checkpoint need not have passed through `write`.
        if !self.is_enabled() || !self.is_valid() {
            return None;
        }
        let pitch = u64::from(self.virtual_width) * self.pixel_bytes();
        let [x, y] = self.offset.map(u64::from);
        Some(Mode { width, height, bits, pitch, start: y * pitch + x * self.pixel_bytes() })
    }
}
