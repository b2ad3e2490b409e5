//! Parsers of the program itself, by their paths: it is no library.
#![allow(dead_code, reason = "the program uses the rest")]

#[path = "../../../src/screen/keys.rs"]
pub mod keys;
#[path = "../../../src/console/protocol.rs"]
pub mod protocol;

/// As in the program.
#[path = "../../../src/network/passt"]
pub mod passt {
    pub mod outgoing;
    pub mod waiting;
}

/// As in the program.
#[path = "../../../src/screen/vnc"]
pub mod vnc {
    pub mod format;
    pub mod picture;
    pub mod pointer;
    pub mod wire;
}
