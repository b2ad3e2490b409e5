//! Any bytes as a message between servers, a batch of the log, an identity.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::network::message(bytes));
