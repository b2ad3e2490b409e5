//! Causes, mask and throttling (manual §3.5, §13.4.17 to 13.4.22), and the timers that delay receive and transmit
//! interrupts (§13.4.30, §13.4.46), all in virtual time.

use super::registers::{CAUSES, ICR_RXT0, ICR_TXDW};
use crate::state::saved;

/// ITR counts these.
const THROTTLE_NS: u64 = 256;
/// RDTR, RADV, TIDV and TADV count these.
const DELAY_NS: u64 = 1024;

/// A pair of timers: one that each packet starts anew, and one that the first of them starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// RDTR or TIDV.
    pub packet: u32,
    /// RADV or TADV.
    pub absolute: u32,
    packet_due: Option<u64>,
    absolute_due: Option<u64>,
}
saved!(Delay { packet, absolute, packet_due, absolute_due });

impl Delay {
    /// A packet came or went. True: no delay is asked for.
    fn start(&mut self, now_ns: u64) -> bool {
        if self.packet == 0 {
            return true;
        }
        self.packet_due = Some(now_ns.saturating_add(u64::from(self.packet) * DELAY_NS));
        if self.absolute != 0 && self.absolute_due.is_none() {
            self.absolute_due = Some(now_ns.saturating_add(u64::from(self.absolute) * DELAY_NS));
        }
        false
    }

    fn deadline(&self) -> Option<u64> {
        [self.packet_due, self.absolute_due].into_iter().flatten().min()
    }

    fn stop(&mut self) {
        (self.packet_due, self.absolute_due) = (None, None);
    }

    /// True if it was due.
    fn expire(&mut self, now_ns: u64) -> bool {
        let due = self.deadline().is_some_and(|due| due <= now_ns);
        if due {
            self.stop();
        }
        due
    }
}

/// The interrupt logic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interrupts {
    icr: u32,
    ims: u32,
    itr: u32,
    /// The level of INTA#.
    asserted: bool,
    /// It may not rise before.
    quiet_until: u64,
    /// Receive timers.
    pub receive: Delay,
    /// Transmit timers.
    pub transmit: Delay,
}
saved!(Interrupts { icr, ims, itr, asserted, quiet_until, receive, transmit });

impl Interrupts {
    /// INTA# is asserted.
    pub fn line(&self) -> bool {
        self.asserted
    }

    /// ITR.
    pub fn itr(&self) -> u32 {
        self.itr
    }

    /// Sets the least time between two interrupts.
    pub fn set_itr(&mut self, value: u32, now_ns: u64) {
        self.itr = value & 0xffff;
        if self.itr == 0 {
            self.quiet_until = 0;
        }
        self.update(now_ns);
    }

    /// Reads ICR, which clears it.
    pub fn take_icr(&mut self, now_ns: u64) -> u32 {
        let causes = std::mem::take(&mut self.icr);
        self.update(now_ns);
        causes
    }

    /// Writes ICR: ones clear.
    pub fn clear(&mut self, causes: u32, now_ns: u64) {
        self.icr &= !causes;
        self.update(now_ns);
    }

    /// ICS, and every cause.
    pub fn raise(&mut self, causes: u32, now_ns: u64) {
        self.icr |= causes & CAUSES;
        self.update(now_ns);
    }

    /// A packet was received.
    pub fn received(&mut self, now_ns: u64) {
        if self.receive.start(now_ns) {
            self.raise(ICR_RXT0, now_ns);
        }
    }

    /// RDTR with its topmost bit: do not wait any longer.
    pub fn flush_receive(&mut self, now_ns: u64) {
        if self.receive.deadline().is_some() {
            self.receive.stop();
            self.raise(ICR_RXT0, now_ns);
        }
    }

    /// A descriptor that asked for a report was sent; `delay` if it bears with a late one.
    pub fn sent(&mut self, delay: bool, now_ns: u64) {
        if !delay || self.transmit.start(now_ns) {
            self.transmit.stop();
            self.raise(ICR_TXDW, now_ns);
        }
    }

    /// IMS.
    pub fn mask(&self) -> u32 {
        self.ims
    }

    /// Writes IMS: ones enable.
    pub fn enable(&mut self, causes: u32, now_ns: u64) {
        self.ims |= causes & CAUSES;
        self.update(now_ns);
    }

    /// Writes IMC: ones disable.
    pub fn disable(&mut self, causes: u32, now_ns: u64) {
        self.ims &= !causes;
        self.update(now_ns);
    }

    fn pending(&self) -> bool {
        self.icr & self.ims != 0
    }

    fn update(&mut self, now_ns: u64) {
        if !self.pending() {
            self.asserted = false;
        } else if !self.asserted && now_ns >= self.quiet_until {
            self.asserted = true;
            self.quiet_until = now_ns.saturating_add(u64::from(self.itr) * THROTTLE_NS);
        }
    }

    /// When something becomes due by itself.
    pub fn deadline(&self) -> Option<u64> {
        let throttled = (self.pending() && !self.asserted).then_some(self.quiet_until);
        [throttled, self.receive.deadline(), self.transmit.deadline()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ns: u64) {
        if self.receive.expire(now_ns) {
            self.icr |= ICR_RXT0;
        }
        if self.transmit.expire(now_ns) {
            self.icr |= ICR_TXDW;
        }
        self.update(now_ns);
    }
}
