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

/// A clock that is behind by this goes twice as fast.
const CATCH_UP_NS: u64 = 20_000_000;
/// A clock that is behind by this jumps.
const JUMP_NS: u64 = 5_000_000_000;
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
            // Translating code takes a hundred times as long as running it: once it runs, that means nothing any more.
            old if sample < old / 4 => sample,
            // A pause of the whole process is no slowness of the guest: one sample may not say more than double.
            old => (old * 7 + sample.min(old * 2)).div_ceil(8),
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

    /// The anchor that a guest whose clock shows `guest_ns` needs now, if any. `asleep`: the guest has been idle and an
    /// input is about to wake it, so its clock may jump to now.
    ///
    /// A running guest's clock does not jump (guests calibrate one timer against another, and a timer's counter that
    /// wraps unseen would mislead them): it goes faster or slower until it is right, unless it is off by seconds.
    pub fn anchor(&mut self, host_ns: u64, guest_ns: u64, asleep: bool) -> Option<Input> {
        let target = self.target_ns(host_ns);
        let behind = target.saturating_sub(guest_ns);
        if asleep && behind > 0 || behind > JUMP_NS {
            return Some(self.tell(target, self.rate(0)));
        }
        let off = behind > self.tolerance_ns || guest_ns.saturating_sub(target) > self.tolerance_ns;
        let rate = match off {
            false => self.rate(0),
            true if behind > 0 => self.rate(behind),
            true => (self.measured - self.measured / 4).max(1),
        };
        let told = u64::from(self.told);
        // A rate a little wrong is corrected when the clock is off; a rate very wrong at once.
        let allowed = if off { rate / 16 } else { rate / 4 };
        (self.measured != 0 && told.abs_diff(rate) > allowed).then(|| self.tell(guest_ns, rate))
    }

    /// The rate that catches up with `behind_ns`: the measured one, and up to twice that more.
    fn rate(&self, behind_ns: u64) -> u64 {
        let measured = if self.measured == 0 { 1024 } else { self.measured };
        measured + (u128::from(measured) * u128::from(behind_ns.min(2 * CATCH_UP_NS)) / u128::from(CATCH_UP_NS)) as u64
    }

    fn tell(&mut self, ns: u64, rate: u64) -> Input {
        self.told = u32::try_from(rate).unwrap_or(u32::MAX);
        Input::Clock { ns, rate: self.told }
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
    fn slowness_while_code_is_translated_is_soon_forgotten() {
        let mut pacer = Pacer::new(0, 0, 1000);
        pacer.ran(1_000, 500_000);
        assert_eq!(pacer.instructions(1_000_000), 2_000);
        pacer.ran(100_000, 200_000);
        assert_eq!(pacer.instructions(1_000_000), 500_000);
    }

    #[test]
    fn a_running_clock_is_led_and_a_sleeping_one_set() {
        let mut pacer = Pacer::new(1_000_000, 0, 1000);
        assert_eq!(pacer.anchor(1_000_500, 0, false), None);
        pacer.ran(1_000_000, 2_000_000);
        let started = pacer.anchor(3_000_000, 1_999_500, false);
        assert_eq!(started, Some(Input::Clock { ns: 1_999_500, rate: 2048 }), "the rate was never told");
        assert_eq!(pacer.anchor(3_000_000, 2_000_500, false), None);
        assert_eq!(pacer.anchor(3_000_000, 2_500_000, false), Some(Input::Clock { ns: 2_500_000, rate: 1536 }));
        assert_eq!(pacer.anchor(3_000_100, 2_500_000, false), None, "told already");
        let faster = pacer.anchor(23_000_000, 12_000_000, false);
        assert_eq!(faster, Some(Input::Clock { ns: 12_000_000, rate: 3072 }));
        assert_eq!(pacer.anchor(23_000_000, 12_000_000, true), Some(Input::Clock { ns: 22_000_000, rate: 2048 }));
        assert_eq!(pacer.anchor(23_000_001, 22_000_002, true), None);
        let far = pacer.anchor(9_023_000_000, 22_000_000, false);
        assert_eq!(far, Some(Input::Clock { ns: 9_022_000_000, rate: 2048 }));
        assert_eq!((pacer.target_ns(5_000_000), pacer.host_ns(4_000_000)), (4_000_000, 5_000_000));
    }
}
