//! How long outputs wait: from the instruction that made them until they may leave.

/// Steps per doubling: percentiles are right to an eighth.
const STEPS: u64 = 8;
/// Below 2^10 ns all is one step; 40 doublings above that are more than a quarter of an hour.
const FIRST: u32 = 10;
const DOUBLINGS: usize = 40;

/// A histogram of times.
#[derive(Clone, Debug)]
pub struct Waits {
    buckets: Vec<u64>,
    count: u64,
    longest_ns: u64,
}

/// Percentiles of a histogram, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Percentiles {
    /// How many times there were.
    pub count: u64,
    /// Half of them were shorter.
    pub middle_ns: u64,
    /// 99 of 100 were shorter.
    pub late_ns: u64,
    /// The longest.
    pub longest_ns: u64,
}

impl Default for Waits {
    fn default() -> Self {
        Self { buckets: vec![0; DOUBLINGS * STEPS as usize + 1], count: 0, longest_ns: 0 }
    }
}

fn bucket(ns: u64) -> usize {
    let Some(doubling) = ns.checked_ilog2().filter(|&log| log >= FIRST) else { return 0 };
    let step = (ns >> (doubling - STEPS.ilog2())) & (STEPS - 1);
    ((doubling - FIRST) as usize * STEPS as usize + step as usize + 1).min(DOUBLINGS * STEPS as usize)
}

/// The upper end of a bucket.
fn end(bucket: usize) -> u64 {
    let Some(place) = (bucket as u64).checked_sub(1) else { return 1 << FIRST };
    let (doubling, step) = (place / STEPS + u64::from(FIRST), place % STEPS);
    (STEPS + step + 1) << (doubling - u64::from(STEPS.ilog2()))
}

impl Waits {
    /// Counts a time.
    pub fn add(&mut self, ns: u64) {
        if let Some(count) = self.buckets.get_mut(bucket(ns)) {
            *count += 1;
            self.count += 1;
        }
        self.longest_ns = self.longest_ns.max(ns);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// A summary.
    pub fn percentiles(&self) -> Percentiles {
        let (middle_ns, late_ns) = (self.below(50), self.below(99));
        Percentiles { count: self.count, middle_ns, late_ns, longest_ns: self.longest_ns }
    }

    /// `percent` of all times are at most this.
    fn below(&self, percent: u64) -> u64 {
        let wanted = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= wanted && seen > 0
        });
        found.map_or(0, |bucket| end(bucket).min(self.longest_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_an_eighth() {
        let mut waits = Waits::default();
        assert_eq!(waits.percentiles(), Percentiles::default());
        (1..=1000u64).for_each(|step| waits.add(step * 1000));
        let Percentiles { count, middle_ns, late_ns, longest_ns } = waits.percentiles();
        assert_eq!((count, longest_ns), (1000, 1_000_000));
        assert!((500_000..=562_500).contains(&middle_ns), "{middle_ns}");
        assert!((990_000..=1_000_000).contains(&late_ns), "{late_ns}");
    }

    #[test]
    fn every_time_has_its_bucket() {
        for ns in [0, 1, 1023, 1024, 1025, 4095, 1 << 40, u64::MAX] {
            let bucket = bucket(ns);
            assert!(bucket <= DOUBLINGS * STEPS as usize);
            assert!(ns < end(bucket) || ns > 1 << 48, "{ns}");
            assert!(bucket == 0 || ns >= end(bucket - 1), "{ns}");
        }
    }
}
