//! One channel's bus master: three registers and the walk over the physical region descriptor table (82371SB §2.6;
//! SFF-8038i rev. 1.0 §2, §3).
//!
//! A table is at most 64 KiB, so one start never fetches more than 8192 descriptors, whatever the table says.

use crate::state::saved;
use ftemu_cpu::Memory;

/// BMICX: start/stop bus master.
pub const SSBM: u8 = 1 << 0;
/// BMICX: the bus master writes to memory.
pub const RWCON: u8 = 1 << 3;
/// BMISX: active.
pub const ACTIVE: u8 = 1 << 0;
/// BMISX: error.
pub const ERROR: u8 = 1 << 1;
/// BMISX: the device's interrupt came.
pub const INTERRUPT: u8 = 1 << 2;
/// BMISX: drive 0 and 1 are capable of DMA; firmware's notes, nothing more.
const CAPABLE: u8 = 3 << 5;
/// Descriptors in a table of 64 KiB.
const DESCRIPTORS: u16 = 8192;
/// In a descriptor's last dword: end of table.
const END_OF_TABLE: u32 = 1 << 31;

/// The registers and where the walk stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusMaster {
    command: u8,
    status: u8,
    /// BMIDTPX.
    table: u32,
    /// The next descriptor's address.
    next: u32,
    /// Descriptors fetched since the start.
    fetched: u16,
    /// What is left of the current region.
    address: u32,
    left: u32,
    /// The current region is the table's last.
    last: bool,
}
saved!(BusMaster { command, status, table, next, fetched, address, left, last });

impl BusMaster {
    /// Reads a byte of BMICX (0), BMISX (2) or BMIDTPX (4 to 7).
    pub fn read(&self, register: u8) -> u8 {
        match register {
            0 => self.command,
            2 => self.status,
            4..=7 => self.table.to_le_bytes()[usize::from(register - 4)],
            _ => 0,
        }
    }

    /// Writes a byte. True: the bus master was started.
    pub fn write(&mut self, register: u8, value: u8) -> bool {
        match register {
            0 => return self.command(value),
            2 => {
                self.status &= !(value & (ERROR | INTERRUPT));
                self.status = self.status & !CAPABLE | value & CAPABLE;
            }
            4..=7 => {
                let mut bytes = self.table.to_le_bytes();
                bytes[usize::from(register - 4)] = value;
                self.table = u32::from_le_bytes(bytes) & !3;
            }
            _ => {}
        }
        false
    }

    /// The direction cannot change while it runs; stopping it forgets where it stood.
    fn command(&mut self, value: u8) -> bool {
        let starts = value & !self.command & SSBM != 0;
        let direction = if self.is_active() { self.command } else { value };
        self.command = value & SSBM | direction & RWCON;
        if starts {
            self.status |= ACTIVE;
            (self.next, self.fetched, self.left, self.last) = (self.table, 0, 0, false);
        } else if value & SSBM == 0 {
            self.status &= !ACTIVE;
        }
        starts
    }

    /// Whether it is started and its table is not used up.
    pub fn is_active(&self) -> bool {
        self.status & ACTIVE != 0
    }

    /// Whether it would move data to memory now (`to_memory`) or from there.
    pub fn moves(&self, to_memory: bool) -> bool {
        self.is_active() && (self.command & RWCON != 0) == to_memory
    }

    /// The device's interrupt line rose.
    pub fn interrupt(&mut self) {
        self.status |= INTERRUPT;
    }

    /// Moves a device's bytes to memory; returns how many went before the table ended or failed.
    pub fn store(&mut self, memory: &mut Memory, bytes: &[u8]) -> usize {
        let mut moved = 0;
        while let Some(length) = self.region(memory, bytes.len() - moved) {
            let whole = memory.store(u64::from(self.address), &bytes[moved..moved + length]);
            if !self.advance(length, whole) {
                break;
            }
            moved += length;
        }
        moved
    }

    /// Moves memory's bytes to a device; returns how many came before the table ended or failed.
    pub fn fetch(&mut self, memory: &Memory, bytes: &mut [u8]) -> usize {
        let mut moved = 0;
        while let Some(length) = self.region(memory, bytes.len() - moved) {
            let whole = memory.read(u64::from(self.address), &mut bytes[moved..moved + length]);
            if !self.advance(length, whole) {
                break;
            }
            moved += length;
        }
        moved
    }

    /// How much of `wanted` bytes the current region takes; fetches a descriptor where needed. `None`: nothing is
    /// wanted, or the table is at its end.
    fn region(&mut self, memory: &Memory, wanted: usize) -> Option<usize> {
        if self.left == 0 && self.last {
            self.status &= !ACTIVE;
        }
        if wanted == 0 || !self.is_active() || self.left == 0 && !self.descriptor(memory) {
            return None;
        }
        Some(wanted.min(self.left as usize))
    }

    /// Fetches the next descriptor: an even address, then an even number of bytes, 0 for 64 KiB.
    fn descriptor(&mut self, memory: &Memory) -> bool {
        let mut bytes = [0; 8];
        if self.fetched == DESCRIPTORS || !memory.read(u64::from(self.next), &mut bytes) {
            return self.fail();
        }
        let [address, count] = [0, 4].map(|at| u32::from_le_bytes(std::array::from_fn(|index| bytes[at + index])));
        self.address = address & !1;
        self.left = match count & 0xfffe {
            0 => 0x1_0000,
            bytes => bytes,
        };
        self.last = count & END_OF_TABLE != 0;
        self.next = self.next.wrapping_add(8);
        self.fetched += 1;
        true
    }

    fn advance(&mut self, length: usize, whole: bool) -> bool {
        if !whole {
            return self.fail();
        }
        self.address = self.address.wrapping_add(length as u32);
        self.left = self.left.saturating_sub(length as u32);
        true
    }

    /// Nobody answered on the bus.
    fn fail(&mut self) -> bool {
        self.status = self.status & !ACTIVE | ERROR;
        false
    }
}

#[cfg(test)]
mod tests;
