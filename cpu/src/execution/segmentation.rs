//! From segment and offset to linear address (APM vol. 2 §4.5, §4.12): bases, limits and types.
//!
//! In 64-bit mode only FS and GS have bases, and an address must be canonical. Elsewhere the hidden parts are checked,
//! and addresses are 32 bits wide. Real and virtual-8086 mode have limits but no types: all may be written. Nothing wraps
//! within an access, not even at 4 GiB of a flat segment.

use crate::exception::Exception;
use crate::paging::is_canonical;
use crate::state::segment::{FS, GS, SS};
use crate::state::{Segment, State};

/// Attribute bit 3: code. Bit 1: code may be read, data may be written.
const CODE: u16 = 1 << 3;
const PERMITS: u16 = 1 << 1;

/// The linear address of `size` (at least 1) bytes at `offset`, already wrapped to the address size, of a segment
/// register.
///
/// # Errors
/// #SS(0) for SS, #GP(0) for the others.
pub fn linear_address(state: &State, segment: usize, offset: u64, size: u32, write: bool) -> Result<u64, Exception> {
    let fault = if segment == SS { Exception::stack(0) } else { Exception::general_protection(0) };
    let loaded = &state.segments[segment];
    if state.is_long() {
        let base = if matches!(segment, FS | GS) { loaded.base } else { 0 };
        let linear = base.wrapping_add(offset);
        let last = linear.wrapping_add(u64::from(size.max(1)) - 1);
        return if is_canonical(linear) && is_canonical(last) { Ok(linear) } else { Err(fault) };
    }
    let permitted = state.has_paragraphs() || permits(loaded, write);
    if permitted { linear_in(loaded, offset, size) } else { None }.ok_or(fault)
}

/// The same within one hidden part, outside 64-bit mode, by its limit alone; `None` where an access does not fit.
pub fn linear_in(segment: &Segment, offset: u64, size: u32) -> Option<u64> {
    let limit = u64::from(segment.limit);
    let last = offset.saturating_add(u64::from(size.max(1)) - 1);
    let fits = if segment.expands_down() { offset > limit && last <= segment.offset_mask() } else { last <= limit };
    fits.then(|| segment.base.wrapping_add(offset) & 0xffff_ffff)
}

/// Bytes from `offset` on that lie within the segment's limit, where the one at `offset` does.
pub fn room(state: &State, segment: usize, offset: u64) -> u64 {
    let loaded = &state.segments[segment];
    if state.is_long() {
        return u64::MAX;
    }
    let last = if loaded.expands_down() { loaded.offset_mask() } else { u64::from(loaded.limit) };
    (last + 1).saturating_sub(offset)
}

/// Whether the type allows a read or a write; null and absent segments allow nothing.
fn permits(segment: &Segment, write: bool) -> bool {
    let code = segment.attributes & CODE != 0;
    let bit = segment.attributes & PERMITS != 0;
    let typed = if code { bit && !write } else { bit || !write };
    typed && segment.attributes & Segment::PRESENT != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{control, rflags, segment};

    fn state(attributes: u16, base: u64, limit: u32) -> State {
        let mut state = State { cr0: control::CR0_PE, ..State::default() };
        state.segments = [Segment { base, limit, attributes, selector: 8 }; 6];
        state
    }

    #[test]
    fn limits_hold_for_the_last_byte() {
        let state = state(0x93, 0x1000, 0xfff);
        assert_eq!(linear_address(&state, segment::DS, 0xffc, 4, true), Ok(0x1ffc));
        assert_eq!(linear_address(&state, segment::DS, 0xffd, 4, false), Err(Exception::general_protection(0)));
        assert_eq!(linear_address(&state, segment::SS, 0xffd, 4, false), Err(Exception::stack(0)));
        assert_eq!(room(&state, segment::DS, 0xffc), 4);
    }

    #[test]
    fn expand_down_is_valid_above_its_limit() {
        let small = state(0x97, 0, 0xfff);
        assert!(linear_address(&small, segment::SS, 0xfff, 1, true).is_err());
        assert_eq!(linear_address(&small, segment::SS, 0x1000, 4, true), Ok(0x1000));
        assert_eq!(linear_address(&small, segment::SS, 0xfffc, 4, true), Ok(0xfffc));
        assert!(linear_address(&small, segment::SS, 0xfffd, 4, true).is_err());
        let big = state(0x97 | Segment::BIG, 0, 0xfff);
        assert_eq!(linear_address(&big, segment::SS, 0xffff_fffc, 4, true), Ok(0xffff_fffc));
        assert!(linear_address(&big, segment::SS, 0xffff_fffd, 4, true).is_err());
    }

    #[test]
    fn types_forbid_what_they_do_not_permit() {
        // Attributes, may be read, may be written.
        let cases =
            [(0x93, true, true), (0x91, true, false), (0x9b, true, false), (0x99, false, false), (0, false, false)];
        for (attributes, readable, writable) in cases {
            let state = state(attributes, 0, 0xffff);
            assert_eq!(linear_address(&state, segment::DS, 0, 1, false).is_ok(), readable, "{attributes:#x}");
            assert_eq!(linear_address(&state, segment::DS, 0, 1, true).is_ok(), writable, "{attributes:#x}");
        }
    }

    #[test]
    fn paragraphs_have_no_types_but_limits() {
        let mut state = state(0x9b, 0xffff0, 0xffff);
        state.cr0 = 0;
        assert_eq!(linear_address(&state, segment::CS, 0xffff, 1, true), Ok(0x10_ffef));
        assert!(linear_address(&state, segment::CS, 0xffff, 2, true).is_err());
        state.cr0 = control::CR0_PE;
        assert!(linear_address(&state, segment::CS, 0, 1, true).is_err());
        state.rflags |= rflags::VM;
        assert!(linear_address(&state, segment::CS, 0, 1, true).is_ok());
    }

    #[test]
    fn addresses_wrap_at_4_gib() {
        let state = state(0xc93, 0xffff_0000, u32::MAX);
        assert_eq!(linear_address(&state, segment::DS, 0x1_2345, 4, true), Ok(0x2345));
        assert_eq!(linear_address(&state, segment::DS, 0xffff_ffff, 1, true), Ok(0xfffe_ffff));
        assert!(linear_address(&state, segment::DS, 0xffff_ffff, 2, true).is_err());
    }
}
