//! Pictures of the VGA's modes: dots by hand where they tell something, a hash for the whole.

use super::Bench;
use super::modes::{self, CGA, LINEAR, PLANAR, TEXT_80_25};
use crate::vga::render::Image;

impl Bench {
    /// The font's characters: an outline with the character's own bits in row 3.
    fn set_font(&mut self) {
        for character in 0..=255u8 {
            let at = 4 * 32 * u64::from(character);
            let region = self.memory.region(self.vga.framebuffer).expect("a region");
            for row in 0..16 {
                let bits = [0xff, 0x81, 0x81, character][if row == 0 || row == 15 { 0 } else { (row & 3) as usize }];
                self.memory.region_store(region, at + 4 * row + 2, &[bits]);
            }
        }
    }
}

fn hash(image: &Image) -> String {
    blake3::hash(&image.rgb).to_hex()[..16].to_owned()
}

fn dot(image: &Image, x: u32, y: u32) -> [u8; 3] {
    let at = 3 * (y * image.width + x) as usize;
    [image.rgb[at], image.rgb[at + 1], image.rgb[at + 2]]
}

#[test]
fn text_with_cursor_colors_and_line_graphics() {
    let mut bench = Bench::new();
    bench.set_mode(&TEXT_80_25);
    bench.set_font();
    bench.store(0xb_8000, b"H\x1fi\x4e\xc4\x07");
    bench.indexed(0x3d4, 0x0f, 80);
    let image = bench.image();
    assert_eq!((image.width, image.height), (720, 400));
    assert_eq!(dot(&image, 0, 0), [0xff, 0xff, 0xff]);
    assert_eq!(dot(&image, 8, 0), [0, 0, 0xaa], "the ninth dot has the background");
    assert_eq!(dot(&image, 26, 0), [0xaa; 3], "but of a line-drawing character");
    assert_eq!(dot(&image, 0, 29), dot(&image, 0, 30), "the cursor is on the second row");
    assert_eq!(hash(&image), "25227b73ad83d4f9");
    bench.indexed(0x3d4, 0x0a, 0x20);
    assert_ne!(bench.image(), image, "without a cursor");
}

#[test]
fn a_split_screen_shows_the_beginning_below() {
    let mut bench = Bench::new();
    bench.set_mode(&TEXT_80_25);
    bench.set_font();
    bench.store(0xb_8000, b"0\x07");
    bench.store(0xb_8000 + 160, b"1\x07");
    bench.indexed(0x3d4, 0x0d, 80);
    bench.indexed(0x3d4, 0x11, 0x0e);
    for (register, value) in [(7, 0x0f), (9, 0x0f), (0x18, 199)] {
        bench.indexed(0x3d4, register, value);
    }
    let image = bench.image();
    let row = |y: u32| (0..8).fold(0, |bits, x| bits << 1 | u8::from(dot(&image, x, y) != [0; 3]));
    assert_eq!((row(3), row(203)), (b'1', b'0'));
}

#[test]
fn pictures_of_graphics_modes() {
    let mut bench = Bench::new();
    bench.set_mode(&PLANAR);
    for color in 0..16u8 {
        bench.indexed(0x3c4, 2, color);
        bench.store(0xa_0000 + 80 * u64::from(color), &[0xf0; 80]);
    }
    let image = bench.image();
    assert_eq!((image.width, image.height), (640, 480));
    assert_eq!(dot(&image, 8, 14), [0xff, 0xff, 0x55]);
    assert_eq!(dot(&image, 4, 14), [0; 3]);
    assert_eq!(hash(&image), "5e2f147944e751d8");

    bench.set_mode(&LINEAR);
    bench.store(0xa_0000, &[0; 1600]);
    bench.store(0xa_0000 + 320, &[1, 2, 3, 4]);
    let image = bench.image();
    assert_eq!((image.width, image.height), (640, 400));
    assert_eq!((dot(&image, 2, 2), dot(&image, 3, 3)), ([0, 0xaa, 0], [0, 0xaa, 0]));
    for (x, y) in (0..200).flat_map(|y| (0..320).map(move |x| (x, y))) {
        let color = usize::from(bench.load(0xa_0000 + u64::from(320 * y + x)));
        let expected = modes::COLORS.get(color).map_or([0; 3], |color| color.map(|part| part << 2 | part >> 4));
        assert_eq!([dot(&image, 2 * x, 2 * y), dot(&image, 2 * x + 1, 2 * y + 1)], [expected; 2], "{x}, {y}");
    }

    // Unchained ("mode X"): a plane for each of four neighbours.
    bench.indexed(0x3c4, 4, 0x06);
    bench.indexed(0x3d4, 0x14, 0);
    bench.indexed(0x3d4, 0x17, 0xe3);
    bench.indexed(0x3c4, 2, 0x04);
    bench.store(0xa_0000, &[12]);
    let image = bench.image();
    assert_eq!((dot(&image, 4, 0), dot(&image, 6, 0)), ([0xff, 0x55, 0x55], [0; 3]));

    let mut bench = Bench::new();
    bench.set_mode(&CGA);
    bench.store(0xb_8000, &[0b0001_1011]);
    bench.store(0xb_a000, &[0b1110_0100]);
    let image = bench.image();
    assert_eq!((image.width, image.height), (640, 400));
    let line = |y: u32| [0, 2, 4, 6].map(|x| dot(&image, x, y));
    let [black, blue, green, cyan] = [[0, 0, 0], [0, 0, 0xaa], [0, 0xaa, 0], [0, 0xaa, 0xaa]];
    assert_eq!((line(0), line(1)), ([black, blue, green, cyan], [black, blue, green, cyan]));
    assert_eq!((line(2), line(3)), ([cyan, green, blue, black], [cyan, green, blue, black]));
}

#[test]
fn pictures_of_packed_pixels() {
    let mut bench = Bench::new();
    bench.set_mode(&TEXT_80_25);
    bench.out(0x3ce, 6);
    bench.out(0x3cf, 5);
    let red = [0xff, 0, 0];
    for (bits, bytes) in
        [(8, vec![12]), (15, vec![0, 0x7c]), (16, vec![0, 0xf8]), (24, vec![0, 0, 0xff]), (32, vec![0, 0, 0xff, 0])]
    {
        bench.dispi_mode(800, 600, bits);
        let pitch = 800 * bytes.len() as u64;
        let at = 599 * pitch + 799 * bytes.len() as u64;
        bench.dispi(5, (at >> 16) as u16);
        bench.store(0xa_0000 + (at & 0xffff), &bytes);
        let image = bench.image();
        assert_eq!((image.width, image.height), (800, 600));
        assert_eq!(dot(&image, 799, 599), if bits == 8 { [0xff, 0x55, 0x55] } else { red }, "{bits}");
        assert!(image.rgb[..image.rgb.len() - 3].iter().all(|byte| *byte == 0), "{bits}: cleared at the start");
        bench.dispi(9, 599);
        assert_eq!(dot(&bench.image(), 799, 0), dot(&image, 799, 599), "panned");
    }
    bench.dispi(4, 0);
    assert_eq!((bench.image().width, bench.image().height), (640, 400), "the VGA again");
}
