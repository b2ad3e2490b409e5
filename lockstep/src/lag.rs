//! How far the backup is behind, in host time, and how much the primary slows down for it.

use ftemu_cpu::Icount;
use std::collections::VecDeque;

/// Marks of the primary's progress that the backup has not passed yet.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    marks: VecDeque<Mark>,
    /// Marks before this one are acknowledged.
    acknowledged: u64,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    count: Icount,
    index: u64,
    at_ns: u64,
}

impl Lag {
    /// At `at_ns` the log had `index` records and covered `count`.
    pub fn mark(&mut self, count: Icount, index: u64, at_ns: u64) {
        self.marks.push_back(Mark { count, index, at_ns });
    }

    /// The backup has executed up to `count` and acknowledged `index` records.
    pub fn passed(&mut self, count: Icount, index: u64) {
        self.acknowledged = self.acknowledged.max(index);
        while self.marks.front().is_some_and(|mark| mark.count <= count && mark.index <= index) {
            self.marks.pop_front();
        }
    }

    /// How long ago the primary was where the backup is now.
    pub fn lag_ns(&self, now: u64) -> u64 {
        self.marks.front().map_or(0, |mark| now.saturating_sub(mark.at_ns))
    }

    /// How long the oldest unacknowledged record has been waiting.
    pub fn unacknowledged_ns(&self, now: u64) -> u64 {
        let waiting = self.marks.iter().find(|mark| mark.index > self.acknowledged);
        waiting.map_or(0, |mark| now.saturating_sub(mark.at_ns))
    }

    /// Forgets everything: a new backup, or none.
    pub fn clear(&mut self) {
        self.marks.clear();
        self.acknowledged = 0;
    }
}

/// How long to rest after running `ran_ns` at a lag of `lag_ns`: nothing up to the limit, then more and more, until at
/// three limits above it the guest runs a quarter of the time.
pub fn rest_ns(lag_ns: u64, limit_ns: u64, ran_ns: u64) -> u64 {
    let excess = lag_ns.saturating_sub(limit_ns).min(limit_ns.saturating_mul(3));
    let rest = u128::from(ran_ns) * u128::from(excess) / u128::from(limit_ns.max(1));
    u64::try_from(rest).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_the_age_of_the_oldest_mark_not_passed() {
        let mut lag = Lag::default();
        lag.mark(Icount(100), 1, 1000);
        lag.mark(Icount(200), 2, 2000);
        assert_eq!((lag.lag_ns(2500), lag.unacknowledged_ns(2500)), (1500, 1500));
        lag.passed(Icount(50), 2);
        assert_eq!((lag.lag_ns(2500), lag.unacknowledged_ns(2500)), (1500, 0));
        lag.passed(Icount(150), 2);
        assert_eq!(lag.lag_ns(2500), 500);
        lag.passed(Icount(200), 2);
        assert_eq!(lag.lag_ns(9000), 0);
    }

    #[test]
    fn rest_grows_gently_and_never_without_end() {
        assert_eq!(rest_ns(100, 100, 1000), 0);
        assert_eq!(rest_ns(110, 100, 1000), 100);
        assert_eq!(rest_ns(200, 100, 1000), 1000);
        assert_eq!(rest_ns(u64::MAX, 100, 1000), 3000);
    }
}
