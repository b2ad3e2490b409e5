//! The bridge's registers by their names in the 82441FX datasheet, and what its shadow RAM does.

use super::*;
use crate::drives::Drives;
use crate::output::Outputs;
use crate::state::{Random, assert_round_trip};
use ftemu_cpu::Icount;

struct Bench {
    bridge: HostBridge,
    memory: Memory,
    bios: Region,
    drives: Drives,
    outputs: Outputs,
}

impl Bench {
    fn new() -> Bench {
        let mut memory = Memory::new(2 << 20).unwrap();
        let bios = memory.add_region(256 << 10, false).unwrap();
        memory.move_region(bios, Some(0xfffc_0000));
        memory.region_store(bios, 0x2_0000, &[0xe0]);
        memory.region_store(bios, 0x3_0000, &[0xf0]);
        let bridge = HostBridge::default();
        bridge.place(&mut memory, bios);
        Bench { bridge, memory, bios, drives: Drives::new([]), outputs: Outputs::default() }
    }

    fn write(&mut self, register: u8, size: u8, value: u32) {
        let Bench { bridge, memory, drives, outputs, .. } = self;
        bridge.configure(register, size, value, &mut Context { now: Icount(0), now_ns: 0, memory, drives, outputs });
        bridge.place(memory, self.bios);
    }

    /// What a load finds, after a store of a byte.
    fn stored(&mut self, address: u64, byte: u8) -> Option<u8> {
        self.memory.store(address, &[byte]);
        self.loaded(address)
    }

    fn loaded(&self, address: u64) -> Option<u8> {
        let mut byte = [0];
        self.memory.read(address, &mut byte).then_some(byte[0])
    }
}

#[test]
fn firmware_finds_what_it_looks_for() {
    let bench = Bench::new();
    assert_eq!(bench.bridge.function.read(0x00, 4), 0x1237_8086);
    assert_eq!(bench.bridge.function.read(0x2c, 4), 0x1100_1af4);
    assert_eq!((bench.bridge.byte(0x59), bench.bridge.byte(0x72)), (0, 2), "PAM0: the BIOS is to be copied");
}

#[test]
fn after_reset_the_bios_is_read_and_nothing_is_written() {
    let mut bench = Bench::new();
    assert_eq!((bench.stored(0xe_0000, 1), bench.stored(0xf_0000, 1)), (Some(0xe0), Some(0xf0)));
    assert_eq!((bench.stored(0xd_ffff, 1), bench.stored(0xc_0000, 1)), (None, None));
    assert_eq!((bench.stored(0x9_ffff, 1), bench.stored(0x10_0000, 1)), (Some(1), Some(1)));
}

#[test]
fn each_pam_field_has_its_piece() {
    let mut bench = Bench::new();
    for number in 0..12_u64 {
        let (register, shift) = (0x5a + (number / 2) as u8, 4 * (number % 2));
        let address = 0xc_0000 + 0x4000 * number;
        let outside = bench.loaded(address);
        bench.write(register, 1, 2 << shift); // WE
        assert_eq!(bench.stored(address + 0x3fff, 7), bench.loaded(address + 0x3ffe), "{address:#x}: behind the ROM");
        assert_eq!(bench.loaded(address), outside);
        bench.write(register, 1, 1 << shift); // RE
        assert_eq!(bench.stored(address + 0x3fff, 8), Some(7), "{address:#x} is protected");
        bench.write(register, 1, 0xf << shift);
        assert_eq!(bench.bridge.byte(register), 3 << shift);
        assert_eq!((bench.stored(address, 9), bench.stored(address + 0x3fff, 9)), (Some(9), Some(9)));
        bench.write(register, 1, 0);
        assert_eq!(bench.loaded(address), outside);
    }
    bench.write(0x59, 1, 0x33);
    assert_eq!((bench.stored(0xf_0000, 3), bench.stored(0xf_ffff, 3)), (Some(3), Some(3)));
    assert_eq!(bench.stored(0xe_c000, 3), Some(0));
}

#[test]
fn an_open_shadow_is_ram() {
    let mut bench = Bench::new();
    bench.bridge.open_shadow();
    bench.bridge.place(&mut bench.memory, bench.bios);
    assert!((0xc_0000..0x10_0000).step_by(4096).all(|address| bench.stored(address, 6) == Some(6)));
}

#[test]
fn smramc_opens_closes_and_locks() {
    const ADDRESS: u64 = 0xa_8000;
    let mut bench = Bench::new();
    assert_eq!(bench.stored(ADDRESS, 1), None);
    bench.write(SMRAM, 1, u32::from(OPEN));
    assert_eq!(bench.stored(ADDRESS, 1), None, "open, but not enabled");
    bench.write(SMRAM, 1, u32::from(OPEN | ENABLED));
    assert_eq!((bench.bridge.byte(SMRAM), bench.stored(ADDRESS, 1)), (0x4a, Some(1)));
    bench.write(SMRAM, 1, u32::from(ENABLED));
    assert_eq!(bench.loaded(ADDRESS), None);
    bench.memory.set_management_mode(true);
    assert_eq!(bench.loaded(ADDRESS), Some(1));
    bench.memory.set_management_mode(false);
    bench.write(SMRAM, 1, u32::from(OPEN | LOCKED | ENABLED));
    assert_eq!(bench.bridge.byte(SMRAM), LOCKED | ENABLED | BASE_SEGMENT, "locking closes");
    bench.write(SMRAM, 1, u32::from(OPEN | CLOSED));
    assert_eq!(bench.bridge.byte(SMRAM), CLOSED | LOCKED | ENABLED | BASE_SEGMENT);
    bench.write(0x70, 4, 0);
    assert_eq!(bench.bridge.byte(SMRAM), LOCKED | ENABLED | BASE_SEGMENT, "also within a dword");
}

#[test]
fn random_accesses_change_nothing_that_is_not_saved() {
    for seed in 0..20 {
        let mut random = Random(seed + 1);
        let mut bench = Bench::new();
        for _ in 0..500 {
            let size = [1, 2, 4][random.below(3) as usize];
            bench.write(random.below(256) as u8, size, random.next() as u32);
            bench.memory.store(0xa_0000 + random.below(0x6_0000), &[random.next() as u8]);
        }
        assert_round_trip(&bench.bridge);
        let mut again = Bench::new();
        again.bridge = bench.bridge.clone();
        again.bridge.place(&mut again.memory, again.bios);
        for address in (0xa_0000..0x10_0000).step_by(4096) {
            assert_eq!(bench.memory.page_of(address), again.memory.page_of(address), "seed {seed}: {address:#x}");
        }
    }
}
