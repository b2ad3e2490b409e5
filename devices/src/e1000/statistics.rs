//! The statistics registers (manual §13.7): each is cleared when it is read, and stays at its highest value.

use super::registers::STATISTICS;

/// Receive: no room in the packet buffer, undersize, oversize, no descriptor at the time.
pub const MPC: u32 = 0x4010;
pub const RNBC: u32 = 0x40a0;
pub const ROC: u32 = 0x40ac;
/// Good packets received, by kind.
const PRC64: u32 = 0x405c;
const GPRC: u32 = 0x4074;
const BPRC: u32 = 0x4078;
const MPRC: u32 = 0x407c;
/// Good packets sent.
const GPTC: u32 = 0x4080;
/// Good octets: low and high halves.
const GORCL: u32 = 0x4088;
const GOTCL: u32 = 0x4090;
const TORL: u32 = 0x40c0;
const TOTL: u32 = 0x40c8;
/// All packets.
const TPR: u32 = 0x40d0;
const TPT: u32 = 0x40d4;
const PTC64: u32 = 0x40d8;
const MPTC: u32 = 0x40f0;
const BPTC: u32 = 0x40f4;
/// TCP segmentation contexts sent.
pub const TSCTC: u32 = 0x40f8;

/// All of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics([u32; 74]);

impl crate::state::Saved for Statistics {
    fn save(&self, out: &mut Vec<u8>) {
        self.0.save(out);
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        Some(Statistics(crate::state::Saved::load(bytes)?))
    }
}

impl Default for Statistics {
    fn default() -> Statistics {
        Statistics([0; 74])
    }
}

fn index(register: u32) -> usize {
    (register.wrapping_sub(STATISTICS.start) / 4) as usize
}

impl Statistics {
    /// Reads a register, which clears it; the high half of a pair clears both.
    pub fn take(&mut self, register: u32) -> u32 {
        let Some(value) = self.0.get_mut(index(register)) else { return 0 };
        let value = match register {
            GORCL | GOTCL | TORL | TOTL => return *value,
            _ => std::mem::take(value),
        };
        if [GORCL, GOTCL, TORL, TOTL].contains(&register.wrapping_sub(4)) {
            self.0[index(register - 4)] = 0;
        }
        value
    }

    /// One more.
    pub fn count(&mut self, register: u32) {
        if let Some(value) = self.0.get_mut(index(register)) {
            *value = value.saturating_add(1);
        }
    }

    fn add(&mut self, low: u32, octets: u64) {
        let at = index(low);
        let value = (u64::from(self.0[at + 1]) << 32 | u64::from(self.0[at])).saturating_add(octets);
        self.0[at] = value as u32;
        self.0[at + 1] = (value >> 32) as u32;
    }

    /// A good packet came; `octets` counts its frame check sequence too.
    pub fn received(&mut self, destination: [u8; 6], octets: u64) {
        self.count(TPR);
        self.count(GPRC);
        self.add(GORCL, octets);
        self.add(TORL, octets);
        self.count(PRC64 + 4 * size_class(octets));
        match destination {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => self.count(BPRC),
            [first, ..] if first & 1 != 0 => self.count(MPRC),
            _ => {}
        }
    }

    /// A packet went.
    pub fn sent(&mut self, destination: [u8; 6], octets: u64) {
        self.count(TPT);
        self.count(GPTC);
        self.add(GOTCL, octets);
        self.add(TOTL, octets);
        self.count(PTC64 + 4 * size_class(octets));
        match destination {
            [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => self.count(BPTC),
            [first, ..] if first & 1 != 0 => self.count(MPTC),
            _ => {}
        }
    }
}

/// Which of the six counters by size: 64, 127, 255, 511, 1023, more.
fn size_class(octets: u64) -> u32 {
    match octets {
        ..=64 => 0,
        65..=127 => 1,
        128..=255 => 2,
        256..=511 => 3,
        512..=1023 => 4,
        _ => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_clears_and_the_high_half_clears_both() {
        let mut statistics = Statistics::default();
        statistics.received([0xff; 6], 64);
        statistics.received([2; 6], u64::from(u32::MAX));
        assert_eq!((statistics.take(GPRC), statistics.take(GPRC)), (2, 0));
        assert_eq!((statistics.take(BPRC), statistics.take(PRC64), statistics.take(PRC64 + 20)), (1, 1, 1));
        assert_eq!((statistics.take(GORCL), statistics.take(GORCL + 4), statistics.take(GORCL)), (63, 1, 0));
        assert_eq!(statistics.take(0x4124), 0);
        assert_eq!(statistics.take(0x5000), 0);
    }
}
