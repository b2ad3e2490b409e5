//! The register file of the VGA: miscellaneous, sequencer, graphics and CRT controllers (IBM Personal System/2 and
//! Personal Computer BIOS and hardware references, "Video Graphics Array").
//!
//! Each controller is an index and an array, as software sees it; the parts that mean something are named where they
//! are used. Registers that do not exist read as 0 and keep nothing.

use super::attribute::Attribute;
use super::dac::Dac;
use crate::state::saved;

/// Sequencer registers.
pub mod sequencer {
    /// Reset.
    pub const RESET: usize = 0;
    /// Clocking mode.
    pub const CLOCKING_MODE: usize = 1;
    /// Map mask.
    pub const MAP_MASK: usize = 2;
    /// Character map select.
    pub const CHARACTER_MAP: usize = 3;
    /// Memory mode.
    pub const MEMORY_MODE: usize = 4;
}

/// Graphics controller registers.
pub mod graphics {
    /// Set/reset.
    pub const SET_RESET: usize = 0;
    /// Enable set/reset.
    pub const ENABLE_SET_RESET: usize = 1;
    /// Color compare.
    pub const COLOR_COMPARE: usize = 2;
    /// Data rotate and function select.
    pub const DATA_ROTATE: usize = 3;
    /// Read map select.
    pub const READ_MAP: usize = 4;
    /// Graphics mode.
    pub const MODE: usize = 5;
    /// Miscellaneous.
    pub const MISCELLANEOUS: usize = 6;
    /// Color don't care.
    pub const COLOR_DONT_CARE: usize = 7;
    /// Bit mask.
    pub const BIT_MASK: usize = 8;
}

/// CRT controller registers.
pub mod crtc {
    /// Horizontal total, less 5.
    pub const HORIZONTAL_TOTAL: usize = 0x00;
    /// Horizontal display enable end.
    pub const HORIZONTAL_END: usize = 0x01;
    /// Vertical total, less 2; two more bits are in OVERFLOW.
    pub const VERTICAL_TOTAL: usize = 0x06;
    /// Upper bits of the vertical registers.
    pub const OVERFLOW: usize = 0x07;
    /// Preset row scan and byte panning.
    pub const PRESET_ROW_SCAN: usize = 0x08;
    /// Maximum scan line, double scanning.
    pub const MAXIMUM_SCAN_LINE: usize = 0x09;
    /// Cursor start, cursor off.
    pub const CURSOR_START: usize = 0x0a;
    /// Cursor end and skew.
    pub const CURSOR_END: usize = 0x0b;
    /// Start address, high byte; the low one follows.
    pub const START_ADDRESS: usize = 0x0c;
    /// Cursor location, high byte; the low one follows.
    pub const CURSOR_LOCATION: usize = 0x0e;
    /// Vertical retrace start.
    pub const VERTICAL_RETRACE_START: usize = 0x10;
    /// Vertical retrace end, protection of registers 0 to 7.
    pub const VERTICAL_RETRACE_END: usize = 0x11;
    /// Vertical display enable end.
    pub const VERTICAL_END: usize = 0x12;
    /// Offset from row to row.
    pub const OFFSET: usize = 0x13;
    /// Underline location, count by four, doubleword mode.
    pub const UNDERLINE: usize = 0x14;
    /// Mode control.
    pub const MODE_CONTROL: usize = 0x17;
    /// Line compare.
    pub const LINE_COMPARE: usize = 0x18;
}

/// Which bits of each sequencer register exist.
const SEQUENCER_MASK: [u8; 5] = [0x03, 0x3d, 0x0f, 0x3f, 0x0e];
/// Which bits of each graphics register exist.
const GRAPHICS_MASK: [u8; 9] = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff];
const CRTC_LENGTH: usize = 0x19;
/// Bit 8 of line compare: the one bit in OVERFLOW that protection leaves open.
const LINE_COMPARE_8: u8 = 0x10;
const PROTECT: u8 = 0x80;
/// Miscellaneous output: registers at 3Dx instead of 3Bx; the CPU reaches memory.
const COLOR: u8 = 1;
const ENABLE_MEMORY: u8 = 2;
/// Input status 0: the monitor's load says color.
const SWITCH_SENSE: u8 = 0x10;

/// What the monitor is doing, for input status 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beam {
    /// Nothing is displayed: a retrace, or the border around it.
    pub blank: bool,
    /// The vertical retrace.
    pub vertical_retrace: bool,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Miscellaneous output.
    pub miscellaneous: u8,
    feature_control: u8,
    subsystem_enable: u8,
    sequencer_index: u8,
    /// Sequencer.
    pub sequencer: [u8; 5],
    graphics_index: u8,
    /// Graphics controller.
    pub graphics: [u8; 9],
    crtc_index: u8,
    /// CRT controller.
    pub crtc: [u8; CRTC_LENGTH],
    /// Attribute controller.
    pub attribute: Attribute,
    /// The palette.
    pub dac: Dac,
}
saved!(Registers {
    miscellaneous,
    feature_control,
    subsystem_enable,
    sequencer_index,
    sequencer,
    graphics_index,
    graphics,
    crtc_index,
    crtc,
    attribute,
    dac,
});

impl Registers {
    /// Whether the CPU reaches display memory through A0000h-BFFFFh.
    pub fn memory_enabled(&self) -> bool {
        self.miscellaneous & ENABLE_MEMORY != 0
    }

    /// The port as if registers were where color adapters have them; `None`: those of the other kind of adapter.
    fn canonical(&self, port: u16) -> Option<u16> {
        let moves = matches!(port & 0xf, 0x4 | 0x5 | 0xa) && matches!(port & 0xfff0, 0x3b0 | 0x3d0);
        let base = if self.miscellaneous & COLOR != 0 { 0x3d0 } else { 0x3b0 };
        match moves {
            true => (port & 0xfff0 == base).then_some(0x3d0 | port & 0xf),
            false => Some(port),
        }
    }

    /// Reads a port of 3B0h to 3DFh.
    pub fn read(&mut self, port: u16, beam: Beam) -> u8 {
        let Some(port) = self.canonical(port) else { return 0xff };
        let at = |registers: &[u8], index: u8| registers.get(usize::from(index)).copied().unwrap_or(0);
        match port {
            0x3c0 => self.attribute.index(),
            0x3c1 => self.attribute.read(),
            0x3c2 => SWITCH_SENSE,
            0x3c3 => self.subsystem_enable,
            0x3c4 => self.sequencer_index,
            0x3c5 => at(&self.sequencer, self.sequencer_index),
            0x3c6..=0x3c9 => self.dac.read(port),
            0x3ca => self.feature_control,
            0x3cc => self.miscellaneous,
            0x3ce => self.graphics_index,
            0x3cf => at(&self.graphics, self.graphics_index),
            0x3d4 => self.crtc_index,
            0x3d5 => at(&self.crtc, self.crtc_index),
            0x3da => {
                self.attribute.reset_flip_flop();
                u8::from(beam.blank) | u8::from(beam.vertical_retrace) << 3
            }
            _ => 0xff,
        }
    }

    /// Writes a port of 3B0h to 3DFh.
    pub fn write(&mut self, port: u16, value: u8) {
        let Some(port) = self.canonical(port) else { return };
        match port {
            0x3c0 => self.attribute.write(value),
            0x3c2 => self.miscellaneous = value & 0xef,
            0x3c3 => self.subsystem_enable = value & 1,
            0x3c4 => self.sequencer_index = value & 7,
            0x3c5 => put(&mut self.sequencer, &SEQUENCER_MASK, self.sequencer_index, value),
            0x3c6..=0x3c9 => self.dac.write(port, value),
            0x3ce => self.graphics_index = value & 0xf,
            0x3cf => put(&mut self.graphics, &GRAPHICS_MASK, self.graphics_index, value),
            0x3d4 => self.crtc_index = value & 0x3f,
            0x3d5 => self.write_crtc(value),
            0x3da => self.feature_control = value & 0xb,
            _ => {}
        }
    }

    fn write_crtc(&mut self, value: u8) {
        let index = usize::from(self.crtc_index);
        let protected = index <= 7 && self.crtc[crtc::VERTICAL_RETRACE_END] & PROTECT != 0;
        let open = match (protected, index) {
            (false, _) => 0xff,
            (true, crtc::OVERFLOW) => LINE_COMPARE_8,
            (true, _) => 0,
        };
        if let Some(register) = self.crtc.get_mut(index) {
            *register = *register & !open | value & open;
        }
    }

    /// A vertical CRTC register with its bits 8 and 9 from OVERFLOW.
    pub fn vertical(&self, register: usize, bit_8: u32, bit_9: u32) -> u32 {
        let overflow = u32::from(self.crtc[crtc::OVERFLOW]);
        u32::from(self.crtc[register]) | (overflow >> bit_8 & 1) << 8 | (overflow >> bit_9 & 1) << 9
    }

    /// Two CRTC registers, the high byte first.
    pub fn address(&self, register: usize) -> u32 {
        u32::from(self.crtc[register]) << 8 | u32::from(self.crtc[register + 1])
    }
}

fn put(registers: &mut [u8], masks: &[u8], index: u8, value: u8) {
    let found = registers.iter_mut().zip(masks).nth(usize::from(index));
    if let Some((register, mask)) = found {
        *register = value & mask;
    }
}
