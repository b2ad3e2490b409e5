//! The guest's serial console over TCP: every byte once, in both directions, over failovers too (`docs/CONSOLE.md`).
//!
//! `protocol` is what goes over the wire, `ledger` remembers what was typed, `server` is on each side of a pair,
//! `client` is `ftemu console`, `terminal` is the user's.

pub mod client;
pub mod ledger;
pub mod protocol;
pub mod server;
pub mod terminal;
