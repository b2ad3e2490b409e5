//! Differential tests of the CPU: random programs run by the engine, by the host's own silicon and by Unicorn.
//!
//! * [`generate`] makes a [`case::Case`] from a seed: one instruction or a block of them, from everything in
//!   [`catalogue`], with operands from [`values`] on the pages of [`layout`]; or page tables and descriptors.
//! * Every [`case::Subject`] turns it into a [`case::Outcome`], its first exception with all it changed before:
//!   [`host`] in a child process, [`engine`] and [`unicorn`] in the machine of [`guest`].
//! * [`compare`] says what differs. What may, is data with reasons: [`excuse`] for the host, [`known`] for Unicorn.
//! * [`campaign`] (engine and host) and [`second`] (engine and Unicorn) run many, and [`shrink`] what fails.
//! * [`legacy`] is the same in small for the modes before long mode: engine and Unicorn, engine and silicon.
//!
//! The engine runs each case whole, in random slices with everything derived forgotten at random, and a third of them
//! at CPL 0 too. For an eighth of them the host counts the instructions by single steps.

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
pub mod legacy;
pub mod random;
pub mod second;
pub mod shrink;
pub mod unicorn;
pub mod values;
