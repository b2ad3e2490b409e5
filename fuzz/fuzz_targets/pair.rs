//! Two sides of a pair with a hostile line between them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::pair::pair(bytes));
