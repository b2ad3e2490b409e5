//! What fuzzers feed with hostile bytes. A function per target takes any bytes; what must never happen is an assertion, a
//! panic, or a hang in it. libFuzzer calls them from `fuzz/fuzz_targets`; the default tests call them with bytes from seeds.
//!
//! `computer` is a pair of machines one of which becomes what the other is, half way; `places` says where each chip is;
//! `operations` is what a hostile guest does to them, `drivers` how it gets there. The rest are files and messages.

pub mod computer;
pub mod drivers;
pub mod images;
pub mod network;
pub mod operations;
pub mod pair;
pub mod places;
mod program;
pub mod state;
pub mod viewer;

// The simulator's cheap guest and what it needs.
#[allow(dead_code, missing_docs, reason = "the simulator uses the rest")]
#[path = "../../../lockstep/tests/cluster/random.rs"]
mod random;
#[allow(dead_code, missing_docs, reason = "the simulator uses the rest")]
#[path = "../../../lockstep/tests/cluster/toy.rs"]
mod toy;

use operations::Guest;
use places::CHIPS;

/// A chip, behind the real board: the first byte says which one, unless `chosen` does; then come operations of 8 bytes.
///
/// # Panics
/// When something is broken.
pub fn chip(chosen: Option<&str>, bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let named = chosen.map(|name| CHIPS.iter().position(|chip| chip.name == name).expect("there is no such chip"));
    let number = named.unwrap_or(usize::from(*first) % CHIPS.len());
    computer::with(|computers| computers.compare(&CHIPS[number], Guest::Still, rest));
}

/// The whole board with a guest that runs whatever is in its memory.
///
/// # Panics
/// When something is broken.
pub fn board(bytes: &[u8]) {
    computer::with(|computers| computers.compare(&places::EVERYTHING, Guest::Running, bytes));
}

/// A kernel image for the loader, and what a guest reads of it afterwards.
///
/// # Panics
/// When something is broken.
pub fn kernel(bytes: &[u8]) {
    let (initrd, line) = (bytes.first().map(|first| vec![7; usize::from(*first) << 8]), "console=ttyS0");
    computer::with(|computers| computers.boot(bytes, initrd.as_deref(), line));
}
