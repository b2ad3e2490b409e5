//! The BIOS's register values for some modes (IBM Personal System/2 BIOS interface reference, "video parameter tables").

use super::Bench;

/// What a mode needs: miscellaneous output, sequencer 1-4, CRTC, attribute 10h-14h, graphics.
pub struct Mode {
    pub miscellaneous: u8,
    pub sequencer: [u8; 4],
    pub crtc: [u8; 25],
    pub attribute: [u8; 5],
    pub graphics: [u8; 9],
}

pub const TEXT_80_25: Mode = Mode {
    miscellaneous: 0x67,
    sequencer: [0x00, 0x03, 0x00, 0x02],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x55, 0x81, 0xbf, 0x1f, 0x00, 0x4f, 0x0d, 0x0e, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28,
        0x1f, 0x96, 0xb9, 0xa3, 0xff,
    ],
    attribute: [0x0c, 0x00, 0x0f, 0x08, 0x00],
    graphics: [0, 0, 0, 0, 0, 0x10, 0x0e, 0, 0xff],
};

/// Mode 4: 320 x 200, 4 colors.
pub const CGA: Mode = Mode {
    miscellaneous: 0x63,
    sequencer: [0x09, 0x03, 0x00, 0x02],
    crtc: [
        0x2d, 0x27, 0x28, 0x90, 0x2b, 0x80, 0xbf, 0x1f, 0x00, 0xc1, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x14, 0x00,
        0x96, 0xb9, 0xa2, 0xff,
    ],
    attribute: [0x01, 0x00, 0x03, 0x00, 0x00],
    graphics: [0, 0, 0, 0, 0, 0x30, 0x0f, 0, 0xff],
};

/// Mode 12h: 640 x 480, 16 colors.
pub const PLANAR: Mode = Mode {
    miscellaneous: 0xe3,
    sequencer: [0x01, 0x0f, 0x00, 0x06],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0x0b, 0x3e, 0x00, 0x40, 0, 0, 0, 0, 0, 0, 0xea, 0x8c, 0xdf, 0x28, 0x00,
        0xe7, 0x04, 0xe3, 0xff,
    ],
    attribute: [0x01, 0x00, 0x0f, 0x00, 0x00],
    graphics: [0, 0, 0, 0, 0, 0x00, 0x05, 0x0f, 0xff],
};

/// Mode 13h: 320 x 200, 256 colors.
pub const LINEAR: Mode = Mode {
    miscellaneous: 0x63,
    sequencer: [0x01, 0x0f, 0x00, 0x0e],
    crtc: [
        0x5f, 0x4f, 0x50, 0x82, 0x54, 0x80, 0xbf, 0x1f, 0x00, 0x41, 0, 0, 0, 0, 0, 0, 0x9c, 0x8e, 0x8f, 0x28, 0x40,
        0x96, 0xb9, 0xa3, 0xff,
    ],
    attribute: [0x41, 0x00, 0x0f, 0x00, 0x00],
    graphics: [0, 0, 0, 0, 0, 0x40, 0x05, 0x0f, 0xff],
};

/// The sixteen colors of the first color adapter, as the DAC has them at 0 to 15.
pub const COLORS: [[u8; 3]; 16] = [
    [0, 0, 0],
    [0, 0, 42],
    [0, 42, 0],
    [0, 42, 42],
    [42, 0, 0],
    [42, 0, 42],
    [42, 21, 0],
    [42, 42, 42],
    [21, 21, 21],
    [21, 21, 63],
    [21, 63, 21],
    [21, 63, 63],
    [63, 21, 21],
    [63, 21, 63],
    [63, 63, 21],
    [63, 63, 63],
];

impl Bench {
    /// Sets a mode through the ports, as a BIOS does, with an identical palette and the sixteen colors.
    pub fn set_mode(&mut self, mode: &Mode) {
        self.out(0x3c2, mode.miscellaneous);
        self.indexed(0x3c4, 0, 1);
        (1..).zip(mode.sequencer).for_each(|(index, value)| self.indexed(0x3c4, index, value));
        self.indexed(0x3c4, 0, 3);
        self.indexed(0x3d4, 0x11, 0);
        (0..).zip(mode.crtc).for_each(|(index, value)| self.indexed(0x3d4, index, value));
        (0..).zip(mode.graphics).for_each(|(index, value)| self.indexed(0x3ce, index, value));
        self.input(0x3da);
        (0..16).for_each(|index| self.attribute(index, index));
        (0x10..).zip(mode.attribute).for_each(|(index, value)| self.attribute(index, value));
        self.out(0x3c0, 0x20);
        self.out(0x3c8, 0);
        COLORS.as_flattened().iter().for_each(|component| self.out(0x3c9, *component));
    }
}
