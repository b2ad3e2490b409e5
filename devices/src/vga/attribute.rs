//! The attribute controller: sixteen palette registers, border, panning, and how a pixel becomes a number for the DAC.
//!
//! One port takes index and data in turn; reading input status 1 says that an index comes next.

use crate::state::saved;

/// Registers after the palette.
pub const MODE_CONTROL: usize = 0x10;
/// Which planes are displayed.
pub const PLANE_ENABLE: usize = 0x12;
/// Horizontal panning, in dots.
pub const PANNING: usize = 0x13;
/// The upper bits of what goes to the DAC.
pub const COLOR_SELECT: usize = 0x14;
const LENGTH: usize = 0x15;

/// Mode control: attributes of a monochrome display.
pub const MONOCHROME: u8 = 0x02;
/// Mode control: line-drawing characters reach into the ninth dot.
pub const LINE_GRAPHICS: u8 = 0x04;
/// Mode control: the top attribute bit blinks, instead of making the background bright.
pub const BLINK: u8 = 0x08;
/// Mode control: the part below the line compare does not pan.
pub const PANNING_COMPATIBLE: u8 = 0x20;
/// Mode control: pixels have 8 bits.
pub const EIGHT_BIT: u8 = 0x40;
/// Mode control: bits 5 and 4 come from the color select register.
const INTERNAL_PALETTE_SIZE: u8 = 0x80;
/// The index's bit that gives the palette to the display; without it the screen is blank.
const PALETTE_ADDRESS_SOURCE: u8 = 0x20;
/// Which bits of the registers after the palette exist.
const MASK: [u8; 5] = [0xef, 0xff, 0x3f, 0x0f, 0x0f];

/// The attribute controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attribute {
    index: u8,
    data_next: bool,
    registers: [u8; LENGTH],
}
saved!(Attribute { index, data_next, registers });

impl Attribute {
    /// Port 3C0h.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Port 3C1h.
    pub fn read(&self) -> u8 {
        self.register(usize::from(self.index & 0x1f))
    }

    /// Port 3C0h.
    pub fn write(&mut self, value: u8) {
        if !std::mem::replace(&mut self.data_next, true) {
            self.index = value & 0x3f;
            return;
        }
        self.data_next = false;
        let index = usize::from(self.index & 0x1f);
        match index {
            // The palette can only be changed while the display does not use it.
            0..=0xf if self.index & PALETTE_ADDRESS_SOURCE == 0 => self.registers[index] = value & 0x3f,
            MODE_CONTROL..LENGTH => self.registers[index] = value & MASK[index - MODE_CONTROL],
            _ => {}
        }
    }

    /// An index comes next.
    pub fn reset_flip_flop(&mut self) {
        self.data_next = false;
    }

    /// A register; those that do not exist are 0.
    pub fn register(&self, index: usize) -> u8 {
        self.registers.get(index).copied().unwrap_or(0)
    }

    /// Whether the display has the palette.
    pub fn displays(&self) -> bool {
        self.index & PALETTE_ADDRESS_SOURCE != 0
    }

    /// What goes to the DAC for each of the sixteen pixel values.
    pub fn palette(&self) -> [u8; 16] {
        let select = self.registers[COLOR_SELECT];
        let short = self.registers[MODE_CONTROL] & INTERNAL_PALETTE_SIZE != 0;
        std::array::from_fn(|pixel| {
            let color = self.registers[pixel & usize::from(self.registers[PLANE_ENABLE] & 0xf)];
            match short {
                true => color & 0xf | select << 4,
                false => color | (select & 0xc) << 4,
            }
        })
    }
}
