//! Drivers that do anything at all: nothing panics or hangs, and every state can be saved and goes on as it was.

use super::driver::*;
use crate::state::{Random, Saved, assert_round_trip};
use crate::storage::MemoryStorage;
use crate::virtio::{Block, Console, DeviceType, Entropy, Network, VERSION_1, Virtio};
use std::fmt::Debug;

const STEPS: u32 = 4000;

/// An address that means something more often than not.
fn address(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.next(),
        1 => 0x40_0000 - random.below(64),
        _ => 0x1_0000 + random.below(0x4000) * 16,
    }
}

fn step<D: DeviceType>(bench: &mut Bench<D>, random: &mut Random) {
    let size = 1 << random.below(4);
    match random.below(12) {
        0 => drop(bench.read(if random.below(2) == 0 { 0 } else { 4 }, random.step(15), size)),
        1 => bench.write(0, random.below(0x40), size, random.step(40)),
        2 => bench.write(4, random.below(0x38), size, random.step(40)),
        3 => bench.write(4, random.step(15), size, random.next()),
        4 if random.below(20) == 0 || bench.device.rings.broken => bench.start(VERSION_1 | random.below(4) << 28),
        5 => {
            let (register, value) = (random.next() as u8, random.step(32) as u32);
            let size = 1 << random.below(3);
            bench.act(|device, context| crate::pci::device::PciDevice::inspect(device, register, size, context));
            bench.act(|device, context| {
                crate::pci::device::PciDevice::configure(device, register | 0x80, size, value, context);
            });
        }
        6 => bench.pass(random.step(20)),
        7 => drop(bench.memory.store(address(random), &random.next().to_le_bytes())),
        _ => {
            let pieces: Vec<_> = (0..1 + random.below(4))
                .map(|index| (address(random), random.step(16) as u32, index > 0 && random.below(4) > 0))
                .collect();
            let queue = random.below(2) as u16;
            bench.offer(queue, &pieces);
            bench.notify(queue);
        }
    }
}

/// A driver's life. `restored`: the device is replaced by what was saved of it, again and again.
fn life<D: DeviceType + Clone + PartialEq + Debug>(
    mut bench: Bench<D>,
    arrive: impl Fn(&mut Bench<D>, &mut Random),
    seed: u64,
    restored: bool,
) -> Bench<D> {
    let mut random = Random(seed);
    bench.start(VERSION_1);
    for index in 0..STEPS {
        step(&mut bench, &mut random);
        if random.below(8) == 0 {
            arrive(&mut bench, &mut random);
        }
        if restored && index % 400 == 0 {
            let mut saved = Vec::new();
            bench.device.save(&mut saved);
            bench.device = Virtio::<D>::load(&mut &saved[..]).expect("what was saved loads");
        }
    }
    bench
}

fn soak<D: DeviceType + Clone + PartialEq + Debug>(
    make: impl Fn() -> Bench<D>,
    arrive: impl Fn(&mut Bench<D>, &mut Random),
) {
    for seed in (1..=6).map(|seed| seed * 0x1af4) {
        let mut straight = life(make(), &arrive, seed, false);
        let mut restored = life(make(), &arrive, seed, true);
        assert_eq!(straight.device, restored.device);
        assert_eq!(straight.sent(), restored.sent());
        for page in 0..straight.memory.pages() {
            assert!(straight.memory.page(page) == restored.memory.page(page), "seed {seed:#x}, page {page}");
        }
        straight.write(4, DEVICE_STATUS, 1, 0);
        straight.pass(1 << 40);
        assert_round_trip(&straight.device);
    }
}

#[test]
fn block_survives_anything() {
    let make = || Bench::new(Block::new(0, 4096, false, "s")).with_drive(&MemoryStorage::new(4096), 4096, false);
    soak(make, |bench, random| {
        let header = [random.below(14), random.below(4100)].map(u64::to_le_bytes).concat();
        bench.memory.store(0x1_0000 + random.below(0x4000) * 16, &header);
    });
}

#[test]
fn network_survives_anything() {
    let make = || Bench::new(Network::new(0, [2; 6]));
    soak(make, |bench, random| {
        let frame = vec![7; random.step(12) as usize];
        bench.act(|device, context| device.receive(&frame, context));
        bench.act(|device, _| device.set_link(random.below(8) > 0));
    });
}

#[test]
fn entropy_survives_anything() {
    soak(|| Bench::new(Entropy::new([3; 32])), |_, _| {});
}

#[test]
fn console_survives_anything() {
    let arrive = |bench: &mut Bench<Console>, random: &mut Random| {
        let bytes = random.next().to_le_bytes();
        bench.act(|device, context| device.push(&bytes, context));
    };
    soak(|| Bench::new(Console::default()), arrive);
}
