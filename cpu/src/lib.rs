//! The CPU of ftemu: registers, memory, paging, exceptions, and a translator that relocates the host's own
//! instructions. It knows no device: the board is a [`Bus`].
//!
//! A run is a pure function of (registers, memory, what the bus answers): see `docs/DETERMINISM.md`.

pub mod bus;
pub mod cpu;
mod engine;
pub mod exception;
pub mod execution;
pub mod memory;
pub mod paging;
pub mod save;
pub mod state;
pub mod system;

pub use bus::{Bus, Icount};
pub use cpu::{Cpu, Stop};
pub use engine::options::{Optimisation, Optimisations};
pub use engine::tally::Tally;
pub use exception::Exception;
pub use memory::Memory;
pub use state::State;
