//! Segment descriptors: fetching, checking and loading them into hidden parts (APM vol. 2 §4.5-4.10).
//!
//! Every check comes before any register changes; the accessed bit is written to the descriptor last. In real and
//! virtual-8086 mode a selector is a paragraph number (APM vol. 2 §1.2.4, §2.2.4).

use crate::exception::Exception;
use crate::execution::Execution;
use crate::state::{Segment, segment};

/// An error-code exception by its constructor, so that callers choose #GP, #TS, ...
pub type Raise = fn(u32) -> Exception;

/// A descriptor as found in a table.
#[derive(Clone, Copy, Debug)]
pub struct Descriptor {
    /// Linear address of its first byte.
    pub address: u64,
    /// Its eight bytes; for system descriptors in long mode the lower half.
    pub low: u64,
    /// The upper eight bytes of a system descriptor, otherwise zero.
    pub high: u64,
}

impl Descriptor {
    /// Type field, 0 to 15.
    pub fn kind(&self) -> u8 {
        (self.low >> 40 & 15) as u8
    }

    /// S bit: code or data, not a system descriptor.
    pub fn is_user(&self) -> bool {
        self.low >> 44 & 1 != 0
    }

    /// Code segment.
    pub fn is_code(&self) -> bool {
        self.is_user() && self.kind() & 8 != 0
    }

    /// Conforming code segment.
    pub fn is_conforming(&self) -> bool {
        self.is_code() && self.kind() & 4 != 0
    }

    /// Data segment that may be written.
    pub fn is_writable_data(&self) -> bool {
        self.is_user() && self.kind() & 0b1010 == 0b0010
    }

    /// Data, or code that may be read.
    pub fn is_readable(&self) -> bool {
        self.is_user() && (self.kind() & 8 == 0 || self.kind() & 2 != 0)
    }

    /// Descriptor privilege level, 0 to 3.
    pub fn dpl(&self) -> u8 {
        (self.low >> 45 & 3) as u8
    }

    /// P bit.
    pub fn is_present(&self) -> bool {
        self.low >> 47 & 1 != 0
    }

    /// L bit.
    pub fn is_long(&self) -> bool {
        self.low >> 53 & 1 != 0
    }

    /// D/B bit.
    pub fn is_big(&self) -> bool {
        self.low >> 54 & 1 != 0
    }

    /// Byte limit with granularity applied.
    pub fn limit(&self) -> u32 {
        let limit = (self.low & 0xffff | self.low >> 32 & 0xf_0000) as u32;
        if self.low >> 55 & 1 != 0 { limit << 12 | 0xfff } else { limit }
    }

    /// The hidden part this makes, under the given visible selector.
    pub fn segment(&self, selector: u16) -> Segment {
        let base = self.low >> 16 & 0xff_ffff | self.low >> 32 & 0xff00_0000 | self.high << 32;
        let attributes = (self.low >> 40 & 0xff | self.low >> 44 & 0xf00) as u16;
        Segment { base, limit: self.limit(), attributes, selector }
    }

    /// Target selector of a gate.
    pub fn gate_selector(&self) -> u16 {
        (self.low >> 16) as u16
    }

    /// Target offset of a gate: 16 bits in a 286's gate, 64 in one of 16 bytes.
    pub fn gate_offset(&self) -> u64 {
        let middle = if self.is_wide() { self.low >> 32 & 0xffff_0000 } else { 0 };
        self.low & 0xffff | middle | self.high << 32
    }

    /// Call, interrupt and trap gates and TSSs: not a 286's.
    pub fn is_wide(&self) -> bool {
        self.kind() & 8 != 0
    }
}

/// Whether a selector is null, whatever its RPL.
pub fn is_null(selector: u16) -> bool {
    selector & 0xfffc == 0
}

/// The error code that names a selector.
pub fn error_code(selector: u16) -> u32 {
    u32::from(selector & 0xfffc)
}

/// Requested privilege level of a selector.
pub fn rpl(selector: u16) -> u8 {
    (selector & 3) as u8
}

/// The linear address of a byte of a descriptor table or TSS: outside long mode it has 32 bits.
pub fn table_address(x: &Execution, base: u64, offset: u64) -> u64 {
    let linear = base.wrapping_add(offset);
    if x.state.is_long_active() { linear } else { linear & 0xffff_ffff }
}

/// Reads the descriptor a selector names from the GDT or LDT. System descriptors take 16 bytes in long mode.
///
/// # Errors
/// `raise` with the selector when it lies beyond the table; #PF.
pub fn fetch(x: &mut Execution, selector: u16, raise: Raise) -> Result<Descriptor, Exception> {
    let (base, limit) = table_of(x, selector, raise)?;
    let offset = u32::from(selector & 0xfff8);
    if offset + 7 > limit {
        return Err(raise(error_code(selector)));
    }
    let address = table_address(x, base, u64::from(offset));
    let low = x.read_system(address, 8)?;
    let mut descriptor = Descriptor { address, low, high: 0 };
    if !descriptor.is_user() && x.state.is_long_active() {
        if offset + 15 > limit {
            return Err(raise(error_code(selector)));
        }
        descriptor.high = x.read_system(address.wrapping_add(8), 8)?;
    }
    Ok(descriptor)
}

fn table_of(x: &Execution, selector: u16, raise: Raise) -> Result<(u64, u32), Exception> {
    if selector & 4 == 0 {
        return Ok((x.state.gdtr.base, u32::from(x.state.gdtr.limit)));
    }
    let ldtr = &x.state.ldtr;
    if ldtr.attributes & Segment::PRESENT == 0 {
        return Err(raise(error_code(selector)));
    }
    Ok((ldtr.base, ldtr.limit))
}

/// Sets the accessed bit in the table, if it is clear, and returns the hidden part with it.
pub fn access(x: &mut Execution, descriptor: &Descriptor, selector: u16) -> Result<Segment, Exception> {
    if descriptor.kind() & 1 == 0 {
        let byte = descriptor.low >> 40 & 0xff | 1;
        let at = table_address(x, descriptor.address, 5);
        x.write_system(at, 1, byte)?;
    }
    let mut loaded = descriptor.segment(selector);
    loaded.attributes |= 1;
    Ok(loaded)
}

/// A null segment register: no base, no rights (CPUID 8000_0021h EAX bit 6 promises the cleared base).
pub fn null(selector: u16) -> Segment {
    Segment { selector, ..Segment::default() }
}

/// Checks and prepares a stack segment for privilege level `cpl`.
///
/// # Errors
/// `raise`, #SS when not present, #PF.
pub fn stack_segment(x: &mut Execution, selector: u16, cpl: u8, raise: Raise) -> Result<Segment, Exception> {
    let error = error_code(selector);
    let descriptor = fetch(x, selector, raise)?;
    if rpl(selector) != cpl || !descriptor.is_writable_data() || descriptor.dpl() != cpl {
        return Err(raise(error));
    }
    if !descriptor.is_present() {
        return Err(Exception::stack(error));
    }
    access(x, &descriptor, selector)
}

/// Loads ES, SS, DS, FS or GS as MOV, POP and Lxx do.
///
/// # Errors
/// #GP, #NP, #SS, #PF; the register is then unchanged.
pub fn load(x: &mut Execution, register: usize, selector: u16) -> Result<(), Exception> {
    let loaded = if x.state.has_paragraphs() {
        paragraph(x, register, selector)
    } else if register == segment::SS {
        load_stack(x, selector)?
    } else {
        data_segment(x, selector, Exception::general_protection)?
    };
    x.state.segments[register] = loaded;
    Ok(())
}

/// The hidden part in real and virtual-8086 mode. Real mode keeps limit and attributes as they are, so that limits of
/// 4 GiB outlast protected mode; a null segment left by it becomes an ordinary one.
pub fn paragraph(x: &Execution, register: usize, selector: u16) -> Segment {
    let base = u64::from(selector) << 4;
    if x.state.is_virtual_8086() {
        return virtual_8086(selector);
    }
    let old = x.state.segments[register];
    if old.attributes & Segment::PRESENT == 0 {
        return Segment { base, limit: 0xffff, attributes: 0x93, selector };
    }
    Segment { base, selector, ..old }
}

/// The hidden part that every segment register has in virtual-8086 mode.
pub fn virtual_8086(selector: u16) -> Segment {
    Segment { base: u64::from(selector) << 4, limit: 0xffff, attributes: 0xf3, selector }
}

fn load_stack(x: &mut Execution, selector: u16) -> Result<Segment, Exception> {
    if is_null(selector) {
        let allowed = x.state.is_long() && x.state.cpl < 3 && rpl(selector) == x.state.cpl;
        return if allowed { Ok(null(selector)) } else { Err(Exception::general_protection(0)) };
    }
    stack_segment(x, selector, x.state.cpl, Exception::general_protection)
}

/// Checks and prepares a segment for ES, DS, FS or GS.
///
/// # Errors
/// `raise`, #NP, #PF.
pub fn data_segment(x: &mut Execution, selector: u16, raise: Raise) -> Result<Segment, Exception> {
    if is_null(selector) {
        return Ok(null(selector));
    }
    let error = error_code(selector);
    let descriptor = fetch(x, selector, raise)?;
    let privileged = !descriptor.is_conforming() && descriptor.dpl() < x.state.cpl.max(rpl(selector));
    if !descriptor.is_readable() || privileged {
        return Err(raise(error));
    }
    if !descriptor.is_present() {
        return Err(Exception::segment_not_present(error));
    }
    access(x, &descriptor, selector)
}

/// After a return to an outer level: data segments that level may not use become null (APM vol. 2 §4.7.2).
pub fn drop_inner(x: &mut Execution) {
    for register in [segment::ES, segment::DS, segment::FS, segment::GS] {
        let loaded = &mut x.state.segments[register];
        let conforming = loaded.attributes & 0b1_1100 == 0b1_1100;
        if !is_null(loaded.selector) && !conforming && loaded.dpl() < x.state.cpl {
            *loaded = null(0);
        }
    }
}

/// Flat code as SYSCALL, SYSRET and far transfers in 64-bit mode set it: `long` 64-bit, otherwise 32-bit.
pub fn flat_code(selector: u16, dpl: u8, long: bool) -> Segment {
    let size = if long { Segment::LONG } else { Segment::BIG };
    Segment { base: 0, limit: u32::MAX, attributes: 0x89b | size | u16::from(dpl) << 5, selector }
}

/// Flat writable data.
pub fn flat_data(selector: u16, dpl: u8) -> Segment {
    Segment { base: 0, limit: u32::MAX, attributes: 0xc93 | u16::from(dpl) << 5, selector }
}
