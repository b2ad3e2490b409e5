//! The common configuration of 1.0 (Virtio 1.2 §4.1.4.3).

use super::DeviceType;
use super::pci::{Virtio, pick};
use super::queue::Queue;
use super::rings::FEATURES_OK;
use crate::context::Context;

/// No MSI-X vector.
const NO_VECTOR: u16 = 0xffff;

impl<D: DeviceType> Virtio<D> {
    fn selected(&self) -> Option<&Queue> {
        self.rings.queues.get(usize::from(self.queue_select))
    }

    /// Reads any bytes of the structure.
    pub(super) fn read_common(&self, offset: u64, size: u8) -> u64 {
        let none = Queue::new(0);
        let queue = self.selected().unwrap_or(&none);
        let mut bytes = Vec::with_capacity(56);
        bytes.extend(self.device_feature_select.to_le_bytes()); // 00h
        bytes.extend(half(self.offered(), self.device_feature_select).to_le_bytes()); // 04h device_feature
        bytes.extend(self.driver_feature_select.to_le_bytes()); // 08h
        bytes.extend(half(self.rings.features, self.driver_feature_select).to_le_bytes()); // 0Ch driver_feature
        bytes.extend(NO_VECTOR.to_le_bytes()); // 10h config_msix_vector
        bytes.extend((D::QUEUES.len() as u16).to_le_bytes()); // 12h num_queues
        bytes.extend([self.rings.status, self.rings.generation]); // 14h device_status, 15h config_generation
        bytes.extend(self.queue_select.to_le_bytes()); // 16h
        bytes.extend(queue.size.to_le_bytes()); // 18h queue_size
        bytes.extend(NO_VECTOR.to_le_bytes()); // 1Ah queue_msix_vector
        bytes.extend(u16::from(queue.enabled).to_le_bytes()); // 1Ch queue_enable
        bytes.extend(self.queue_select.to_le_bytes()); // 1Eh queue_notify_off
        bytes.extend(queue.descriptors.to_le_bytes()); // 20h queue_desc
        bytes.extend(queue.available.to_le_bytes()); // 28h queue_driver
        bytes.extend(queue.used.to_le_bytes()); // 30h queue_device
        pick(&bytes, offset, size)
    }

    /// Writes a field, in its own width; addresses also by halves.
    pub(super) fn write_common(&mut self, context: &mut Context, offset: u64, size: u8, value: u64) {
        match (offset, size) {
            (0x00, 4) => self.device_feature_select = value as u32,
            (0x08, 4) => self.driver_feature_select = value as u32,
            (0x0c, 4) if self.rings.status & FEATURES_OK == 0 => self.set_driver_feature(value as u32),
            (0x14, 1) => self.set_status(value as u8, context),
            (0x16, 2) => self.queue_select = value as u16,
            _ => self.write_queue(offset, size, value),
        }
    }

    fn set_driver_feature(&mut self, value: u32) {
        let features = &mut self.rings.features;
        match self.driver_feature_select {
            0 => *features = *features & !0xffff_ffff | u64::from(value),
            1 => *features = *features & 0xffff_ffff | u64::from(value) << 32,
            _ => {}
        }
    }

    /// Fields of the selected queue; they stand still once it is enabled.
    fn write_queue(&mut self, offset: u64, size: u8, value: u64) {
        let Some(queue) = self.rings.queues.get_mut(usize::from(self.queue_select)).filter(|queue| !queue.enabled)
        else {
            return;
        };
        match (offset, size) {
            (0x18, 2) => queue.set_size(value as u16),
            (0x1c, 2) => queue.enabled = value == 1,
            (0x20 | 0x24, 4 | 8) => set_address(&mut queue.descriptors, offset, size, value),
            (0x28 | 0x2c, 4 | 8) => set_address(&mut queue.available, offset, size, value),
            (0x30 | 0x34, 4 | 8) => set_address(&mut queue.used, offset, size, value),
            _ => {}
        }
    }
}

/// One of the 32-bit halves of the feature bits.
fn half(features: u64, select: u32) -> u32 {
    match select {
        0 => features as u32,
        1 => (features >> 32) as u32,
        _ => 0,
    }
}

fn set_address(address: &mut u64, offset: u64, size: u8, value: u64) {
    match (offset & 4 != 0, size) {
        (false, 8) => *address = value,
        (false, _) => *address = *address & !0xffff_ffff | value & 0xffff_ffff,
        (true, 4) => *address = *address & 0xffff_ffff | value << 32,
        (true, _) => {}
    }
}
