//! Any bytes as the archive in a package from which a file is taken.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::network::package(bytes));
