//! The guest's clock against the host's: when it must be anchored anew, and how long host time must pass until a
//! virtual deadline.

use crate::guest::Input;

/// Keeps a guest's virtual time near the host's, and measures the guest's speed.
#[derive(Clone, Debug)]
pub struct Pacer {
    host_ns: u64,
    guest_ns: u64,
    tolerance_ns: u64,
    /// Measured, in 1/1024 ns per instruction; 0 until measured.
    measured: u64,
    /// As the guest was last told.
    told: u32,
    busy_ns: u64,
    busy_instructions: u64,
}

/// Measured over this long.
const SAMPLE_NS: u64 = 200_000;

impl Pacer {
    /// From host time `host_ns` on, when the guest's clock ought to show `guest_ns`.
    pub fn new(host_ns: u64, guest_ns: u64, tolerance_ns: u64) -> Self {
        Self { host_ns, guest_ns, tolerance_ns, measured: 0, told: 0, busy_ns: 0, busy_instructions: 0 }
    }

    /// From `host_ns` on, the guest's clock ought to show `guest_ns`; the measured speed stays.
    pub fn reset(&mut self, host_ns: u64, guest_ns: u64) {
        (self.host_ns, self.guest_ns) = (host_ns, guest_ns);
    }

    /// What the guest's clock ought to show.
    pub fn target_ns(&self, host_ns: u64) -> u64 {
        self.guest_ns.saturating_add(host_ns.saturating_sub(self.host_ns))
    }

    /// When the guest's clock ought to show `guest_ns`.
    pub fn host_ns(&self, guest_ns: u64) -> u64 {
        self.host_ns.saturating_add(guest_ns.saturating_sub(self.guest_ns))
    }

    /// The guest ran so many instructions in so long.
    pub fn ran(&mut self, instructions: u64, took_ns: u64) {
        self.busy_ns = self.busy_ns.saturating_add(took_ns);
        self.busy_instructions = self.busy_instructions.saturating_add(instructions);
        if self.busy_ns < SAMPLE_NS || self.busy_instructions == 0 {
            return;
        }
        let sample = (u128::from(self.busy_ns) * 1024 / u128::from(self.busy_instructions)).clamp(1, 1 << 31) as u64;
        (self.busy_ns, self.busy_instructions) = (0, 0);
        self.measured = match self.measured {
            0 => sample,
            // A pause of the whole process is no slowness of the guest: one sample may not say more than double.
            old => (old * 7 + sample.clamp(old / 2, old * 2).max(1)).div_ceil(8),
        };
    }

    /// Instructions that take about `ns`.
    pub fn instructions(&self, ns: u64) -> u64 {
        match self.measured {
            0 => 1000,
            measured => u64::try_from(u128::from(ns) * 1024 / u128::from(measured)).unwrap_or(u64::MAX).max(16),
        }
    }

    /// Nanoseconds that so many instructions take about.
    pub fn duration_ns(&self, instructions: u64) -> u64 {
        u64::try_from(u128::from(instructions) * u128::from(self.measured) / 1024).unwrap_or(u64::MAX)
    }

    /// The anchor that a guest whose clock shows `guest_ns` needs now, if any. `exact`: whatever the tolerance, for an
    /// input is about to arrive and the guest has slept.
    pub fn anchor(&mut self, host_ns: u64, guest_ns: u64, exact: bool) -> Option<Input> {
        let target = self.target_ns(host_ns);
        let tolerance = if exact { 0 } else { self.tolerance_ns };
        let ahead = guest_ns > target.saturating_add(self.tolerance_ns);
        let behind = target > guest_ns.saturating_add(tolerance);
        let measured = u32::try_from(self.measured).unwrap_or(u32::MAX);
        // A clock that is ahead is let go slower until the host has caught up; it never goes back.
        let rate = if ahead { (measured - measured / 4).max(1) } else { measured };
        let wrong_rate = rate != 0 && self.told.abs_diff(rate) > rate / 16;
        let needed = behind || ahead && wrong_rate;
        if !needed {
            return None;
        }
        let rate = if rate == 0 { 1024 } else { rate };
        self.told = rate;
        Some(Input::Clock { ns: target.max(guest_ns), rate })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_is_measured_and_a_pause_does_not_spoil_it() {
        let mut pacer = Pacer::new(0, 0, 1000);
        (0..20).for_each(|_| pacer.ran(100_000, 200_000));
        assert_eq!(pacer.instructions(1_000_000), 500_000);
        assert_eq!(pacer.duration_ns(500_000), 1_000_000);
        pacer.ran(100_000, 5_000_000_000);
        assert!(pacer.instructions(1_000_000) > 400_000);
    }

    #[test]
    fn a_clock_behind_jumps_and_one_ahead_goes_slower() {
        let mut pacer = Pacer::new(1_000_000, 0, 1000);
        assert_eq!(pacer.anchor(1_000_500, 0, false), None);
        pacer.ran(1_000_000, 2_000_000);
        assert_eq!(pacer.anchor(3_000_000, 500_000, false), Some(Input::Clock { ns: 2_000_000, rate: 2048 }));
        assert_eq!(pacer.anchor(3_000_000, 2_000_500, false), None);
        assert_eq!(pacer.anchor(3_000_000, 2_500_000, false), Some(Input::Clock { ns: 2_500_000, rate: 1536 }));
        assert_eq!(pacer.anchor(3_000_100, 2_500_000, false), None, "told already");
        assert_eq!(pacer.anchor(3_000_001, 1_999_999, true), Some(Input::Clock { ns: 2_000_001, rate: 2048 }));
        assert_eq!((pacer.target_ns(5_000_000), pacer.host_ns(4_000_000)), (4_000_000, 5_000_000));
    }
}
