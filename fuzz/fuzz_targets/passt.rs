//! Any bytes as what passt says, and as frames that a guest sends to it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::network::passt(bytes));
