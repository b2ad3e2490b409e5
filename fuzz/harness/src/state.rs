//! A checkpoint that somebody has tampered with: it is refused, or is that of a machine which can be run without harm.

use ftemu_devices::{Config, Input, Machine};

use crate::computer;
use crate::operations::{Driver, Guest, Operation};
use crate::places::EVERYTHING;

/// Bytes that are changed at most.
const CHANGES: usize = 16;
/// Operations that the machine sees before it is saved, and after it is loaded.
const OPERATIONS: usize = 64;

/// Any bytes as a checkpoint, as a configuration and as an input; then a good checkpoint with some bytes changed, and
/// the rest as operations.
///
/// # Panics
/// When something is broken.
pub fn state(bytes: &[u8]) {
    if let Some(config) = Config::decode(&mut &bytes[..]) {
        let mut again = Vec::new();
        config.encode(&mut again);
        assert!(bytes.starts_with(&again));
    }
    if let Some(input) = Input::decode(&mut &bytes[..]) {
        let mut again = Vec::new();
        input.encode(&mut again);
        assert!(bytes.starts_with(&again));
    }
    let Some((changes, rest)) = bytes.split_at_checked(4 * CHANGES) else { return };
    let (before, after) = rest.split_at(rest.len() / 16 * 8);
    computer::with(|computers| {
        let machine = computers.fresh(before);
        act(machine, before);
        machine.drives_mut().fetch();
        let mut saved = Vec::new();
        machine.save(&mut saved);
        for change in changes.as_chunks::<4>().0 {
            let [a, b, c, value] = *change;
            // A byte that is not changed can be chosen.
            if let Some(byte) = saved.get_mut(usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16) {
                *byte = value;
            }
        }
        if machine.load(&saved).is_ok() {
            act(machine, after);
        }
    });
}

fn act(machine: &mut Machine, bytes: &[u8]) {
    let mut driver = Driver::new(&EVERYTHING, Guest::Still, bytes);
    for operation in bytes.as_chunks().0.iter().take(OPERATIONS) {
        driver.act(machine, Operation(*operation));
    }
}
