//! The devices as a driver sees them, register by register, and as a hostile one would use them.

mod block;
mod driver;
mod network;
mod random;
mod transport;
