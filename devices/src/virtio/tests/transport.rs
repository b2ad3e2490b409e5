//! Windows, capabilities, negotiation and interrupts, the same for all device types.

use super::driver::*;
use crate::pci::device::PciDevice;
use crate::virtio::{Console, EVENT_IDX, Entropy, INDIRECT_DESC, VERSION_1};

fn bench() -> Bench<Entropy> {
    Bench::new(Entropy::new([7; 32]))
}

#[test]
fn identity_and_capabilities_lead_to_the_structures() {
    let mut bench = bench();
    let function = bench.device.function();
    assert_eq!((function.read(0, 4), function.read(0x2c, 4)), (0x1005_1af4, 0x0004_1af4));
    let mut found = Vec::new();
    let mut at = function.read(0x34, 1) as u8;
    while at != 0 {
        assert_eq!(function.read(at, 1), 9, "vendor-specific");
        found.push((function.read(at + 3, 1), function.read(at + 4, 1), function.read(at + 8, 4)));
        at = function.read(at + 1, 1) as u8;
    }
    assert_eq!(found, [(1, 4, 0), (3, 4, 0x1000), (4, 4, 0x2000), (2, 4, 0x3000), (5, 0, 0)]);
    assert_eq!(bench.read(4, COMMON + NUM_QUEUES, 2), 1);
    assert_eq!(bench.read(4, QUEUE_SIZE, 2), 64);
    bench.write(4, QUEUE_SELECT, 2, 1);
    assert_eq!(bench.read(4, QUEUE_SIZE, 2), 0, "no such queue");
}

#[test]
fn features_are_negotiated() {
    let mut bench = bench();
    let mut halves = [0, 1, 2].map(|half| {
        bench.write(4, DEVICE_FEATURE_SELECT, 4, half);
        bench.read(4, DEVICE_FEATURE, 4)
    });
    halves[0] &= INDIRECT_DESC | EVENT_IDX;
    assert_eq!(halves, [INDIRECT_DESC | EVENT_IDX, 1, 0]);
    bench.start(VERSION_1 | EVENT_IDX);
    bench.write(4, DRIVER_FEATURE_SELECT, 4, 0);
    bench.write(4, DRIVER_FEATURE, 4, 0);
    assert_eq!(bench.read(4, DRIVER_FEATURE, 4), EVENT_IDX, "they stand still once they are agreed");
    for wrong in [0, EVENT_IDX, VERSION_1 | 1 << 40, VERSION_1 | 1] {
        bench.write(4, DEVICE_STATUS, 1, 0);
        for half in [0, 1] {
            bench.write(4, DRIVER_FEATURE_SELECT, 4, half);
            bench.write(4, DRIVER_FEATURE, 4, wrong >> (32 * half) & 0xffff_ffff);
        }
        bench.write(4, DEVICE_STATUS, 1, 11);
        assert_eq!(bench.read(4, DEVICE_STATUS, 1), 3, "{wrong:#x}");
    }
}

#[test]
fn queue_registers_by_halves_until_enabled() {
    let mut bench = bench();
    bench.write(4, QUEUE_DESC + 4, 4, 0x12);
    bench.write(4, QUEUE_DESC, 4, 0x3456_7000);
    bench.write(4, QUEUE_DRIVER, 8, 0x77_0000_0010);
    assert_eq!(bench.read(4, QUEUE_DESC, 8), 0x12_3456_7000);
    assert_eq!(bench.read(4, QUEUE_DRIVER + 4, 4), 0x77);
    bench.write(4, QUEUE_SIZE, 2, 48);
    assert_eq!(bench.read(4, QUEUE_SIZE, 2), 64, "no power of two");
    bench.write(4, QUEUE_ENABLE, 2, 1);
    bench.write(4, QUEUE_DESC, 4, 0);
    bench.write(4, QUEUE_SIZE, 2, 32);
    bench.write(4, QUEUE_ENABLE, 2, 0);
    let row = [QUEUE_SIZE, QUEUE_ENABLE, QUEUE_NOTIFY_OFF].map(|register| bench.read(4, register, 2));
    assert_eq!((row, bench.read(4, QUEUE_DESC, 8)), ([64, 1, 0], 0x12_3456_7000));
    bench.write(4, DEVICE_STATUS, 1, 0);
    assert_eq!((bench.read(4, QUEUE_ENABLE, 2), bench.read(4, QUEUE_DESC, 8)), (0, 0));
}

#[test]
fn isr_status_drives_the_line_and_is_cleared_by_reading() {
    let mut bench = bench();
    bench.start(VERSION_1);
    bench.offer(0, &[(0x8_0000, 64, true)]);
    assert!(!bench.device.line());
    bench.notify(0);
    assert!(bench.device.line());
    assert_eq!(bench.device.function().read(6, 2) & 8, 8, "interrupt status");
    bench.device.function_mut().write(4, 2, 0x407);
    assert!(!bench.device.line(), "interrupt disable");
    bench.device.function_mut().write(4, 2, 7);
    assert_eq!(bench.read(4, ISR, 1), 1);
    assert_eq!(bench.read(4, ISR, 1), 0);
    assert!(!bench.device.line());
    assert_eq!(bench.used(0), [(0, 64)]);
}

#[test]
fn entropy_never_repeats_and_depends_on_the_seed() {
    let mut seen = Vec::new();
    for seed in [1, 2] {
        let mut bench = Bench::new(Entropy::new([seed; 32]));
        for _ in 0..2 {
            bench.start(VERSION_1);
            bench.offer(0, &[(0x8_0000, 32, true)]);
            bench.notify(0);
            assert_eq!(bench.used(0), [(0, 32)]);
            seen.push(bench.bytes(0x8_0000, 32));
        }
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
    let mut bench = Bench::new(Entropy::new([1; 32]));
    bench.start(VERSION_1);
    bench.offer(0, &[(0x8_0000, 32, true)]);
    bench.notify(0);
    assert!(seen.contains(&bench.bytes(0x8_0000, 32)), "the same seed and moment, the same numbers");
}

#[test]
fn no_dma_without_bus_mastering_or_driver_ok() {
    let mut bench = bench();
    bench.start(VERSION_1);
    bench.device.function_mut().write(4, 2, 3);
    bench.offer(0, &[(0x8_0000, 32, true)]);
    bench.notify(0);
    assert_eq!(bench.used(0), []);
    bench.device.function_mut().write(4, 2, 7);
    bench.notify(0);
    assert_eq!(bench.used(0).len(), 1);
    bench.write(4, DEVICE_STATUS, 1, 0);
    bench.notify(0);
    assert_eq!(bench.used(0), []);
}

#[test]
fn a_broken_ring_needs_a_reset() {
    let mut bench = bench();
    bench.start(VERSION_1);
    bench.offer(0, &[(0x8_0000, 32, true)]);
    bench.memory.store(0x1_1002, &1000u16.to_le_bytes());
    bench.notify(0);
    assert_eq!(bench.read(4, DEVICE_STATUS, 1), 0x4f);
    assert_eq!(bench.read(4, ISR, 1), 2, "configuration change");
    bench.notify(0);
    assert_eq!(bench.used(0), []);
    bench.write(4, DEVICE_STATUS, 1, 0);
    assert_eq!(bench.read(4, DEVICE_STATUS, 1), 0);
    bench.start(VERSION_1);
    bench.offer(0, &[(0x8_0000, 32, true)]);
    bench.notify(0);
    assert_eq!(bench.used(0), [(0, 32)]);
}

#[test]
fn registers_of_before_1_0() {
    let mut bench = bench();
    assert_eq!(bench.read(0, 0x00, 4) & INDIRECT_DESC, INDIRECT_DESC);
    bench.write(0, 0x12, 1, 3);
    bench.write(0, 0x04, 4, INDIRECT_DESC);
    bench.write(0, 0x0e, 2, 0);
    assert_eq!((bench.read(0, 0x0c, 2), bench.read(0, 0x08, 4)), (64, 0));
    bench.write(0, 0x08, 4, 0x40);
    assert_eq!(bench.read(0, 0x08, 4), 0x40);
    // A ring of 64: descriptors at 40000h, available at 40400h, used at 41000h.
    bench.memory.store(0x4_0000, &[0, 0, 8, 0, 0, 0, 0, 0, 48, 0, 0, 0, 2, 0, 0, 0]);
    bench.memory.store(0x4_0400, &[0, 0, 1, 0, 0, 0]);
    bench.device.function_mut().write(4, 2, 1);
    bench.write(0, 0x10, 2, 0);
    assert_eq!(bench.bytes(0x4_1000, 12), [0, 0, 1, 0, 0, 0, 0, 0, 48, 0, 0, 0]);
    assert!(bench.device.line());
    assert_eq!(bench.read(0, 0x12, 1), 3);
    assert_eq!((bench.read(0, 0x13, 1), bench.read(0, 0x13, 1)), (1, 0));
    bench.write(0, 0x12, 1, 0);
    assert_eq!((bench.read(0, 0x08, 4), bench.read(0, 0x04, 4)), (0, 0));
}

#[test]
fn registers_through_configuration_space() {
    let mut bench = bench();
    let at = bench.device.function().last_capability();
    let select = |bench: &mut Bench<Entropy>, bar: u32, offset: u32, length: u32| {
        for (register, size, value) in [(at + 4, 1, bar), (at + 8, 4, offset), (at + 12, 4, length)] {
            bench.act(|device, context| device.configure(register, size, value, context));
        }
    };
    select(&mut bench, 4, DEVICE_STATUS as u32, 1);
    bench.act(|device, context| device.configure(at + 16, 4, 3, context));
    assert_eq!(bench.read(4, DEVICE_STATUS, 1), 3);
    select(&mut bench, 4, QUEUE_SIZE as u32, 2);
    assert_eq!(bench.act(|device, context| device.inspect(at + 16, 4, context)), 64);
    for (bar, offset, length) in [(4, 0x4000, 4), (1, 0, 4), (4, 2, 4), (4, 0, 3), (4, u32::MAX, 4), (0xff, 0, 0)] {
        select(&mut bench, bar, offset, length);
        bench.act(|device, context| device.configure(at + 16, 4, 0, context));
        bench.act(|device, context| device.inspect(at + 16, 4, context));
    }
    assert_eq!(bench.read(4, DEVICE_STATUS, 1), 3, "nothing that makes no sense arrives");
}

#[test]
fn a_console_speaks_and_listens() {
    let mut bench = Bench::new(Console::default());
    bench.start(VERSION_1);
    bench.memory.store(0x8_0000, b"hello");
    bench.offer(1, &[(0x8_0000, 2, false), (0x8_0002, 3, false)]);
    bench.notify(1);
    assert_eq!(bench.sent(), [crate::Output::Serial { port: 2, bytes: b"hello".to_vec() }]);
    bench.act(|device, context| device.push(b"abcdef", context));
    bench.offer(0, &[(0x9_0000, 4, true)]);
    bench.offer(0, &[(0x9_1000, 4, true)]);
    bench.notify(0);
    assert_eq!(bench.used(0), [(0, 4), (1, 2)]);
    assert_eq!((bench.bytes(0x9_0000, 4), bench.bytes(0x9_1000, 2)), (b"abcd".to_vec(), b"ef".to_vec()));
    assert_eq!(bench.read(4, DEVICE + 4, 4), 1, "one port");
}
