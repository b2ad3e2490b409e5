//! How chips are written down: as the CPU is. And what tests of chips share.

pub use ftemu_cpu::save::{Part, Saved, take};
pub(crate) use ftemu_cpu::{saved, saved_choice};

/// Saves, loads and saves again; for tests of chips.
#[cfg(test)]
pub(crate) fn assert_round_trip<T: Saved>(value: &T) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    value.save(&mut first);
    let mut bytes = &first[..];
    T::load(&mut bytes).expect("what was saved loads").save(&mut second);
    assert!(bytes.is_empty(), "load left bytes over");
    assert_eq!(first, second);
    for length in 0..first.len() {
        assert!(T::load(&mut &first[..length]).is_none(), "{length} of {} bytes loaded", first.len());
    }
}

/// A small generator (xorshift64*) for random register accesses in tests.
#[cfg(test)]
pub(crate) struct Random(pub u64);

#[cfg(test)]
impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    /// A number of any magnitude below 2^bits.
    pub(crate) fn step(&mut self, bits: u64) -> u64 {
        let magnitude = self.below(bits);
        self.below(1 << magnitude)
    }
}
