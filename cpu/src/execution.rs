//! What one instruction written in Rust may touch: registers, linear memory, the board, the count.

use crate::bus::{Bus, Icount};
use crate::exception::Exception;
use crate::memory::{Memory, PAGE};
use crate::paging::{self, Access, Translation};
use crate::state::{State, rflags};
use iced_x86::Register;

mod segmentation;

pub use segmentation::{linear_address, linear_in, room};

/// The machine as a system instruction sees it.
pub struct Execution<'a> {
    /// Registers. `rip` is the address of the instruction itself until it completes.
    pub state: &'a mut State,
    /// Guest RAM.
    pub memory: &'a mut Memory,
    /// The board.
    pub bus: &'a mut dyn Bus,
    /// Instructions completed before this one.
    pub now: Icount,
    /// Set when the board was touched: the run ends after this instruction, so that lines and deadlines are sampled.
    pub device: bool,
    /// Translations known already, if there are any.
    pub cached: Option<Cached<'a>>,
}

/// Translations of data accesses that an engine has found before. To use one must be as good as to walk.
pub trait Translations {
    /// The guest-physical address of a byte, if a load or a store there needs no walk.
    fn find(&mut self, memory: &Memory, user: bool, linear: u64, write: bool) -> Option<u64>;
    /// A walk for a load or a store has found this.
    fn keep(&mut self, memory: &mut Memory, user: bool, linear: u64, found: &Translation, write: bool);
}

/// Translations that hold as long as the control registers stay as they are and nothing derived has been overwritten.
pub struct Cached<'a> {
    translations: &'a mut dyn Translations,
    registers: [u64; 4],
}

impl<'a> Cached<'a> {
    /// Those that hold in this state.
    pub fn new(translations: &'a mut dyn Translations, state: &State) -> Cached<'a> {
        Cached { translations, registers: paging_registers(state) }
    }
}

fn paging_registers(state: &State) -> [u64; 4] {
    [state.cr0, state.cr3, state.cr4, state.efer]
}

impl Execution<'_> {
    /// Whether memory operands are accessed with user privilege.
    pub fn user(&self) -> bool {
        self.state.cpl == 3
    }

    /// The flag bit is set.
    pub fn flag(&self, bit: u64) -> bool {
        self.state.rflags & bit != 0
    }

    /// Replaces the six arithmetic flags.
    pub fn set_arithmetic_flags(&mut self, flags: u64) {
        self.state.rflags = self.state.rflags & !rflags::ARITHMETIC | flags & rflags::ARITHMETIC;
    }

    /// Reads `bytes.len()` bytes of linear memory with the privilege of `user`.
    ///
    /// # Errors
    /// What the page walk says, or #AC; nothing has been read from a device then.
    pub fn read_bytes(&mut self, linear: u64, bytes: &mut [u8], user: bool) -> Result<(), Exception> {
        let mut pieces = [(0, 0); 2];
        let count = self.pieces(linear, bytes.len(), Access::read(user), &mut pieces)?;
        self.inspect(linear, bytes.len(), false, user)?;
        let mut rest = bytes;
        for &(physical, length) in &pieces[..count] {
            let (head, tail) = rest.split_at_mut(length);
            self.read_physical(physical, head);
            rest = tail;
        }
        Ok(())
    }

    /// Writes bytes of linear memory; both pages are checked before either changes.
    ///
    /// # Errors
    /// What the page walk says, or #AC.
    pub fn write_bytes(&mut self, linear: u64, bytes: &[u8], user: bool) -> Result<(), Exception> {
        let mut pieces = [(0, 0); 2];
        let count = self.pieces(linear, bytes.len(), Access::write(user), &mut pieces)?;
        self.inspect(linear, bytes.len(), true, user)?;
        let mut rest = bytes;
        for &(physical, length) in &pieces[..count] {
            let (head, tail) = rest.split_at(length);
            self.write_physical(physical, head);
            rest = tail;
        }
        Ok(())
    }

    /// Checks that an access of `length` (at most a page) is allowed, setting A and D bits, without making it.
    ///
    /// # Errors
    /// What the page walk says.
    pub fn probe(&mut self, linear: u64, length: usize, access: Access) -> Result<(), Exception> {
        self.pieces(linear, length, access, &mut [(0, 0); 2]).map(|_| ())
    }

    /// Translates an access into one or two physical pieces.
    fn pieces(
        &mut self,
        linear: u64,
        length: usize,
        access: Access,
        pieces: &mut [(u64, usize); 2],
    ) -> Result<usize, Exception> {
        if !paging::is_canonical(linear.wrapping_add(length.max(1) as u64 - 1)) {
            return Err(Exception::general_protection(0));
        }
        let first = length.min((PAGE - linear % PAGE) as usize);
        pieces[0] = (self.translate(linear, access)?, first);
        if first == length {
            return Ok(1);
        }
        let next = linear.wrapping_add(first as u64);
        // Outside 64-bit mode the last page is followed by the first.
        let next = if next == 1 << 32 && !self.state.is_long() { 0 } else { next };
        pieces[1] = (self.translate(next, access)?, length - first);
        Ok(2)
    }

    /// The guest-physical address of a byte.
    fn translate(&mut self, linear: u64, access: Access) -> Result<u64, Exception> {
        let usable = !access.fetch && !self.memory.has_touched();
        let registers = paging_registers(self.state);
        let Some(cached) = self.cached.as_mut().filter(|cached| usable && cached.registers == registers) else {
            return Ok(paging::walk(self.memory, self.state, linear, access)?.physical);
        };
        let Access { user, write, .. } = access;
        if let Some(physical) = cached.translations.find(self.memory, user, linear, write) {
            return Ok(physical);
        }
        let found = paging::walk(self.memory, self.state, linear, access)?;
        cached.translations.keep(self.memory, user, linear, &found, write);
        Ok(found.physical)
    }

    /// Reads guest-physical memory, RAM or device registers; within one page.
    pub fn read_physical(&mut self, physical: u64, bytes: &mut [u8]) {
        if self.memory.page_of(physical).is_some() {
            self.memory.read(physical, bytes);
            return;
        }
        self.device = true;
        for (address, range) in naturally_aligned(physical, bytes.len()) {
            let value = self.bus.mmio_read(self.memory, self.now, address, range.len() as u8);
            let length = range.len();
            bytes[range].copy_from_slice(&value.to_le_bytes()[..length]);
        }
    }

    /// Writes guest-physical memory, RAM or device registers; within one page.
    pub fn write_physical(&mut self, physical: u64, bytes: &[u8]) {
        if self.memory.takes_stores(physical) {
            self.memory.store(physical, bytes);
            return;
        }
        self.device = true;
        for (address, range) in naturally_aligned(physical, bytes.len()) {
            let mut value = [0; 8];
            value[..range.len()].copy_from_slice(&bytes[range.clone()]);
            self.bus.mmio_write(self.memory, self.now, address, range.len() as u8, u64::from_le_bytes(value));
        }
    }

    /// Reads a little-endian value of 1, 2, 4 or 8 bytes with the current privilege.
    ///
    /// # Errors
    /// What the page walk says.
    pub fn read(&mut self, linear: u64, size: usize) -> Result<u64, Exception> {
        let mut bytes = [0; 8];
        self.read_bytes(linear, &mut bytes[..size], self.state.cpl == 3)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes a little-endian value of 1, 2, 4 or 8 bytes with the current privilege.
    ///
    /// # Errors
    /// What the page walk says.
    pub fn write(&mut self, linear: u64, size: usize, value: u64) -> Result<(), Exception> {
        self.write_bytes(linear, &value.to_le_bytes()[..size], self.state.cpl == 3)
    }

    /// Reads with system privilege (descriptor tables, TSS), whatever the CPL.
    ///
    /// # Errors
    /// What the page walk says.
    pub fn read_system(&mut self, linear: u64, size: usize) -> Result<u64, Exception> {
        let mut bytes = [0; 8];
        self.read_bytes(linear, &mut bytes[..size], false)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Writes with system privilege.
    ///
    /// # Errors
    /// What the page walk says.
    pub fn write_system(&mut self, linear: u64, size: usize, value: u64) -> Result<(), Exception> {
        self.write_bytes(linear, &value.to_le_bytes()[..size], false)
    }

    /// The value of a general register by its iced name, zero-extended.
    pub fn register(&self, register: Register) -> u64 {
        match register {
            Register::RIP => self.state.rip,
            Register::AH | Register::CH | Register::DH | Register::BH => {
                self.state.gpr[register.number() - 4] >> 8 & 0xff
            }
            _ => {
                let value = self.state.gpr[register.full_register().number()];
                match register.size() {
                    1 => value & 0xff,
                    2 => value & 0xffff,
                    4 => value & 0xffff_ffff,
                    _ => value,
                }
            }
        }
    }

    /// Writes a general register by its iced name, with the usual zero extension of 32-bit results.
    pub fn set_register(&mut self, register: Register, value: u64) {
        if matches!(register, Register::AH | Register::CH | Register::DH | Register::BH) {
            let whole = &mut self.state.gpr[register.number() - 4];
            *whole = *whole & !0xff00 | (value & 0xff) << 8;
            return;
        }
        let whole = &mut self.state.gpr[register.full_register().number()];
        *whole = match register.size() {
            1 => *whole & !0xff | value & 0xff,
            2 => *whole & !0xffff | value & 0xffff,
            4 => value & 0xffff_ffff,
            _ => value,
        };
    }
}

/// Splits an access into naturally aligned pieces of at most 8 bytes, as a bus would see them.
fn naturally_aligned(start: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let address = start + done as u64;
        let mut size = 8;
        while !address.is_multiple_of(size as u64) || size > length - done {
            size /= 2;
        }
        done += size;
        Some((address, done - size..done))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bus_accesses_are_naturally_aligned() {
        let pieces: Vec<_> = naturally_aligned(0x1003, 9).collect();
        assert_eq!(pieces, [(0x1003, 0..1), (0x1004, 1..5), (0x1008, 5..9)]);
    }
}
