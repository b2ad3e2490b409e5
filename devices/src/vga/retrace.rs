//! Where the electron beam is: a function of virtual time and of the CRT controller's timing registers, so that a
//! program which waits for the vertical retrace finds it 70 or 60 times a second.

use super::registers::{Beam, Registers, crtc, sequencer};
use crate::clock;

/// The VGA's two crystals (selects 0 and 1 of miscellaneous output; 2 and 3 are not connected on a plain VGA).
const CRYSTALS_HZ: [u64; 2] = [25_175_000, 28_322_000];
/// With the Bochs extension's own modes: 60 Hz.
const FRAME_NS: u64 = 16_666_667;
/// The vertical retrace's share of a frame then, in parts of 1000.
const RETRACE_PER_MILLE: u64 = 40;

/// The beam of a mode that the CRT controller makes.
pub fn beam(registers: &Registers, now_ns: u64) -> Beam {
    let crystal = CRYSTALS_HZ[usize::from(registers.miscellaneous >> 2 & 1)];
    let clocking = registers.sequencer[sequencer::CLOCKING_MODE];
    let dots_per_character = if clocking & 1 != 0 { 8 } else { 9 };
    let divider = 1 + u64::from(clocking >> 3 & 1);
    let characters = u64::from(registers.crtc[crtc::HORIZONTAL_TOTAL]) + 5;
    let line = characters * dots_per_character * divider;
    let lines = u64::from(registers.vertical(crtc::VERTICAL_TOTAL, 0, 5)) + 2;
    let dot = clock::cycles(now_ns, crystal) % (line * lines);
    let (row, column) = (dot / line, dot % line / (dots_per_character * divider));
    let retrace = u64::from(registers.vertical(crtc::VERTICAL_RETRACE_START, 2, 7));
    let retrace_end = registers.crtc[crtc::VERTICAL_RETRACE_END] & 0xf;
    // The end is given by its lowest four bits.
    let length = match retrace_end.wrapping_sub(retrace as u8) & 0xf {
        0 => 16,
        length => u64::from(length),
    };
    let vertical_retrace = (retrace..retrace + length).contains(&row);
    let displayed = row <= u64::from(registers.vertical(crtc::VERTICAL_END, 1, 6))
        && column <= u64::from(registers.crtc[crtc::HORIZONTAL_END]);
    Beam { blank: !displayed || vertical_retrace, vertical_retrace }
}

/// The beam of a mode of the Bochs extension.
pub fn extended(now_ns: u64) -> Beam {
    let vertical_retrace = now_ns % FRAME_NS * 1000 / FRAME_NS < RETRACE_PER_MILLE;
    Beam { blank: vertical_retrace, vertical_retrace }
}
