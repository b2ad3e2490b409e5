//! Any bytes as the driver of a virtio disk, console or source of entropy whose queues are set up, and as guest memory.
//! Nothing panics or goes on for ever, and a device that was saved and loaded is the same.
#![no_main]

use ftemu_cpu::{Icount, Memory};
use ftemu_devices::context::Context;
use ftemu_devices::drives::Drives;
use ftemu_devices::output::Outputs;
use ftemu_devices::pci::device::PciDevice;
use ftemu_devices::state::Saved;
use ftemu_devices::storage::MemoryStorage;
use ftemu_devices::virtio::{Block, Console, DeviceType, Entropy, Virtio};
use libfuzzer_sys::fuzz_target;
use std::fmt::Debug;

const MEMORY: u64 = 2 << 20;
const SECTORS: u64 = 4096;
/// Registers of the common configuration behind BAR 4, and the doorbells.
const DRIVER_FEATURE_SELECT: u64 = 0x08;
const DRIVER_FEATURE: u64 = 0x0c;
const DEVICE_STATUS: u64 = 0x14;
const NOTIFY: u64 = 0x3000;

struct World {
    memory: Memory,
    drives: Drives,
    outputs: Outputs,
    now_ns: u64,
}

impl World {
    fn context(&mut self) -> Context<'_> {
        let World { memory, drives, outputs, now_ns } = self;
        Context { now: Icount(*now_ns), now_ns: *now_ns, memory, drives, outputs }
    }
}

/// Up to DRIVER_OK, with indirect descriptors and event indices or without, and rings of 8 entries in the first pages.
fn start<D: DeviceType>(device: &mut Virtio<D>, world: &mut World, features: u64) {
    let context = &mut world.context();
    let mut write = |offset, size, value| device.write(context, 4, offset, size, value);
    write(DEVICE_STATUS, 1, 0);
    for (half, features) in [(0, features << 28), (1, 1)] {
        write(DRIVER_FEATURE_SELECT, 4, half);
        write(DRIVER_FEATURE, 4, features);
    }
    write(DEVICE_STATUS, 1, 11);
    for queue in 0..D::QUEUES.len() as u64 {
        let rows = [(0x16, 2, queue), (0x18, 2, 8), (0x20, 8, queue << 10), (0x28, 8, queue << 10 | 0x80)];
        rows.into_iter().for_each(|(offset, size, value)| write(offset, size, value));
        write(0x30, 8, queue << 10 | 0x100);
        write(0x1c, 2, 1);
    }
    write(DEVICE_STATUS, 1, 15);
}

fn step<D: DeviceType>(device: &mut Virtio<D>, world: &mut World, step: &[u8; 12]) {
    let [kind, a, b, size, value @ ..] = step;
    let (offset, size, value) = (u64::from(u16::from_le_bytes([*a, *b])), 1 << (size & 3), u64::from_le_bytes(*value));
    match kind % 8 {
        0 => drop(device.read(&mut world.context(), if size == 1 { 0 } else { 4 }, offset, size)),
        1 => device.write(&mut world.context(), 4, offset, size, value),
        2 => device.write(&mut world.context(), 0, offset & 0x3f, size, value),
        3 => device.configure(*a, size.min(4), value as u32, &mut world.context()),
        4 => start(device, world, value & 3),
        5 => {
            world.now_ns += u64::from(*a) << 12;
            world.drives.release(world.now_ns).expect("memory does not fail");
            device.tick(&mut world.context());
        }
        6 => drop(world.memory.store(offset & 0x1fff, &value.to_le_bytes())),
        _ => device.write(&mut world.context(), 4, NOTIFY + 4 * (value & 1), 2, 0),
    }
}

fn drive<D: DeviceType + Debug + PartialEq>(kind: D, bytes: &[u8]) {
    let mut device = Virtio::new(kind);
    device.function_mut().write(4, 2, 7);
    let memory = Memory::new(MEMORY).expect("memory");
    let mut world = World { memory, drives: Drives::new([(SECTORS, false)]), outputs: Outputs::default(), now_ns: 0 };
    world.drives.attach(0, Box::new(MemoryStorage::new(SECTORS))).expect("the same size");
    world.memory.store(0, bytes.get(..MEMORY as usize).unwrap_or(bytes));
    start(&mut device, &mut world, 3);
    for bytes in bytes.as_chunks::<12>().0 {
        step(&mut device, &mut world, bytes);
        device.line();
        world.outputs.drain();
    }
    let mut saved = Vec::new();
    device.save(&mut saved);
    assert_eq!(Virtio::<D>::load(&mut &saved[..]), Some(device));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, bytes)) = bytes.split_first() else { return };
    match first % 3 {
        0 => drive(Block::new(0, SECTORS, false, "serial"), bytes),
        1 => drive(Console::default(), bytes),
        _ => drive(Entropy::new([7; 32]), bytes),
    }
});
