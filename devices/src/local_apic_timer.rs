//! The local APIC's timer: one-shot, periodic and TSC-deadline (Intel SDM vol. 3A §11.5.4).
//!
//! Nothing counts: the counter is computed from the time it was started. `lvt` is the LVT timer register.

use crate::state::saved;

const PERIODIC: u32 = 1;
const DEADLINE: u32 = 2;

fn mode(lvt: u32) -> u32 {
    lvt >> 17 & 3
}

/// The timer's own registers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    initial: u32,
    divide: u8,
    start_ns: u64,
    running: bool,
    tsc_deadline: u64,
}
saved!(Timer { initial, divide, start_ns, running, tsc_deadline });

impl Timer {
    /// Bus clocks (virtual ns) per count: 2, 4, ... 128, 1.
    fn divisor(&self) -> u64 {
        let code = self.divide & 3 | self.divide >> 1 & 4;
        1 << ((code + 1) & 7)
    }

    fn period_ns(&self) -> u64 {
        u64::from(self.initial) * self.divisor()
    }

    /// Initial count register.
    pub fn initial_count(&self) -> u32 {
        self.initial
    }

    /// Divide configuration register.
    pub fn divide_configuration(&self) -> u32 {
        u32::from(self.divide)
    }

    /// Current count register.
    pub fn current_count(&self, now_ns: u64, lvt: u32) -> u32 {
        if !self.running || mode(lvt) == DEADLINE {
            return 0;
        }
        let counted = now_ns.saturating_sub(self.start_ns) / self.divisor();
        u64::from(self.initial).saturating_sub(counted) as u32
    }

    /// Writes the initial count, which starts the timer; zero stops it.
    pub fn set_initial_count(&mut self, now_ns: u64, lvt: u32, value: u32) {
        if mode(lvt) == DEADLINE {
            return;
        }
        self.initial = value;
        self.start_ns = now_ns;
        self.running = value != 0;
    }

    /// Writes the divide configuration; the count goes on from where it is.
    pub fn set_divide_configuration(&mut self, now_ns: u64, value: u32) {
        let counted = now_ns.saturating_sub(self.start_ns) / self.divisor();
        self.divide = value as u8 & 0xb;
        self.start_ns = now_ns.saturating_sub(counted.saturating_mul(self.divisor()));
    }

    /// The LVT entry was written: entering or leaving TSC-deadline mode disarms the timer.
    pub fn mode_changed(&mut self, old: u32, new: u32) {
        if (mode(old) == DEADLINE) != (mode(new) == DEADLINE) {
            self.running = false;
            self.tsc_deadline = 0;
        }
    }

    /// IA32_TSC_DEADLINE.
    pub fn tsc_deadline(&self, lvt: u32) -> u64 {
        if mode(lvt) == DEADLINE { self.tsc_deadline } else { 0 }
    }

    /// Writes IA32_TSC_DEADLINE; zero disarms.
    pub fn set_tsc_deadline(&mut self, lvt: u32, value: u64) {
        if mode(lvt) == DEADLINE {
            self.tsc_deadline = value;
        }
    }

    /// When the timer expires next, in virtual nanoseconds.
    pub fn deadline(&self, lvt: u32) -> Option<u64> {
        match mode(lvt) {
            DEADLINE => (self.tsc_deadline != 0).then_some(self.tsc_deadline),
            _ => self.running.then(|| self.start_ns.saturating_add(self.period_ns())),
        }
    }

    /// Whether the timer has expired by now; it is then stopped or in its next period.
    pub fn expire(&mut self, now_ns: u64, lvt: u32) -> bool {
        let Some(due) = self.deadline(lvt).filter(|due| *due <= now_ns) else { return false };
        match mode(lvt) {
            DEADLINE => self.tsc_deadline = 0,
            PERIODIC => self.start_ns = now_ns - (now_ns - due) % self.period_ns().max(1),
            _ => self.running = false,
        }
        true
    }
}
