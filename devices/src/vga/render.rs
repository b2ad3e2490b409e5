//! What a monitor would show: a picture of the state, made without changing it.
//!
//! Nothing blinks in it: the cursor is drawn, blinking characters too, so that equal states give equal pictures.

mod packed;
mod scan;

use super::Vga;
use super::vram::Pixels;

/// A picture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Dots in a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Red, green and blue of each dot, line by line from the top.
    pub rgb: Vec<u8>,
}

/// What a monitor without a signal shows.
const DARK: (u32, u32) = (640, 480);

impl Image {
    /// A black picture.
    pub fn black(width: u32, height: u32) -> Image {
        Image { width, height, rgb: vec![0; 3 * width as usize * height as usize] }
    }

    /// What a monitor without a signal shows.
    pub fn dark() -> Image {
        Image::black(DARK.0, DARK.1)
    }
}

/// The picture of a VGA whose display memory is `pixels`.
pub fn render(vga: &Vga, pixels: Pixels) -> Image {
    match vga.dispi.mode() {
        Some(_) if !vga.registers.attribute.displays() => Image::dark(),
        Some(mode) => packed::render(&mode, &vga.registers.dac.colors(vga.dispi.eight_bit_dac()), pixels),
        None => scan::render(&vga.registers, &vga.registers.dac.colors(false), pixels),
    }
}
