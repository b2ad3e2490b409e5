//! Reading the screen: a picture of `ftemu screenshot`, and the letters in it.
//!
//! In the VGA's text modes every character is a cell of 9 x 16 dots in two colors, in the shapes of the VGA BIOS, whose table is
//! found by that of the letter A. Linux's framebuffer console draws the same letters into cells of 8 x 16.

use std::collections::BTreeMap;
use std::path::Path;

/// Rows of the letter A in IBM's font of 8 x 16.
const LETTER_A: [u8; 16] = [0, 0, 0x10, 0x38, 0x6c, 0xc6, 0xc6, 0xfe, 0xc6, 0xc6, 0xc6, 0xc6, 0, 0, 0, 0];
/// Height of a cell, and the width of the screen in the text modes with cells of 9 dots.
const CELL: usize = 16;
const TEXT_MODE: usize = 720;

/// A picture in red, green and blue.
#[derive(PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    dots: Vec<[u8; 3]>,
}

impl Picture {
    /// Reads a PNG file.
    pub fn read(path: &Path) -> Self {
        let file = std::io::BufReader::new(std::fs::File::open(path).expect("a picture"));
        let mut reader = png::Decoder::new(file).read_info().expect("a picture");
        let mut bytes = vec![0; reader.output_buffer_size().expect("a size")];
        let info = reader.next_frame(&mut bytes).expect("a picture");
        assert_eq!(info.color_type, png::ColorType::Rgb);
        let dots = bytes.as_chunks::<3>().0.to_vec();
        Self { width: info.width as usize, height: info.height as usize, dots }
    }

    /// How much of it has this color, in percent.
    pub fn percent_of(&self, color: [u8; 3]) -> usize {
        100 * self.dots.iter().filter(|dot| **dot == color).count() / self.dots.len().max(1)
    }

    /// Its text, a line for each row of characters; cells that hold no letter are `?`.
    pub fn text(&self, letters: &Letters) -> String {
        let cell = if self.width == TEXT_MODE { 9 } else { 8 };
        let mut text = String::new();
        for y in (0..self.height / CELL).map(|row| row * CELL) {
            let line: String = (0..self.width / cell).map(|column| self.letter(column * cell, y, letters)).collect();
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    fn letter(&self, x: usize, y: usize, letters: &Letters) -> char {
        let mut shape = [0u8; CELL];
        // No letter reaches into this corner.
        let background = self.dots[y * self.width + x];
        for (row, bits) in shape.iter_mut().enumerate() {
            let start = (y + row) * self.width + x;
            let bit = |bits, dot: &[u8; 3]| bits << 1 | u8::from(*dot != background);
            *bits = self.dots[start..start + 8].iter().fold(0, bit);
        }
        letters.0.get(&shape).copied().unwrap_or('?')
    }
}

/// The shapes of letters.
pub struct Letters(BTreeMap<[u8; 16], char>);

impl Letters {
    /// The shapes in a VGA BIOS.
    pub fn of(video_bios: &[u8]) -> Self {
        let place = video_bios.windows(16).position(|rows| rows == LETTER_A).expect("the font of a VGA BIOS");
        let shapes = video_bios[place - usize::from(b'A') * 16..].as_chunks::<16>().0;
        let printable = shapes.iter().zip(0u8..=0x7e).filter(|(_, code)| (0x20..0x7f).contains(code));
        Self(printable.map(|(shape, code)| (*shape, char::from(code))).collect())
    }
}
