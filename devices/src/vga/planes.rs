//! What happens between the CPU and the four planes: the graphics controller's read and write modes, latches, and how
//! addresses of A0000h-BFFFFh find their plane.

use super::registers::{Registers, graphics, sequencer};

/// Memory mode: addresses go through all planes; four planes in a chain.
const SEQUENTIAL: u8 = 4;
const CHAIN_FOUR: u8 = 8;
/// Graphics mode: read mode 1.
const READ_COMPARES: u8 = 8;
/// Graphics miscellaneous: the lowest address bit selects odd or even planes.
const CHAIN_ODD_EVEN: u8 = 2;
/// Miscellaneous output: which 64 KiB the odd/even planes are in, active low.
const UPPER_PAGE: u8 = 0x20;

/// One byte of each plane.
pub type Cell = [u8; 4];

/// Where an access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The byte of each plane.
    pub address: u32,
    /// The planes that a write may change.
    pub planes: u8,
    /// The plane that a read gives.
    pub read_plane: u8,
}

/// The offset within the window that the graphics controller decodes; `None`: another adapter's.
pub fn offset(registers: &Registers, address: u64) -> Option<u32> {
    let (base, length) = match registers.graphics[graphics::MISCELLANEOUS] >> 2 & 3 {
        0 => (0xa_0000, 0x2_0000),
        1 => (0xa_0000, 0x1_0000),
        2 => (0xb_0000, 0x8000),
        _ => (0xb_8000, 0x8000),
    };
    let offset = address.checked_sub(base)?;
    (offset < length && registers.memory_enabled()).then_some(offset as u32)
}

/// Where an offset within the window goes.
pub fn place(registers: &Registers, offset: u32) -> Place {
    let mode = registers.sequencer[sequencer::MEMORY_MODE];
    let read_map = registers.graphics[graphics::READ_MAP] & 3;
    let map_mask = registers.sequencer[sequencer::MAP_MASK];
    let odd = (offset & 1) as u8;
    let (address, planes, read_plane) = if mode & CHAIN_FOUR != 0 {
        (offset & !3, 1 << (offset & 3), (offset & 3) as u8)
    } else if mode & SEQUENTIAL == 0 {
        let page = match registers.graphics[graphics::MISCELLANEOUS] {
            value if value & CHAIN_ODD_EVEN == 0 => offset & 1,
            value if value >> 2 & 3 == 0 => offset >> 16 & 1,
            _ => u32::from(registers.miscellaneous & UPPER_PAGE == 0),
        };
        (offset & !1 | page, 0b0101 << odd, read_map & 2 | odd)
    } else {
        (offset, 0xf, read_map)
    };
    Place { address: address & 0xffff, planes: planes & map_mask, read_plane }
}

/// What a read gives of the cell that it has put in the latches.
pub fn read(registers: &Registers, place: Place, latches: Cell) -> u8 {
    if registers.graphics[graphics::MODE] & READ_COMPARES == 0 {
        return latches[usize::from(place.read_plane & 3)];
    }
    let compare = expand(registers.graphics[graphics::COLOR_COMPARE]);
    let care = expand(registers.graphics[graphics::COLOR_DONT_CARE]);
    let differs = (0..4).fold(0, |bits, plane| bits | (latches[plane] ^ compare[plane]) & care[plane]);
    !differs
}

/// What a write makes of each plane, before the map mask.
pub fn write(registers: &Registers, value: u8, latches: Cell) -> Cell {
    let registers = &registers.graphics;
    let rotated = value.rotate_right(u32::from(registers[graphics::DATA_ROTATE] & 7));
    let set_reset = expand(registers[graphics::SET_RESET]);
    let mut mask = registers[graphics::BIT_MASK];
    let data = match registers[graphics::MODE] & 3 {
        0 => {
            let enabled = expand(registers[graphics::ENABLE_SET_RESET]);
            std::array::from_fn(|plane| rotated & !enabled[plane] | set_reset[plane] & enabled[plane])
        }
        1 => return latches,
        2 => expand(value),
        _ => {
            mask &= rotated;
            set_reset
        }
    };
    let function = registers[graphics::DATA_ROTATE] >> 3 & 3;
    std::array::from_fn(|plane| {
        let (data, latch) = (data[plane], latches[plane]);
        let result = match function {
            0 => data,
            1 => data & latch,
            2 => data | latch,
            _ => data ^ latch,
        };
        result & mask | latch & !mask
    })
}

/// A bit for each plane as a byte for each plane.
fn expand(bits: u8) -> Cell {
    std::array::from_fn(|plane| if bits >> plane & 1 != 0 { 0xff } else { 0 })
}
