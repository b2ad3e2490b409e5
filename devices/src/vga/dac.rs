//! The palette DAC: 256 colors of three components, 6 bits each, or 8 when the Bochs extension says so.

use crate::state::saved;

/// The DAC (INMOS IMSG171 data sheet).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dac {
    mask: u8,
    write_index: u8,
    read_index: u8,
    /// The component that comes next: 0 red, 1 green, 2 blue.
    component: u8,
    /// Whether the last index was one to read from.
    reading: bool,
    /// The components of a color that is being written.
    partial: [u8; 3],
    colors: [u8; 768],
}
saved!(Dac { mask, write_index, read_index, component, reading, partial, colors });

impl Default for Dac {
    fn default() -> Self {
        let (mask, write_index, read_index, component) = (0xff, 0, 0, 0);
        Dac { mask, write_index, read_index, component, reading: false, partial: [0; 3], colors: [0; 768] }
    }
}

impl Dac {
    /// Reads 3C6h to 3C9h.
    pub fn read(&mut self, port: u16) -> u8 {
        match port {
            0x3c6 => self.mask,
            0x3c7 => u8::from(self.reading) * 3,
            0x3c8 => self.write_index,
            _ => {
                let value = self.colors[3 * usize::from(self.read_index) + usize::from(self.component % 3)];
                if self.next_component() {
                    self.read_index = self.read_index.wrapping_add(1);
                }
                value
            }
        }
    }

    /// Writes 3C6h to 3C9h.
    pub fn write(&mut self, port: u16, value: u8) {
        match port {
            0x3c6 => self.mask = value,
            0x3c7 => (self.read_index, self.reading, self.component) = (value, true, 0),
            0x3c8 => (self.write_index, self.reading, self.component) = (value, false, 0),
            _ => {
                self.partial[usize::from(self.component % 3)] = value;
                if self.next_component() {
                    // A color changes as a whole.
                    self.colors[3 * usize::from(self.write_index)..][..3].copy_from_slice(&self.partial);
                    self.write_index = self.write_index.wrapping_add(1);
                }
            }
        }
    }

    /// Whether the color is complete.
    fn next_component(&mut self) -> bool {
        self.component = (self.component % 3 + 1) % 3;
        self.component == 0
    }

    /// What the monitor gets for each pixel value: red, green, blue.
    pub fn colors(&self, eight_bit: bool) -> [[u8; 3]; 256] {
        std::array::from_fn(|pixel| {
            let color = usize::from(pixel as u8 & self.mask);
            std::array::from_fn(|component| {
                let value = self.colors[3 * color + component];
                if eight_bit { value } else { (value & 0x3f) << 2 | (value & 0x3f) >> 4 }
            })
        })
    }
}
