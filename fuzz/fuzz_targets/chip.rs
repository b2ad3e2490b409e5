//! One chip, behind the real board: loads, stores, inputs, time; half way a second machine is made from its checkpoint and must
//! stay equal. `FTEMU_FUZZ_CHIP=NAME` has it fuzz that one only (`scripts/fuzz NAME` does so); otherwise the first byte says.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("FTEMU_FUZZ_CHIP").ok());

fuzz_target!(|bytes: &[u8]| ftemu_fuzz_harness::chip(CHOSEN.as_deref(), bytes));
