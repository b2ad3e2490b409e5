//! Sectors by number, for those that are known: groups of eight, zeroes without memory.

use std::collections::BTreeMap;

use ftemu_devices::storage::SECTOR_BYTES;

/// Sectors in a group.
const GROUP: u64 = 8;
const BYTES: usize = SECTOR_BYTES as usize;

/// Some of a disk's sectors.
#[derive(Debug, Default)]
pub struct Sparse {
    groups: BTreeMap<u64, Group>,
}

#[derive(Debug, Default)]
struct Group {
    /// Which sectors are known.
    known: u8,
    /// Their content; none: zeroes.
    bytes: Option<Box<[u8; BYTES * GROUP as usize]>>,
}

impl Sparse {
    /// The sector, if it is known.
    pub fn get(&self, sector: u64) -> Option<[u8; BYTES]> {
        let group = self.groups.get(&(sector / GROUP))?;
        let place = sector % GROUP;
        if group.known >> place & 1 == 0 {
            return None;
        }
        let Some(bytes) = &group.bytes else { return Some([0; BYTES]) };
        bytes[place as usize * BYTES..][..BYTES].try_into().ok()
    }

    /// Sets whole sectors from `sector` on.
    pub fn put(&mut self, sector: u64, bytes: &[u8]) {
        for (sector, bytes) in (sector..).zip(bytes.chunks_exact(BYTES)) {
            let group = self.groups.entry(sector / GROUP).or_default();
            let place = (sector % GROUP) as usize;
            group.known |= 1 << place;
            if group.bytes.is_some() || bytes.iter().any(|byte| *byte != 0) {
                let all = group.bytes.get_or_insert_with(|| Box::new([0; BYTES * GROUP as usize]));
                all[place * BYTES..][..BYTES].copy_from_slice(bytes);
            }
        }
    }

    /// Sets `count` sectors to zeroes.
    pub fn clear(&mut self, sector: u64, count: u64) {
        (sector..sector.saturating_add(count)).for_each(|sector| self.put(sector, &[0; BYTES]));
    }

    /// Forgets `count` sectors.
    pub fn forget(&mut self, sector: u64, count: u64) {
        for sector in sector..sector.saturating_add(count) {
            if let Some(group) = self.groups.get_mut(&(sector / GROUP)) {
                group.known &= !(1 << (sector % GROUP));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sectors_are_known_one_by_one() {
        let mut sparse = Sparse::default();
        sparse.put(7, &[[5; BYTES], [6; BYTES]].concat());
        sparse.clear(20, 3);
        assert_eq!((sparse.get(6), sparse.get(7), sparse.get(8)), (None, Some([5; BYTES]), Some([6; BYTES])));
        assert_eq!((sparse.get(20), sparse.get(23)), (Some([0; BYTES]), None));
        sparse.put(21, &[0; BYTES]);
        sparse.put(7, &[0; BYTES]);
        assert_eq!((sparse.get(7), sparse.get(21)), (Some([0; BYTES]), Some([0; BYTES])));
        sparse.forget(7, 2);
        assert_eq!((sparse.get(7), sparse.get(8)), (None, None));
    }
}
