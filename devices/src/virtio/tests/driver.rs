//! A small driver, and the world around a device, for tests.

use crate::context::Context;
use crate::drives::Drives;
use crate::output::{Output, Outputs};
use crate::pci::device::PciDevice;
use crate::storage::MemoryStorage;
use crate::virtio::{DeviceType, Virtio};
use ftemu_cpu::{Icount, Memory};

/// Offsets behind BAR 4, as the capabilities tell them.
pub const COMMON: u64 = 0;
pub const ISR: u64 = 0x1000;
pub const DEVICE: u64 = 0x2000;
pub const NOTIFY: u64 = 0x3000;
/// Common configuration registers.
pub const DEVICE_FEATURE_SELECT: u64 = 0x00;
pub const DEVICE_FEATURE: u64 = 0x04;
pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
pub const DRIVER_FEATURE: u64 = 0x0c;
pub const NUM_QUEUES: u64 = 0x12;
pub const DEVICE_STATUS: u64 = 0x14;
pub const CONFIG_GENERATION: u64 = 0x15;
pub const QUEUE_SELECT: u64 = 0x16;
pub const QUEUE_SIZE: u64 = 0x18;
pub const QUEUE_ENABLE: u64 = 0x1c;
pub const QUEUE_NOTIFY_OFF: u64 = 0x1e;
pub const QUEUE_DESC: u64 = 0x20;
pub const QUEUE_DRIVER: u64 = 0x28;
pub const QUEUE_DEVICE: u64 = 0x30;
/// Descriptor flags.
pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;

const RINGS: u64 = 0x1_0000;
const RING: u64 = 0x4000;
pub const SIZE: u16 = 16;

/// A device in a world of its own.
pub struct Bench<D> {
    pub device: Virtio<D>,
    pub memory: Memory,
    pub drives: Drives,
    pub outputs: Outputs,
    pub now: u64,
    made: [u16; 4],
    seen: [u16; 4],
    free: [u16; 4],
}

impl<D: DeviceType> Bench<D> {
    pub fn new(device: D) -> Bench<D> {
        let mut device = Virtio::new(device);
        device.function_mut().write(4, 2, 7);
        let memory = Memory::new(4 << 20).expect("4 MiB");
        let (drives, outputs) = (Drives::default(), Outputs::default());
        Bench { device, memory, drives, outputs, now: 0, made: [0; 4], seen: [0; 4], free: [0; 4] }
    }

    pub fn with_drive(mut self, storage: &MemoryStorage, sectors: u64, read_only: bool) -> Bench<D> {
        self.drives = Drives::new([(sectors, read_only)]);
        self.drives.attach(0, Box::new(storage.share())).expect("the same size");
        self
    }

    pub fn act<R>(&mut self, act: impl FnOnce(&mut Virtio<D>, &mut Context) -> R) -> R {
        let mut context = Context {
            now: Icount(self.now),
            now_ns: self.now,
            memory: &mut self.memory,
            drives: &mut self.drives,
            outputs: &mut self.outputs,
        };
        act(&mut self.device, &mut context)
    }

    /// Register accesses behind a window.
    pub fn read(&mut self, bar: u8, offset: u64, size: u8) -> u64 {
        self.act(|device, context| device.read(context, bar, offset, size))
    }
    pub fn write(&mut self, bar: u8, offset: u64, size: u8, value: u64) {
        self.act(|device, context| device.write(context, bar, offset, size, value));
    }

    /// Time passes: drives release what is due, then the device looks.
    pub fn pass(&mut self, ns: u64) {
        self.now += ns;
        let now = self.now;
        self.drives.release(now).expect("a healthy host");
        self.act(|device, context| device.tick(context));
    }

    /// Drives the device up to DRIVER_OK by the modern registers.
    pub fn start(&mut self, features: u64) {
        for status in [0, 1, 3] {
            self.write(4, DEVICE_STATUS, 1, status);
        }
        for half in [0, 1] {
            self.write(4, DRIVER_FEATURE_SELECT, 4, half);
            self.write(4, DRIVER_FEATURE, 4, features >> (32 * half) & 0xffff_ffff);
        }
        self.write(4, DEVICE_STATUS, 1, 11);
        assert_eq!(self.read(4, DEVICE_STATUS, 1), 11, "FEATURES_OK");
        for queue in 0..self.read(4, NUM_QUEUES, 2) {
            let rings = RINGS + RING * queue;
            self.write(4, QUEUE_SELECT, 2, queue);
            self.write(4, QUEUE_SIZE, 2, u64::from(SIZE));
            self.write(4, QUEUE_DESC, 8, rings);
            self.write(4, QUEUE_DRIVER, 4, rings + 0x1000);
            self.write(4, QUEUE_DEVICE, 4, rings + 0x2000);
            self.write(4, QUEUE_ENABLE, 2, 1);
        }
        self.memory.store(RINGS, &[0; 4 * RING as usize]);
        (self.made, self.seen, self.free) = ([0; 4], [0; 4], [0; 4]);
        self.write(4, DEVICE_STATUS, 1, 15);
    }

    /// Makes a chain of (address, length, writable) available; the head.
    pub fn offer(&mut self, queue: u16, pieces: &[(u64, u32, bool)]) -> u16 {
        let (at, rings) = (usize::from(queue), RINGS + RING * u64::from(queue));
        let head = self.free[at] % SIZE;
        for (index, (address, length, writable)) in pieces.iter().enumerate() {
            let place = self.free[at] % SIZE;
            self.free[at] = self.free[at].wrapping_add(1);
            let more = if index + 1 < pieces.len() { NEXT } else { 0 };
            let flags = more | if *writable { WRITE } else { 0 };
            let mut bytes = address.to_le_bytes().to_vec();
            bytes.extend(length.to_le_bytes());
            bytes.extend(flags.to_le_bytes());
            bytes.extend((self.free[at] % SIZE).to_le_bytes());
            self.memory.store(rings + 16 * u64::from(place), &bytes);
        }
        self.memory.store(rings + 0x1004 + 2 * u64::from(self.made[at] % SIZE), &head.to_le_bytes());
        self.made[at] = self.made[at].wrapping_add(1);
        self.memory.store(rings + 0x1002, &self.made[at].to_le_bytes());
        head
    }

    pub fn notify(&mut self, queue: u16) {
        self.write(4, NOTIFY + 4 * u64::from(queue), 2, u64::from(queue));
    }

    /// What the device has given back since the last call: (head, bytes written).
    pub fn used(&mut self, queue: u16) -> Vec<(u32, u32)> {
        let (at, ring) = (usize::from(queue), RINGS + RING * u64::from(queue) + 0x2000);
        let word =
            |bench: &Bench<D>, address| u32::from_le_bytes(bench.bytes(address, 4).try_into().expect("four bytes"));
        let mut used = Vec::new();
        while self.seen[at] != (word(self, ring) >> 16) as u16 {
            let element = ring + 4 + 8 * u64::from(self.seen[at] % SIZE);
            used.push((word(self, element), word(self, element + 4)));
            self.seen[at] = self.seen[at].wrapping_add(1);
        }
        used
    }

    pub fn bytes(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        assert!(self.memory.read(address, &mut bytes));
        bytes
    }

    pub fn sent(&mut self) -> Vec<Output> {
        self.outputs.drain().into_iter().map(|emitted| emitted.output).collect()
    }
}
