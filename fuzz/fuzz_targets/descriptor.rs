//! Changes to good descriptors of VMDK images that lie in several files.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::images::descriptor(bytes));
