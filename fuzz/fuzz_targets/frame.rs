//! Any bytes as frames that a guest sends: who it is on its network is learnt from them, and announced.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::network::frame(bytes));
