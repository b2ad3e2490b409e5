//! The entropy device (Virtio 1.2 §5.4). Its numbers must be the same on both servers and in a replay, so they come from
//! the machine's seed: BLAKE3, keyed with the seed, of the moment and of how often it was asked.
//!
//! The moment is the instruction count, which never goes back, so a machine that was reset does not see old numbers again.

use super::{DeviceType, Rings};
use crate::context::Context;
use crate::state::saved;

const QUEUE: u16 = 0;
/// Bytes given for one chain; a driver asks again for more.
const MOST_BYTES: u64 = 64 << 10;

/// A source of random numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entropy {
    seed: [u8; 32],
    requests: u64,
}
saved!(Entropy { seed, requests });

impl Entropy {
    /// A source that the machine's seed decides.
    pub fn new(seed: [u8; 32]) -> Entropy {
        Entropy { seed, requests: 0 }
    }

    fn bytes(&mut self, now: u64, length: usize) -> Vec<u8> {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(b"virtio entropy").update(&now.to_le_bytes()).update(&self.requests.to_le_bytes());
        self.requests = self.requests.wrapping_add(1);
        let mut bytes = vec![0; length];
        hasher.finalize_xof().fill(&mut bytes);
        bytes
    }
}

impl DeviceType for Entropy {
    const DEVICE_ID: u16 = 0x1005;
    const SUBSYSTEM_ID: u16 = 4;
    const CLASS: u32 = 0xff_0000;
    const QUEUES: &'static [u16] = &[64];

    fn features(&self) -> u64 {
        0
    }

    fn configuration(&self) -> Vec<u8> {
        Vec::new()
    }

    fn notified(&mut self, _queue: u16, rings: &mut Rings, context: &mut Context) {
        while let Some(chain) = rings.pop(QUEUE, context.memory) {
            let room = chain.writable.slice(0, MOST_BYTES);
            let bytes = self.bytes(context.now.0, room.length() as usize);
            room.write(context.memory, &bytes);
            rings.push(QUEUE, context.memory, chain.head, bytes.len() as u32);
        }
    }

    /// The count of requests goes on: numbers are never given twice.
    fn reset(&mut self) {}
}
