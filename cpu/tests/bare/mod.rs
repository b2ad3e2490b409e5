//! A board for tests that need none.

use ftemu_cpu::{Bus, Icount, Memory};

/// A board with nothing on it.
pub struct Bare;

impl Bus for Bare {
    fn port_read(&mut self, _: &mut Memory, _: Icount, _: u16, _: u8) -> u32 {
        u32::MAX
    }
    fn port_write(&mut self, _: &mut Memory, _: Icount, _: u16, _: u8, _: u32) {}
    fn mmio_read(&mut self, _: &mut Memory, _: Icount, _: u64, _: u8) -> u64 {
        u64::MAX
    }
    fn mmio_write(&mut self, _: &mut Memory, _: Icount, _: u64, _: u8, _: u64) {}
    fn time_stamp(&self, now: Icount) -> u64 {
        now.0
    }
    fn msr_read(&mut self, _: Icount, _: u32) -> Option<u64> {
        None
    }
    fn msr_write(&mut self, _: Icount, _: u32, _: u64) -> bool {
        false
    }
    fn task_priority(&mut self) -> u8 {
        0
    }
    fn set_task_priority(&mut self, _: Icount, _: u8) {}
}
