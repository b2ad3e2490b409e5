//! Commands without data, identification, errors and resets.

use super::*;

fn words(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect()
}

fn identify(world: &mut World, base: u16, code: u8) -> Vec<u16> {
    world.command(base, [0, 0, 0, 0, 0xa0], code);
    assert_eq!(world.inb(base + 7), READY | DRQ);
    let bytes = world.read_data(base, 512);
    assert_eq!(bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0, "checksum");
    words(&bytes)
}

fn text(words: &[u16]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    String::from_utf8(bytes).unwrap().trim_end().to_owned()
}

#[test]
fn identify_device() {
    let mut world = World::new();
    let words = identify(&mut world, 0x1f0, 0xec);
    assert_eq!((text(&words[10..20]), text(&words[27..47])), ("S5000".into(), "FTEMU HARDDISK".into()));
    assert_eq!((words[1], words[3], words[6]), (4, 16, 63));
    assert_eq!((words[60], words[61], words[100]), (5000, 0, 5000));
    assert_eq!(words[83] & 1 << 10, 1 << 10, "48-bit addresses");
    assert_eq!((words[63], words[88]), (0x0407, 0x3f), "multiword DMA 2 is chosen");
    assert_eq!(words[85] & 1 << 5, 1 << 5, "write cache");
    assert_eq!(words[169], 1);
    world.outb(0x1f1, 0x82);
    world.command(0x1f0, [0, 0, 0, 0, 0xa0], 0xef);
    world.outb(0x1f1, 0x03);
    world.command(0x1f0, [0x45, 0, 0, 0, 0xa0], 0xef);
    let words = identify(&mut world, 0x1f0, 0xec);
    assert_eq!((words[63], words[88], words[85] & 1 << 5), (0x07, 0x203f, 0));
}

#[test]
fn identify_packet_device() {
    let mut world = World::new();
    world.command(0x170, [0, 0, 0, 0, 0xa0], 0xec);
    assert_eq!((world.inb(0x177), world.inb(0x171)), (READY | ERR, 4));
    assert_eq!((world.inb(0x174), world.inb(0x175)), (0x14, 0xeb), "a packet device");
    let words = identify(&mut world, 0x170, 0xa1);
    assert_eq!((words[0], text(&words[27..47])), (0x85c0, "FTEMU CD-ROM".into()));
}

#[test]
fn addresses_by_cylinder_head_and_sector() {
    let mut world = World::new();
    world.command(0x1f0, [1, 1, 2, 0, 0xa3], 0x20);
    world.answer();
    assert_eq!(world.read_data(0x1f0, 512), pattern((2 * 16 + 3) * 63));
    world.command(0x1f0, [1, 64, 2, 0, 0xa3], 0x20);
    assert_eq!((world.inb(0x1f7), world.inb(0x1f1)), (READY | ERR, 0x10));
    world.command(0x1f0, [17, 0, 0, 0, 0xa3], 0x91);
    assert_eq!(world.inb(0x1f7), READY);
    world.command(0x1f0, [1, 17, 2, 0, 0xa3], 0x20);
    world.answer();
    assert_eq!(world.read_data(0x1f0, 512), pattern((2 * 4 + 3) * 17 + 16));
}

#[test]
fn beyond_the_end_there_is_nothing() {
    let mut world = World::new();
    for (sector, count, code) in [(5000, 1, 0x20), (4999, 2, 0x20), (4999, 2, 0xca), (0xfff_ffff, 0, 0xc8)] {
        world.disk_command(sector, count, code);
        assert!(world.ide.interrupt(0));
        assert_eq!((world.inb(0x1f7), world.inb(0x1f1)), (READY | ERR, 0x10), "{code:x}");
    }
    world.wide_command(0xffff_ffff_ffff, 0, 0x25);
    assert_eq!((world.inb(0x1f7), world.inb(0x1f1)), (READY | ERR, 0x10));
    world.disk_command(4999, 1, 0x40);
    world.answer();
    assert_eq!(world.inb(0x1f7), READY, "the last one can be verified");
}

#[test]
fn a_fault_of_the_drive_is_an_error_with_its_address() {
    let mut world = World::new();
    world.disk.set_broken(0x123, true);
    world.disk_command(0x123, 1, 0x20);
    world.answer();
    assert!(world.ide.interrupt(0));
    assert_eq!((world.inb(0x1f7), world.inb(0x1f1)), (READY | ERR, 0x40));
    assert_eq!((world.inb(0x1f3), world.inb(0x1f4)), (0x23, 0x01));
    world.disk_command(0x123, 1, 0x40);
    world.answer();
    assert_eq!((world.inb(0x1f7), world.inb(0x1f1)), (READY | ERR, 0x40));
    world.disk_command(0x123, 1, 0x30);
    world.write_data(0x1f0, &[0; 512]);
    world.answer();
    assert_eq!((world.inb(0x1f7), world.inb(0x1f1)), (READY | ERR, 0x04));
    world.disk_command(0x124, 1, 0x20);
    world.answer();
    assert_eq!(world.read_data(0x1f0, 512), pattern(0x124));
}

#[test]
fn flushes_happen_when_asked_for_or_without_a_write_cache() {
    let mut world = World::new();
    for (code, flushes) in [(0xe7, 1), (0xea, 2), (0xe0, 3)] {
        world.disk_command(0, 0, code);
        assert_eq!(world.inb(0x1f7), BSY);
        world.answer();
        assert_eq!((world.inb(0x1f7), world.disk.flushes()), (READY, flushes));
    }
    world.disk_command(1, 1, 0x30);
    world.write_data(0x1f0, &[0; 512]);
    world.answer();
    assert_eq!(world.disk.flushes(), 3);
    world.outb(0x1f1, 0x82);
    world.disk_command(0, 0, 0xef);
    world.disk_command(1, 1, 0x30);
    world.write_data(0x1f0, &[0; 512]);
    world.answer();
    assert_eq!((world.inb(0x1f7), world.disk.flushes()), (READY, 4));
}

#[test]
fn small_commands() {
    let mut world = World::new();
    for (code, status) in
        [(0x00, 0x51), (0xb0, 0x51), (0x10, 0x50), (0x70, 0x50), (0xe1, 0x50), (0xa0, 0x51), (0x08, 0x51)]
    {
        world.disk_command(3, 1, code);
        assert!(world.ide.interrupt(0), "{code:x}");
        assert_eq!(world.inb(0x1f7), status, "{code:x}");
    }
    world.disk_command(0, 0, 0xe5);
    assert_eq!(world.inb(0x1f2), 0x80, "idle");
    world.disk_command(0, 0, 0xf8);
    assert_eq!((world.inb(0x1f3), world.inb(0x1f4), world.inb(0x1f6)), (0x87, 0x13, 0xe0));
    world.disk_command(0, 0, 0x27);
    assert_eq!((world.inb(0x1f3), world.inb(0x1f4)), (0x87, 0x13));
    world.outb(0x3f6, 0x80);
    assert_eq!((world.inb(0x1f3), world.inb(0x1f4)), (0, 0));
}

#[test]
fn what_was_written_before_is_seen_through_hob() {
    let mut world = World::new();
    world.outb(0x1f2, 1);
    world.outb(0x1f2, 2);
    assert_eq!(world.inb(0x1f2), 2);
    world.outb(0x3f6, 0x80);
    assert_eq!(world.inb(0x1f2), 1);
    world.outb(0x1f3, 0);
    assert_eq!(world.inb(0x1f2), 2, "any store clears it");
}

#[test]
fn software_reset_shows_signatures() {
    let mut world = World::new();
    world.outb(0x1f6, 0xf0);
    for (base, status, signature) in [(0x1f0, READY, [1, 1, 1, 0, 0, 0xa0]), (0x170, 0, [1, 1, 1, 0x14, 0xeb, 0xa0])] {
        world.outb(base + 0x206, 4);
        assert_eq!(world.inb(base + 7), BSY);
        world.outb(base + 0x206, 0);
        assert_eq!(world.inb(base + 7), status);
        let shown: Vec<u8> = (1..7).map(|register| world.inb(base + register)).collect();
        assert_eq!(shown, signature);
    }
    world.outb(0x1f6, 0xb0);
    assert_eq!((world.inb(0x1f7), world.inb(0x1f4), world.inb(0x1f5)), (0, 0xff, 0xff), "there is no slave");
}

#[test]
fn a_reset_drops_what_the_drive_still_works_on() {
    let mut world = World::new();
    world.disk_command(5, 1, 0x20);
    world.outb(0x3f6, 4);
    world.outb(0x3f6, 0);
    assert_eq!(world.inb(0x1f7), BSY);
    world.answer();
    assert_eq!((world.inb(0x1f7), world.inb(0x1f1)), (READY, 1));
    assert!(!world.ide.interrupt(0));
    world.disk_command(5, 1, 0x20);
    world.outb(0x3f6, 4);
    world.answer();
    assert_eq!(world.inb(0x1f7), BSY, "as long as SRST is set");
    world.outb(0x3f6, 0);
    assert_eq!(world.inb(0x1f7), READY);
}

#[test]
fn diagnostic_is_answered_by_device_0() {
    let mut world = World::new();
    world.outb(0x1f6, 0xb0);
    world.outb(0x1f7, 0x90);
    assert!(world.ide.interrupt(0));
    assert_eq!((world.inb(0x1f7), world.inb(0x1f1), world.inb(0x1f6)), (READY, 1, 0xa0));
}

#[test]
fn nien_holds_the_line_off() {
    let mut world = World::new();
    world.outb(0x3f6, 2);
    world.disk_command(0, 0, 0x10);
    assert!(!world.ide.interrupt(0));
    world.outb(0x3f6, 0);
    assert!(world.ide.interrupt(0));
    world.outb(0x1f6, 0xb0);
    assert!(!world.ide.interrupt(0), "only the selected device asserts it");
}

#[test]
fn a_disk_that_may_only_be_read() {
    let mut world = World::new();
    world.ide = Ide::new(&[DriveConfig { read_only: true, ..drive(0, DriveKind::Disk, DISK) }]);
    world.ide.enable();
    for code in [0x30, 0xca, 0x06] {
        world.outb(0x1f1, 1);
        world.disk_command(0, 1, code);
        assert_eq!((world.inb(0x1f7), world.inb(0x1f1)), (READY | ERR, 4));
    }
}
