//! The whole board, with a guest that runs whatever is in its memory.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::board(bytes));
