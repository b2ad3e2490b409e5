//! What lies where below 1 MiB, as the board's host bridge and the CPU's address line 20 decide: shadow RAM that can be
//! read, written, both or neither (Intel 82441FX §3.2.18, PAM), system management RAM behind the video window (§3.2.24,
//! SMRAM), and addresses without bit 20.

use super::{Memory, PAGE, Region, VIDEO};

/// Shadow RAM: the BIOS area and what expansion cards have.
pub const SHADOW: std::ops::Range<u64> = 0xc_0000..0x10_0000;
/// The video window and shadow RAM, where RAM answers only if it is told to.
pub(super) const LEGACY: std::ops::Range<u64> = VIDEO.start..SHADOW.end;
const LINE_20: u64 = 1 << 20;
/// Of the image of the BIOS, so much answers below 1 MiB where shadow RAM does not.
const ALIAS: u64 = 128 << 10;

/// See the module.
pub(super) struct Windows {
    /// Pages of shadow RAM that answer loads, from the lowest bit on.
    readable: u64,
    /// Pages of shadow RAM that take stores.
    writable: u64,
    /// What answers loads at the end of the area instead.
    firmware: Option<Region>,
    /// System management RAM exists.
    management: bool,
    /// It is there outside of its mode, too.
    open: bool,
    /// The CPU is in system management mode.
    mode: bool,
    /// Address lines of the CPU that are open.
    lines: u64,
    /// One of the last three has changed what is where.
    pub(super) remapped: bool,
}

impl Default for Windows {
    fn default() -> Windows {
        Windows {
            readable: u64::MAX,
            writable: u64::MAX,
            firmware: None,
            management: false,
            open: false,
            mode: false,
            lines: u64::MAX,
            remapped: false,
        }
    }
}

impl Windows {
    fn has_management(&self) -> bool {
        self.management && (self.open || self.mode)
    }

    /// Whether a page of RAM may be changed.
    pub(super) fn is_writable(&self, page: usize) -> bool {
        let number = (page as u64).wrapping_sub(SHADOW.start / PAGE);
        number >= 64 || self.writable >> number & 1 != 0
    }
}

fn bit(address: u64) -> u64 {
    1 << ((address - SHADOW.start) / PAGE)
}

impl Memory {
    /// Which pages of shadow RAM (C0000h-FFFFFh, 64 of them, from the lowest bit on) answer loads and which take stores. Where
    /// they do not answer, the last 128 KiB of `firmware` do in their place; what they do not take is lost.
    pub fn set_shadow(&mut self, readable: u64, writable: u64, firmware: Option<Region>) {
        let windows = &mut self.windows;
        let new = (readable, writable, firmware);
        if (windows.readable, windows.writable, windows.firmware) != new {
            (windows.readable, windows.writable, windows.firmware) = new;
            self.moved = true;
        }
    }

    /// Whether there is system management RAM in the video window's place (`enabled`), and outside of system management
    /// mode as well (`open`).
    pub fn set_management(&mut self, enabled: bool, open: bool) {
        self.change(|windows| (windows.management, windows.open) = (enabled, open));
    }

    /// Whether the CPU is in system management mode.
    pub fn set_management_mode(&mut self, mode: bool) {
        self.change(|windows| windows.mode = mode);
    }

    /// Whether the CPU's address line 20 is open: if not, it is zero on the bus.
    pub fn set_line_20(&mut self, open: bool) {
        self.change(|windows| windows.lines = if open { u64::MAX } else { !LINE_20 });
    }

    fn change(&mut self, action: impl FnOnce(&mut Windows)) {
        let key = |windows: &Windows| (windows.has_management(), windows.lines);
        let before = key(&self.windows);
        action(&mut self.windows);
        self.windows.remapped |= before != key(&self.windows);
    }

    /// Whether the CPU sees other memory at some address since the last call.
    pub(crate) fn take_remapped(&mut self) -> bool {
        std::mem::take(&mut self.windows.remapped)
    }

    /// An address as the CPU puts it on the bus.
    #[inline]
    pub(crate) fn gated(&self, address: u64) -> u64 {
        address & self.windows.lines
    }

    /// What answers a load in the legacy area.
    #[cold]
    pub(super) fn page_in_legacy(&self, address: u64) -> Option<usize> {
        let windows = &self.windows;
        let ram = (address / PAGE) as usize;
        if VIDEO.contains(&address) {
            return windows.has_management().then_some(ram);
        }
        if windows.readable & bit(address) != 0 {
            return Some(ram);
        }
        let firmware = &self.regions[windows.firmware?.0];
        let from_end = SHADOW.end - address;
        let offset = firmware.bytes.checked_sub(from_end).filter(|_| from_end <= ALIAS)?;
        Some(firmware.first_page + (offset / PAGE) as usize)
    }

    /// The page of shadow RAM that takes stores to an address, although something else answers loads there.
    fn page_behind(&self, address: u64) -> Option<usize> {
        let hidden = SHADOW.contains(&address) && address < self.low && self.windows.readable & bit(address) == 0;
        (hidden && self.windows.writable & bit(address) != 0).then_some((address / PAGE) as usize)
    }

    /// Whether a store to an address is memory's: it may be lost all the same.
    #[inline]
    pub fn takes_stores(&self, address: u64) -> bool {
        self.page_of(address).is_some() || self.page_behind(address).is_some()
    }

    /// The page that a store to an address changes.
    pub(super) fn page_for_store(&self, address: u64) -> Option<usize> {
        match self.page_of(address) {
            Some(page) if self.is_writable(page) => Some(page),
            _ => self.page_behind(address),
        }
    }

    /// Writes a page of RAM or of a region, whether or not it has an address and the guest could.
    pub fn set_page(&mut self, page: usize, bytes: &[u8; PAGE as usize]) {
        let address = self.address_of(page);
        // What was derived from a page that cannot be found by its address is forgotten with everything else.
        self.moved |= self.flags[page] & (super::CODE | super::TABLE) != 0 && self.page_of(address) != Some(page);
        self.store_in_page(page, address, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Memory {
        let mut memory = Memory::new(4 << 20).expect("memory");
        let firmware = memory.add_region(256 << 10, false).expect("memory");
        memory.move_region(firmware, Some(0xfffc_0000));
        memory.region_store(firmware, (256 << 10) - 16, &[0xea]);
        memory.take_moved();
        memory
    }

    fn byte(memory: &Memory, address: u64) -> Option<u8> {
        let mut byte = [0];
        memory.read(address, &mut byte).then_some(byte[0])
    }

    #[test]
    fn shadow_ram_is_read_and_written_as_it_is_told() {
        let mut memory = memory();
        let firmware = memory.region(0);
        let last = 1 << 63;
        memory.set_shadow(0, last, firmware);
        assert!(memory.take_moved());
        assert_eq!((byte(&memory, 0xf_fff0), byte(&memory, 0xc_0000)), (Some(0xea), None));
        assert!(memory.store(0xf_fff0, &[1]) && memory.takes_stores(0xf_fff0));
        assert_eq!(byte(&memory, 0xf_fff0), Some(0xea), "written behind what is read");
        memory.set_shadow(last, 0, firmware);
        assert!(memory.take_moved());
        assert!(memory.store(0xf_fff0, &[2]));
        assert_eq!(byte(&memory, 0xf_fff0), Some(1), "read, and protected");
        memory.set_shadow(last, last, firmware);
        assert!(memory.store(0xf_fff0, &[3]));
        assert_eq!(byte(&memory, 0xf_fff0), Some(3));
        memory.take_moved();
        memory.set_shadow(last, last, firmware);
        assert!(!memory.take_moved(), "nothing has changed");
    }

    #[test]
    fn system_management_ram_is_behind_the_video_window() {
        let mut memory = memory();
        assert_eq!(byte(&memory, 0xa_8000), None);
        memory.set_management(true, true);
        assert!(memory.take_remapped() && memory.store(0xa_8000, &[5]));
        memory.set_management(true, false);
        assert!(memory.take_remapped());
        assert_eq!(byte(&memory, 0xa_8000), None);
        memory.set_management_mode(true);
        assert_eq!((byte(&memory, 0xa_8000), memory.take_remapped()), (Some(5), true));
        memory.set_management(false, false);
        assert_eq!(byte(&memory, 0xa_8000), None);
    }

    #[test]
    fn pages_are_set_wherever_they_are() {
        let mut memory = memory();
        memory.set_shadow(0, 0, None);
        memory.set_page(0xa0, &[1; 4096]);
        memory.set_page(0xf0, &[2; 4096]);
        assert_eq!((memory.page(0xa0)[0], memory.page(0xf0)[0]), (1, 2));
    }
}
