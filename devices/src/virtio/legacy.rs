//! The registers of before 1.0, behind the I/O window (Virtio 1.2 §4.1.4.10).

use super::DeviceType;
use super::pci::{Virtio, pick};
use crate::context::Context;

/// Where the header ends and the device configuration begins, as there is no MSI-X.
const HEADER: u64 = 0x14;
const ISR_STATUS: u64 = 0x13;

impl<D: DeviceType> Virtio<D> {
    /// Reads any bytes. The ISR status is cleared by an access that covers it.
    pub(super) fn read_legacy(&mut self, offset: u64, size: u8) -> u64 {
        if let Some(offset) = offset.checked_sub(HEADER) {
            return self.read_configuration(offset, size);
        }
        let queue = self.rings.queues.get(usize::from(self.queue_select));
        let mut bytes = Vec::with_capacity(HEADER as usize);
        bytes.extend((self.offered() as u32).to_le_bytes()); // 00h device features
        bytes.extend((self.rings.features as u32).to_le_bytes()); // 04h driver features
        bytes.extend(queue.map_or(0, |queue| (queue.descriptors >> 12) as u32).to_le_bytes()); // 08h queue address
        bytes.extend(queue.map_or(0, |queue| queue.size).to_le_bytes()); // 0Ch queue size
        bytes.extend(self.queue_select.to_le_bytes()); // 0Eh
        bytes.extend([0, 0, self.rings.status, self.rings.isr]); // 10h queue notify, 12h device status, 13h ISR status
        if (offset..offset + u64::from(size)).contains(&ISR_STATUS) {
            self.rings.take_isr();
        }
        pick(&bytes, offset, size)
    }

    /// Writes a register, in its own width.
    pub(super) fn write_legacy(&mut self, context: &mut Context, offset: u64, size: u8, value: u64) {
        match (offset, size) {
            (0x04, 4) => self.rings.features = value & self.offered() & 0xffff_ffff,
            (0x08, 4) => {
                if let Some(queue) = self.rings.queues.get_mut(usize::from(self.queue_select)) {
                    queue.reset();
                    queue.set_legacy_address(value as u32);
                }
            }
            (0x0e, 2) => self.queue_select = value as u16,
            (0x10, 2) => self.notify(value as u16, context),
            (0x12, 1) => self.set_status(value as u8, context),
            _ => {}
        }
    }
}
