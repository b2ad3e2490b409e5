//! The VGA's own modes, line by line as the CRT controller scans them: text, four planes, two bits and eight bits in a
//! pixel, split screens, panning and double scanning all come out of the same counters.

use super::Image;
use crate::vga::attribute::PLANE_ENABLE;
use crate::vga::attribute::{BLINK, EIGHT_BIT, LINE_GRAPHICS, MODE_CONTROL, MONOCHROME, PANNING, PANNING_COMPATIBLE};
use crate::vga::registers::{Registers, crtc, graphics, sequencer};
use crate::vga::vram::Pixels;

/// Clocking mode: eight dots in a character, half the dot clock, screen off.
const EIGHT_DOTS: u8 = 1;
const HALF_CLOCK: u8 = 8;
const SCREEN_OFF: u8 = 0x20;
/// Graphics mode: CGA's two-bit pixels, and eight-bit pixels.
const INTERLEAVED: u8 = 0x20;
const SHIFT_256: u8 = 0x40;
/// Graphics miscellaneous: no text.
const GRAPHICS: u8 = 1;
/// The font lies in this plane.
const FONT_PLANE: usize = 2;
/// Rows of a font's character.
const FONT_ROWS: u32 = 32;

/// What is the same for all lines.
struct Scan<'a> {
    registers: &'a Registers,
    pixels: Pixels<'a>,
    palette: [u8; 16],
    /// Character clocks in a line.
    characters: u32,
    dots_per_character: u32,
    cursor: Option<u32>,
}

/// Where a line is in memory and in its row of characters.
#[derive(Clone, Copy)]
struct Line {
    address: u32,
    row_scan: u32,
    panning: u32,
}

/// The picture.
pub fn render(registers: &Registers, colors: &[[u8; 3]; 256], pixels: Pixels) -> Image {
    let scan = Scan::new(registers, pixels);
    let height = registers.vertical(crtc::VERTICAL_END, 1, 6) + 1;
    let stretch = 1 + u32::from(registers.sequencer[sequencer::CLOCKING_MODE] & HALF_CLOCK != 0);
    let dots = scan.characters * scan.dots_per_character;
    if registers.crtc[crtc::HORIZONTAL_TOTAL] == 0 || registers.sequencer[sequencer::RESET] & 3 != 3 {
        return Image::dark();
    }
    let mut image = Image::black(dots * stretch, height);
    if !registers.attribute.displays() || registers.sequencer[sequencer::CLOCKING_MODE] & SCREEN_OFF != 0 {
        return image;
    }
    let mut row = Vec::new();
    let rows = image.rgb.chunks_exact_mut(3 * (dots * stretch) as usize);
    for (line, target) in Lines::new(registers, height).zip(rows) {
        row.clear();
        scan.dots(line, &mut row);
        let shown = row.iter().skip(line.panning as usize).flat_map(|dot| std::iter::repeat_n(dot, stretch as usize));
        for (target, dot) in target.chunks_exact_mut(3).zip(shown) {
            target.copy_from_slice(&colors[usize::from(*dot)]);
        }
    }
    image
}

/// The counters from line to line.
struct Lines {
    next: u32,
    height: u32,
    compare: u32,
    maximum_scan: u32,
    /// Lines that each scan line is shown, 1 or 2.
    repeat: u32,
    offset: u32,
    line: Line,
    split_panning: u32,
}

impl Lines {
    fn new(registers: &Registers, height: u32) -> Lines {
        let crtc = &registers.crtc;
        let preset = crtc[crtc::PRESET_ROW_SCAN];
        let maximum = crtc[crtc::MAXIMUM_SCAN_LINE];
        let panning = panning(registers);
        let compatible = registers.attribute.register(MODE_CONTROL) & PANNING_COMPATIBLE != 0;
        let address = registers.address(crtc::START_ADDRESS) + u32::from(preset >> 5 & 3);
        let line_compare = registers.vertical(crtc::LINE_COMPARE, 4, 31);
        Lines {
            next: 0,
            height,
            compare: line_compare | u32::from(maximum >> 6 & 1) << 9,
            maximum_scan: u32::from(maximum & 0x1f),
            repeat: 1 + u32::from(maximum >> 7),
            offset: 2 * u32::from(crtc[crtc::OFFSET]),
            line: Line { address, row_scan: u32::from(preset & 0x1f), panning },
            split_panning: if compatible { 0 } else { panning },
        }
    }
}

impl Iterator for Lines {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.next == self.height {
            return None;
        }
        let line = self.line;
        if self.next == self.compare {
            self.line = Line { address: 0, row_scan: 0, panning: self.split_panning };
        } else if (self.next + 1).is_multiple_of(self.repeat) {
            self.line.row_scan += 1;
            if self.line.row_scan > self.maximum_scan {
                self.line.row_scan = 0;
                self.line.address += self.offset;
            }
        }
        self.next += 1;
        Some(line)
    }
}

/// Dots that are left out at the left.
fn panning(registers: &Registers) -> u32 {
    let value = u32::from(registers.attribute.register(PANNING));
    if registers.graphics[graphics::MODE] & SHIFT_256 != 0 {
        value & 6
    } else if registers.sequencer[sequencer::CLOCKING_MODE] & EIGHT_DOTS != 0 {
        value & 7
    } else {
        (value + 1) % 9
    }
}

impl<'a> Scan<'a> {
    fn new(registers: &'a Registers, pixels: Pixels<'a>) -> Scan<'a> {
        let is_text = registers.graphics[graphics::MISCELLANEOUS] & GRAPHICS == 0;
        let nine = is_text && registers.sequencer[sequencer::CLOCKING_MODE] & EIGHT_DOTS == 0;
        let shown = registers.crtc[crtc::CURSOR_START] & 0x20 == 0;
        Scan {
            registers,
            pixels,
            palette: registers.attribute.palette(),
            characters: u32::from(registers.crtc[crtc::HORIZONTAL_END]) + 1,
            dots_per_character: if nine { 9 } else { 8 },
            cursor: (is_text && shown).then(|| registers.address(crtc::CURSOR_LOCATION) & 0xffff),
        }
    }

    /// The numbers that go to the DAC for a line, and some more for panning.
    fn dots(&self, line: Line, dots: &mut Vec<u8>) {
        let mode = self.registers.graphics[graphics::MODE];
        let is_text = self.registers.graphics[graphics::MISCELLANEOUS] & GRAPHICS == 0;
        for character in 0..self.characters + 2 {
            let counter = (line.address + self.step(character)) & 0xffff;
            let cell = self.pixels.cell(self.memory_address(counter, line.row_scan));
            if is_text {
                self.text(counter, cell, line.row_scan, dots);
            } else if mode & SHIFT_256 != 0 {
                self.eight_bit(cell, dots);
            } else {
                let cell = if mode & INTERLEAVED != 0 { interleave(cell) } else { cell };
                let pixels = (0..8).rev().map(|bit| pixel(cell, bit));
                dots.extend(pixels.map(|pixel| self.palette[pixel]));
            }
        }
    }

    /// How far the memory counter has come.
    fn step(&self, character: u32) -> u32 {
        let crtc = &self.registers.crtc;
        if crtc[crtc::UNDERLINE] & 0x20 != 0 {
            character / 4
        } else if crtc[crtc::MODE_CONTROL] & 8 != 0 {
            character / 2
        } else {
            character
        }
    }

    /// Byte, word and doubleword addressing; row scans as address bits 13 and 14.
    fn memory_address(&self, counter: u32, row_scan: u32) -> u32 {
        let control = self.registers.crtc[crtc::MODE_CONTROL];
        let mut address = if self.registers.crtc[crtc::UNDERLINE] & 0x40 != 0 {
            counter << 2 | counter >> 14 & 3
        } else if control & 0x40 == 0 {
            counter << 1 | counter >> (if control & 0x20 != 0 { 15 } else { 13 }) & 1
        } else {
            counter
        };
        if control & 1 == 0 {
            address = address & !0x2000 | (row_scan & 1) << 13;
        }
        if control & 2 == 0 {
            address = address & !0x4000 | (row_scan >> 1 & 1) << 14;
        }
        address & 0xffff
    }

    /// Four pixels of two dots each.
    fn eight_bit(&self, cell: [u8; 4], dots: &mut Vec<u8>) {
        let direct = self.registers.attribute.register(MODE_CONTROL) & EIGHT_BIT != 0;
        for byte in cell {
            let dots_of = |nibble: u8| self.palette[usize::from(nibble & 0xf)];
            let pair = if direct { [byte; 2] } else { [dots_of(byte >> 4), dots_of(byte)] };
            dots.extend(pair);
        }
    }

    /// A row of a character.
    fn text(&self, counter: u32, cell: [u8; 4], row_scan: u32, dots: &mut Vec<u8>) {
        let mode = self.registers.attribute.register(MODE_CONTROL);
        let [character, attribute, ..] = cell;
        let mut bits = self.font(character, attribute, row_scan);
        let underline = u32::from(self.registers.crtc[crtc::UNDERLINE] & 0x1f);
        if mode & MONOCHROME != 0 && attribute & 7 == 1 && row_scan == underline || self.is_cursor(counter, row_scan) {
            bits = 0x1ff;
        }
        let background = if mode & BLINK != 0 { attribute >> 4 & 7 } else { attribute >> 4 };
        let (mut front, mut back) = (usize::from(attribute & 0xf), usize::from(background));
        if self.is_cursor(counter, row_scan) && front == back {
            (front, back) = (0xf, back);
        }
        let planes = usize::from(self.registers.attribute.register(PLANE_ENABLE));
        (front, back) = (front & planes, back & planes);
        let pair = [self.palette[back], self.palette[front]];
        dots.extend((0..self.dots_per_character).map(|dot| pair[usize::from(bits >> (8 - dot) & 1 != 0)]));
    }

    /// Nine dots of the font, the leftmost in bit 8.
    fn font(&self, character: u8, attribute: u8, row_scan: u32) -> u32 {
        let select = u32::from(self.registers.sequencer[sequencer::CHARACTER_MAP]);
        // Attribute bit 3 chooses between two fonts; each number's highest bit stands apart.
        let map = match attribute & 8 {
            0 => select & 3 | select >> 2 & 4,
            _ => select >> 2 & 3 | select >> 3 & 4,
        };
        let font = (map & 3) << 14 | (map >> 2) << 13;
        let row = font + FONT_ROWS * u32::from(character) + (row_scan & 0x1f);
        let bits = u32::from(self.pixels.cell(row)[FONT_PLANE]) << 1;
        let joins = self.registers.attribute.register(MODE_CONTROL) & LINE_GRAPHICS != 0;
        let ninth = if joins && (0xc0..=0xdf).contains(&character) { bits >> 1 & 1 } else { 0 };
        bits | ninth
    }

    fn is_cursor(&self, counter: u32, row_scan: u32) -> bool {
        let crtc = &self.registers.crtc;
        let rows = u32::from(crtc[crtc::CURSOR_START] & 0x1f)..=u32::from(crtc[crtc::CURSOR_END] & 0x1f);
        self.cursor == Some(counter) && rows.contains(&row_scan)
    }
}

/// The value of one of eight pixels.
fn pixel(cell: [u8; 4], bit: u32) -> usize {
    cell.iter().rev().fold(0, |pixel, plane| pixel << 1 | usize::from(plane >> bit & 1))
}

/// CGA's two-bit pixels: planes 0 and 1 hold the even and the odd byte of four pixels each, planes 2 and 3 as well for
/// the upper two bits.
fn interleave(cell: [u8; 4]) -> [u8; 4] {
    let pick = |even: u8, odd: u8, low: u32| {
        let bits = |byte: u8| (0..4).fold(0, |bits, pair| bits | (byte >> (2 * pair + low) & 1) << pair);
        bits(even) << 4 | bits(odd)
    };
    [pick(cell[0], cell[1], 0), pick(cell[0], cell[1], 1), pick(cell[2], cell[3], 0), pick(cell[2], cell[3], 1)]
}
