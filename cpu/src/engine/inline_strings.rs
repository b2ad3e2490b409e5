//! REP MOVS and REP STOS within one page each, by the host's own instruction.
//!
//! They are inlined because small ones are everywhere, and a call of Rust costs more than most of them move. All that could
//! make them special is added up to a number that must be 1: more than 4096 iterations or none, less budget than
//! iterations, the direction flag, ends in another page than their start's or in one the tables do not have. What is
//! special goes to [`super::quick_strings`], and from there to [`crate::system`].

use super::blocks::Mode;
use super::builder::{Builder, host};
use super::cold::Cold;
use super::frame::displacement;
use crate::state::gpr::{RDI, RSI};
use crate::system::strings::{Kind, kind_and_size};
use iced_x86::{Instruction, OpKind, Register};

const HOST_RSI: u8 = RSI as u8;
const HOST_RDI: u8 = RDI as u8;
const R14: u8 = 14;

/// What can be inlined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    moves: bool,
    size: u8,
}

/// The shape of an instruction that can be inlined in a mode.
pub fn shape(instruction: &Instruction, mode: Mode) -> Option<Shape> {
    let (kind, size) = kind_and_size(instruction.code())?;
    let moves = match kind {
        Kind::Move => true,
        Kind::Store => false,
        _ => return None,
    };
    let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
    let wide = (0..instruction.op_count()).all(|operand| {
        matches!(instruction.op_kind(operand), OpKind::MemorySegRSI | OpKind::MemoryESRDI | OpKind::Register)
    });
    let based = matches!(instruction.segment_prefix(), Register::FS | Register::GS);
    (repeats && wide && !based && mode.long() && !mode.isolated()).then_some(Shape { moves, size: size as u8 })
}

impl Builder<'_> {
    /// Emits the instruction.
    pub fn inline_string(&mut self, shape: Shape, instruction: &Instruction) {
        self.conditions();
        self.page(HOST_RDI, self.tables.write, shape.size);
        self.load_indexed(host::R10, self.tables.addend);
        if shape.moves {
            self.store(host::R10, displacement!(temporary));
            self.page(HOST_RSI, self.tables.read, shape.size);
            self.load_indexed(host::R13, self.tables.addend);
            self.load(host::R10, displacement!(temporary));
        }
        let jump = self.unless_one();
        self.copy(host::RCX, host::R11);
        self.bytes(&[0x48, 0xf7, 0xd1]); // not rcx
        self.lea(R14, Some(R14), Some((host::RCX, 1)), 2, true);
        self.lea(HOST_RDI, Some(HOST_RDI), Some((host::R10, 1)), 0, true);
        if shape.moves {
            self.lea(HOST_RSI, Some(HOST_RSI), Some((host::R13, 1)), 0, true);
        }
        self.copy(host::RCX, host::R11);
        self.bytes(match (shape.moves, shape.size) {
            (true, 1) => &[0xf3, 0xa4],
            (true, 2) => &[0xf3, 0x66, 0xa5],
            (true, 4) => &[0xf3, 0xa5],
            (true, _) => &[0xf3, 0x48, 0xa5],
            (false, 1) => &[0xf3, 0xaa],
            (false, 2) => &[0xf3, 0x66, 0xab],
            (false, 4) => &[0xf3, 0xab],
            (false, _) => &[0xf3, 0x48, 0xab],
        });
        self.copy(host::R11, host::RCX);
        self.bytes(&[0x49, 0xf7, 0xd2]); // not r10
        self.lea(HOST_RDI, Some(HOST_RDI), Some((host::R10, 1)), 1, true);
        if shape.moves {
            self.bytes(&[0x49, 0xf7, 0xd5]); // not r13
            self.lea(HOST_RSI, Some(HOST_RSI), Some((host::R13, 1)), 1, true);
        }
        let after = self.here();
        self.cold.push_back(Cold::System { index: self.index, jump, instruction: *instruction, after });
    }

    /// RCX = 1 if there is an iteration, at most 4096, not more than the budget has left, and they go upward.
    fn conditions(&mut self) {
        self.lea(host::RCX, Some(host::R11), None, -1, true);
        self.bytes(&[0xc4, 0xe2, 0xdb, 0xf7, 0xc9]); // shrx rcx, rcx, rsp (12)
        self.load(host::R10, displacement!(negated_guard));
        self.lea(host::R10, Some(host::R10), Some((R14, 1)), 2, true);
        self.copy(host::R13, host::R11);
        self.bytes(&[0x49, 0xf7, 0xd5]); // not r13
        // What the last but one iteration leaves: the sign says whether it is enough.
        self.lea(host::R10, Some(host::R10), Some((host::R13, 1)), 0, true);
        self.bytes(&[0xc4, 0x43, 0xfb, 0xf0, 0xd2, 56]); // rorx r10, r10, 56
        self.bytes(&[0x45, 0x0f, 0xb6, 0xd2]); // movzx r10d, r10b
        self.lea(host::RCX, Some(host::RCX), Some((host::R10, 1)), 0, true);
        self.load(host::R10, displacement!(state.rflags));
        self.bytes(&[0xc4, 0x62, 0xaa, 0xf5, 0x94, 0x24]); // pext r10, r10, [rsp+direction]
        self.bytes(&displacement!(direction).to_le_bytes());
        self.lea(host::RCX, Some(host::RCX), Some((host::R10, 1)), 1, true);
    }

    /// Adds zero to RCX if what a pointer's iterations reach is in its page, which the tables have; R13 = its slot.
    fn page(&mut self, pointer: u8, tags: i32, size: u8) {
        self.slot(pointer);
        self.load_indexed(host::R10, tags);
        self.lea(host::R10, Some(host::R10), Some((pointer, 1)), -4097, true);
        self.lea(host::R10, Some(host::R10), Some((host::R11, size)), 0, true);
        self.bytes(&[0xc4, 0x42, 0xdb, 0xf7, 0xd2]); // shrx r10, r10, rsp (12)
        self.lea(host::RCX, Some(host::RCX), Some((host::R10, 1)), 0, true);
    }
}
