//! Requests to a disk.

use super::driver::*;
use crate::pci::device::PciDevice;
use crate::state::{Saved, assert_round_trip};
use crate::storage::MemoryStorage;
use crate::virtio::{Block, VERSION_1, Virtio};

const SECTORS: u64 = 64;
const HEADER: u64 = 0x8_0000;
const DATA: u64 = 0x9_0000;
const STATUS: u64 = 0xa_0000 - 16;
const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;

fn disk() -> MemoryStorage {
    let bytes: Vec<u8> = (0..SECTORS * 512).map(|at| (at / 512 + at % 7) as u8).collect();
    MemoryStorage::of(&bytes)
}

fn bench(storage: &MemoryStorage, read_only: bool) -> Bench<Block> {
    let mut bench = Bench::new(Block::new(0, SECTORS, read_only, "serial 42")).with_drive(storage, SECTORS, read_only);
    bench.start(VERSION_1);
    bench
}

/// One request, its data `length` bytes at `data`; the number of bytes written, and the status.
fn request(bench: &mut Bench<Block>, kind: u32, sector: u64, data: u64, length: u32) -> (u32, u8) {
    offer(bench, kind, sector, data, length);
    bench.notify(0);
    bench.pass(10_000_000);
    let used = bench.used(0);
    assert_eq!(used.len(), 1);
    (used[0].1, bench.bytes(STATUS, 1)[0])
}

fn offer(bench: &mut Bench<Block>, kind: u32, sector: u64, data: u64, length: u32) -> u16 {
    let header = [kind.to_le_bytes().as_slice(), &[0; 4], &sector.to_le_bytes()].concat();
    bench.memory.store(HEADER, &header);
    bench.memory.store(STATUS, &[0xee]);
    let writable = !matches!(kind, OUT | DISCARD);
    match length {
        0 => bench.offer(0, &[(HEADER, 16, false), (STATUS, 1, true)]),
        _ => bench.offer(0, &[(HEADER, 16, false), (data, length, writable), (STATUS, 1, true)]),
    }
}

#[test]
fn configuration_tells_size_and_limits() {
    let mut bench = bench(&disk(), false);
    let fields =
        [(0, 8), (0x0c, 4), (0x14, 4), (0x24, 4), (0x28, 4)].map(|(at, size)| bench.read(4, DEVICE + at, size));
    assert_eq!(fields, [SECTORS, 126, 512, 1 << 22, 1]);
    assert_eq!(bench.read(0, 0x14, 4), SECTORS, "the same behind the old window");
}

#[test]
fn sectors_are_written_and_read_back() {
    let storage = disk();
    let mut bench = bench(&storage, false);
    assert_eq!(request(&mut bench, IN, 3, DATA, 1024), (1025, 0));
    assert_eq!(bench.bytes(DATA, 1024), storage.bytes()[3 * 512..5 * 512]);
    bench.memory.store(DATA, &[0x5a; 512]);
    assert_eq!(request(&mut bench, OUT, 63, DATA, 512), (1, 0));
    assert_eq!(storage.bytes()[63 * 512..], [0x5a; 512]);
    assert_eq!(request(&mut bench, FLUSH, 0, 0, 0), (1, 0));
    assert_eq!(storage.flushes(), 1);
    bench.memory.store(DATA, &[8u64.to_le_bytes(), 16u64.to_le_bytes()].concat());
    assert_eq!(request(&mut bench, DISCARD, 0, DATA, 16), (1, 0));
    assert_eq!(storage.bytes()[8 * 512..24 * 512], [0; 16 * 512]);
    assert_eq!(request(&mut bench, GET_ID, 0, DATA, 20), (21, 0));
    assert_eq!(bench.bytes(DATA, 20), b"serial 42\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let storage = disk();
    let before = storage.bytes();
    let mut bench = bench(&storage, false);
    for (kind, sector, data, length) in [
        (IN, SECTORS, DATA, 512),
        (IN, SECTORS - 1, DATA, 1024),
        (IN, u64::MAX, DATA, 512),
        (IN, 0, DATA, 511),
        (IN, 0, DATA, 1 << 31),
        (IN, 0, 0x7000_0000, 512),
        (OUT, SECTORS - 1, DATA, 1024),
        (OUT, 0, DATA, 5),
        (OUT, 0, 0x7000_0000, 512),
        (OUT, 0, DATA, u32::MAX),
        (DISCARD, 0, DATA, 15),
        (GET_ID, 0, 1 << 40, 20),
    ] {
        assert_eq!(request(&mut bench, kind, sector, data, length), (1, 1), "{kind} {sector} {data:#x} {length}");
    }
    for range in [[SECTORS, 1], [u64::MAX, 2], [0, SECTORS + 1]] {
        bench.memory.store(DATA, &range.map(u64::to_le_bytes).concat());
        assert_eq!(request(&mut bench, DISCARD, 0, DATA, 16), (1, 1));
    }
    bench.memory.store(DATA, &[0, 1 << 32 | 1].map(u64::to_le_bytes).concat());
    assert_eq!(request(&mut bench, DISCARD, 0, DATA, 16), (1, 2), "a flag");
    assert_eq!(request(&mut bench, 99, 0, DATA, 16), (1, 2));
    assert_eq!(storage.bytes(), before);
}

#[test]
fn a_read_only_disk_stays_as_it_is() {
    let storage = disk();
    let mut bench = bench(&storage, true);
    assert_eq!(bench.read(0, 0, 4) & (1 << 5 | 1 << 13), 1 << 5);
    assert_eq!(request(&mut bench, OUT, 0, DATA, 512), (1, 1));
    assert_eq!(request(&mut bench, IN, 0, DATA, 512), (513, 0));
}

#[test]
fn a_medium_that_failed_is_the_guests_error_once_that_is_decided() {
    let storage = disk();
    let mut bench = bench(&storage, false);
    storage.set_broken(7, true);
    bench.memory.store(DATA, &[1; 512]);
    let head = offer(&mut bench, IN, 7, DATA, 512);
    bench.notify(0);
    bench.now += 1_000_000;
    let now = bench.now;
    let fault = bench.drives.release(now).expect_err("sector 7 is gone");
    bench.act(|device, context| device.tick(context));
    assert_eq!(bench.used(0), [], "nobody has seen anything");
    bench.drives.fail(0, fault.ticket);
    bench.pass(0);
    assert_eq!(bench.used(0), [(u32::from(head), 1)]);
    assert_eq!((bench.bytes(STATUS, 1), bench.bytes(DATA, 512)), (vec![1], vec![1; 512]));
}

#[test]
fn several_are_in_flight_and_complete_when_they_are_due() {
    let mut bench = bench(&disk(), false);
    let slow = offer(&mut bench, FLUSH, 0, 0, 0);
    bench.notify(0);
    let quick = offer(&mut bench, IN, 0, DATA, 512);
    bench.notify(0);
    assert_eq!(bench.used(0), []);
    let due = bench.drives.deadline().expect("something");
    bench.pass(due - 1);
    assert_eq!(bench.used(0), []);
    assert!(!bench.device.line());
    bench.pass(1);
    assert_eq!(bench.used(0), [(u32::from(quick), 513)]);
    assert!(bench.device.line());
    bench.pass(1_000_000);
    assert_eq!(bench.used(0), [(u32::from(slow), 1)]);
}

#[test]
fn in_flight_requests_are_state_and_a_reset_forgets_them() {
    let storage = disk();
    let mut bench = bench(&storage, false);
    bench.memory.store(DATA, &[1; 512]);
    offer(&mut bench, IN, 0, DATA, 512);
    bench.notify(0);
    assert_round_trip(&bench.device);
    let mut saved = Vec::new();
    bench.device.save(&mut saved);
    let loaded = Virtio::<Block>::load(&mut &saved[..]).expect("as saved");
    assert_eq!(loaded, bench.device);
    bench.start(VERSION_1);
    bench.pass(1_000_000);
    assert_eq!(bench.used(0), []);
    assert_eq!(bench.bytes(DATA, 512), [1; 512], "no DMA for a driver that is gone");
    assert_eq!(request(&mut bench, IN, 0, DATA, 512), (513, 0));
    assert_eq!(bench.drives.deadline(), None);
}

#[test]
fn what_is_in_flight_is_bounded() {
    let sectors = 1 << 20;
    let storage = MemoryStorage::new(sectors);
    let mut bench = Bench::new(Block::new(0, sectors, false, "")).with_drive(&storage, sectors, false);
    bench.memory = ftemu_cpu::Memory::new(16 << 20).expect("16 MiB");
    bench.start(VERSION_1);
    for _ in 0..5 {
        bench.memory.store(HEADER, &[0; 16]);
        bench.offer(0, &[(HEADER, 16, false), (0x10_0000, 8 << 20, true), (STATUS, 1, true)]);
        bench.notify(0);
    }
    bench.pass(8_500_000);
    assert_eq!(bench.used(0).len(), 4, "the fifth waited in the ring");
    bench.pass(8_500_000);
    assert_eq!(bench.used(0).len(), 1);
}

#[test]
fn requests_without_header_or_status_break_the_ring() {
    for pieces in [
        &[(HEADER, 15, false), (STATUS, 1, true)][..],
        &[(HEADER, 16, false)],
        &[(1 << 40, 16, false), (STATUS, 1, true)],
    ] {
        let mut bench = bench(&disk(), false);
        bench.offer(0, pieces);
        bench.notify(0);
        assert_eq!(bench.read(4, DEVICE_STATUS, 1), 0x4f);
    }
}
