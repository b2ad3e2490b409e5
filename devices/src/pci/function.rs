//! The configuration space of one function (PCI 2.1 §6.1, §6.2): the type 0 header, base addresses, and a list of
//! capabilities. What software may write is a mask, byte for byte, so that nothing else can ever change.

use crate::state::saved;

/// Offsets in the header (PCI 2.1 figure 6-1).
const COMMAND: usize = 0x04;
const STATUS: usize = 0x06;
const HEADER_TYPE: usize = 0x0e;
const BASE_ADDRESS: usize = 0x10;
const SUBSYSTEM: usize = 0x2c;
const ROM_ADDRESS: usize = 0x30;
const CAPABILITIES: usize = 0x34;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;
/// Where capabilities begin: right after the header.
const FIRST_CAPABILITY: usize = 0x40;

const COMMAND_IO: u16 = 1 << 0;
const COMMAND_MEMORY: u16 = 1 << 1;
const COMMAND_MASTER: u16 = 1 << 2;
const COMMAND_INTERRUPT_DISABLE: u16 = 1 << 10;
/// What software may set: the spaces, mastering, parity response, SERR#, interrupt disable.
const COMMAND_WRITABLE: u16 = 0x0547;
const STATUS_INTERRUPT: u8 = 1 << 3;
const STATUS_CAPABILITIES: u8 = 1 << 4;
/// Medium DEVSEL timing, in the status register's high byte.
const STATUS_MEDIUM: u8 = 2;
const BAR_IO: u32 = 1;
const BAR_PREFETCHABLE: u32 = 8;
const ROM_ENABLED: u32 = 1;

/// Who a function is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision id.
    pub revision: u8,
    /// Class code, 24 bits: base class, subclass, programming interface.
    pub class: u32,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// 0: no interrupt; 1: INTA#, to 4: INTD#.
    pub interrupt_pin: u8,
    /// Whether the device has more functions than this one (function 0 says so).
    pub multifunction: bool,
}

/// The 256 bytes of a function and what of them software may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    space: [u8; 256],
    writable: [u8; 256],
    /// Bytes behind each base address, 0 where there is none; [6] is the expansion ROM.
    lengths: [u64; 7],
    /// The last capability, 0 before the first.
    last_capability: u8,
    /// Where the next one goes.
    next_capability: u16,
}
saved!(Function { space, writable, lengths, last_capability, next_capability });

impl Function {
    /// A function without base addresses.
    pub fn new(identity: &Identity) -> Function {
        let Identity { vendor, device, revision, class, subsystem_vendor, subsystem, interrupt_pin, multifunction } =
            *identity;
        let mut function = Function {
            space: [0; 256],
            writable: [0; 256],
            lengths: [0; 7],
            last_capability: 0,
            next_capability: FIRST_CAPABILITY as u16,
        };
        function.set(0, &[vendor.to_le_bytes(), device.to_le_bytes()].concat());
        function.set(0x08, &(class << 8 | u32::from(revision)).to_le_bytes());
        function.set(SUBSYSTEM, &[subsystem_vendor.to_le_bytes(), subsystem.to_le_bytes()].concat());
        function.set(HEADER_TYPE, &[u8::from(multifunction) << 7]);
        function.set(STATUS + 1, &[STATUS_MEDIUM]);
        function.set(INTERRUPT_PIN, &[interrupt_pin]);
        function.allow(COMMAND, &COMMAND_WRITABLE.to_le_bytes());
        function.allow(0x0c, &[0xff, 0xff]); // cache line size, latency timer
        if interrupt_pin != 0 {
            function.allow(INTERRUPT_LINE, &[0xff]);
        }
        function
    }

    /// A window of I/O ports: a power of two from 4 to 256 bytes.
    #[must_use]
    pub fn with_io_bar(self, index: u8, bytes: u64) -> Function {
        assert!((4..=256).contains(&bytes), "an I/O window has 4 to 256 ports");
        self.with_window(index, bytes, BAR_IO, 3)
    }

    /// A window of memory below 4 GiB: a power of two from 16 bytes to 2 GiB.
    #[must_use]
    pub fn with_memory_bar(self, index: u8, bytes: u64, prefetchable: bool) -> Function {
        assert!((16..=1 << 31).contains(&bytes), "a memory window has 16 bytes to 2 GiB");
        self.with_window(index, bytes, if prefetchable { BAR_PREFETCHABLE } else { 0 }, 15)
    }

    fn with_window(mut self, index: u8, bytes: u64, kind: u32, fixed: u32) -> Function {
        assert!(bytes.is_power_of_two() && index < 6, "a window is a power of two");
        let at = BASE_ADDRESS + 4 * usize::from(index);
        self.set(at, &kind.to_le_bytes());
        self.allow(at, &(!(bytes as u32 - 1) & !fixed).to_le_bytes());
        self.lengths[usize::from(index)] = bytes;
        self
    }

    /// An expansion ROM: a power of two from 2 KiB to 16 MiB.
    #[must_use]
    pub fn with_rom_bar(mut self, bytes: u64) -> Function {
        assert!(bytes.is_power_of_two() && (2 << 10..=16 << 20).contains(&bytes), "a ROM is a power of two");
        self.allow(ROM_ADDRESS, &(!(bytes as u32 - 1) | ROM_ENABLED).to_le_bytes());
        self.lengths[6] = bytes;
        self
    }

    /// A register with its reset value and the bits that software may write; mask bytes that are missing are 0.
    #[must_use]
    pub fn with_register(mut self, offset: u8, value: &[u8], writable_mask: &[u8]) -> Function {
        let at = usize::from(offset);
        self.set(at, value);
        self.writable[at..at + value.len()].fill(0);
        self.allow(at, writable_mask);
        self
    }

    /// A capability: the identifier, a pointer to the next one, then `body`; dword-aligned, in the order of the calls.
    #[must_use]
    pub fn with_capability(mut self, id: u8, body: &[u8], writable_mask: &[u8]) -> Function {
        let at = usize::from(self.next_capability);
        self.set(at, &[id, 0]);
        self.set(at + 2, body);
        self.allow(at + 2, writable_mask);
        let link = if self.last_capability == 0 { CAPABILITIES } else { usize::from(self.last_capability) + 1 };
        self.space[link] = at as u8;
        self.space[STATUS] |= STATUS_CAPABILITIES;
        self.last_capability = at as u8;
        self.next_capability = (at + 2 + body.len()).next_multiple_of(4) as u16;
        self
    }

    /// The offset of the last capability added, 0 if there is none.
    pub fn last_capability(&self) -> u8 {
        self.last_capability
    }

    /// Changes registers behind software's back: reset values, and status that hardware sets. Bytes beyond the space
    /// are dropped.
    pub fn set(&mut self, offset: usize, bytes: &[u8]) {
        self.space.iter_mut().skip(offset).zip(bytes).for_each(|(byte, value)| *byte = *value);
    }

    fn allow(&mut self, offset: usize, mask: &[u8]) {
        self.writable.iter_mut().skip(offset).zip(mask).for_each(|(byte, value)| *byte = *value);
    }

    /// Reads `size` (at most 4) bytes; beyond the space ones.
    pub fn read(&self, register: u8, size: u8) -> u32 {
        let byte = |index: u8| match index < size {
            true => self.space.get(usize::from(register) + usize::from(index)).copied().unwrap_or(0xff),
            false => 0,
        };
        u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)])
    }

    /// Writes `size` bytes: the bits that may be written change.
    pub fn write(&mut self, register: u8, size: u8, value: u32) {
        let first = usize::from(register);
        for (at, byte) in (first..256).zip(value.to_le_bytes().into_iter().take(usize::from(size))) {
            let mask = self.writable[at];
            self.space[at] = self.space[at] & !mask | byte & mask;
        }
    }

    fn dword(&self, at: usize) -> u32 {
        self.read(at as u8, 4)
    }

    fn command(&self) -> u16 {
        self.read(COMMAND as u8, 2) as u16
    }

    /// The address of a window while it is decoded. A window at 0 or past the end of its space is not: that is how
    /// software leaves what it has not placed.
    pub fn bar(&self, index: u8) -> Option<u64> {
        let length = self.lengths.get(usize::from(index)).copied().filter(|length| *length != 0 && index < 6)?;
        let value = self.dword(BASE_ADDRESS + 4 * usize::from(index));
        let (needs, base, end) = match value & BAR_IO {
            0 => (COMMAND_MEMORY, u64::from(value & !15), 1 << 32),
            _ => (COMMAND_IO, u64::from(value & !3), 1 << 16),
        };
        (self.command() & needs != 0 && base != 0 && base + length <= end).then_some(base)
    }

    /// Bytes behind a base address; [`super::device::ROM`] is the expansion ROM. 0: there is none.
    pub fn bar_length(&self, index: u8) -> u64 {
        self.lengths.get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Whether a window is one of I/O ports.
    pub fn bar_is_io(&self, index: u8) -> bool {
        index < 6 && self.dword(BASE_ADDRESS + 4 * usize::from(index)) & BAR_IO != 0
    }

    /// The address of the expansion ROM while it is decoded.
    pub fn rom_bar(&self) -> Option<u64> {
        let value = self.dword(ROM_ADDRESS);
        let base = u64::from(value & !0x7ff);
        let decoded = self.command() & COMMAND_MEMORY != 0 && value & ROM_ENABLED != 0;
        (self.lengths[6] != 0 && decoded && base != 0 && base + self.lengths[6] <= 1 << 32).then_some(base)
    }

    /// Whether it may do DMA.
    pub fn bus_master(&self) -> bool {
        self.command() & COMMAND_MASTER != 0
    }

    /// Whether its INTx line is held off.
    pub fn interrupt_disabled(&self) -> bool {
        self.command() & COMMAND_INTERRUPT_DISABLE != 0
    }

    /// The interrupt bit of the status register.
    pub fn set_interrupt_status(&mut self, pending: bool) {
        self.space[STATUS] = self.space[STATUS] & !STATUS_INTERRUPT | u8::from(pending) << 3;
    }

    /// 0: no interrupt; 1: INTA#, to 4: INTD#.
    pub fn interrupt_pin(&self) -> u8 {
        self.space[INTERRUPT_PIN]
    }
}

#[cfg(test)]
mod tests;
