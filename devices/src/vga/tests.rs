//! Register-level tests of the VGA, and pictures of its modes.

use super::*;
use crate::drives::Drives;
use crate::output::Outputs;
use crate::state::{Random, assert_round_trip};
use ftemu_cpu::Icount;
use modes::{LINEAR, PLANAR, TEXT_80_25};

mod modes;
mod pictures;

/// A VGA with its memory.
struct Bench {
    vga: Vga,
    memory: Memory,
}

impl Bench {
    fn new() -> Bench {
        let mut memory = Memory::new(1 << 20).expect("memory");
        let vga = Vga::new(Vga::add_regions(&mut memory).expect("regions"));
        Bench { vga, memory }
    }

    fn out(&mut self, port: u16, value: u8) {
        self.vga.port_write(&mut self.memory, port, u16::from(value));
    }

    fn input(&mut self, port: u16) -> u8 {
        self.vga.port_read(0, port) as u8
    }

    fn indexed(&mut self, port: u16, index: u8, value: u8) {
        self.out(port, index);
        self.out(port + 1, value);
    }

    fn attribute(&mut self, index: u8, value: u8) {
        self.out(0x3c0, index);
        self.out(0x3c0, value);
    }

    fn dispi(&mut self, register: u16, value: u16) {
        self.vga.port_write(&mut self.memory, 0x1ce, register);
        self.vga.port_write(&mut self.memory, 0x1cf, value);
    }

    fn dispi_read(&mut self, register: u16) -> u16 {
        self.vga.port_write(&mut self.memory, 0x1ce, register);
        self.vga.port_read(0, 0x1d0)
    }

    fn dispi_mode(&mut self, width: u16, height: u16, bits: u16) {
        for (register, value) in [(4, 0), (1, width), (2, height), (3, bits), (4, 0x41)] {
            self.dispi(register, value);
        }
    }

    fn store(&mut self, address: u64, bytes: &[u8]) {
        for (index, byte) in (0..).zip(bytes) {
            self.vga.window_write(&mut self.memory, address + index, 1, u64::from(*byte));
        }
    }

    fn load(&mut self, address: u64) -> u8 {
        self.vga.window_read(&self.memory, address, 1) as u8
    }

    fn image(&self) -> Image {
        self.vga.render(&self.memory)
    }

    fn configure(&mut self, register: u8, value: u32) {
        let Bench { vga, memory } = self;
        let (mut drives, mut outputs) = (Drives::new([]), Outputs::default());
        let mut context = Context { now: Icount(0), now_ns: 0, memory, drives: &mut drives, outputs: &mut outputs };
        vga.configure(register, 4, value, &mut context);
    }

    fn mmio(&mut self, offset: u64, size: u8, value: Option<u64>) -> u64 {
        let Bench { vga, memory } = self;
        let (mut drives, mut outputs) = (Drives::new([]), Outputs::default());
        let mut context = Context { now: Icount(0), now_ns: 0, memory, drives: &mut drives, outputs: &mut outputs };
        match value {
            Some(value) => {
                vga.write(&mut context, REGISTERS, offset, size, value);
                0
            }
            None => vga.read(&mut context, REGISTERS, offset, size),
        }
    }
}

#[test]
fn without_a_mode_the_screen_is_dark() {
    assert_eq!(Bench::new().image(), Image::dark());
}

#[test]
fn registers_that_exist_keep_their_bits() {
    let mut bench = Bench::new();
    bench.out(0x3c2, 0x67);
    assert_eq!(bench.input(0x3cc), 0x67);
    for (port, index, kept) in
        [(0x3c4, 2, 0x0f), (0x3c4, 4, 0x0e), (0x3ce, 8, 0xff), (0x3ce, 5, 0x7b), (0x3d4, 0x18, 0xff)]
    {
        bench.indexed(port, index, 0xff);
        assert_eq!(bench.input(port + 1), kept, "{port:x}.{index:x}");
    }
    bench.indexed(0x3d4, 0x30, 0xff);
    assert_eq!(bench.input(0x3d5), 0);
    assert_eq!(bench.input(0x3b5), 0xff, "monochrome addresses are another adapter's");
    bench.out(0x3c2, 0x66);
    bench.out(0x3b4, 0x18);
    assert_eq!((bench.input(0x3b5), bench.input(0x3d5)), (0xff, 0xff));
    bench.indexed(0x3b4, 0x18, 0x12);
    assert_eq!(bench.input(0x3b5), 0x12);
}

#[test]
fn vertical_retrace_end_protects_the_first_crtc_registers() {
    let mut bench = Bench::new();
    bench.set_mode(&TEXT_80_25);
    bench.indexed(0x3d4, 0, 0x11);
    assert_eq!(bench.input(0x3d5), 0x5f);
    bench.indexed(0x3d4, 7, 0x00);
    assert_eq!(bench.input(0x3d5), 0x0f, "only bit 8 of line compare");
    bench.indexed(0x3d4, 0x11, 0x0e);
    bench.indexed(0x3d4, 0, 0x11);
    assert_eq!(bench.input(0x3d5), 0x11);
}

#[test]
fn attribute_flip_flop_and_palette_access() {
    let mut bench = Bench::new();
    bench.out(0x3c2, 1);
    bench.input(0x3da);
    bench.attribute(5, 0x15);
    bench.out(0x3c0, 0x25);
    assert_eq!((bench.input(0x3c0), bench.input(0x3c1)), (0x25, 0x15));
    bench.out(0x3c0, 0x3f);
    assert_eq!(bench.input(0x3c1), 0x15, "the display has the palette");
    bench.out(0x3c0, 0x12);
    bench.input(0x3da);
    bench.attribute(0x12, 0xff);
    bench.out(0x3c0, 0x12);
    assert_eq!(bench.input(0x3c1), 0x3f);
}

#[test]
fn dac_colors_are_written_whole_and_read_back() {
    let mut bench = Bench::new();
    bench.out(0x3c8, 255);
    [1, 2, 3, 4, 5, 6].into_iter().for_each(|value| bench.out(0x3c9, value));
    assert_eq!((bench.input(0x3c8), bench.input(0x3c7)), (1, 0));
    bench.out(0x3c7, 255);
    let read: Vec<u8> = (0..6).map(|_| bench.input(0x3c9)).collect();
    assert_eq!(read, [1, 2, 3, 4, 5, 6]);
    assert_eq!((bench.input(0x3c7), bench.input(0x3c6)), (3, 0xff));
}

#[test]
fn the_retrace_comes_70_or_60_times_a_second() {
    for (mode, frames, display) in [(&TEXT_80_25, 70, 400), (&PLANAR, 59, 480)] {
        let mut bench = Bench::new();
        bench.set_mode(mode);
        let status = |bench: &mut Bench, now_ns| bench.vga.port_read(now_ns, 0x3da);
        let samples: Vec<u16> = (0..1_000_000).map(|step| status(&mut bench, 1000 * step)).collect();
        let retraces = samples.windows(2).filter(|pair| pair[0] & 8 == 0 && pair[1] & 8 != 0).count();
        assert_eq!(retraces, frames + usize::from(display == 480));
        let shown = samples.iter().filter(|status| **status & 1 == 0).count();
        assert!((600_000..800_000).contains(&shown), "{shown}");
        assert!(samples.iter().all(|status| status & 8 == 0 || status & 1 != 0));
    }
}

#[test]
fn write_modes_read_modes_and_latches() {
    let mut bench = Bench::new();
    bench.set_mode(&PLANAR);
    bench.store(0xa_0000, &[0x5a]);
    for plane in 0..4 {
        bench.indexed(0x3ce, 4, plane);
        assert_eq!(bench.load(0xa_0000), 0x5a);
    }
    // Write mode 0: set/reset in planes 0 and 2, rotation elsewhere, half of the bits.
    bench.indexed(0x3ce, 0, 0x01);
    bench.indexed(0x3ce, 1, 0x05);
    bench.indexed(0x3ce, 3, 0x04);
    bench.indexed(0x3ce, 8, 0xf0);
    bench.store(0xa_0000, &[0x21]);
    let planes: Vec<u8> = (0..4)
        .map(|plane| {
            bench.indexed(0x3ce, 4, plane);
            bench.load(0xa_0000)
        })
        .collect();
    assert_eq!(planes, [0xfa, 0x1a, 0x0a, 0x1a]);
    // Write mode 1 copies the latches.
    bench.indexed(0x3ce, 5, 0x01);
    bench.store(0xa_0001, &[0xff]);
    bench.indexed(0x3ce, 4, 0);
    assert_eq!(bench.load(0xa_0001), 0xfa);
    // Write mode 2 with exclusive or: a color for each plane.
    bench.indexed(0x3ce, 5, 0x02);
    bench.indexed(0x3ce, 3, 0x18);
    bench.load(0xa_0001);
    bench.store(0xa_0001, &[0x03]);
    assert_eq!(bench.load(0xa_0001), 0x0a);
    // Write mode 3: the byte narrows the bit mask.
    bench.indexed(0x3ce, 5, 0x03);
    bench.indexed(0x3ce, 3, 0x00);
    bench.indexed(0x3ce, 8, 0xff);
    bench.load(0xa_0001);
    bench.store(0xa_0001, &[0x81]);
    assert_eq!(bench.load(0xa_0001), 0x8b);
    // Read mode 1 finds a color.
    bench.indexed(0x3ce, 5, 0x08);
    bench.indexed(0x3ce, 2, 0x01);
    bench.indexed(0x3ce, 7, 0x01);
    assert_eq!(bench.load(0xa_0001), 0x8b);
    bench.indexed(0x3ce, 7, 0x00);
    assert_eq!(bench.load(0xa_0001), 0xff);
}

#[test]
fn map_mask_odd_even_and_chain_four() {
    let mut bench = Bench::new();
    bench.set_mode(&PLANAR);
    bench.indexed(0x3c4, 2, 0x02);
    bench.store(0xa_0010, &[0x77]);
    let cell = |bench: &Bench, address| {
        let region = bench.memory.region(bench.vga.framebuffer).expect("a region");
        Pixels::of(&bench.memory, region).cell(address)
    };
    assert_eq!(cell(&bench, 0x10), [0, 0x77, 0, 0]);
    bench.set_mode(&LINEAR);
    bench.store(0xa_0010, &[1, 2, 3, 4]);
    assert_eq!(cell(&bench, 0x10), [1, 2, 3, 4]);
    assert_eq!(bench.load(0xa_0012), 3);
    bench.set_mode(&TEXT_80_25);
    bench.store(0xb_8020, b"A\x1f");
    assert_eq!(cell(&bench, 0x20), [b'A', 0x1f, 0, 0], "planes 2 and 3 are not in the map mask");
    assert_eq!((bench.load(0xb_8020), bench.load(0xb_8021)), (b'A', 0x1f));
    assert_eq!(bench.load(0xa_0020), 0xff, "not in this adapter's window");
    assert_eq!(bench.vga.window_read(&bench.memory, 0xb_8020, 2), 0x1f41);
}

#[test]
fn display_interface_by_its_registers() {
    let mut bench = Bench::new();
    assert_eq!(bench.dispi_read(0), 0xb0c5);
    bench.dispi(0, 0xb0c0);
    assert_eq!(bench.dispi_read(0), 0xb0c0);
    bench.dispi(0, 0x1234);
    assert_eq!(bench.dispi_read(0), 0xb0c0);
    assert_eq!(bench.dispi_read(10), 256);
    bench.dispi(4, 2);
    assert_eq!([1, 2, 3].map(|register| bench.dispi_read(register)), [2560, 1600, 32]);
    bench.dispi_mode(1024, 768, 32);
    assert_eq!([1, 2, 3, 4, 6, 7].map(|register| bench.dispi_read(register)), [1024, 768, 32, 0x41, 1024, 4096]);
    bench.dispi(1, 640);
    assert_eq!(bench.dispi_read(1), 1024, "a mode that runs keeps its shape");
    bench.dispi(6, 2048);
    bench.dispi(9, 5);
    assert_eq!([6, 7, 9].map(|register| bench.dispi_read(register)), [2048, 2048, 5]);
    bench.dispi(6, u16::MAX);
    assert_eq!(bench.dispi_read(6), 2048, "no memory for that");
    for (width, height, bits) in [(2560, 1600, 33), (0, 1, 8), (5000, 1, 8), (640, 480, 4)] {
        bench.dispi_mode(width, height, bits);
        assert_eq!(bench.dispi_read(4) & 1, 0, "{width} x {height} x {bits}");
    }
}

#[test]
fn registers_behind_base_address_2() {
    let mut bench = Bench::new();
    assert_eq!(bench.mmio(0x500, 2, None), 0xb0c5);
    assert_eq!(bench.mmio(0x501, 1, None), 0xb0);
    assert_eq!((bench.mmio(0x600, 4, None), bench.mmio(0x604, 4, None)), (8, 0x1e1e_1e1e));
    for (register, value) in [(1, 640), (2, 480), (3, 32), (4, 0x41)] {
        bench.mmio(0x500 + 2 * register, 2, Some(value));
    }
    assert_eq!(bench.dispi_read(4), 0x41);
    bench.mmio(0x402, 1, Some(0x63));
    assert_eq!((bench.input(0x3cc), bench.mmio(0x40c, 1, None)), (0x63, 0x63));
    assert_eq!(bench.image(), Image::dark(), "blank until the display has the palette");
    bench.mmio(0x41a, 1, None);
    bench.mmio(0x400, 1, Some(0x20));
    assert_eq!(bench.image().width, 640);
    assert_eq!(bench.mmio(0xff8, 8, None), 0);
}

#[test]
fn regions_follow_the_base_addresses() {
    let mut bench = Bench::new();
    let bios: Vec<u8> = (0..70_000u32).map(|index| index as u8).collect();
    bench.vga.set_rom(&mut bench.memory, &bios);
    bench.configure(0x10, 0xe000_0000);
    bench.configure(0x30, 0xe200_0001);
    let mut bytes = [0; 4];
    assert!(!bench.memory.read(0xe000_0000, &mut bytes));
    bench.configure(0x04, 2);
    assert!(bench.memory.store(0xe000_0004, &[9]));
    assert!(bench.memory.read(0xe200_0001, &mut bytes));
    assert_eq!(bytes, [1, 2, 3, 4]);
    bench.configure(0x10, 0xe100_0000);
    assert!(bench.memory.read(0xe100_0004, &mut bytes));
    assert_eq!(bytes[0], 9);
    assert!(!bench.memory.read(0xe000_0004, &mut bytes));
    assert_eq!(bench.vga.function().read(0, 4), 0x1111_1234);
    assert_eq!(bench.vga.function().read(8, 4), 0x0300_0002);
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0x7_6a);
    let mut bench = Bench::new();
    for step in 0..200_000 {
        let value = random.next();
        match random.below(8) {
            0..=2 => bench.out(0x3b0 + random.below(0x30) as u16, value as u8),
            3 => drop(bench.vga.port_read(value >> 20, 0x3b0 + random.below(0x30) as u16)),
            4 => bench.dispi(random.below(12) as u16, value as u16 & [0x3ff, 0xffff, 0x63][random.below(3) as usize]),
            5 => bench.vga.window_write(&mut bench.memory, 0xa_0000 + random.below(0x2_0004), 1 << (value & 3), value),
            6 => drop(bench.vga.window_read(&bench.memory, 0xa_0000 + random.below(0x2_0004), 1 << (value & 3))),
            _ => drop(bench.mmio(random.below(0x1000), 1 << (value & 3), (value & 16 == 0).then_some(value >> 8))),
        }
        if step % 4000 == 0 {
            let image = bench.image();
            assert_eq!(image.rgb.len(), 3 * image.width as usize * image.height as usize);
            assert_round_trip(&bench.vga);
        }
    }
}
