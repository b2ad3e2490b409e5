//! What drivers do before the first request: chance alone would take long to find it. All tables lie in the first pages of
//! RAM, where the input is.

use ftemu_cpu::Bus;
use ftemu_devices::Machine;

use crate::operations::Operation;
use crate::places::{E1000, IDE};

/// Virtio's common configuration behind BAR 4, and the doorbells.
mod virtio {
    pub const BAR: u8 = 4;
    pub const DRIVER_FEATURE_SELECT: u64 = 0x08;
    pub const DRIVER_FEATURE: u64 = 0x0c;
    pub const DEVICE_STATUS: u64 = 0x14;
    pub const QUEUE_SELECT: u64 = 0x16;
    pub const QUEUE_SIZE: u64 = 0x18;
    pub const QUEUE_ENABLE: u64 = 0x1c;
    pub const QUEUE_DESCRIPTORS: u64 = 0x20;
    pub const QUEUE_DRIVER: u64 = 0x28;
    pub const QUEUE_DEVICE: u64 = 0x30;
    pub const NOTIFY: u64 = 0x3000;
}

/// The 82540EM's registers.
mod e1000 {
    pub const IMS: u64 = 0x00d0;
    pub const RCTL: u64 = 0x0100;
    pub const TCTL: u64 = 0x0400;
    pub const RDBAL: u64 = 0x2800;
    pub const RDLEN: u64 = 0x2808;
    pub const RDT: u64 = 0x2818;
    pub const TDBAL: u64 = 0x3800;
    pub const TDLEN: u64 = 0x3808;
    pub const TDT: u64 = 0x3818;
}

/// ATA commands, to be begun with tables and registers that make sense: READ and WRITE DMA, READ and WRITE SECTORS, READ
/// and WRITE MULTIPLE, SET MULTIPLE MODE, PACKET, IDENTIFY (PACKET) DEVICE, FLUSH CACHE, READ DMA EXT, SMART.
const COMMANDS: [u8; 13] = [0xc8, 0xca, 0x20, 0x30, 0xc4, 0xc5, 0xc6, 0xa0, 0xec, 0xa1, 0xe7, 0x25, 0xb0];

/// Brings a device to where requests are taken, or has it look at its queues.
pub fn drive(machine: &mut Machine, slot: u8, operation: Operation) {
    match slot {
        IDE => command(machine, operation),
        E1000 => network_card(machine, operation),
        _ => virtio_device(machine, slot, operation),
    }
}

/// Writes behind a base address.
fn write(machine: &mut Machine, slot: u8, bar: u8, offset: u64, size: u8, value: u64) {
    let base = machine.chips().pci_device(slot).and_then(|device| device.function().bar(bar));
    let (Some(base), now) = (base, machine.count()) else { return };
    let (board, memory) = machine.bus();
    board.mmio_write(memory, now, base + offset, size, value);
}

fn port(machine: &mut Machine, port: u16, value: u8) {
    let now = machine.count();
    let (board, memory) = machine.bus();
    board.port_write(memory, now, port, 1, u32::from(value));
}

fn virtio_device(machine: &mut Machine, slot: u8, operation: Operation) {
    let mut put = |offset, size, value| write(machine, slot, virtio::BAR, offset, size, value);
    let [.., kind, number, features, _, _, _] = operation.0;
    if kind & 3 != 0 {
        return put(virtio::NOTIFY + 4 * u64::from(number & 3), 2, u64::from(number & 3));
    }
    put(virtio::DEVICE_STATUS, 1, 0);
    for (half, features) in [(0, u64::from(features) << 28 | u64::from(number)), (1, 1)] {
        put(virtio::DRIVER_FEATURE_SELECT, 4, half);
        put(virtio::DRIVER_FEATURE, 4, features);
    }
    put(virtio::DEVICE_STATUS, 1, 11);
    for queue in 0..2 {
        let tables = [(virtio::QUEUE_DESCRIPTORS, 0), (virtio::QUEUE_DRIVER, 0x80), (virtio::QUEUE_DEVICE, 0x100)];
        put(virtio::QUEUE_SELECT, 2, queue);
        put(virtio::QUEUE_SIZE, 2, 8);
        tables.into_iter().for_each(|(register, place)| put(register, 8, queue << 10 | place));
        put(virtio::QUEUE_ENABLE, 2, 1);
    }
    put(virtio::DEVICE_STATUS, 1, 15);
}

fn network_card(machine: &mut Machine, operation: Operation) {
    let mut put = |offset, value| write(machine, E1000, 0, offset, 4, value);
    let [.., kind, number, mode, _, _, _] = operation.0;
    match kind & 3 {
        0 => {
            let rows = [
                (e1000::IMS, 0xff),
                (e1000::RDBAL, 0),
                (e1000::RDLEN, 0x80 << (number & 3)),
                (e1000::RCTL, 0x801e | u64::from(mode) << 16),
                (e1000::TDBAL, 0x400),
                (e1000::TDLEN, 0x80 << (number >> 2 & 3)),
                (e1000::TCTL, 0x1_03fa),
            ];
            rows.into_iter().for_each(|(register, value)| put(register, value));
        }
        1 => put(e1000::RDT, u64::from(number & 15)),
        _ => put(e1000::TDT, u64::from(number & 15)),
    }
}

fn command(machine: &mut Machine, operation: Operation) {
    let [_, _, kind, count, sector, descriptors, unit, _] = operation.0;
    let base: u16 = if kind & 0x80 == 0 { 0x1f0 } else { 0x170 };
    let command = COMMANDS[usize::from(kind & 0x7f) % COMMANDS.len()];
    let function = machine.chips().pci_device(IDE).and_then(|device| device.function().bar(4));
    let master = function.map_or(0xc000, |master| master as u16) + if base == 0x170 { 8 } else { 0 };
    let (now, (board, memory)) = (machine.count(), machine.bus());
    board.port_write(memory, now, master, 1, 0);
    board.port_write(memory, now, master + 4, 4, u32::from(descriptors) << 2);
    for (register, value) in [(6, 0xe0 | unit & 0x1f), (1, unit & 1), (2, count), (3, sector), (4, 0), (5, 0)] {
        port(machine, base + register, value);
    }
    port(machine, base + 7, command);
    if command == 0xa0 {
        let packet = [
            [0x28, 0xa8, 0x43, 0x12, 0x5a, 0x25, 0x4a, 0xbe][usize::from(unit & 7)],
            0,
            0,
            0,
            0,
            sector,
            0,
            0,
            count,
            0,
            0,
            0,
        ];
        packet.into_iter().for_each(|byte| port(machine, base, byte));
    }
    port(machine, master, 1 | u8::from(command & 2 == 0) << 3);
}
