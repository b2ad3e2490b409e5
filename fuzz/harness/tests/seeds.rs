//! What fuzzers do, with bytes from seeds: a little of it every time the tests are run. `scripts/fuzz` does the rest.

use ftemu_fuzz_harness as harness;
use harness::places::CHIPS;

/// Bytes from a seed (SplitMix64), in runs that repeat: protocols and registers rarely meet noise.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let length = self.next() % most;
        (0..length)
            .map(|_| match self.next() {
                word if word & 3 == 0 => 0,
                word if word & 3 == 1 => 1 << (word >> 8 & 7),
                word => (word >> 16) as u8,
            })
            .collect()
    }
}

/// Calls a target with so many inputs of at most so many bytes.
fn feed(seed: u64, inputs: u32, most: u64, target: impl Fn(&[u8])) {
    let mut random = Random(seed);
    for _ in 0..inputs {
        let bytes = random.bytes(most);
        target(&bytes);
    }
}

#[test]
fn every_chip_takes_anything_and_is_the_same_after_a_checkpoint() {
    for chip in CHIPS {
        feed(0xc41b, 24, 1200, |bytes| harness::chip(Some(chip.name), bytes));
    }
}

#[test]
fn the_board_takes_anything() {
    feed(0xb0a2d, 60, 1200, harness::board);
}

#[test]
fn tampered_checkpoints_are_refused_or_can_be_run() {
    feed(0x57a7e, 60, 600, harness::state::state);
}

#[test]
fn kernels_images_and_packages_are_taken_or_refused() {
    feed(0x4e21, 20, 4096, harness::kernel);
    feed(0x1236e, 40, 4096, harness::images::image);
    feed(0xda3a6ed, 120, 128, harness::images::damaged);
    feed(0xde5c, 200, 60, harness::images::descriptor);
    feed(0x3ac4, 200, 2048, harness::network::package);
}

#[test]
fn lines_between_servers_and_records_take_anything() {
    feed(0x3e55, 2000, 400, harness::network::message);
    feed(0x2ec02d, 1000, 400, harness::network::record);
    feed(0x3a12, 60, 1600, harness::pair::pair);
}

#[test]
fn frames_viewers_and_clients_may_say_anything() {
    feed(0xf2a3e, 2000, 400, harness::network::frame);
    feed(0x9a557, 2000, 400, harness::network::passt);
    feed(0x71e3, 500, 400, harness::viewer::viewer);
    feed(0xc0501e, 2000, 200, harness::viewer::console);
}
