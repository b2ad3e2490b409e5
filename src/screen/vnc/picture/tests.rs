//! Pictures as viewers decode them.

use super::*;
use flate2::{Decompress, FlushDecompress};

/// A viewer's side: what it has made of the updates so far.
struct Viewer {
    image: Image,
    stream: Decompress,
}

impl Viewer {
    fn new(width: u32, height: u32) -> Viewer {
        Viewer { image: Image::black(width, height), stream: Decompress::new(true) }
    }

    fn set(&mut self, x: u32, y: u32, color: &[u8]) {
        let at = 3 * (y * self.image.width + x) as usize;
        self.image.rgb[at..at + 3].copy_from_slice(&[color[2], color[1], color[0]]);
    }

    /// Takes an update; gives the number of its rectangles.
    fn take(&mut self, update: &[u8]) -> u16 {
        assert_eq!(update[..2], [0, 0]);
        let count = u16::from_be_bytes([update[2], update[3]]);
        let mut rest = &update[4..];
        for _ in 0..count {
            let word = |at: usize| u32::from(u16::from_be_bytes([rest[at], rest[at + 1]]));
            let area = Area { x: word(0), y: word(2), width: word(4), height: word(6) };
            let encoding = i32::from_be_bytes(rest[8..12].try_into().expect("four bytes"));
            rest = &rest[12..];
            match encoding {
                encoding::RAW => {
                    let (pixels, after) = rest.split_at(4 * (area.width * area.height) as usize);
                    self.plain(area, pixels, 4);
                    rest = after;
                }
                encoding::ZRLE => {
                    let length = u32::from_be_bytes(rest[..4].try_into().expect("four bytes")) as usize;
                    let mut plain = Vec::with_capacity(4 * (area.width * area.height) as usize + 1000);
                    self.stream.decompress_vec(&rest[4..4 + length], &mut plain, FlushDecompress::Sync).expect("zlib");
                    self.tiles(area, &plain);
                    rest = &rest[4 + length..];
                }
                encoding::DESKTOP_SIZE => self.image = Image::black(area.width, area.height),
                _ => assert_eq!(area, Area { x: 0, y: 0, width: 0, height: 0 }),
            }
        }
        assert!(rest.is_empty());
        count
    }

    fn plain(&mut self, area: Area, pixels: &[u8], size: usize) {
        for (index, color) in (0..).zip(pixels.chunks_exact(size)) {
            self.set(area.x + index % area.width, area.y + index / area.width, color);
        }
    }

    fn tiles(&mut self, area: Area, mut plain: &[u8]) {
        for y in (area.y..area.y + area.height).step_by(64) {
            for x in (area.x..area.x + area.width).step_by(64) {
                let (width, height) = (64.min(area.x + area.width - x), 64.min(area.y + area.height - y));
                let tile = Area { x, y, width, height };
                let colors = usize::from(plain[0]);
                let (palette, after) = plain[1..].split_at(3 * colors);
                plain = after;
                if colors == 0 {
                    let (pixels, after) = plain.split_at(3 * (width * height) as usize);
                    self.plain(tile, pixels, 3);
                    plain = after;
                    continue;
                }
                let bits = [0, 0, 1, 2, 2].get(colors).copied().unwrap_or(4);
                for row in 0..height {
                    let bytes = (width * bits).div_ceil(8) as usize;
                    for column in 0..width {
                        let shift = 8 - bits - column * bits % 8;
                        let number = if bits == 0 { 0 } else { plain[(column * bits / 8) as usize] >> shift };
                        let at = 3 * usize::from(number & ((1u16 << bits) - 1) as u8);
                        self.set(x + column, y + row, &palette[at..at + 3]);
                    }
                    plain = &plain[bytes..];
                }
            }
        }
        assert!(plain.is_empty());
    }
}

fn picture(width: u32, height: u32, zrle: bool) -> (Picture, Viewer) {
    let mut picture = Picture::new(width, height);
    picture.skills = Skills { zrle, desktop_size: true, ..Skills::default() };
    (picture, Viewer::new(width, height))
}

/// So many colors in squares of five dots.
fn colored(width: u32, height: u32, colors: u32) -> Image {
    let mut image = Image::black(width, height);
    for (index, dot) in (0..).zip(image.rgb.chunks_exact_mut(3)) {
        let (x, y) = (index % width, index / width);
        let color = (x / 5 + 7 * (y / 5)) % colors;
        dot.copy_from_slice(&[(color * 31) as u8, (color >> 3) as u8, 255 - color as u8]);
    }
    image
}

#[test]
fn viewers_see_what_is_there() {
    for zrle in [false, true] {
        let (mut picture, mut viewer) = picture(200, 130, zrle);
        for colors in [1, 2, 3, 5, 16, 17, 300] {
            let image = colored(200, 130, colors);
            viewer.take(&picture.update(&image, false).expect("a change"));
            assert!(viewer.image == image, "{colors} colors");
            assert_eq!(picture.update(&image, false), None);
        }
        assert_eq!(viewer.take(&picture.update(&colored(200, 130, 300), true).expect("all of it")), 3);
    }
}

#[test]
fn only_changed_tiles_are_sent() {
    let (mut picture, mut viewer) = picture(640, 480, true);
    let mut image = colored(640, 480, 9);
    viewer.take(&picture.update(&image, false).expect("a change"));
    for x in [70, 130, 400] {
        image.rgb[3 * (100 * 640 + x)] ^= 0xff;
    }
    assert_eq!(viewer.take(&picture.update(&image, false).expect("a change")), 2, "two neighbours are one");
    assert!(viewer.image == image);
}

#[test]
fn another_resolution_is_followed_or_fitted() {
    let (mut picture, mut viewer) = picture(640, 480, true);
    let image = colored(800, 600, 30);
    viewer.take(&picture.update(&image, false).expect("a change"));
    assert!(viewer.image == image);
    picture.skills.desktop_size = false;
    viewer.take(&picture.update(&colored(1024, 100, 30), false).expect("a change"));
    assert_eq!((viewer.image.width, viewer.image.height), (800, 600));
    assert!(viewer.image.rgb[..3 * 800] == colored(1024, 100, 30).rgb[..3 * 800]);
    assert!(viewer.image.rgb[3 * 800 * 100..].iter().all(|byte| *byte == 0));
}

#[test]
fn skills_are_acknowledged_once() {
    let (mut picture, mut viewer) = picture(64, 64, true);
    picture.skills = Skills { zrle: true, pointer_type: true, extended_key: true, ..Skills::default() };
    assert_eq!(viewer.take(&picture.update(&colored(64, 64, 2), false).expect("a change")), 3);
    assert_eq!(viewer.take(&picture.update(&colored(64, 64, 3), false).expect("a change")), 1);
}
