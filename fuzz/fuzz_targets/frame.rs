//! Any bytes as frames that a guest sends: who it is on its network is learnt from them, and announced.
#![no_main]

use ftemu_lockstep::stations::Stations;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut stations = Stations::default();
    for frame in bytes.chunks(96) {
        stations.look(0, frame);
    }
    for (_, frame) in stations.announcements() {
        assert!((60..200).contains(&frame.len()) && stations.is_own(0, &frame));
    }
});
