//! The machine around the CPU: every chip in a file of its own, the board that wires them, and [`Machine`], which runs
//! the whole as a pure function of its state and its inputs (`docs/DETERMINISM.md`).
//!
//! In the order data flows: `input` -> `machine` -> `board` (`map`, `clock`) -> chips -> `output`; `checkpoint`, `state`
//! and `digest` write it all down; `linux`, `boot_params` and `acpi` stand in for firmware.

#![warn(clippy::float_arithmetic)]

pub mod acpi;
pub mod board;
mod boot_params;
mod calendar;
mod checkpoint;
pub mod chips;
pub mod clock;
pub mod config;
pub mod context;
mod digest;
pub mod drives;
pub mod e1000;
pub mod firmware;
pub mod firmware_config;
pub mod hpet;
pub mod ide;
pub mod input;
pub mod io_apic;
pub mod keyboard_controller;
pub mod linux;
pub mod local_apic;
mod local_apic_timer;
pub mod machine;
pub mod map;
pub mod nic;
pub mod output;
pub mod pci;
pub mod pic;
pub mod pit;
mod pit_channel;
pub mod power;
pub mod rtc;
pub mod state;
pub mod storage;
pub mod uart;
mod vectors;
pub mod vga;
pub mod virtio;

pub use config::{Config, MachineError};
pub use firmware::{Firmware, FirmwareError};
pub use ftemu_cpu::Icount;
pub use input::Input;
pub use linux::LoadError;
pub use machine::{Machine, Ran};
pub use output::{Emitted, Output};
