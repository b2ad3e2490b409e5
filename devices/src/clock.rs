//! The virtual clock: time is a function of the instruction count and of anchors that were logged.
//!
//! `ns(count) = anchor_ns + ((count - anchor_count) * rate >> 10)`, with the rate in 1/1024 ns per instruction. It
//! never goes back. The same nanoseconds are the time stamp counter (1 GHz) and the source of every chip's clock.

use crate::state::saved;
use ftemu_cpu::Icount;

/// 1 ns per instruction: a virtual 1 GIPS machine.
pub const RATE_ONE: u32 = 1024;

const SECOND_NS: u64 = 1_000_000_000;

/// Complete cycles of a clock of `frequency_hz` (below 2^34) that started at virtual time 0: exact, in 64 bits.
pub fn cycles(now_ns: u64, frequency_hz: u64) -> u64 {
    now_ns / SECOND_NS * frequency_hz + now_ns % SECOND_NS * frequency_hz / SECOND_NS
}

/// The one clock of the guest's world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    anchor_count: u64,
    anchor_ns: u64,
    rate: u32,
}
saved!(Clock { anchor_count, anchor_ns, rate });

impl Clock {
    /// A clock at 0 ns; `rate` in 1/1024 ns per instruction.
    pub fn new(rate: u32) -> Clock {
        Clock { anchor_count: 0, anchor_ns: 0, rate }
    }

    /// 1/1024 ns per instruction.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Virtual nanoseconds when `count` instructions are complete.
    pub fn now_ns(&self, count: Icount) -> u64 {
        let instructions = count.0.saturating_sub(self.anchor_count);
        let elapsed = (u128::from(instructions) * u128::from(self.rate)) >> 10;
        self.anchor_ns.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    /// The smallest count at which [`Clock::now_ns`] is at least `deadline_ns`; `None` if that never comes.
    pub fn count_at(&self, deadline_ns: u64) -> Option<Icount> {
        let Some(wait) = deadline_ns.checked_sub(self.anchor_ns) else { return Some(Icount(self.anchor_count)) };
        if wait == 0 {
            return Some(Icount(self.anchor_count));
        }
        if self.rate == 0 {
            return None;
        }
        let instructions = match wait.checked_mul(1024) {
            Some(scaled) => scaled.div_ceil(u64::from(self.rate)),
            None => u64::try_from((u128::from(wait) << 10).div_ceil(u128::from(self.rate))).ok()?,
        };
        self.anchor_count.checked_add(instructions).map(Icount)
    }

    /// From `count` on, time runs from `ns` (or from where it is, if that is later) at `rate`.
    pub fn anchor(&mut self, count: Icount, ns: u64, rate: u32) {
        self.anchor_ns = self.now_ns(count).max(ns);
        self.anchor_count = count.0;
        self.rate = rate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Random, assert_round_trip};

    #[test]
    fn one_instruction_is_one_nanosecond_at_rate_one() {
        let clock = Clock::new(RATE_ONE);
        assert_eq!(clock.now_ns(Icount(12_345)), 12_345);
        assert_eq!(clock.count_at(12_345), Some(Icount(12_345)));
    }

    #[test]
    fn count_at_is_the_smallest_count_that_reaches_a_deadline() {
        let mut random = Random(7);
        for _ in 0..10_000 {
            let mut clock = Clock::new(1 + random.below(1 << 14) as u32);
            clock.anchor(Icount(random.below(1 << 40)), random.below(1 << 50), 1 + random.below(5000) as u32);
            let deadline = random.below(1 << 51);
            let count = clock.count_at(deadline).unwrap();
            assert!(clock.now_ns(count) >= deadline);
            if count.0 > clock.anchor_count {
                assert!(clock.now_ns(Icount(count.0 - 1)) < deadline);
            }
        }
    }

    #[test]
    fn time_never_goes_back() {
        let mut clock = Clock::new(RATE_ONE);
        clock.anchor(Icount(1000), 10, 2 * RATE_ONE);
        assert_eq!(clock.now_ns(Icount(1000)), 1000);
        assert_eq!(clock.now_ns(Icount(1001)), 1002);
        clock.anchor(Icount(1001), 5000, RATE_ONE);
        assert_eq!(clock.now_ns(Icount(1001)), 5000);
    }

    #[test]
    fn cycles_are_exact() {
        for (ns, hz) in [(0, 1), (999_999_999, 1), (u64::MAX, 3_579_545), (123_456_789_012_345, 1_193_182)] {
            assert_eq!(u128::from(cycles(ns, hz)), u128::from(ns) * u128::from(hz) / 1_000_000_000);
        }
    }

    #[test]
    fn extremes_saturate() {
        let mut clock = Clock::new(u32::MAX);
        assert_eq!(clock.now_ns(Icount(u64::MAX)), u64::MAX);
        assert!(clock.count_at(u64::MAX).is_some());
        clock.anchor(Icount(0), u64::MAX, 0);
        assert_eq!(clock.count_at(u64::MAX), Some(Icount(0)));
        assert_eq!(Clock::new(0).count_at(1), None);
        assert_round_trip(&clock);
    }
}
