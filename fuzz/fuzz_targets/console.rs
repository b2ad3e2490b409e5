//! Any bytes as what console clients and servers say, and as names of keys.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::viewer::console(bytes));
