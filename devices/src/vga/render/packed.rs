//! Packed pixels of the Bochs extension: 8 bits through the palette, or red, green and blue of 5 to 8 bits.

use super::Image;
use crate::vga::dispi::Mode;
use crate::vga::vram::Pixels;

/// The picture. What lies behind the end of memory is black.
pub fn render(mode: &Mode, colors: &[[u8; 3]; 256], pixels: Pixels) -> Image {
    let (width, height) = (u32::from(mode.width), u32::from(mode.height));
    let mut image = Image::black(width, height);
    let bytes = u64::from(mode.bits).div_ceil(8);
    for (row, line) in (0..).zip(image.rgb.chunks_exact_mut(3 * width as usize)) {
        let source = pixels.from(mode.start + row * mode.pitch, u64::from(width) * bytes);
        for (dot, pixel) in line.chunks_exact_mut(3).zip(source.chunks_exact(bytes as usize)) {
            dot.copy_from_slice(&match (mode.bits, pixel) {
                (8, [index]) => colors[usize::from(*index)],
                (15, [low, high]) => high_color(u16::from_le_bytes([*low, *high]), 5),
                (16, [low, high]) => high_color(u16::from_le_bytes([*low, *high]), 6),
                (_, [blue, green, red, ..]) => [*red, *green, *blue],
                _ => [0; 3],
            });
        }
    }
    image
}

/// Five bits of blue, five or six of green, five of red, from the lowest.
fn high_color(pixel: u16, green_bits: u16) -> [u8; 3] {
    let (blue, green, red) = (pixel & 31, pixel >> 5 & ((1 << green_bits) - 1), pixel >> (5 + green_bits) & 31);
    [widen(red, 5), widen(green, green_bits), widen(blue, 5)]
}

/// So many bits as eight: the highest ones are repeated below.
fn widen(value: u16, bits: u16) -> u8 {
    (value << (8 - bits) | value >> (2 * bits - 8)) as u8
}
