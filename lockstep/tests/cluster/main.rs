//! Whole clusters in one thread from one seed: two nodes, a faulty link, an arbiter, clients, and checkers.
//!
//! `FTEMU_SEEDS=10000 cargo test --release -p ftemu-lockstep --test cluster` is the soak; `FTEMU_SEED=N` runs one seed
//! and prints what happened.

mod checker;
mod client;
mod divergence;
mod faults;
mod flood;
mod life;
mod link;
mod network;
mod process;
mod random;
mod scenes;
mod toy;
mod world;
