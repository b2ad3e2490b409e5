//! The configuration device that SeaBIOS reads (QEMU's specification "fw_cfg"): numbered items of bytes, some of them
//! named files, through a selector and a data port or by DMA.
//!
//! The chip is a selector and an offset. The items are derived from the configuration and are no state.

mod items;
mod smbios;

use crate::state::saved;
use ftemu_cpu::Memory;
pub use items::Items;

/// Selector, 16 bits, write-only.
pub const SELECTOR_PORT: u16 = 0x510;
/// The next byte of the item.
pub const DATA_PORT: u16 = 0x511;
/// Address of a DMA descriptor, big-endian: the high half here, the low half, which starts it, 4 ports on.
pub const DMA_PORT: u16 = 0x514;

/// What the DMA port reads: its presence can be told by it.
const DMA_SIGNATURE: u64 = u64::from_be_bytes(*b"QEMU CFG");
/// The control word of a DMA descriptor.
const ERROR: u32 = 1 << 0;
const READ: u32 = 1 << 1;
const SKIP: u32 = 1 << 2;
const SELECT: u32 = 1 << 3;
const WRITE: u32 = 1 << 4;
/// A transfer is at most so long; no item is.
const MOST_BYTES: u32 = 16 << 20;

/// The device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirmwareConfig {
    selector: u16,
    offset: u32,
    dma_high: u32,
}
saved!(FirmwareConfig { selector, offset, dma_high });

impl FirmwareConfig {
    /// Reads 511h, or 514h-51Bh.
    pub fn read(&mut self, items: &Items, port: u16, size: u8) -> u32 {
        match port {
            DATA_PORT => {
                let byte = items.get(self.selector).get(self.offset as usize).copied().unwrap_or(0);
                self.offset = self.offset.saturating_add(1);
                u32::from(byte)
            }
            DMA_PORT.. => {
                let from = usize::from(port - DMA_PORT);
                let bytes = DMA_SIGNATURE.to_be_bytes();
                let taken = bytes.iter().skip(from).take(usize::from(size));
                taken.rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
            }
            _ => u32::MAX,
        }
    }

    /// Writes 510h (a word), or 514h-51Bh (dwords).
    pub fn write(&mut self, items: &Items, memory: &mut Memory, port: u16, size: u8, value: u32) {
        match (port, size) {
            (SELECTOR_PORT, 2) => self.select(value as u16),
            (DMA_PORT, 4) => self.dma_high = value.swap_bytes(),
            (0x518, 4) => {
                let address = u64::from(std::mem::take(&mut self.dma_high)) << 32 | u64::from(value.swap_bytes());
                self.transfer(items, memory, address);
            }
            _ => {}
        }
    }

    fn select(&mut self, selector: u16) {
        (self.selector, self.offset) = (selector, 0);
    }

    /// Carries out a descriptor: control, length and address, big-endian. The control word becomes 0, or the error bit.
    fn transfer(&mut self, items: &Items, memory: &mut Memory, descriptor: u64) {
        let mut bytes = [0; 16];
        if !memory.read(descriptor, &mut bytes) {
            return;
        }
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let address = u64::from(word(8)) << 32 | u64::from(word(12));
        let done = self.carry_out(items, memory, word(0), word(4), address);
        let status = if done { 0 } else { ERROR };
        memory.store(descriptor, &status.to_be_bytes());
    }

    fn carry_out(&mut self, items: &Items, memory: &mut Memory, control: u32, length: u32, address: u64) -> bool {
        if control & SELECT != 0 {
            self.select((control >> 16) as u16);
        }
        let offset = self.offset as usize;
        if control & (READ | SKIP | WRITE) != 0 {
            self.offset = self.offset.saturating_add(length);
        }
        match control & (READ | SKIP | WRITE) {
            0 => true,
            SKIP => true,
            // Past the end of an item there are zeroes.
            READ if length <= MOST_BYTES => {
                let mut bytes: Vec<u8> = items.get(self.selector).iter().copied().skip(offset).collect();
                bytes.resize(length as usize, 0);
                memory.store(address, &bytes)
            }
            _ => false, // nothing can be written
        }
    }
}

#[cfg(test)]
mod tests;
