//! What must be looked at one by one: instructions and data in pages with breakpoints, data of a program whose alignment is
//! checked. Translated code knows nothing of it: such pages are in no table it looks into. Nothing armed costs nothing.

use super::sites::AccessSite;
use super::{Engine, Exit};
use crate::exception::Exception;
use crate::state::{State, rflags};
use crate::system::debug;

/// ES in the low byte of the x87 status word.
const EXCEPTION_SUMMARY: u8 = 1 << 7;
/// No page begins here.
const NONE: u64 = u64::MAX;
const PAGE_MASK: u64 = !(crate::memory::PAGE - 1);

/// What is looked at, as the registers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watch {
    code: [u64; 4],
    data: [u64; 4],
    alignment: bool,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch { code: [NONE; 4], data: [NONE; 4], alignment: false }
    }
}

impl Watch {
    fn of(state: &State) -> Watch {
        let pages = |addresses: [Option<u64>; 4]| addresses.map(|one| one.map_or(NONE, |address| address & PAGE_MASK));
        Watch {
            code: pages(debug::code_addresses(state)),
            data: pages(debug::data_addresses(state)),
            alignment: debug::checks_alignment(state),
        }
    }

    fn has_code(&self) -> bool {
        self.code != [NONE; 4]
    }

    /// Whether an access must be looked at.
    pub fn covers(&self, user: bool, linear: u64) -> bool {
        user && self.alignment || self.data.contains(&(linear & PAGE_MASK))
    }
}

impl Engine {
    /// Brings what is watched up to date; tells whether it has changed. To be called whenever registers may have.
    pub(super) fn refresh_watch(&mut self) -> bool {
        let (state, old) = (self.state(), self.tlb.watch);
        let anything = debug::is_armed(state) || debug::checks_alignment(state);
        if !anything && old == Watch::default() {
            return false;
        }
        let new = Watch::of(state);
        if (new.code, new.data) != (old.code, old.data) {
            self.tlb.flush(&mut self.memory);
        } else if new.alignment && !old.alignment {
            self.tlb.close_to_user();
        }
        self.tlb.watch = new;
        new != old
    }

    /// Whether the instruction at RIP must be looked at.
    pub(super) fn watches_instruction(&self) -> bool {
        let watch = &self.tlb.watch;
        let state = self.state();
        watch.has_code()
            && (state.rflags & rflags::RF != 0 || watch.code.contains(&(self.linear_of(state.rip) & PAGE_MASK)))
    }

    /// The breakpoints at RIP, which RF suppresses for one instruction; so it is used up.
    pub(super) fn instruction_hits(&mut self) -> u16 {
        let linear = self.linear_of(self.state().rip);
        let state = self.state_mut();
        if state.rflags & rflags::RF != 0 || state.interrupt_shadow && state.debug_shadow {
            state.rflags &= !rflags::RF;
            return 0;
        }
        debug::code_hits(state, linear)
    }

    /// A repetition that goes on later must not meet its own breakpoint again.
    pub(super) fn note_repetition(&mut self) {
        if self.tlb.watch.has_code() {
            self.state_mut().rflags |= rflags::RF;
        }
    }

    /// An x87 exception that comes before any fault of the access.
    pub(super) fn has_pending_x87(&self, site: &AccessSite) -> bool {
        site.x87 && self.state().fx.0[2] & EXCEPTION_SUMMARY != 0
    }

    /// Looks at an access that the page tables allow: whether the next one to this page must come here again, or how
    /// the block is left. What matches a breakpoint runs alone, so that the trap comes right behind it.
    pub(super) fn look_at(&mut self, site: &AccessSite, linear: u64, user: bool, isolated: bool) -> Result<bool, Exit> {
        let watch = self.tlb.watch;
        let last = linear.wrapping_add(u64::from(site.size) - 1);
        if !watch.covers(user, linear) && !watch.covers(user, last) {
            return Ok(false);
        }
        if watch.alignment && debug::is_misaligned(linear, usize::from(site.size)) {
            let pending = self.has_pending_x87(site);
            let exception = if pending { Exception::x87_floating_point() } else { Exception::alignment_check(0) };
            return Err(Exit::Raised(exception));
        }
        let hits = debug::data_hits(self.state(), linear, u64::from(site.size), site.write);
        if hits != 0 && !isolated {
            return Err(Exit::Isolate);
        }
        self.state_mut().debug_pending |= hits;
        Ok(true)
    }

    /// Raises the debug traps that wait, unless MOV SS holds them off. What their own delivery matches is lost.
    pub(super) fn raise_debug(&mut self) {
        let state = self.state_mut();
        if state.debug_pending == 0 || state.interrupt_shadow && state.debug_shadow {
            return;
        }
        state.dr[6] |= u64::from(state.debug_pending);
        self.raise(Exception::debug());
        self.state_mut().debug_pending = 0;
    }
}
