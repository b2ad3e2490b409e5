//! What a viewer has to be sent so that it sees the guest's screen: the tiles that have changed, raw or as ZRLE (RFC
//! 6143 §7.6.1, §7.7.1, §7.7.5, §7.7.6).

use flate2::{Compress, Compression, FlushCompress};
use ftemu_devices::vga::Image;

use super::format::{NATURAL, PixelFormat};
use super::wire::{Skills, encoding};

/// Edge of a tile, in dots: ZRLE's.
const TILE: u32 = 64;
/// Colors of the largest palette that is tried.
const PALETTE: usize = 16;

/// What the viewer has, and how it wants the rest.
pub struct Picture {
    /// How it wants its pixels.
    pub format: PixelFormat,
    /// What it knows.
    pub skills: Skills,
    shown: Image,
    stream: Compress,
    /// Its keys have places, its pointer moves: told once.
    told: bool,
}

/// A part of the screen, in dots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Area {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

impl Picture {
    /// Of a viewer that has been told this size, and shows nothing yet.
    pub fn new(width: u32, height: u32) -> Picture {
        let stream = Compress::new(Compression::fast(), true);
        Picture { format: NATURAL, skills: Skills::default(), shown: Image::black(width, height), stream, told: false }
    }

    /// The size that the viewer knows.
    pub fn size(&self) -> (u16, u16) {
        (dots(self.shown.width), dots(self.shown.height))
    }

    /// The message that brings the viewer from what it has to `image`; all of it, if it wants that. `None`: nothing has
    /// changed.
    pub fn update(&mut self, image: &Image, all: bool) -> Option<Vec<u8>> {
        let resized = (image.width, image.height) != (self.shown.width, self.shown.height);
        let fitted;
        let mut rectangles = Vec::new();
        let image = match resized {
            true if !self.skills.desktop_size => {
                fitted = fit(image, self.shown.width, self.shown.height);
                &fitted
            }
            true => {
                let area = Area { x: 0, y: 0, width: image.width, height: image.height };
                rectangles.push(head(area, encoding::DESKTOP_SIZE));
                image
            }
            false => image,
        };
        let all = all || resized && self.skills.desktop_size;
        if !std::mem::replace(&mut self.told, true) {
            rectangles.extend(self.tell());
        }
        for area in changed(&self.shown, image, all) {
            rectangles.push(self.rectangle(image, area));
        }
        self.shown.clone_from(image);
        if rectangles.is_empty() {
            return None;
        }
        let count = u16::try_from(rectangles.len()).ok()?;
        Some([vec![0, 0], count.to_be_bytes().to_vec(), rectangles.concat()].concat())
    }

    /// What the viewer may use from now on.
    fn tell(&self) -> Vec<Vec<u8>> {
        let nowhere = Area { x: 0, y: 0, width: 0, height: 0 };
        let mut told = Vec::new();
        if self.skills.extended_key {
            told.push(head(nowhere, encoding::EXTENDED_KEY));
        }
        if self.skills.pointer_type {
            // x is 0 for movement, 1 for positions.
            told.push(head(nowhere, encoding::POINTER_TYPE));
        }
        told
    }

    fn rectangle(&mut self, image: &Image, area: Area) -> Vec<u8> {
        if !self.skills.zrle {
            let mut bytes = head(area, encoding::RAW);
            colors(image, area).for_each(|color| self.format.put(color, &mut bytes));
            return bytes;
        }
        let mut plain = Vec::new();
        for y in (area.y..area.y + area.height).step_by(TILE as usize) {
            for x in (area.x..area.x + area.width).step_by(TILE as usize) {
                let width = TILE.min(area.x + area.width - x);
                let height = TILE.min(area.y + area.height - y);
                tile(&self.format, image, Area { x, y, width, height }, &mut plain);
            }
        }
        let packed = self.compress(&plain);
        let length = u32::try_from(packed.len()).unwrap_or(u32::MAX);
        [head(area, encoding::ZRLE), length.to_be_bytes().to_vec(), packed].concat()
    }

    /// All rectangles of a viewer are one zlib stream.
    fn compress(&mut self, mut plain: &[u8]) -> Vec<u8> {
        let mut packed = Vec::with_capacity(plain.len() / 4 + 64);
        loop {
            let (before, room) = (self.stream.total_in(), packed.capacity() - packed.len());
            let outcome = self.stream.compress_vec(plain, &mut packed, FlushCompress::Sync);
            debug_assert!(outcome.is_ok(), "compression into memory does not fail");
            let taken = usize::try_from(self.stream.total_in() - before).unwrap_or(usize::MAX);
            plain = plain.get(taken..).unwrap_or_default();
            // It is done when it leaves room.
            if plain.is_empty() && packed.len() < packed.capacity() && room != 0 {
                return packed;
            }
            packed.reserve(4096);
        }
    }
}

fn dots(length: u32) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

fn head(area: Area, encoding: i32) -> Vec<u8> {
    let sizes = [area.x, area.y, area.width, area.height].map(|length| dots(length).to_be_bytes());
    [sizes.concat(), encoding.to_be_bytes().to_vec()].concat()
}

/// What of a line an area has, as bytes.
fn row(image: &Image, x: u32, y: u32, width: u32) -> &[u8] {
    let start = 3 * (y as usize * image.width as usize + x as usize);
    image.rgb.get(start..start + 3 * width as usize).unwrap_or_default()
}

fn colors(image: &Image, area: Area) -> impl Iterator<Item = [u8; 3]> {
    let rows = (area.y..area.y + area.height).flat_map(move |y| row(image, area.x, y, area.width).chunks_exact(3));
    rows.map(|color| [color[0], color[1], color[2]])
}

/// The picture with another size: cut off, or with black around.
fn fit(image: &Image, width: u32, height: u32) -> Image {
    let mut fitted = Image::black(width, height);
    let common = 3 * width.min(image.width) as usize;
    let lines = image.rgb.chunks_exact(3 * image.width.max(1) as usize);
    for (target, source) in fitted.rgb.chunks_exact_mut(3 * width.max(1) as usize).zip(lines) {
        target[..common].copy_from_slice(&source[..common]);
    }
    fitted
}

/// Tiles that differ, neighbours in a row as one; or everything.
fn changed(before: &Image, image: &Image, all: bool) -> Vec<Area> {
    let mut areas: Vec<Area> = Vec::new();
    for y in (0..image.height).step_by(TILE as usize) {
        let height = TILE.min(image.height - y);
        for x in (0..image.width).step_by(TILE as usize) {
            let width = TILE.min(image.width - x);
            let mut rows = y..y + height;
            if !all && rows.all(|y| row(before, x, y, width) == row(image, x, y, width)) {
                continue;
            }
            match areas.last_mut() {
                Some(last) if last.y == y && last.x + last.width == x => last.width += width,
                _ => areas.push(Area { x, y, width, height }),
            }
        }
    }
    areas
}

/// One tile: a single color, up to sixteen of them packed, or plain pixels.
fn tile(format: &PixelFormat, image: &Image, area: Area, out: &mut Vec<u8>) {
    let mut palette: Vec<[u8; 3]> = Vec::with_capacity(PALETTE);
    for color in colors(image, area) {
        if palette.last() != Some(&color) && !palette.contains(&color) {
            if palette.len() == PALETTE {
                out.push(0);
                return colors(image, area).for_each(|color| format.put_compressed(color, out));
            }
            palette.push(color);
        }
    }
    out.push(palette.len() as u8);
    palette.iter().for_each(|color| format.put_compressed(*color, out));
    let bits = match palette.len() {
        0 | 1 => return,
        2 => 1,
        3 | 4 => 2,
        _ => 4,
    };
    for y in area.y..area.y + area.height {
        let line = row(image, area.x, y, area.width);
        for dots in line.chunks(3 * 8 / bits) {
            let packed = dots.chunks_exact(3).enumerate().fold(0, |packed, (index, color)| {
                let number = palette.iter().position(|known| known == color).unwrap_or(0);
                packed | number << (8 - bits - bits * index)
            });
            out.push(packed as u8);
        }
    }
}

#[cfg(test)]
mod tests;
