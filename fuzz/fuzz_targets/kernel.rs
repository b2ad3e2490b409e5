//! Any bytes as a kernel for the Linux loader.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::kernel(bytes));
