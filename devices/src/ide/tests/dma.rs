//! The bus master together with devices.

use super::*;

const BASE: u64 = 0;
const START_READ: u8 = 9;
const START_WRITE: u8 = 1;

impl World {
    fn master_write(&mut self, register: u64, size: u8, value: u32) {
        self.with(|ide, context| ide.write(context, BMIBA, BASE + register, size, u64::from(value)));
    }

    fn master_read(&mut self, register: u64) -> u8 {
        self.with(|ide, context| ide.read(context, BMIBA, BASE + register, 1)) as u8
    }

    /// A table at 1000h of regions (address, bytes), the last one marked.
    fn table(&mut self, master: u64, regions: &[(u32, u32)]) {
        for (index, (address, count)) in regions.iter().enumerate() {
            let last = u32::from(index + 1 == regions.len()) << 31;
            let bytes = [address.to_le_bytes(), (count | last).to_le_bytes()].concat();
            self.memory.store(0x1000 + 8 * index as u64, &bytes);
        }
        self.master_write(master + 4, 4, 0x1000);
    }

    fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        assert!(self.memory.read(address, &mut bytes));
        bytes
    }
}

#[test]
fn read_dma_lands_in_memory_before_the_interrupt() {
    let mut world = World::new();
    world.table(0, &[(0x1_0000, 512), (0x2_0000, 1024)]);
    world.disk_command(50, 3, 0xc8);
    world.master_write(0, 1, START_READ.into());
    assert_eq!((world.inb(0x3f6), world.master_read(2)), (BSY, 1));
    world.answer();
    assert!(world.ide.interrupt(0));
    assert_eq!(world.master_read(2), 4, "interrupt, and not active any more");
    assert_eq!(world.inb(0x1f7), READY);
    assert_eq!(world.bytes(0x1_0000, 512), pattern(50));
    assert_eq!(world.bytes(0x2_0200, 512), pattern(52));
    world.master_write(2, 1, 4);
    assert_eq!(world.master_read(2), 0);
}

#[test]
fn the_bus_master_may_be_started_late_or_first() {
    let mut world = World::new();
    world.table(0, &[(0x1_0000, 512)]);
    world.wide_command(60, 1, 0x25);
    world.answer();
    assert_eq!((world.inb(0x1f7), world.ide.interrupt(0)), (READY | DRQ, false));
    world.master_write(0, 1, START_READ.into());
    assert_eq!((world.master_read(2), world.ide.interrupt(0)), (4, true));
    assert_eq!(world.bytes(0x1_0000, 512), pattern(60));
    world.inb(0x1f7);
    world.master_write(0, 1, 0);
    world.memory.store(0x1_0000, &[7; 512]);
    world.master_write(2, 1, 6);
    world.master_write(0, 1, START_WRITE.into());
    world.disk_command(61, 1, 0xca);
    assert_eq!(world.inb(0x3f6), BSY);
    world.answer();
    assert_eq!((world.inb(0x1f7), world.master_read(2)), (READY, 4));
    assert_eq!(world.disk.bytes()[61 * 512..62 * 512], [7; 512]);
}

#[test]
fn a_table_longer_or_shorter_than_the_data() {
    let mut world = World::new();
    world.table(0, &[(0x1_0000, 1024)]);
    world.disk_command(1, 1, 0xc8);
    world.master_write(0, 1, START_READ.into());
    world.answer();
    assert_eq!(world.master_read(2), 5, "interrupt, and still active");
    world.master_write(0, 1, 0);
    world.master_write(2, 1, 6);
    world.inb(0x1f7);
    world.disk_command(1, 4, 0xc8);
    world.master_write(0, 1, START_READ.into());
    world.answer();
    assert_eq!((world.master_read(2), world.inb(0x3f6)), (0, READY | DRQ), "the device has more");
    world.outb(0x3f6, 4);
    world.outb(0x3f6, 0);
    assert_eq!(world.inb(0x1f7), READY);
}

#[test]
fn the_wrong_direction_moves_nothing() {
    let mut world = World::new();
    world.table(0, &[(0x1_0000, 512)]);
    world.disk_command(1, 1, 0xc8);
    world.master_write(0, 1, START_WRITE.into());
    world.answer();
    assert_eq!((world.master_read(2), world.inb(0x3f6)), (1, READY | DRQ));
    assert_eq!(world.bytes(0x1_0000, 512), [0; 512]);
}

#[test]
fn without_mastering_the_bus_is_not_reached() {
    let mut world = World::new();
    world.ide.function.write(4, 2, 1);
    world.table(0, &[(0x1_0000, 512)]);
    world.disk_command(1, 1, 0xc8);
    world.master_write(0, 1, START_READ.into());
    world.answer();
    assert_eq!((world.master_read(2), world.inb(0x3f6)), (1, READY | DRQ));
    assert_eq!(world.bytes(0x1_0000, 512), [0; 512]);
    world.with(|ide, context| ide.configure(4, 2, 5, context));
    assert_eq!(world.bytes(0x1_0000, 512), pattern(1));
    assert!(world.ide.interrupt(0));
}

#[test]
fn long_transfers_go_on_piece_by_piece_in_both_directions() {
    let mut world = World::new();
    let regions: Vec<(u32, u32)> = (0..36).map(|index| (0x10_0000 + 0x1_0000 * index, 0)).collect();
    world.table(0, &regions);
    world.wide_command(200, 4500, 0x25);
    world.master_write(0, 1, START_READ.into());
    world.answer();
    assert_eq!((world.inb(0x1f7), world.master_read(2)), (READY, 5));
    assert!((200..4700).all(|sector| world.bytes(0x10_0000 + (sector - 200) * 512, 512) == pattern(sector)));
    world.master_write(0, 1, 0);
    world.wide_command(300, 4500, 0x35);
    world.master_write(0, 1, START_WRITE.into());
    world.answer();
    assert_eq!(world.inb(0x1f7), READY);
    let bytes = world.disk.bytes();
    assert!((300..4800).all(|sector| bytes[sector * 512..][..512] == pattern(sector as u64 - 100)));
}

#[test]
fn writes_with_forced_unit_access_are_flushed() {
    let mut world = World::new();
    world.table(0, &[(0x1_0000, 512)]);
    for (code, flushes) in [(0x35, 0), (0x3d, 1)] {
        world.wide_command(9, 1, code);
        world.master_write(0, 1, START_WRITE.into());
        world.answer();
        assert_eq!((world.inb(0x1f7), world.disk.flushes()), (READY, flushes));
        world.master_write(0, 1, 0);
    }
    world.wide_command(9, 1, 0xce);
    world.write_data(0x1f0, &[0; 512]);
    world.answer();
    assert_eq!((world.inb(0x1f7), world.disk.flushes()), (READY, 2));
}

#[test]
fn trim_discards_a_list_of_ranges() {
    let mut world = World::new();
    let ranges = [10_u64 | 2 << 48, 0, 20 | 1 << 48];
    let list: Vec<u8> = ranges.iter().flat_map(|range| range.to_le_bytes()).collect();
    world.memory.store(0x1_0000, &list);
    world.table(0, &[(0x1_0000, 512)]);
    world.outb(0x1f1, 1);
    world.wide_command(0, 1, 0x06);
    world.master_write(0, 1, START_WRITE.into());
    world.answer();
    assert_eq!((world.inb(0x1f7), world.master_read(2)), (READY, 4));
    let bytes = world.disk.bytes();
    let gone: Vec<u64> = (0..30).filter(|sector| bytes[*sector as usize * 512..][..512] == [0; 512]).collect();
    assert_eq!(gone, [0, 10, 11, 20], "sector 0 is zeroes anyway");
    world.memory.store(0x1_0000, &(4999_u64 | 2 << 48).to_le_bytes());
    world.master_write(0, 1, 0);
    world.outb(0x1f1, 1);
    world.wide_command(0, 1, 0x06);
    world.master_write(0, 1, START_WRITE.into());
    world.answer();
    assert_eq!((world.inb(0x1f7), world.inb(0x1f1)), (READY | ERR, 4), "beyond the end");
}

#[test]
fn packets_by_dma() {
    let mut world = World::new();
    world.table(8, &[(0x1_0000, 4096)]);
    world.outb(0x171, 1);
    world.command(0x170, [0, 0, 0, 0, 0xa0], 0xa0);
    world.write_data(0x170, &[0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0, 0, 0]);
    world.master_write(8, 1, START_READ.into());
    world.answer();
    assert!(world.ide.interrupt(1));
    assert_eq!((world.master_read(10), world.inb(0x172), world.inb(0x177)), (4, 3, READY));
    assert_eq!(world.bytes(0x1_0000 + 4096 - 512, 512), pattern(19));
}
