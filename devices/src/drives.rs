//! The machine's drives.

use crate::state::saved;

/// The drives and what is in flight.
#[derive(Debug, Default)]
pub struct Drives {
    tickets: u64,
}
saved!(Drives { tickets });
