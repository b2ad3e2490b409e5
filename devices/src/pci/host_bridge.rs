//! The 82441FX, host bridge of the i440FX (Intel 290549 §3): which memory answers below 1 MiB. Its shadow registers (PAM0-6)
//! say for each piece from C0000h on whether RAM is read and written or the bus is; SMRAMC opens system management RAM.
//!
//! D_CLS is kept and does nothing: in system management mode data are where code is.

use super::bridge::identity;
use crate::context::Context;
use crate::pci::device::PciDevice;
use crate::pci::function::{Function, Identity};
use crate::state::saved;
use ftemu_cpu::Memory;
use ftemu_cpu::memory::Region;

/// PAM0-6, 59h to 5Fh.
const PAM: u8 = 0x59;
/// RE and WE of both halves of a PAM register.
const PAM_DEFINED: u8 = 0x33;
const READ_ENABLE: u8 = 1;
const WRITE_ENABLE: u8 = 2;
/// SMRAMC.
const SMRAM: u8 = 0x72;
/// D_OPEN, D_CLS, D_LCK, G_SMRAME; C_BASE_SEG is always A0000h.
const OPEN: u8 = 1 << 6;
const CLOSED: u8 = 1 << 5;
const LOCKED: u8 = 1 << 4;
const ENABLED: u8 = 1 << 3;
const BASE_SEGMENT: u8 = 2;
/// What virtual machines carry as the subsystem of their host bridge; firmware looks for it.
const SUBSYSTEM: u16 = 0x1100;

/// Slot 0: PMC with memory and mastering always on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostBridge {
    function: Function,
}
saved!(HostBridge { function });

impl Default for HostBridge {
    /// After reset: what is read below 1 MiB is the BIOS, nothing is written, there is no system management RAM.
    fn default() -> HostBridge {
        let identity = Identity { revision: 2, subsystem: SUBSYSTEM, ..identity(0x1237, 0x06_0000) };
        let function = Function::new(&identity)
            .with_register(0x04, &[0x06, 0x00], &[])
            .with_register(0x50, &[0; 0x09], &[0xff; 0x09]) // PMCCFG, DETURBO, DBC, AXC, DRT
            .with_register(PAM, &[0; 7], &[PAM_DEFINED; 7])
            .with_register(0x60, &[0; 0x12], &[0xff; 0x12]) // DRB0-7, FDHC, MTT
            .with_register(SMRAM, &[BASE_SEGMENT], &[OPEN | CLOSED | LOCKED | ENABLED]);
        HostBridge { function }
    }
}

impl HostBridge {
    /// As firmware leaves it that starts an operating system: all shadow RAM is read and written.
    pub fn open_shadow(&mut self) {
        self.function.set(usize::from(PAM), &[PAM_DEFINED; 7]);
    }

    /// Whether there is system management RAM.
    pub fn has_management(&self) -> bool {
        self.byte(SMRAM) & ENABLED != 0
    }

    fn byte(&self, register: u8) -> u8 {
        self.function.read(register, 1) as u8
    }

    /// Pages of C0000h-FFFFFh, from the lowest bit on, whose attribute is set in the shadow registers.
    fn shadow(&self, attribute: u8) -> u64 {
        let fields = (0..7).flat_map(|number| {
            let value = self.byte(PAM + number);
            [value & 0xf, value >> 4]
        });
        // PAM0 has F0000h-FFFFFh in its upper half, nothing in its lower one; the others have 16 KiB in each.
        let pieces = fields.enumerate().filter(|(_, field)| field & attribute != 0);
        pieces.fold(0, |pages, (number, _)| match number {
            0 => pages,
            1 => pages | 0xffff << 48,
            number => pages | 0xf << (4 * (number - 2)),
        })
    }

    /// Brings memory in line with the registers. `bios` answers where shadow RAM is not read.
    pub fn place(&self, memory: &mut Memory, bios: Region) {
        memory.set_shadow(self.shadow(READ_ENABLE), self.shadow(WRITE_ENABLE), Some(bios));
        let management = self.byte(SMRAM);
        memory.set_management(management & ENABLED != 0, management & OPEN != 0);
    }
}

impl PciDevice for HostBridge {
    fn function(&self) -> &Function {
        &self.function
    }

    fn function_mut(&mut self) -> &mut Function {
        &mut self.function
    }

    /// SMRAMC is written once only where it is locked: then nothing but D_CLS changes until a reset, and D_OPEN is clear.
    fn configure(&mut self, register: u8, size: u8, value: u32, _context: &mut Context) {
        let before = self.byte(SMRAM);
        self.function.write(register, size, value);
        let mut after = self.byte(SMRAM);
        if before & LOCKED != 0 {
            after = before & !CLOSED | after & CLOSED;
        } else if after & LOCKED != 0 {
            after &= !OPEN;
        }
        self.function.set(usize::from(SMRAM), &[after]);
    }

    fn read(&mut self, _context: &mut Context, _bar: u8, _offset: u64, size: u8) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
    }

    fn write(&mut self, _context: &mut Context, _bar: u8, _offset: u64, _size: u8, _value: u64) {}

    fn line(&self) -> bool {
        false
    }

    fn deadline(&self) -> Option<u64> {
        None
    }

    fn tick(&mut self, _context: &mut Context) {}
}

#[cfg(test)]
mod tests;
