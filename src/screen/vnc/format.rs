//! How a viewer wants its pixels (RFC 6143 §7.4).

/// A pixel format with true colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelFormat {
    /// 8, 16 or 32.
    bits: u8,
    depth: u8,
    big_endian: bool,
    /// The largest value of red, green and blue.
    maximum: [u16; 3],
    /// Where their lowest bits are.
    shift: [u8; 3],
}

/// Three bytes in 32 bits: blue lowest.
pub const NATURAL: PixelFormat =
    PixelFormat { bits: 32, depth: 24, big_endian: false, maximum: [255; 3], shift: [16, 8, 0] };

/// Bytes of a format on the wire.
pub const LENGTH: usize = 16;

impl PixelFormat {
    /// From the wire. `None`: one that nobody has, or one with a color map.
    pub fn decode(bytes: &[u8; LENGTH]) -> Option<PixelFormat> {
        let [bits, depth, big_endian, true_color, r0, r1, g0, g1, b0, b1, red, green, blue, ..] = *bytes;
        let maximum = [[r0, r1], [g0, g1], [b0, b1]].map(u16::from_be_bytes);
        let shift = [red, green, blue];
        let fits = maximum.iter().zip(shift).all(|(maximum, shift)| {
            (*maximum).wrapping_add(1).is_power_of_two()
                && shift < bits
                && u32::from(shift) + maximum.trailing_ones() <= u32::from(bits)
        });
        (matches!(bits, 8 | 16 | 32) && true_color != 0 && fits).then_some(PixelFormat {
            bits,
            depth,
            big_endian: big_endian != 0,
            maximum,
            shift,
        })
    }

    /// For the wire.
    pub fn encode(&self) -> [u8; LENGTH] {
        let PixelFormat { bits, depth, big_endian, maximum, shift } = *self;
        let [red, green, blue] = maximum.map(u16::to_be_bytes);
        let mut bytes = [0; LENGTH];
        bytes[..4].copy_from_slice(&[bits, depth, u8::from(big_endian), 1]);
        bytes[4..10].copy_from_slice(&[red, green, blue].concat());
        bytes[10..13].copy_from_slice(&shift);
        bytes
    }

    fn pixel(&self, rgb: [u8; 3]) -> u32 {
        (0..3).fold(0, |pixel, index| {
            let maximum = u32::from(self.maximum[index]);
            pixel | ((u32::from(rgb[index]) * maximum + 127) / 255) << self.shift[index]
        })
    }

    /// Appends a pixel.
    pub fn put(&self, rgb: [u8; 3], out: &mut Vec<u8>) {
        let length = usize::from(self.bits / 8);
        let pixel = self.pixel(rgb);
        match self.big_endian {
            true => out.extend_from_slice(&pixel.to_be_bytes()[4 - length..]),
            false => out.extend_from_slice(&pixel.to_le_bytes()[..length]),
        }
    }

    /// Appends a pixel as ZRLE has it: of 32 bits that hold 24, only those three bytes (RFC 6143 §7.7.5).
    pub fn put_compressed(&self, rgb: [u8; 3], out: &mut Vec<u8>) {
        let color_bits = (0..3).fold(0, |bits, index| bits | u32::from(self.maximum[index]) << self.shift[index]);
        if self.bits != 32 || self.depth > 24 {
            return self.put(rgb, out);
        }
        let start = out.len();
        self.put(rgb, out);
        if color_bits >> 24 == 0 {
            out.remove(if self.big_endian { start } else { start + 3 });
        } else if color_bits & 0xff == 0 {
            out.remove(if self.big_endian { start + 3 } else { start });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(put: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out);
        out
    }

    #[test]
    fn pixels_in_several_formats() {
        let color = [0xff, 0x80, 0x01];
        assert_eq!(bytes(|out| NATURAL.put(color, out)), [0x01, 0x80, 0xff, 0]);
        assert_eq!(bytes(|out| NATURAL.put_compressed(color, out)), [0x01, 0x80, 0xff]);
        let upper = PixelFormat { big_endian: true, shift: [24, 16, 8], ..NATURAL };
        assert_eq!(bytes(|out| upper.put(color, out)), [0xff, 0x80, 0x01, 0]);
        assert_eq!(bytes(|out| upper.put_compressed(color, out)), [0xff, 0x80, 0x01]);
        let high = PixelFormat { bits: 16, depth: 16, big_endian: false, maximum: [31, 63, 31], shift: [11, 5, 0] };
        assert_eq!(bytes(|out| high.put([0xff, 0, 0xff], out)), [0x1f, 0xf8]);
        assert_eq!(bytes(|out| high.put_compressed([0, 0xff, 0], out)), [0xe0, 0x07]);
        for format in [NATURAL, upper, high] {
            assert_eq!(PixelFormat::decode(&format.encode()), Some(format));
        }
    }

    #[test]
    fn formats_that_make_no_sense_are_refused() {
        let mut bytes = NATURAL.encode();
        for (index, value) in [(0, 24), (0, 0), (3, 0), (10, 25), (12, 255), (5, 0xfe)] {
            let before = std::mem::replace(&mut bytes[index], value);
            assert_eq!(PixelFormat::decode(&bytes), None, "{index} {value}");
            bytes[index] = before;
        }
        assert_eq!(PixelFormat::decode(&[0xff; LENGTH]), None);
        let nothing_far_away = [32, 24, 0, 1, 0, 0, 0, 0, 0, 0, 32, 32, 32, 0, 0, 0];
        assert_eq!(PixelFormat::decode(&nothing_far_away), None);
    }
}
