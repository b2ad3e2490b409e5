//! The configuration device as firmware uses it: signature, directory, files, DMA.

use super::*;
use crate::state::{Random, assert_round_trip};

const MIB: u64 = 1 << 20;

struct Bench {
    chip: FirmwareConfig,
    items: Items,
    memory: Memory,
}

impl Bench {
    fn new() -> Bench {
        let items = Items::new(
            &crate::acpi::Described { low_bytes: 3 << 30, video: true },
            512 * MIB,
            vec![("bootorder".to_owned(), b"/disk\0".to_vec())],
        );
        Bench { chip: FirmwareConfig::default(), items, memory: Memory::new(2 * MIB).unwrap() }
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.chip.read(&self.items, DATA_PORT, 1) as u8).collect()
    }

    fn item(&mut self, number: u16, length: usize) -> Vec<u8> {
        self.chip.write(&self.items, &mut self.memory, SELECTOR_PORT, 2, u32::from(number));
        self.take(length)
    }

    /// Number and length of a file.
    fn find(&mut self, name: &str) -> (u16, usize) {
        let count = u32::from_be_bytes(self.item(0x19, 4).try_into().unwrap());
        for _ in 0..count {
            let entry = self.take(64);
            let found: Vec<u8> = entry[8..].iter().copied().take_while(|byte| *byte != 0).collect();
            if found == name.as_bytes() {
                let length = u32::from_be_bytes(entry[..4].try_into().unwrap());
                return (u16::from_be_bytes([entry[4], entry[5]]), length as usize);
            }
        }
        panic!("no file {name}")
    }

    fn transfer(&mut self, control: u32, length: u32, address: u64) -> u32 {
        let descriptor = [&control.to_be_bytes()[..], &length.to_be_bytes(), &address.to_be_bytes()].concat();
        self.memory.store(0x1000, &descriptor);
        self.chip.write(&self.items, &mut self.memory, 0x518, 4, 0x1000u32.swap_bytes());
        let mut status = [0; 4];
        self.memory.read(0x1000, &mut status);
        u32::from_be_bytes(status)
    }
}

#[test]
fn signature_and_interface() {
    let mut bench = Bench::new();
    assert_eq!(bench.item(0, 6), b"QEMU\0\0");
    assert_eq!(bench.item(1, 4), [3, 0, 0, 0]);
    assert_eq!(bench.item(0x7777, 2), [0, 0]);
    let word = |bench: &mut Bench, port| bench.chip.read(&bench.items, port, 4).to_le_bytes();
    assert_eq!([word(&mut bench, DMA_PORT), word(&mut bench, 0x518)], [*b"QEMU", *b" CFG"]);
}

#[test]
fn files_are_found_by_name() {
    let mut bench = Bench::new();
    let (number, length) = bench.find("etc/e820");
    assert_eq!(length, 40);
    let map = bench.item(number, length);
    assert_eq!(
        map[..20],
        [[0; 8], (3u64 << 30).to_le_bytes()].concat().into_iter().chain([1, 0, 0, 0]).collect::<Vec<_>>()
    );
    assert_eq!(map[20..36], [(1u64 << 32).to_le_bytes(), (512 * MIB).to_le_bytes()].concat());
    for name in ["etc/acpi/tables", "etc/acpi/rsdp", "etc/table-loader"] {
        assert!(bench.find(name).1 > 0, "{name}");
    }
}

#[test]
fn dma_selects_reads_and_skips() {
    let mut bench = Bench::new();
    assert_eq!(bench.transfer(8 | 2, 6, 0x2000), 0);
    let mut bytes = [0xaa; 7];
    bench.memory.read(0x2000, &mut bytes);
    assert_eq!(&bytes, b"QEMU\0\0\0", "past the end there are zeroes");
    assert_eq!(bench.transfer(8, 0, 0), 0);
    assert_eq!(bench.transfer(4, 2, 0), 0);
    assert_eq!(bench.transfer(2, 2, 0x2000), 0);
    bench.memory.read(0x2000, &mut bytes);
    assert_eq!(&bytes[..2], b"MU");
}

#[test]
fn dma_to_nowhere_without_end_or_writing_is_an_error() {
    let mut bench = Bench::new();
    assert_eq!(bench.transfer(8 | 2, 4, 0xfff0_0000), 1);
    assert_eq!(bench.transfer(8 | 2, u32::MAX, 0x2000), 1);
    assert_eq!(bench.transfer(8 | 16, 4, 0x2000), 1);
    bench.chip.write(&bench.items, &mut bench.memory, DMA_PORT, 4, u32::MAX);
    bench.chip.write(&bench.items, &mut bench.memory, 0x518, 4, u32::MAX);
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0x0510);
    let mut bench = Bench::new();
    for _ in 0..20_000 {
        let (port, size) = (0x510 + random.below(12) as u16, 1 << random.below(3));
        match random.below(3) {
            0 => drop(bench.chip.read(&bench.items, port, size).to_le_bytes()),
            1 => bench.chip.write(&bench.items, &mut bench.memory, port, size, random.next() as u32),
            _ => drop(bench.transfer(random.below(32) as u32, random.below(0x2000) as u32, 0x2000).to_le_bytes()),
        }
    }
    assert_round_trip(&bench.chip);
}
