//! What the tests of disk images share: qemu-img as maker and judge of images, numbers from a seed, careful damage.

use std::path::Path;
use std::process::Command;

/// Runs qemu-img (Debian's package qemu-utils, which `scripts/setup` installs) and gives back its exit status.
pub(crate) fn qemu_img(arguments: &[&str], paths: &[&Path]) -> i32 {
    let output = Command::new("qemu-img").args(arguments).args(paths).output();
    let output = output.expect("qemu-img is here; scripts/setup installs it");
    output.status.code().expect("qemu-img ends by itself")
}

/// Numbers from a seed: xorshift64*.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) % bound.max(1)
    }

    /// Changes a few bytes of a file, at and around bytes that are not zero: headers and tables, mostly.
    pub(crate) fn damage(&mut self, bytes: &mut Vec<u8>, telling: &[usize]) {
        for _ in 0..=self.below(6) {
            let near = telling.get(self.below(telling.len() as u64) as usize).copied().unwrap_or(0);
            let at = (near + self.below(9) as usize).saturating_sub(4);
            let value = [0, 0xff, 0x80, 1, 0x7f, self.below(256) as u8][self.below(6) as usize];
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if self.below(8) == 0 {
            let length = self.below(bytes.len() as u64 + 1) as usize;
            bytes.truncate(length);
        }
    }
}

/// A disk of some MiB with something in it: here a little, there a lot, and holes.
pub(crate) fn contents(bytes: usize) -> Vec<u8> {
    let mut random = Random(0x5eed);
    let mut disk = vec![0; bytes];
    for (start, count) in [(0, 512), (70_000, 5000), (bytes / 2, 200_000), (bytes - 600, 600)] {
        for byte in disk.iter_mut().skip(start).take(count) {
            *byte = random.below(256) as u8;
        }
    }
    disk
}

/// Where a file's bytes are that damage should be done to: those that are not zero, of the first and last MiB.
pub(crate) fn telling(bytes: &[u8]) -> Vec<usize> {
    let edge = |at: &usize| *at < 1 << 20 || *at + (1 << 20) > bytes.len();
    let mut places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).filter(edge).collect();
    // A disk's data would outnumber its tables.
    places.dedup_by_key(|at| *at / 4);
    places.truncate(4096);
    places
}
