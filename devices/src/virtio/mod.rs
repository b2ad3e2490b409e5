//! Virtio over PCI (Virtio 1.2 §4.1): block, network, entropy and console devices for guests that have drivers.
//!
//! The devices are transitional: a driver finds the registers of before 1.0 behind I/O BAR 0 and those of 1.0 behind memory
//! BAR 4. In the order data flows: `pci` takes accesses apart, `legacy` and `modern` give registers their meaning, `rings`
//! holds what the driver has set up, `queue` walks descriptors to a `buffer`, and a [`DeviceType`] does the work. Everything
//! a doorbell asks for happens at once, but for the work of drives, which is due at a virtual time.

mod block;
mod buffer;
mod console;
mod entropy;
mod legacy;
mod modern;
mod network;
mod offload;
mod pci;
mod queue;
mod rings;
#[cfg(test)]
mod tests;

pub use block::Block;
pub use console::Console;
pub use entropy::Entropy;
pub use network::Network;
pub use pci::Virtio;
pub use rings::Rings;

use crate::context::Context;
use crate::state::Saved;

/// Feature bits that belong to rings and transport (§6).
const ANY_LAYOUT: u64 = 1 << 27;
const INDIRECT_DESC: u64 = 1 << 28;
const EVENT_IDX: u64 = 1 << 29;
const VERSION_1: u64 = 1 << 32;
const TRANSPORT_FEATURES: u64 = ANY_LAYOUT | INDIRECT_DESC | EVENT_IDX | VERSION_1;

/// What makes a device a disk, a network card and so on (§5).
pub trait DeviceType: Saved {
    /// The transitional PCI device id.
    const DEVICE_ID: u16;
    /// The virtio device id: the PCI subsystem id of a transitional device.
    const SUBSYSTEM_ID: u16;
    /// PCI class code.
    const CLASS: u32;
    /// Sizes of the queues it has.
    const QUEUES: &'static [u16];

    /// Feature bits of the device type.
    fn features(&self) -> u64;
    /// The device configuration as it reads now.
    fn configuration(&self) -> Vec<u8>;
    /// The driver has made buffers available in a queue, or has just become ready.
    fn notified(&mut self, queue: u16, rings: &mut Rings, context: &mut Context);
    /// The driver has reset the device.
    fn reset(&mut self);
    /// When work becomes due, in virtual nanoseconds.
    fn deadline(&self) -> Option<u64> {
        None
    }
    /// Does what is due at `context.now_ns`.
    fn tick(&mut self, _rings: &mut Rings, _context: &mut Context) {}
}
