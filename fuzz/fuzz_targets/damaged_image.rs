//! Good images of every format with bytes changed where their tables are.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::images::damaged(bytes));
