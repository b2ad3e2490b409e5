//! What translated code has taken from the tables and goes on using: the pages of the stack, and what a block has checked
//! (see [`crate::engine::groups`]). It is poisoned when its page is dropped.

use super::Tlb;
use crate::engine::frame::StackPage;

impl Tlb {
    /// What a slot holds changes: so does what was taken from it.
    pub(super) fn forget_stack(&mut self, user: usize, slot: usize) {
        // SAFETY: as in `table`.
        for page in unsafe { &mut (*self.frame).stack[user] } {
            if page.slot == slot as u64 {
                *page = StackPage::EMPTY;
            }
        }
    }

    /// Poisons what a block has checked in the page of a slot, which is about to be dropped, and perhaps more: pages in
    /// a row have one addend.
    pub(super) fn poison(&mut self, user: usize, slot: usize) {
        let addend = self.addends(user)[slot];
        // SAFETY: as in `table`.
        for base in unsafe { &mut (*self.frame).bases } {
            if *base == addend {
                *base = StackPage::EMPTY.addend;
            }
        }
    }

    /// Whether a page that a block has checked may have been dropped since.
    pub fn has_lost(&self, user: bool) -> bool {
        // SAFETY: as in `table`.
        let (stack, bases) = unsafe { (&(*self.frame).stack[usize::from(user)], &(*self.frame).bases) };
        stack.iter().any(|page| page.slot == StackPage::EMPTY.slot) || bases.contains(&StackPage::EMPTY.addend)
    }

    /// Poisons what a block has checked, if many pages have been dropped since this was last called.
    pub fn poison_dropped(&mut self) {
        if std::mem::take(&mut self.dropped) {
            // SAFETY: as in `table`.
            unsafe { (*self.frame).bases = [StackPage::EMPTY.addend; 16] };
        }
    }
}
