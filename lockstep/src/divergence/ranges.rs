//! Sectors of a disk, as ranges.

use std::collections::BTreeMap;

/// A set of sectors: ranges that neither overlap nor touch, by their first sector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// First sector, and the one after the last.
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Adds `count` sectors from `sector` on.
    pub fn insert(&mut self, sector: u64, count: u64) {
        let (mut start, mut end) = (sector, sector.saturating_add(count));
        if start == end {
            return;
        }
        while let Some((&first, &last)) = self.ranges.range(..=end).next_back().filter(|(_, last)| **last >= start) {
            self.ranges.remove(&first);
            (start, end) = (start.min(first), end.max(last));
        }
        self.ranges.insert(start, end);
    }

    /// Whether a sector is in it.
    pub fn contains(&self, sector: u64) -> bool {
        self.ranges.range(..=sector).next_back().is_some_and(|(_, end)| *end > sector)
    }

    /// Ranges that it takes.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// First and last sector of each range, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(start, end)| (*start, end - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_grow_together() {
        let mut ranges = Ranges::default();
        for (sector, count) in [(10, 5), (20, 5), (0, 0), (15, 2), (30, 1), (u64::MAX - 1, 9)] {
            ranges.insert(sector, count);
        }
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(10, 16), (20, 24), (30, 30), (u64::MAX - 1, u64::MAX - 1)]);
        ranges.insert(12, 12);
        assert_eq!(ranges.iter().take(1).collect::<Vec<_>>(), [(10, 24)]);
        ranges.insert(5, 100);
        assert_eq!((ranges.iter().next(), ranges.len()), (Some((5, 104)), 2));
        let inside: Vec<u64> = [4, 5, 104, 105].into_iter().filter(|sector| ranges.contains(*sector)).collect();
        assert_eq!(inside, [5, 104]);
    }
}
