//! Register-level tests of the IDE function with a drive in memory: this file has the machine around it and reading and
//! writing by PIO; the rest is below.

mod commands;
mod dma;
mod hostile;
mod packets;

use super::*;
use crate::config::DriveKind;
use crate::drives::Drives;
use crate::output::Outputs;
use crate::storage::MemoryStorage;
use ftemu_cpu::{Icount, Memory};

const BSY: u8 = 0x80;
const READY: u8 = 0x50;
const DRQ: u8 = 0x08;
const ERR: u8 = 0x01;

/// Sectors of the disk and of the disc.
const DISK: u64 = 5000;
const DISC: u64 = 4 * 40;

/// The function, a disk as primary master and a CD-ROM drive as secondary master, and all they reach.
struct World {
    ide: Ide,
    memory: Memory,
    drives: Drives,
    outputs: Outputs,
    disk: MemoryStorage,
    disc: MemoryStorage,
    now_ns: u64,
}

/// A sector's bytes: its number, again and again.
fn pattern(sector: u64) -> Vec<u8> {
    sector.to_le_bytes().repeat(64)
}

fn drive(channel: u8, kind: DriveKind, sectors: u64) -> DriveConfig {
    let attachment = Attachment::Ide { channel, unit: 0 };
    DriveConfig { attachment, kind, sectors, serial: format!("S{sectors}"), read_only: kind == DriveKind::Cdrom }
}

impl World {
    fn new() -> World {
        let configs = [drive(0, DriveKind::Disk, DISK), drive(1, DriveKind::Cdrom, DISC)];
        let storage = |sectors: u64| MemoryStorage::of(&(0..sectors).flat_map(pattern).collect::<Vec<u8>>());
        let (disk, disc) = (storage(DISK), storage(DISC));
        let mut drives = Drives::new([(DISK, false), (DISC, true)]);
        drives.attach(0, Box::new(disk.share())).unwrap();
        drives.attach(1, Box::new(disc.share())).unwrap();
        let mut ide = Ide::new(&configs);
        ide.enable();
        ide.function.write(0x20, 4, 0xc000);
        ide.function.write(4, 2, 5);
        let memory = Memory::new(4 << 20).unwrap();
        World { ide, memory, drives, outputs: Outputs::default(), disk, disc, now_ns: 0 }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Ide, &mut Context) -> T) -> T {
        let World { ide, memory, drives, outputs, now_ns, .. } = self;
        act(ide, &mut Context { now: Icount(0), now_ns: *now_ns, memory, drives, outputs })
    }

    fn inb(&mut self, port: u16) -> u8 {
        self.with(|ide, context| ide.port_read(context, port, 1)) as u8
    }

    fn outb(&mut self, port: u16, value: u8) {
        self.with(|ide, context| ide.port_write(context, port, 1, u32::from(value)));
    }

    fn outl(&mut self, port: u16, value: u32) {
        self.with(|ide, context| ide.port_write(context, port, 4, value));
    }

    /// Lets the drives answer all that is under way.
    fn answer(&mut self) {
        while let Some(due) = self.drives.deadline() {
            self.now_ns = self.now_ns.max(due);
            if let Err(fault) = self.drives.release(self.now_ns) {
                self.drives.fail(fault.drive, fault.ticket);
                continue;
            }
            self.with(|ide, context| ide.tick(context));
        }
    }

    /// Gives a command with its registers at a command block: count, LBA low, mid, high, device.
    fn command(&mut self, base: u16, registers: [u8; 5], code: u8) {
        for (port, value) in (base + 2..).zip(registers) {
            self.outb(port, value);
        }
        self.outb(base + 7, code);
    }

    /// A command of the disk, by LBA of 28 bits.
    fn disk_command(&mut self, sector: u64, count: u8, code: u8) {
        let [low, mid, high, top, ..] = sector.to_le_bytes();
        self.command(0x1f0, [count, low, mid, high, 0xe0 | top], code);
    }

    /// A command of the disk, by LBA of 48 bits.
    fn wide_command(&mut self, sector: u64, count: u16, code: u8) {
        let lba = sector.to_le_bytes();
        for (port, value) in (0x1f2..).zip([(count >> 8) as u8, lba[3], lba[4], lba[5], 0xe0]) {
            self.outb(port, value);
        }
        self.command(0x1f0, [count as u8, lba[0], lba[1], lba[2], 0xe0], code);
    }

    /// `rep insl`.
    fn read_data(&mut self, base: u16, bytes: usize) -> Vec<u8> {
        let load = |world: &mut World| world.with(|ide, context| ide.port_read(context, base, 4));
        (0..bytes / 4).flat_map(|_| load(self).to_le_bytes()).collect()
    }

    fn write_data(&mut self, base: u16, bytes: &[u8]) {
        for word in bytes.chunks(4) {
            self.outl(base, u32::from_le_bytes(word.try_into().unwrap()));
        }
    }
}

#[test]
fn configuration_space() {
    let mut ide = Ide::new(&[]);
    assert_eq!(ide.function.read(0, 4), 0x7010_8086);
    assert_eq!(ide.function.read(8, 4) >> 8, 0x01_0180);
    assert_eq!(ide.function.read(0x20, 4), 1);
    for register in [0x10, 0x14, 0x18, 0x1c] {
        ide.function.write(register, 4, u32::MAX);
        assert_eq!(ide.function.read(register, 4), 0, "compatibility mode has no such window");
    }
    ide.function.write(0x20, 4, u32::MAX);
    assert_eq!(ide.function.read(0x20, 4), 0xffff_fff1);
    ide.function.write(0x40, 4, 0xa307_a307);
    assert_eq!(ide.function.read(0x40, 4), 0xa307_a307);
}

#[test]
fn an_address_that_is_not_decoded_is_open() {
    let mut world = World::new();
    assert_eq!(world.inb(0x1f7), READY);
    world.ide.function.write(0x40, 2, 0);
    assert_eq!((world.inb(0x1f7), world.inb(0x3f6), world.inb(0x177)), (0xff, 0xff, 0));
    world.ide.function.write(4, 2, 0);
    assert_eq!(world.inb(0x177), 0xff);
}

#[test]
fn presence_as_drivers_probe_it() {
    let mut world = World::new();
    for (base, device, status) in [(0x1f0, 0xa0, READY), (0x1f0, 0xb0, 0), (0x170, 0xa0, 0), (0x170, 0xb0, 0)] {
        world.outb(base + 6, device);
        assert_eq!((world.inb(base + 6), world.inb(base + 7)), (device, status));
        world.outb(base + 2, 0x55);
        world.outb(base + 3, 0xaa);
        assert_eq!((world.inb(base + 2), world.inb(base + 3)), (0x55, 0xaa));
    }
    let mut empty = World::new();
    empty.ide = Ide::new(&[]);
    empty.ide.enable();
    assert!((0x1f0..0x1f8).chain([0x3f6]).all(|port| empty.inb(port) == 0));
}

#[test]
fn read_sectors_asks_for_every_block_and_is_busy_until_the_drive_answers() {
    let mut world = World::new();
    world.disk_command(1000, 2, 0x20);
    assert_eq!(world.inb(0x1f7), BSY);
    assert!(!world.ide.interrupt(0));
    world.outb(0x1f3, 7);
    world.answer();
    assert!(world.ide.interrupt(0) && !world.ide.interrupt(1));
    assert_eq!(world.inb(0x3f6), READY | DRQ);
    assert!(world.ide.interrupt(0), "alternate status leaves it");
    assert_eq!(world.inb(0x1f7), READY | DRQ);
    assert!(!world.ide.interrupt(0));
    assert_eq!(world.read_data(0x1f0, 512), pattern(1000));
    assert!(world.ide.interrupt(0), "for the second block");
    assert_eq!(world.read_data(0x1f0, 512), pattern(1001));
    assert_eq!(world.inb(0x1f7), READY);
    assert!(!world.ide.interrupt(0));
    assert_eq!(world.inb(0x1f0), 0, "no data left");
}

#[test]
fn read_multiple_has_larger_blocks() {
    let mut world = World::new();
    world.disk_command(0, 0, 0xc6);
    world.disk_command(0, 4, 0xc4);
    assert_eq!((world.inb(0x1f7), world.inb(0x1f1)), (READY | ERR, 4), "switched off");
    for count in [3, 32] {
        world.disk_command(0, count, 0xc6);
        assert_eq!(world.inb(0x1f7), READY | ERR, "blocks of {count} sectors");
    }
    world.disk_command(0, 4, 0xc6);
    assert_eq!(world.inb(0x1f7), READY);
    world.wide_command(77, 6, 0x29);
    world.answer();
    world.inb(0x1f7);
    assert_eq!(world.read_data(0x1f0, 2048)[1536..], pattern(80));
    assert!(world.ide.interrupt(0));
    assert_eq!(world.read_data(0x1f0, 1024)[512..], pattern(82));
    assert_eq!(world.inb(0x1f7), READY);
}

#[test]
fn write_sectors_takes_the_first_block_unasked() {
    let mut world = World::new();
    world.disk_command(9, 2, 0x30);
    assert_eq!(world.inb(0x1f7), READY | DRQ);
    world.write_data(0x1f0, &[1; 508]);
    world.write_data(0x1f0, &[1; 4]);
    assert!(world.ide.interrupt(0), "for the second block");
    assert_eq!(world.inb(0x1f7), READY | DRQ);
    world.write_data(0x1f0, &[2; 512]);
    assert_eq!(world.inb(0x1f7), BSY);
    world.answer();
    assert!(world.ide.interrupt(0));
    assert_eq!(world.inb(0x1f7), READY);
    let bytes = world.disk.bytes();
    assert_eq!((&bytes[9 * 512..10 * 512], &bytes[10 * 512..11 * 512]), (&[1; 512][..], &[2; 512][..]));
    assert_eq!(bytes[11 * 512..12 * 512], pattern(11));
}

#[test]
fn a_long_read_goes_on_piece_by_piece() {
    let mut world = World::new();
    world.wide_command(100, 4500, 0x24);
    for sector in 100..4600 {
        world.answer();
        assert_eq!(world.inb(0x1f7), READY | DRQ);
        assert_eq!(world.read_data(0x1f0, 512), pattern(sector));
    }
    assert_eq!(world.inb(0x1f7), READY);
}

#[test]
fn the_words_within_a_block_need_nothing_around_them() {
    let mut world = World::new();
    assert_eq!(world.ide.data_read(0x1f0, 4), None, "no data yet");
    world.disk_command(7, 2, 0x20);
    world.answer();
    let mut data = Vec::new();
    while let Some(word) = world.ide.data_read(0x1f0, 4) {
        data.extend(word.to_le_bytes());
    }
    assert_eq!((data.len(), world.ide.data_read(0x170, 4)), (508, None));
    data.extend(world.read_data(0x1f0, 4));
    assert_eq!(data, pattern(7));
    assert!(!world.ide.data_write(0x1f0, 4, 1), "the other direction");
    world.read_data(0x1f0, 512);
    world.disk_command(7, 1, 0x30);
    assert_eq!(world.ide.data_read(0x1f0, 2), None);
    let words = (0..300).take_while(|word| world.ide.data_write(0x1f0, 2, *word)).count();
    assert_eq!(words, 255);
    world.with(|ide, context| ide.port_write(context, 0x1f0, 2, 255));
    assert_eq!(world.inb(0x1f7), BSY);
}
