//! Differential tests of the CPU: random programs run by the engine, by the host's own silicon and by Unicorn.
//!
//! [`generate`] makes a [`case::Case`] from a seed; every [`case::Subject`] turns it into an
//! [`case::Outcome`]; [`compare`] says what differs and [`shrink`] drops instructions while it still does.

pub mod campaign;
pub mod case;
pub mod catalogue;
pub mod compare;
pub mod engine;
pub mod excuse;
pub mod generate;
pub mod guest;
pub mod host;
pub mod known;
pub mod layout;
pub mod random;
pub mod second;
pub mod shrink;
pub mod unicorn;
pub mod values;
