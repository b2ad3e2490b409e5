//! What the CPU asks of the board: ports, memory-mapped registers, time, and the MSRs that belong to chips.

use crate::memory::Memory;

/// A number of completed instructions since the machine was made. The one clock of the guest's world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Icount(pub u64);

/// The board as the CPU sees it. `now` is the number of instructions completed before the one that asks; `memory` is for
/// chips that read and write it themselves.
pub trait Bus {
    /// IN: `size` is 1, 2 or 4 bytes; the value is zero-extended. Ports nobody owns read as all ones.
    fn port_read(&mut self, memory: &mut Memory, now: Icount, port: u16, size: u8) -> u32;
    /// Values of several INs of one port in a row, as far as nothing but the values could be noticed (no line, no
    /// deadline, no other register changes): how many bytes of `bytes`, a multiple of `size`, have been filled.
    fn port_read_row(&mut self, _port: u16, _size: u8, _bytes: &mut [u8]) -> usize {
        0
    }
    /// As [`Bus::port_read_row`], for OUT: how many bytes have been taken.
    fn port_write_row(&mut self, _port: u16, _size: u8, _bytes: &[u8]) -> usize {
        0
    }
    /// OUT.
    fn port_write(&mut self, memory: &mut Memory, now: Icount, port: u16, size: u8, value: u32);
    /// A load from a guest-physical address that is not RAM; `size` is 1, 2, 4 or 8 and never crosses `size` alignment.
    fn mmio_read(&mut self, memory: &mut Memory, now: Icount, address: u64, size: u8) -> u64;
    /// A store to a guest-physical address that is not RAM.
    fn mmio_write(&mut self, memory: &mut Memory, now: Icount, address: u64, size: u8, value: u64);
    /// The virtual time stamp counter, in cycles of 1 GHz (so also virtual nanoseconds).
    fn time_stamp(&self, now: Icount) -> u64;
    /// RDMSR of a register the CPU itself does not hold (local APIC base, x2APIC, TSC deadline). `None` is #GP.
    fn msr_read(&mut self, now: Icount, register: u32) -> Option<u64>;
    /// WRMSR of such a register; false is #GP.
    fn msr_write(&mut self, now: Icount, register: u32, value: u64) -> bool;
    /// CR8: the task priority class of the local APIC, 0 to 15.
    fn task_priority(&mut self) -> u8;
    /// MOV CR8.
    fn set_task_priority(&mut self, now: Icount, class: u8);
}
