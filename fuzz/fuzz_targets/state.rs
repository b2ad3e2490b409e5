//! Checkpoints that somebody has tampered with, configurations and inputs.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::state::state(bytes));
