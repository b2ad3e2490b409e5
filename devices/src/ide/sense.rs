//! Sense data: why a packet command ended with CHECK CONDITION (SPC-2 §7.20; MMC-3 annex A).

use crate::state::saved;

/// Sense key, additional sense code and its qualifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sense {
    /// Sense key, 0 to 15.
    pub key: u8,
    /// ASC.
    pub code: u8,
    /// ASCQ.
    pub qualifier: u8,
}
saved!(Sense { key, code, qualifier });

const fn sense(key: u8, code: u8, qualifier: u8) -> Sense {
    Sense { key, code, qualifier }
}

/// Nothing to tell.
pub const NONE: Sense = sense(0, 0, 0);
/// Not ready: medium not present, tray closed.
pub const NO_MEDIUM: Sense = sense(2, 0x3a, 0x01);
/// Not ready: medium not present, tray open.
pub const TRAY_OPEN: Sense = sense(2, 0x3a, 0x02);
/// Medium error: unrecovered read error.
pub const UNRECOVERED_READ: Sense = sense(3, 0x11, 0x00);
/// Illegal request: invalid command operation code.
pub const INVALID_OPCODE: Sense = sense(5, 0x20, 0x00);
/// Illegal request: logical block address out of range.
pub const OUT_OF_RANGE: Sense = sense(5, 0x21, 0x00);
/// Illegal request: invalid field in the packet.
pub const INVALID_FIELD: Sense = sense(5, 0x24, 0x00);
/// Illegal request: cannot read medium, incompatible format.
pub const INCOMPATIBLE: Sense = sense(5, 0x30, 0x02);
/// Illegal request: saving parameters not supported.
pub const NOT_SAVED: Sense = sense(5, 0x39, 0x00);
/// Illegal request: medium removal prevented.
pub const LOCKED: Sense = sense(5, 0x53, 0x02);
/// Unit attention: not ready to ready change, medium may have changed.
pub const MEDIUM_CHANGED: Sense = sense(6, 0x28, 0x00);

impl Sense {
    /// Fixed format, current error.
    pub fn bytes(self) -> [u8; 18] {
        let mut bytes = [0; 18];
        bytes[0] = 0x70;
        bytes[2] = self.key;
        bytes[7] = 10; // additional sense length
        bytes[12] = self.code;
        bytes[13] = self.qualifier;
        bytes
    }
}
