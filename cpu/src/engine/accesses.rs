//! Memory accesses that translated code's look-ups did not find: walked, watched, and made on the bounce buffer where they
//! cross pages, meet devices or pages that something is derived from.
#![allow(unsafe_code)]

use super::options::Optimisation;
use super::sites::AccessSite;
use super::{Bounce, Engine, Exit};
use crate::exception::Exception;
use crate::execution::linear_address;
use crate::memory::{CODE, PAGE, TABLE};
use crate::paging::{self, Access, Translation};

impl Engine {
    /// The linear address of the access, seen to by all rules of segments.
    fn linear_of_access(&mut self, site: &AccessSite) -> Result<u64, Exception> {
        if let Some(number) = site.segment {
            let offset = self.frame().offset;
            let linear = linear_address(self.state(), usize::from(number), offset, u32::from(site.size), site.write)?;
            self.frame().address = linear;
        }
        Ok(self.frame().address)
    }

    pub(super) fn slow_access(&mut self, site: &AccessSite) -> u32 {
        let linear = match self.linear_of_access(site) {
            Ok(linear) => linear,
            Err(exception) => return self.abort(site.block, site.index, Exit::Raised(exception)),
        };
        // What has no segment to check is flat: nothing wraps at 4 GiB there either.
        if self.segment_mode != 0 && site.segment.is_none() && linear + u64::from(site.size) > 1 << 32 {
            let exception = if site.stack { Exception::stack(0) } else { Exception::general_protection(0) };
            return self.abort(site.block, site.index, Exit::Raised(exception));
        }
        let user = self.block(site.block).mode.user();
        let isolated = self.block(site.block).mode.isolated();
        if site.aligned && !linear.is_multiple_of(u64::from(site.size)) {
            let pending = self.has_pending_x87(site);
            let exception = if pending { Exception::x87_floating_point() } else { Exception::general_protection(0) };
            return self.abort(site.block, site.index, Exit::Raised(exception));
        }
        let access = Access { write: site.write, user, fetch: false };
        let (found, pieces) = match self.translate_access(linear, site.size as usize, access) {
            Ok(found) => found,
            Err(exception) => {
                let pending = self.has_pending_x87(site);
                let exception = match exception.vector {
                    _ if pending => Exception::x87_floating_point(),
                    13 if site.stack => Exception::stack(0),
                    _ => exception,
                };
                return self.abort(site.block, site.index, Exit::Raised(exception));
            }
        };
        let watched = match self.look_at(site, linear, user, isolated) {
            Ok(watched) => watched,
            Err(exit) => return self.abort(site.block, site.index, exit),
        };
        let mut tracked = 0;
        let mut code = false;
        let mut ram = true;
        for &(physical, length) in pieces.physical.iter().take(pieces.pieces) {
            match self.memory.page_of(physical) {
                Some(page) if !site.write || self.memory.is_writable(page) => {
                    tracked |= self.memory.flags(page) & (CODE | TABLE);
                    code |= self.memory.holds_code(page, physical, length);
                }
                _ => ram = false,
            }
        }
        let fills = ram && (!site.write || tracked == 0);
        if fills && !watched && pieces.pieces == 1 && self.optimisations.has(Optimisation::InlineLookup) {
            self.tlb.fill(&mut self.memory, user, linear, &found, site.write);
            // A walk that set bits in a page with code must be followed up before anything else runs.
            if !self.memory.has_touched() {
                return self.resume_at(site.block, site.retry);
            }
        }
        let beside = ram && !code && (tracked & TABLE == 0 || self.may_change(&pieces));
        if isolated || fills || beside || (ram && !code && site.plain) {
            return self.start_bounce(site, linear, pieces);
        }
        self.abort(site.block, site.index, Exit::Isolate)
    }

    fn translate_access(
        &mut self,
        linear: u64,
        size: usize,
        access: Access,
    ) -> Result<(Translation, Bounce), Exception> {
        // SAFETY: the state lives in the frame, apart from the memory borrowed here.
        let state = unsafe { &(*self.mapping.get()).state };
        if self.segment_mode == 0 && !paging::is_canonical(linear.wrapping_add(size as u64 - 1)) {
            return Err(Exception::general_protection(0));
        }
        self.tally.walks += 1;
        let found = paging::walk(&mut self.memory, state, linear, access)?;
        let first = size.min((PAGE - linear % PAGE) as usize);
        let mut bounce = Bounce { physical: [(found.physical, first), (0, 0)], pieces: 1, host: 0 };
        if first < size {
            let next = self.next_page(linear);
            bounce.physical[1] = (paging::walk(&mut self.memory, state, next, access)?.physical, size - first);
            bounce.pieces = 2;
        }
        Ok((found, bounce))
    }

    /// Brings the bytes to the bounce buffer, at the guest's alignment, and runs the operation there.
    fn start_bounce(&mut self, site: &AccessSite, linear: u64, mut bounce: Bounce) -> u32 {
        let base = (self.frame().bounce.as_ptr() as u64).next_multiple_of(64);
        bounce.host = base + linear % 64;
        let now = self.now(site.block, site.index);
        let mut bytes = [0u8; 64];
        if site.read {
            let pieces = bounce;
            self.execution_at(now, |x| {
                let mut done = 0;
                for &(physical, length) in &pieces.physical[..pieces.pieces] {
                    x.read_physical(physical, &mut bytes[done..done + length]);
                    done += length;
                }
            });
        }
        // SAFETY: the bounce buffer has 256 bytes; at most 63 + 63 + 64 are used.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), bounce.host as *mut u8, site.size as usize) };
        self.bounce = bounce;
        self.frame().addend = bounce.host.wrapping_sub(linear);
        self.resume_at(site.block, site.bounce)
    }

    /// The operation of a store on the bounce buffer is done: its result goes to memory.
    pub(super) fn commit(&mut self, site: &AccessSite) -> u32 {
        let bounce = self.bounce;
        let mut bytes = [0u8; 64];
        // SAFETY: as in `start_bounce`.
        unsafe { std::ptr::copy_nonoverlapping(bounce.host as *const u8, bytes.as_mut_ptr(), site.size as usize) };
        let isolated = self.block(site.block).mode.isolated();
        let head = bounce.physical[0].1;
        let touches = self.memory.would_touch(bounce.physical[0].0, &bytes[..head])
            || bounce.pieces == 2 && self.memory.would_touch(bounce.physical[1].0, &bytes[head..site.size as usize]);
        if !isolated && touches && !self.may_change(&bounce) {
            return self.abort(site.block, site.index, Exit::Isolate);
        }
        let now = self.now(site.block, site.index);
        self.execution_at(now, |x| {
            let mut done = 0;
            for &(physical, length) in &bounce.physical[..bounce.pieces] {
                x.write_physical(physical, &bytes[done..done + length]);
                done += length;
            }
        });
        if !isolated {
            self.drop_stale();
        }
        self.resume_at(site.block, site.after)
    }

    /// Whether table entries may change in the middle of a block: what is derived from them is data's.
    fn may_change(&self, pieces: &Bounce) -> bool {
        let mut all = pieces.physical[..pieces.pieces].iter();
        [Optimisation::TablesInPlace, Optimisation::FetchCache].iter().all(|&one| self.optimisations.has(one))
            && all.all(|&(physical, length)| {
                let Some(page) = self.memory.page_of(physical) else { return false };
                !self.memory.holds_code(page, physical, length)
                    && self.tlb.maps_only_data(&self.memory, physical, length as u32)
            })
    }
}
