//! Any bytes as what a VNC viewer says.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::viewer::viewer(bytes));
