//! Segments outside 64-bit mode: bases, limits and what they allow, without touching a flag.
//!
//! Where all segments are flat (base 0, no limit), nothing is emitted but for FS and GS. Elsewhere each access adds its
//! base and subtracts its end from the limit; a negative rest is added to the address as a number that no TLB entry
//! matches, so that the slow path, which knows all rules, has the last word.

use super::Engine;
use super::blocks::Mode;
use super::builder::{Builder, host};
use super::frame::{displacement, segment_base_displacement};
use super::sites::AccessSite;
use crate::state::{Segment, State, segment};
use iced_x86::Instruction;

/// Neither loads nor stores without a closer look.
const NEVER: i64 = -1 << 40;

/// Data segments that 32-bit systems use without thinking of segments.
const ORDINARY: [usize; 3] = [segment::ES, segment::SS, segment::DS];

/// Limits for loads and stores as translated code compares them.
fn limits(state: &State, number: usize) -> (i64, i64) {
    let Segment { limit, attributes, .. } = state.segments[number];
    let limit = i64::from(limit);
    if state.has_paragraphs() {
        return (limit, limit);
    }
    let usable = attributes & Segment::PRESENT != 0;
    let (code, expands_down_or_conforms) = (attributes & 8 != 0, attributes & 4 != 0);
    let permits = attributes & 2 != 0;
    match (usable, code) {
        (true, true) => (if permits { limit } else { NEVER }, NEVER),
        (true, false) if !expands_down_or_conforms => (limit, if permits { limit } else { NEVER }),
        _ => (NEVER, NEVER),
    }
}

/// The bits of [`Mode`] that segments decide, outside 64-bit mode.
fn bits(state: &State) -> u16 {
    let code = &state.segments[segment::CS];
    let unlimited = |number: usize| {
        let everything = i64::from(u32::MAX);
        state.segments[number].base == 0 && limits(state, number) == (everything, everything)
    };
    let mut mode = if code.attributes & Segment::BIG != 0 { Mode::CODE_32 } else { Mode::CODE_16 };
    if state.segments[segment::SS].attributes & Segment::BIG == 0 {
        mode |= Mode::STACK_16;
    }
    if code.base == 0 && code.limit == u32::MAX && ORDINARY.into_iter().all(unlimited) {
        mode |= Mode::FLAT;
    }
    mode
}

impl Engine {
    /// Brings up to date what translated code knows of segments. To be called whenever they may have changed.
    pub(super) fn refresh_segments(&mut self) {
        let state = self.state();
        let paragraphs = state.has_paragraphs();
        if state.is_long() {
            self.segment_mode = 0;
            return;
        }
        if self.segment_mode != 0 && self.seen_segments == (state.segments, paragraphs) {
            return;
        }
        let seen = (state.segments, paragraphs);
        let (mode, all) = (bits(state), std::array::from_fn::<_, 6, _>(|number| limits(state, number)));
        self.segment_mode = mode;
        self.seen_segments = seen;
        let frame = self.frame();
        for (number, (load, store)) in all.into_iter().enumerate() {
            (frame.load_limit[number], frame.store_limit[number]) = (load, store);
        }
    }
}

impl Builder<'_> {
    /// Makes the linear address in R10 of the offset in R10, for the access of `site` in the segment of the
    /// instruction's memory operand. RCX and R13 are scratch.
    pub fn segment(&mut self, instruction: &Instruction, site: &mut AccessSite) {
        self.segment_of(instruction.memory_segment().number(), site);
    }

    /// As [`Builder::segment`], for the stack.
    pub fn stack_segment(&mut self, site: &mut AccessSite) {
        self.segment_of(segment::SS, site);
    }

    fn segment_of(&mut self, number: usize, site: &mut AccessSite) {
        if self.mode.long() {
            if number >= segment::FS {
                self.load(host::RCX, segment_base_displacement(number));
                self.lea(host::R10, Some(host::R10), Some((host::RCX, 1)), 0, true);
            }
            return;
        }
        if self.mode.flat() && (ORDINARY.contains(&number) || number == segment::CS && !site.write) {
            return;
        }
        site.segment = Some(number as u8);
        let limits = if site.write { displacement!(store_limit) } else { displacement!(load_limit) };
        self.store(host::R10, displacement!(offset));
        self.load(host::RCX, limits + 8 * number as i32);
        self.copy(host::R13, host::R10);
        self.bytes(&[0x49, 0xf7, 0xd5]); // not r13
        // Limit - offset - (size - 1).
        self.lea(host::RCX, Some(host::RCX), Some((host::R13, 1)), 2 - i32::from(site.size), true);
        self.store(host::RCX, displacement!(room));
        self.bytes(&[0x8b, 0x8c, 0x24]); // mov ecx, [rsp+room+4]
        self.bytes(&(displacement!(room) + 4).to_le_bytes());
        self.bytes(&[0xc4, 0xe3, 0xfb, 0xf0, 0xc9, 16]); // rorx rcx, rcx, 16
        self.load(host::R13, segment_base_displacement(number));
        self.lea(host::R10, Some(host::R10), Some((host::R13, 1)), 0, false);
        self.lea(host::R10, Some(host::R10), Some((host::RCX, 1)), 0, true);
    }

    /// R10 = its low 16 bits.
    pub fn narrow(&mut self) {
        self.bytes(&[0x45, 0x0f, 0xb7, 0xd2]); // movzx r10d, r10w
    }

    /// R10 = the stack pointer plus `by`, as wide as the stack is.
    pub fn stack_pointer(&mut self, by: i32) {
        self.lea(host::R10, Some(host::R15), None, by, self.mode.stack_bits() == 64);
        if self.mode.stack_bits() == 16 {
            self.narrow();
        }
    }

    /// Moves guest RSP, ESP or SP. RCX is scratch.
    pub fn adjust_stack(&mut self, by: i32) {
        match self.mode.stack_bits() {
            64 => self.lea(host::R15, Some(host::R15), None, by, true),
            32 => self.lea(host::R15, Some(host::R15), None, by, false),
            _ => {
                self.lea(host::RCX, Some(host::R15), None, by, false);
                self.bytes(&[0x66, 0x41, 0x89, 0xcf]); // mov r15w, cx
            }
        }
    }
}
