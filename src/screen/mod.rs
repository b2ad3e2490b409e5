//! The guest's screen, keyboard and mouse: shown and used by VNC viewers, and by commands that look or press once.
//!
//! The screen is part of the guest's state, so either side of a pair can show it at any time; nothing of it is an
//! output. Keys and the mouse are inputs, and only the live side takes them.

pub mod arguments;
pub mod commands;
pub mod discs;
pub mod keys;
mod talk;
pub mod vnc;
