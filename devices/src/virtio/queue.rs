//! A split virtqueue (Virtio 1.2 §2.7), written against a driver that may do anything.
//!
//! The rings lie in guest memory and can change between two looks at them, so every index is checked where it is used,
//! and no loop is longer than [`CHAIN`]. A ring that makes no sense is [`Broken`]: the device stops and asks
//! for a reset.

use super::buffer::{Buffer, Segment};
use crate::state::saved;
use ftemu_cpu::Memory;

/// Descriptor flags (§2.7.5).
const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 16;
/// Flag of the available ring (§2.7.6).
const NO_INTERRUPT: u16 = 1;
/// The longest chain: what drivers are known to make, with room to spare. It also bounds an indirect table.
pub const CHAIN: u32 = 1024;
/// The longest queue.
pub const LONGEST: u16 = 1024;

/// The driver broke the rules of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A ring or an indirect table lies outside of RAM.
    #[error("a ring lies outside of RAM")]
    Memory,
    /// The available index ran ahead by more than the queue has entries, or there are more requests than entries.
    #[error("more buffers are available than the queue has entries")]
    Index,
    /// A descriptor that is not in its table.
    #[error("a descriptor is outside of its table")]
    Descriptor,
    /// Longer than a chain can be: it loops.
    #[error("a chain of descriptors does not end")]
    Loop,
    /// An indirect table inside of one, continued, of no whole number of descriptors, or without being negotiated.
    #[error("an indirect table where there can be none")]
    Indirect,
    /// A device-readable descriptor after a device-writable one.
    #[error("readable bytes after writable ones")]
    Order,
    /// A request without a header, or without room for its result.
    #[error("a request lacks its header or its status")]
    Request,
}

/// Buffers that the driver made available together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The descriptor it starts with: its name in the used ring.
    pub head: u16,
    /// What the device may read.
    pub readable: Buffer,
    /// What the device may write.
    pub writable: Buffer,
}

/// One queue: where its rings are and how far the device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// The size the driver chose: a power of two.
    pub size: u16,
    /// The size the device offers.
    pub maximum: u16,
    /// Whether the driver has set it up.
    pub enabled: bool,
    /// Descriptor table, available ring and used ring: guest-physical addresses.
    pub descriptors: u64,
    /// Available ring, the "driver area".
    pub available: u64,
    /// Used ring, the "device area".
    pub used: u64,
    next_available: u16,
    next_used: u16,
}
saved!(Queue { size, maximum, enabled, descriptors, available, used, next_available, next_used });

/// What was negotiated about rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Chains may go on in a table of their own.
    pub indirect: bool,
    /// Each side says at which index it wants to be told.
    pub event_index: bool,
}

impl Queue {
    /// A queue of at most `maximum` entries, a power of two, that nobody has set up.
    pub fn new(maximum: u16) -> Queue {
        let (size, enabled) = (maximum, false);
        Queue { size, maximum, enabled, descriptors: 0, available: 0, used: 0, next_available: 0, next_used: 0 }
    }

    /// As it was after power-on.
    pub fn reset(&mut self) {
        *self = Queue::new(self.maximum);
    }

    /// Whether numbers are as the device makes them; asked after loading.
    pub fn is_plausible(&self) -> bool {
        let fits = |size: u16| size.is_power_of_two() && size <= LONGEST;
        fits(self.size) && fits(self.maximum) && self.size <= self.maximum
    }

    /// Chooses a size; one that the device cannot have changes nothing.
    pub fn set_size(&mut self, size: u16) {
        if size.is_power_of_two() && size <= self.maximum {
            self.size = size;
        }
    }

    /// Rings in a row with used on a page of its own, as legacy drivers lay them out (§2.7.2).
    pub fn set_legacy_address(&mut self, page: u32) {
        let start = u64::from(page) << 12;
        let size = u64::from(self.size);
        self.descriptors = start;
        self.available = start + DESCRIPTOR * size;
        self.used = (self.available + 6 + 2 * size).next_multiple_of(4096);
        self.enabled = page != 0;
    }

    fn slot(&self, index: u16) -> u64 {
        u64::from(index & self.size.wrapping_sub(1))
    }

    /// The next chain the driver made available, if any.
    ///
    /// # Errors
    /// [`Broken`]; the queue must not be used until the driver has reset the device.
    pub fn pop(&mut self, memory: &mut Memory, rules: Rules) -> Result<Option<Chain>, Broken> {
        let waiting = read_u16(memory, self.available, 2)?.wrapping_sub(self.next_available);
        if waiting > self.size {
            return Err(Broken::Index);
        }
        if waiting == 0 {
            if rules.event_index {
                store(memory, self.used, 4 + 8 * u64::from(self.size), &self.next_available.to_le_bytes())?;
            }
            return Ok(None);
        }
        let head = read_u16(memory, self.available, 4 + 2 * self.slot(self.next_available))?;
        let chain = self.chain(memory, head, rules)?;
        self.next_available = self.next_available.wrapping_add(1);
        Ok(Some(chain))
    }

    /// Puts the `count` chains popped last back.
    pub fn unpop(&mut self, count: u16) {
        self.next_available = self.next_available.wrapping_sub(count);
    }

    /// Follows a chain from its head.
    fn chain(&self, memory: &Memory, head: u16, rules: Rules) -> Result<Chain, Broken> {
        let mut chain = Chain { head, readable: Buffer::default(), writable: Buffer::default() };
        let (mut table, mut length, mut index, mut inside) = (self.descriptors, u32::from(self.size), head, false);
        for _ in 0..CHAIN {
            if u32::from(index) >= length {
                return Err(Broken::Descriptor);
            }
            let descriptor = Descriptor::read(memory, table, index)?;
            if descriptor.flags & INDIRECT != 0 {
                let whole = u64::from(descriptor.length) % DESCRIPTOR == 0;
                if inside || !rules.indirect || descriptor.flags & NEXT != 0 || !whole {
                    return Err(Broken::Indirect);
                }
                (table, length, index, inside) = (descriptor.address, descriptor.length / 16, 0, true);
                continue;
            }
            descriptor.append_to(&mut chain)?;
            if descriptor.flags & NEXT == 0 {
                return Ok(chain);
            }
            index = descriptor.next;
        }
        Err(Broken::Loop)
    }

    /// Gives a chain back with `written` bytes in it. True: the driver wants an interrupt.
    ///
    /// # Errors
    /// [`Broken::Memory`].
    pub fn push(&mut self, memory: &mut Memory, rules: Rules, head: u16, written: u32) -> Result<bool, Broken> {
        let mut element = [0; 8];
        element[..4].copy_from_slice(&u32::from(head).to_le_bytes());
        element[4..].copy_from_slice(&written.to_le_bytes());
        store(memory, self.used, 4 + 8 * self.slot(self.next_used), &element)?;
        let index = self.next_used;
        self.next_used = index.wrapping_add(1);
        store(memory, self.used, 2, &self.next_used.to_le_bytes())?;
        if rules.event_index {
            let used_event = read_u16(memory, self.available, 4 + 2 * u64::from(self.size))?;
            return Ok(used_event == index);
        }
        Ok(read_u16(memory, self.available, 0)? & NO_INTERRUPT == 0)
    }
}

struct Descriptor {
    address: u64,
    length: u32,
    flags: u16,
    next: u16,
}

impl Descriptor {
    fn read(memory: &Memory, table: u64, index: u16) -> Result<Descriptor, Broken> {
        let bytes: [u8; 16] = read(memory, table, DESCRIPTOR * u64::from(index))?;
        let word = |start: usize| u64::from_le_bytes(std::array::from_fn(|at| bytes[start + at]));
        let (address, rest) = (word(0), word(8));
        Ok(Descriptor { address, length: rest as u32, flags: (rest >> 32) as u16, next: (rest >> 48) as u16 })
    }

    fn append_to(&self, chain: &mut Chain) -> Result<(), Broken> {
        let segment = Segment { address: self.address, length: self.length };
        if self.flags & WRITE != 0 {
            chain.writable.push(segment);
        } else if chain.writable.is_empty() {
            chain.readable.push(segment);
        } else {
            return Err(Broken::Order);
        }
        Ok(())
    }
}

fn read<const N: usize>(memory: &Memory, base: u64, offset: u64) -> Result<[u8; N], Broken> {
    let mut bytes = [0; N];
    let address = base.checked_add(offset).ok_or(Broken::Memory)?;
    if memory.read(address, &mut bytes) { Ok(bytes) } else { Err(Broken::Memory) }
}

fn read_u16(memory: &Memory, base: u64, offset: u64) -> Result<u16, Broken> {
    read(memory, base, offset).map(u16::from_le_bytes)
}

fn store(memory: &mut Memory, base: u64, offset: u64, bytes: &[u8]) -> Result<(), Broken> {
    let address = base.checked_add(offset).ok_or(Broken::Memory)?;
    if memory.store(address, bytes) { Ok(()) } else { Err(Broken::Memory) }
}

#[cfg(test)]
mod tests;
