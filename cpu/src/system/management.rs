//! System management mode (APM vol. 2 §10; SDM vol. 3 §31): the state saved at SMBASE + FE00h in AMD64's form, the mode's
//! first instruction, and RSM. I/O instructions are not restarted; SMBASE can be relocated.
//!
//! What the saved image cannot hold (a shadow, a debug trap that waits) does not outlast the mode: the board asks for it
//! between instructions only.

use super::Flow;
use crate::exception::Exception;
use crate::execution::Execution;
use crate::paging::PHYSICAL_BITS;
use crate::state::control::*;
use crate::state::{Segment, State, TableRegister, rflags, segment};

/// Where the mode begins, from SMBASE on.
const ENTRY: u64 = 0x8000;
/// Where its image of the CPU's state is.
const IMAGE: u64 = 0xfe00;
const IMAGE_BYTES: usize = 512;
/// SMBASE relocation, and AMD64's form.
const REVISION: u64 = 0x2_0064;

/// Offsets in the image (APM vol. 2 table 10-1).
mod at {
    /// ES, CS, SS, DS, FS, GS, each 16 bytes: selector, attributes, limit, base.
    pub const SEGMENTS: usize = 0x000;
    pub const GDTR: usize = 0x060;
    pub const LDTR: usize = 0x070;
    pub const IDTR: usize = 0x080;
    pub const TR: usize = 0x090;
    pub const AUTO_HALT: usize = 0x0c9;
    pub const NMI_MASK: usize = 0x0ca;
    pub const CPL: usize = 0x0cb;
    pub const EFER: usize = 0x0d0;
    pub const REVISION: usize = 0x0fc;
    pub const SMBASE: usize = 0x100;
    pub const CR4: usize = 0x148;
    pub const CR3: usize = 0x150;
    pub const CR0: usize = 0x158;
    pub const DR7: usize = 0x160;
    pub const DR6: usize = 0x168;
    pub const RFLAGS: usize = 0x170;
    pub const RIP: usize = 0x178;
    pub const RAX: usize = 0x1f8;
}

/// The saved state as bytes.
struct Image([u8; IMAGE_BYTES]);

impl Image {
    fn put(&mut self, at: usize, bytes: usize, value: u64) {
        self.0[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    }

    fn get(&self, at: usize, bytes: usize) -> u64 {
        let mut value = [0; 8];
        value[..bytes].copy_from_slice(&self.0[at..at + bytes]);
        u64::from_le_bytes(value)
    }

    /// Attributes stand as in a descriptor: the upper four bits come last.
    fn put_segment(&mut self, at: usize, segment: &Segment) {
        let Segment { base, limit, attributes, selector } = *segment;
        self.put(at, 2, selector.into());
        self.put(at + 2, 2, u64::from(attributes & 0xff | (attributes & 0xf00) << 4));
        self.put(at + 4, 4, limit.into());
        self.put(at + 8, 8, base);
    }

    fn segment(&self, at: usize) -> Segment {
        let attributes = self.get(at + 2, 2) as u16;
        Segment {
            selector: self.get(at, 2) as u16,
            attributes: attributes & 0xff | (attributes & 0xf000) >> 4,
            limit: self.get(at + 4, 4) as u32,
            base: self.get(at + 8, 8),
        }
    }

    fn put_table(&mut self, at: usize, table: &TableRegister) {
        self.put(at + 4, 2, table.limit.into());
        self.put(at + 8, 8, table.base);
    }

    fn table(&self, at: usize) -> TableRegister {
        TableRegister { limit: self.get(at + 4, 2) as u16, base: self.get(at + 8, 8) }
    }

    fn of(state: &State) -> Image {
        let mut image = Image([0; IMAGE_BYTES]);
        for (number, segment) in state.segments.iter().enumerate() {
            image.put_segment(at::SEGMENTS + 16 * number, segment);
        }
        image.put_segment(at::LDTR, &state.ldtr);
        image.put_segment(at::TR, &state.tr);
        image.put_table(at::GDTR, &state.gdtr);
        image.put_table(at::IDTR, &state.idtr);
        for (number, value) in state.gpr.iter().enumerate() {
            image.put(at::RAX - 8 * number, 8, *value);
        }
        let words = [
            (at::EFER, state.efer),
            (at::CR4, state.cr4),
            (at::CR3, state.cr3),
            (at::CR0, state.cr0),
            (at::DR7, state.dr[7]),
            (at::DR6, state.dr[6]),
            (at::RFLAGS, state.rflags),
            (at::RIP, state.rip),
        ];
        words.into_iter().for_each(|(at, value)| image.put(at, 8, value));
        image.put(at::AUTO_HALT, 1, state.halted.into());
        image.put(at::NMI_MASK, 1, state.nmi_blocked.into());
        image.put(at::CPL, 1, state.cpl.into());
        image.put(at::REVISION, 4, REVISION);
        image.put(at::SMBASE, 4, state.smbase.into());
        image
    }

    /// The state that RSM goes back to; `None` where it is none.
    fn restore(&self, old: &State) -> Option<State> {
        let mut state = old.clone();
        for (number, segment) in state.segments.iter_mut().enumerate() {
            *segment = self.segment(at::SEGMENTS + 16 * number);
        }
        (state.ldtr, state.tr) = (self.segment(at::LDTR), self.segment(at::TR));
        (state.gdtr, state.idtr) = (self.table(at::GDTR), self.table(at::IDTR));
        for (number, value) in state.gpr.iter_mut().enumerate() {
            *value = self.get(at::RAX - 8 * number, 8);
        }
        (state.cr0, state.cr3, state.cr4) = (self.get(at::CR0, 8), self.get(at::CR3, 8), self.get(at::CR4, 8));
        (state.efer, state.rip) = (self.get(at::EFER, 8), self.get(at::RIP, 8));
        state.dr[6] = self.get(at::DR6, 8) & 0xe00f | 0xffff_0ff0;
        state.dr[7] = self.get(at::DR7, 8) & 0xffff_2bff | 0x400;
        state.rflags = self.get(at::RFLAGS, 8) & 0x3f_7fd5 | rflags::FIXED;
        state.cpl = self.get(at::CPL, 1) as u8;
        state.halted = self.get(at::AUTO_HALT, 1) & 1 != 0;
        state.nmi_blocked = self.get(at::NMI_MASK, 1) & 1 != 0;
        state.smbase = self.get(at::SMBASE, 4) as u32;
        (state.smm, state.interrupt_shadow, state.debug_shadow, state.debug_pending) = (false, false, false, 0);
        is_consistent(&state).then_some(state)
    }
}

/// What no sequence of instructions could have led to shuts the CPU down.
fn is_consistent(state: &State) -> bool {
    let (paging, protected) = (state.cr0 & CR0_PG != 0, state.cr0 & CR0_PE != 0);
    let long = state.efer & EFER_LMA != 0;
    let code = &state.segments[segment::CS];
    let rip = if state.is_long() { crate::paging::is_canonical(state.rip) } else { state.rip >> 32 == 0 };
    state.cr0 & !super::control_registers::CR0_DEFINED == 0
        && (protected || !paging)
        && state.cr0 & (CR0_NW | CR0_CD) != CR0_NW
        && state.cr4 & !super::control_registers::CR4_DEFINED == 0
        && state.cr3 >> PHYSICAL_BITS == 0
        && state.efer & !(super::msr::EFER_WRITABLE | EFER_LMA) == 0
        && long == (paging && state.efer & EFER_LME != 0)
        && (!long || state.cr4 & CR4_PAE != 0)
        && !(state.is_long() && code.attributes & Segment::BIG != 0)
        && state.cpl < 4
        && (state.cpl == 0 || protected)
        && (!state.is_virtual_8086() || state.cpl == 3)
        && rip
}

/// Enters the mode, between two instructions. A halted CPU is halted again afterwards.
pub fn enter(x: &mut Execution) {
    let image = Image::of(x.state);
    x.state.smm = true;
    x.memory.set_management_mode(true);
    let base = u64::from(x.state.smbase);
    x.memory.store(base + IMAGE, &image.0);
    let state = &mut *x.state;
    let data = Segment { base: 0, limit: u32::MAX, attributes: 0x893, selector: 0 };
    state.segments = [data; 6];
    state.segments[segment::CS] = Segment { base, selector: (base >> 4) as u16, ..data };
    state.cr0 &= !(CR0_PE | CR0_EM | CR0_TS | CR0_PG);
    (state.cr4, state.efer, state.dr[7]) = (0, 0, 0x400);
    (state.rflags, state.rip, state.cpl) = (rflags::FIXED, ENTRY, 0);
    (state.halted, state.nmi_blocked) = (false, true);
    (state.interrupt_shadow, state.debug_shadow, state.debug_pending) = (false, false, 0);
}

/// RSM.
///
/// # Errors
/// #UD outside of the mode; a state that is none shuts down.
pub fn resume(x: &mut Execution) -> Result<Flow, Exception> {
    if !x.state.smm {
        return Err(Exception::invalid_opcode());
    }
    let mut image = Image([0; IMAGE_BYTES]);
    x.memory.read(u64::from(x.state.smbase) + IMAGE, &mut image.0);
    let Some(state) = image.restore(x.state) else {
        // Nothing can be delivered: a triple fault.
        x.state.idtr.limit = 0;
        return Err(Exception::invalid_opcode());
    };
    *x.state = state;
    x.memory.set_management_mode(false);
    // The board may have another request waiting.
    x.device = true;
    Ok(Flow::Jump)
}
