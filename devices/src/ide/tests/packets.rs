//! The CD-ROM drive's commands.

use super::*;

impl World {
    /// Gives a command packet with a limit of bytes for a block, and lets the drive answer.
    fn packet(&mut self, limit: u16, bytes: &[u8]) {
        let [low, high] = limit.to_le_bytes();
        self.outb(0x171, 0);
        self.command(0x170, [0, 0, low, high, 0xa0], 0xa0);
        assert_eq!((self.inb(0x172), self.inb(0x177) & (BSY | DRQ)), (1, DRQ), "the packet is asked for");
        let mut packet = [0; 12];
        packet[..bytes.len()].copy_from_slice(bytes);
        self.write_data(0x170, &packet);
        self.answer();
    }

    /// The whole data of a command, block by block; ends with the status.
    fn reply(&mut self, limit: u16, bytes: &[u8]) -> (Vec<u8>, u8) {
        self.packet(limit, bytes);
        let mut data = Vec::new();
        loop {
            assert!(self.ide.interrupt(1));
            let status = self.inb(0x177);
            if status & DRQ == 0 {
                assert_eq!(self.inb(0x172), 3);
                return (data, status);
            }
            assert_eq!(self.inb(0x172), 2);
            let block = usize::from(u16::from_le_bytes([self.inb(0x174), self.inb(0x175)]));
            assert!(block <= usize::from(limit));
            data.extend((0..block.div_ceil(2)).flat_map(|_| {
                let word = self.with(|ide, context| ide.port_read(context, 0x170, 2));
                (word as u16).to_le_bytes()
            }));
            self.answer();
        }
    }

    fn data(&mut self, bytes: &[u8]) -> Vec<u8> {
        let (data, status) = self.reply(0xfffe, bytes);
        assert_eq!(status, READY, "{bytes:x?}");
        data
    }

    /// The sense data of a command that fails.
    fn sense(&mut self, bytes: &[u8]) -> (u8, u8, u8) {
        self.packet(0xfffe, bytes);
        assert_eq!(self.inb(0x177), READY | ERR, "{bytes:x?}");
        let key = self.inb(0x171) >> 4;
        let data = self.data(&[3, 0, 0, 0, 18]);
        assert_eq!((data[0], data[2]), (0x70, key));
        (key, data[12], data[13])
    }
}

#[test]
fn inquiry_and_its_like() {
    let mut world = World::new();
    let data = world.data(&[0x12, 0, 0, 0, 96]);
    assert_eq!((data.len(), &data[..2], &data[8..22]), (36, &[5, 0x80][..], &b"FTEMU   CD-ROM"[..]));
    assert_eq!(world.data(&[0x12, 0, 0, 0, 5]).len(), 6, "an odd length has a last word");
    assert_eq!(world.sense(&[0x12, 1, 0x80, 0, 96]), (5, 0x24, 0));
    assert_eq!(world.data(&[0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8]), [0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(world.data(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8]), [0, 6, 4, 0x10, 0, 2, 0, 0]);
    assert_eq!(world.data(&[0x4a, 1, 0, 0, 0x04, 0, 0, 0, 8]), [0, 2, 0x80, 0x10]);
    assert_eq!(world.sense(&[0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8]), (5, 0x24, 0), "not by notification");
}

#[test]
fn reading_blocks_in_pieces_the_host_can_take() {
    let mut world = World::new();
    assert_eq!(world.data(&[0x25]), [0, 0, 0, 39, 0, 0, 8, 0]);
    let expected: Vec<u8> = (20..28).flat_map(pattern).collect();
    for limit in [0xfffe, 2048, 1000, 999] {
        let (data, status) = world.reply(limit, &[0x28, 0, 0, 0, 0, 5, 0, 0, 2]);
        assert!(status == READY && data == expected, "limit {limit}");
    }
    assert_eq!(world.data(&[0xa8, 0, 0, 0, 0, 5, 0, 0, 0, 2]), expected);
    assert_eq!(world.data(&[0xbe, 0, 0, 0, 0, 5, 0, 0, 2, 0x10]), expected);
    assert_eq!(world.data(&[0x28, 0, 0, 0, 0, 5, 0, 0, 0]), []);
    assert_eq!(world.sense(&[0x28, 0, 0, 0, 0, 39, 0, 0, 2]), (5, 0x21, 0));
    assert_eq!(world.sense(&[0xa8, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), (5, 0x21, 0));
    assert_eq!(world.sense(&[0x2b, 0, 0, 0, 0, 40]), (5, 0x21, 0));
    assert_eq!(world.data(&[0x2b, 0, 0, 0, 0, 39]), []);
}

#[test]
fn tables_of_contents() {
    let mut world = World::new();
    let toc = [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, 0, 40];
    assert_eq!(world.data(&[0x43, 0, 0, 0, 0, 0, 0, 0, 100]), toc);
    assert_eq!(world.data(&[0x43, 2, 0, 0, 0, 0, 0xaa, 0, 100])[4..], [0, 0x14, 0xaa, 0, 0, 0, 2, 40]);
    assert_eq!(world.data(&[0x43, 0, 1, 0, 0, 0, 0, 0, 100]), [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
    assert_eq!(world.data(&[0x43, 0, 0, 0, 0, 0, 0, 0, 12, 0x40])[..2], [0, 10], "the format in byte 9");
    let raw = world.data(&[0x43, 2, 2, 0, 0, 0, 0, 1, 0]);
    assert_eq!((raw.len(), &raw[..2]), (48, &[0, 46][..]));
    assert_eq!(raw[4 + 22..][..11], [1, 0x14, 0, 0xa2, 0, 0, 0, 0, 0, 2, 40]);
    assert_eq!(world.sense(&[0x43, 0, 3, 0, 0, 0, 0, 0, 100]), (5, 0x24, 0));
    assert_eq!(world.sense(&[0x43, 0, 0, 0, 0, 0, 2, 0, 100]), (5, 0x24, 0), "there is no track 2");
}

#[test]
fn what_the_drive_and_disc_can_do() {
    let mut world = World::new();
    let data = world.data(&[0x46, 0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(data[..8], [0, 0, 0, data.len() as u8 - 4, 0, 0, 0, 8], "a CD-ROM");
    assert_eq!(data[8..20], [0, 0, 3, 8, 0, 0x10, 0, 0, 0, 8, 1, 0]);
    assert_eq!(world.data(&[0x46, 2, 0, 3, 0, 0, 0, 1, 0])[8..], [0, 3, 3, 4, 0x29, 0, 0, 0]);
    let page = world.data(&[0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 128]);
    assert_eq!((page.len(), page[1], page[8], page[14]), (28, 26, 0x2a, 0x29));
    let all = world.data(&[0x5a, 0, 0x3f, 0, 0, 0, 0, 1, 0]);
    assert_eq!((all.len(), usize::from(all[1])), (52, 50));
    assert_eq!(world.sense(&[0x5a, 0, 0xff, 0, 0, 0, 0, 1, 0]), (5, 0x39, 0));
    assert_eq!(world.sense(&[0x5a, 0, 0x05, 0, 0, 0, 0, 1, 0]), (5, 0x24, 0));
    assert_eq!(world.data(&[0x51, 0, 0, 0, 0, 0, 0, 0, 34])[..8], [0, 32, 0x0e, 1, 1, 1, 1, 0x20]);
    assert_eq!(world.data(&[0x52, 1, 0, 0, 0, 1, 0, 0, 36])[24..28], [0, 0, 0, 40]);
}

#[test]
fn a_disc_of_more_than_80_minutes_is_a_dvd() {
    let mut world = World::new();
    assert_eq!(world.sense(&[0xad, 0, 0, 0, 0, 0, 0, 0, 8, 4]), (5, 0x30, 2));
    world.ide = Ide::new(&[drive(1, DriveKind::Cdrom, 4 * 2_000_000)]);
    world.ide.enable();
    assert_eq!(world.data(&[0x46, 0, 0, 0, 0, 0, 0, 0, 8])[6..], [0, 0x10]);
    let data = world.data(&[0xad, 0, 0, 0, 0, 0, 0, 0, 8, 4]);
    assert_eq!((data.len(), &data[..4]), (2052, &[8, 2, 0, 0][..]));
    assert_eq!(data[8..16], [0, 3, 0, 0, 0, 0x21, 0x84, 0x7f]);
    assert_eq!(world.data(&[0xad, 0, 0, 0, 0, 0, 0, 1, 0, 8]), [0, 6, 0, 0, 0, 0, 0, 0]);
    assert_eq!(world.sense(&[0xad, 0, 0, 0, 0, 0, 0, 4, 0, 8]), (5, 0x24, 0));
}

#[test]
fn the_tray() {
    let mut world = World::new();
    let eject = [0x1b, 0, 0, 0, 2];
    world.data(&[0x1e, 0, 0, 0, 1]);
    assert_eq!(world.sense(&eject), (5, 0x53, 2));
    world.data(&[0x1e]);
    world.data(&eject);
    assert_eq!(world.sense(&[0x00]), (2, 0x3a, 2));
    assert_eq!(world.sense(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1]), (2, 0x3a, 2));
    assert_eq!(world.data(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8])[4..6], [3, 1]);
    world.data(&[0x1b, 0, 0, 0, 3]);
    assert_eq!(world.sense(&[0x00]), (6, 0x28, 0));
    assert_eq!(world.data(&[0x00]), []);
    assert_eq!(world.data(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8])[4..6], [2, 2]);
    assert_eq!(world.data(&[0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8])[4..6], [0, 2]);
}

#[test]
fn an_empty_drive_and_faults() {
    let mut world = World::new();
    assert_eq!(world.sense(&[0x15]), (5, 0x20, 0));
    assert_eq!(world.data(&[3, 0, 0, 0, 18])[2], 0, "sense is told once");
    world.disc.set_broken(21, true);
    assert_eq!(world.sense(&[0x28, 0, 0, 0, 0, 5, 0, 0, 1]), (3, 0x11, 0));
    world.ide = Ide::new(&[drive(1, DriveKind::Cdrom, 0)]);
    world.ide.enable();
    assert_eq!(world.sense(&[0x00]), (2, 0x3a, 1));
    assert_eq!(world.sense(&[0x25]), (2, 0x3a, 1));
}

#[test]
fn device_reset_frees_a_drive_that_is_stuck() {
    let mut world = World::new();
    world.command(0x170, [0, 0, 0, 0, 0xa0], 0xa0);
    world.outb(0x177, 0xa1);
    assert_eq!(world.inb(0x177) & DRQ, DRQ, "another command is not taken");
    world.outb(0x177, 0x08);
    assert_eq!((world.inb(0x177), world.inb(0x174), world.inb(0x175)), (0, 0x14, 0xeb));
    world.packet(0xfffe, &[0x28, 0, 0, 0, 0, 0, 0, 0, 1]);
    world.outb(0x177, 0x08);
    assert_eq!(world.inb(0x177), 0);
}

#[test]
fn a_disc_that_is_changed_by_hand_is_told_about() {
    let mut world = World::new();
    let events = [0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8];
    let cdrom = |world: &mut World, act: &dyn Fn(&mut Device)| {
        let drive = world.ide.channels[1]
            .devices_mut()
            .iter_mut()
            .find(|device| device.is_packet())
            .map(|device| device.drive());
        act(world.ide.cdrom(drive.expect("a CD-ROM drive")).expect("found by its number"));
    };
    assert!(world.ide.cdrom(200).is_none());
    // Locked: the tray stays closed, and the host can read that somebody wants it open.
    world.data(&[0x1e, 0, 0, 0, 1]);
    cdrom(&mut world, &Device::press_eject);
    assert_eq!(world.data(&events), [0, 6, 4, 0x10, 1, 2, 0, 0], "eject request, disc present");
    assert_eq!(world.data(&events), [0, 6, 4, 0x10, 0, 2, 0, 0], "told once");
    world.data(&[0x1e, 0, 0, 0, 0]);
    cdrom(&mut world, &Device::press_eject);
    assert_eq!(world.data(&events), [0, 6, 4, 0x10, 3, 1, 0, 0], "media removal, tray open");
    assert_eq!(world.sense(&[0x00]), (2, 0x3a, 2));
    // A disc of 10 blocks.
    cdrom(&mut world, &|device| device.insert(40));
    assert_eq!(world.data(&events), [0, 6, 4, 0x10, 2, 2, 0, 0], "new media");
    assert_eq!(world.sense(&[0x25]), (6, 0x28, 0), "unit attention");
    assert_eq!(world.data(&[0x25]), [0, 0, 0, 9, 0, 0, 8, 0]);
    cdrom(&mut world, &|device| device.insert(0));
    assert_eq!(world.sense(&[0x00]), (2, 0x3a, 1), "no disc");
}
