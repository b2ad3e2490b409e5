//! What the board needs of a PCI device: its configuration space, its registers behind base addresses, its interrupt
//! line, and when it wants to be woken. The board routes; a device never knows where its registers lie.

use crate::context::Context;
use crate::pci::function::Function;

/// The base address index of the expansion ROM, in [`PciDevice::read`].
pub const ROM: u8 = 6;

/// One function on the PCI bus.
pub trait PciDevice {
    /// Its configuration space.
    fn function(&self) -> &Function;
    /// Its configuration space, to be changed.
    fn function_mut(&mut self) -> &mut Function;
    /// A load of `size` (1, 2, 4 or 8) bytes at `offset` behind base address `bar` (6: the expansion ROM).
    fn read(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8) -> u64;
    /// A store.
    fn write(&mut self, context: &mut Context, bar: u8, offset: u64, size: u8, value: u64);
    /// The level of its INTx line: true is asserted.
    fn line(&self) -> bool;
    /// When it will do something by itself that can be noticed, in virtual nanoseconds.
    fn deadline(&self) -> Option<u64>;
    /// Does what is due at `context.now_ns`.
    fn tick(&mut self, context: &mut Context);
    /// A write of `size` bytes to its configuration space.
    fn configure(&mut self, register: u8, size: u8, value: u32, _context: &mut Context) {
        self.function_mut().write(register, size, value);
    }
    /// A read of `size` bytes of its configuration space.
    fn inspect(&mut self, register: u8, size: u8, _context: &mut Context) -> u32 {
        self.function().read(register, size)
    }
}
