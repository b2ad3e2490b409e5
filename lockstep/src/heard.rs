//! Frames that a standby has heard on its own network while the primary took care of them. A network that floods frames
//! for the guest to both servers loses nothing when the primary dies: what the primary had not logged by then, the
//! standby hands to the guest itself. A frame is forgotten when the log brings it, or after a while. Networks may
//! repeat frames, so that a mistake on the side of too many does no harm.

use crate::guest::Input;
use std::collections::VecDeque;

/// Bytes kept at most.
const MOST_BYTES: usize = 8 << 20;
/// What the log brought first is remembered by its hash; so many at most.
const MOST_HASHES: usize = 16 << 10;

/// Frames not yet seen in the log, and hashes of those seen there first.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    frames: VecDeque<Frame>,
    bytes: usize,
    logged: VecDeque<(u64, u64)>,
}

#[derive(Clone, Debug)]
struct Frame {
    since_ns: u64,
    hash: u64,
    nic: u8,
    bytes: Vec<u8>,
}

/// FNV-1a.
fn hash(nic: u8, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().chain([&nic]).fold(0xcbf2_9ce4_8422_2325, step)
}

impl Heard {
    /// A frame came by this side's network.
    pub fn hear(&mut self, now: u64, nic: u8, bytes: Vec<u8>) {
        let hash = hash(nic, &bytes);
        if let Some(place) = self.logged.iter().position(|(_, logged)| *logged == hash) {
            self.logged.remove(place);
            return;
        }
        self.bytes += bytes.len();
        self.frames.push_back(Frame { since_ns: now, hash, nic, bytes });
        while self.bytes > MOST_BYTES {
            self.drop_first();
        }
    }

    /// The primary has logged a frame.
    pub fn logged(&mut self, now: u64, nic: u8, bytes: &[u8]) {
        let hash = hash(nic, bytes);
        match self.frames.iter().position(|frame| frame.hash == hash) {
            Some(place) => {
                let frame = self.frames.remove(place);
                self.bytes -= frame.map_or(0, |frame| frame.bytes.len());
            }
            None => {
                self.logged.push_back((now, hash));
                if self.logged.len() > MOST_HASHES {
                    self.logged.pop_front();
                }
            }
        }
    }

    /// Drops what is older.
    pub fn forget(&mut self, before: u64) {
        while self.frames.front().is_some_and(|frame| frame.since_ns < before) {
            self.drop_first();
        }
        while self.logged.front().is_some_and(|(since_ns, _)| *since_ns < before) {
            self.logged.pop_front();
        }
    }

    fn drop_first(&mut self) {
        let frame = self.frames.pop_front();
        self.bytes -= frame.map_or(0, |frame| frame.bytes.len());
    }

    /// What the log did not bring, in order.
    pub fn take(&mut self) -> impl Iterator<Item = Input> {
        let Heard { frames, .. } = std::mem::take(self);
        frames.into_iter().map(|Frame { nic, bytes, .. }| Input::Frame { nic, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(heard: &mut Heard) -> Vec<Input> {
        heard.take().collect()
    }

    fn frame(nic: u8, byte: u8) -> Input {
        Input::Frame { nic, bytes: vec![byte; 60] }
    }

    #[test]
    fn only_what_the_log_did_not_bring_is_left() {
        let mut heard = Heard::default();
        for byte in [1, 2, 2, 3] {
            heard.hear(0, 0, vec![byte; 60]);
        }
        heard.hear(0, 1, vec![1; 60]);
        heard.logged(0, 0, &[1; 60]);
        heard.logged(0, 0, &[2; 60]);
        heard.logged(0, 0, &[4; 60]);
        heard.hear(0, 0, vec![4; 60]);
        assert_eq!(left(&mut heard), [frame(0, 2), frame(0, 3), frame(1, 1)]);
        assert_eq!(left(&mut heard), []);
    }

    #[test]
    fn old_frames_are_forgotten_and_memory_is_bounded() {
        let mut heard = Heard::default();
        heard.hear(0, 0, vec![1; 60]);
        heard.logged(0, 0, &[9; 60]);
        heard.forget(1);
        heard.hear(11, 0, vec![9; 60]);
        assert_eq!(left(&mut heard), [frame(0, 9)]);
        for _ in 0..10_000 {
            heard.hear(12, 0, vec![1; 1500]);
        }
        assert!(heard.bytes <= MOST_BYTES);
        assert_eq!(left(&mut heard).len() * 1500, MOST_BYTES / 1500 * 1500);
    }
}
