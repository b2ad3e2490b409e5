//! The high precision event timer: a 64-bit counter of virtual time and three comparators (IA-PC HPET specification
//! 1.0a chapter 2).
//!
//! The counter runs at 100 MHz and is computed, not counted. A comparator matches on equality, so one that is already
//! behind waits for the counter to come round. There are no front side bus messages.

use crate::state::saved;

/// First address of the registers.
pub const BASE: u64 = 0xfed0_0000;
/// Bytes of registers.
pub const BYTES: u64 = 0x400;
/// GCAP_ID's low half: vendor 8086h, legacy replacement, a 64-bit counter, three comparators, revision 1.
pub const BLOCK_ID: u32 = 0x8086_a201;
/// The shortest period that makes sense, in ticks.
pub const MINIMUM_TICK: u16 = 100;

const TIMERS: usize = 3;
const TICK_NS: u64 = 10;
const PERIOD_FEMTOSECONDS: u64 = TICK_NS * 1_000_000;

const GCAP_ID: u64 = 0x000;
const GEN_CONF: u64 = 0x010;
const GINTR_STA: u64 = 0x020;
const MAIN_CNT: u64 = 0x0f0;
const TIMER_0: u64 = 0x100;
const TIMER_BYTES: u64 = 0x20;
const CONFIGURATION: u64 = 0x00;
const COMPARATOR: u64 = 0x08;

const ENABLE: u64 = 1 << 0;
const LEGACY: u64 = 1 << 1;

const LEVEL: u64 = 1 << 1;
const INTERRUPT_ENABLE: u64 = 1 << 2;
const PERIODIC: u64 = 1 << 3;
const VALUE_SET: u64 = 1 << 6;
const MODE_32: u64 = 1 << 8;
/// Level, interrupt enable, type, value set, 32-bit mode, route.
const WRITABLE: u64 = LEVEL | INTERRUPT_ENABLE | PERIODIC | VALUE_SET | MODE_32 | 0x1f << 9;
/// Periodic mode can be chosen, 64 bits wide, interrupts 20-23 of the I/O APIC.
const CAPABILITIES: u64 = 1 << 4 | 1 << 5 | 0x00f0_0000 << 32;

/// One comparator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Timer {
    configuration: u64,
    comparator: u64,
    period: u64,
    /// The line: of an edge-triggered timer it stays up after a match.
    high: bool,
    /// It has matched since the line was last carried on.
    rose: bool,
}
saved!(Timer { configuration, comparator, period, high, rose });

impl Timer {
    fn mask(&self) -> u64 {
        if self.configuration & MODE_32 != 0 { u64::from(u32::MAX) } else { u64::MAX }
    }

    fn is(&self, bit: u64) -> bool {
        self.configuration & bit != 0
    }

    /// Ticks from a counter value to the next match.
    fn distance(&self, counter: u64) -> u64 {
        self.comparator.wrapping_sub(counter) & self.mask()
    }

    /// The counter goes on by `ticks` from just before `counter`. Whether the timer matched.
    fn advance(&mut self, counter: u64, ticks: u64) -> bool {
        let distance = self.distance(counter);
        if distance >= ticks {
            return false;
        }
        if self.is(PERIODIC) && self.period != 0 {
            let periods = (ticks - 1 - distance) / self.period + 1;
            self.comparator = self.comparator.wrapping_add(periods.wrapping_mul(self.period)) & self.mask();
        }
        true
    }
}

/// A line of the timer block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// The I/O APIC's pin, if there is one for it now.
    pub pin: u8,
    /// Its level.
    pub high: bool,
    /// Whether it has risen again since it was last asked for.
    pub rose: bool,
}

/// The chip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hpet {
    configuration: u64,
    status: u64,
    /// The counter while it stands still; while it runs, its value at tick 0 of virtual time.
    counter: u64,
    /// Matches are complete before this tick of virtual time.
    seen: u64,
    timers: [Timer; TIMERS],
}
saved!(Hpet { configuration, status, counter, seen, timers });

impl Hpet {
    fn is_running(&self) -> bool {
        self.configuration & ENABLE != 0
    }

    /// Whether timers 0 and 1 take the places of the 8254 and of the real-time clock.
    pub fn replaces_legacy(&self) -> bool {
        self.configuration & LEGACY != 0
    }

    fn counter(&self, tick: u64) -> u64 {
        if self.is_running() { self.counter.wrapping_add(tick) } else { self.counter }
    }

    /// Does what is due: matches up to and including now.
    pub fn tick(&mut self, now_ns: u64) {
        let tick = now_ns / TICK_NS;
        let ticks = (tick + 1).saturating_sub(self.seen);
        if ticks == 0 {
            return;
        }
        let from = self.counter(self.seen);
        self.seen = tick + 1;
        if !self.is_running() {
            return;
        }
        for (index, timer) in self.timers.iter_mut().enumerate() {
            if timer.advance(from, ticks) {
                if timer.is(LEVEL) {
                    self.status |= 1 << index;
                } else if timer.is(INTERRUPT_ENABLE) {
                    (timer.high, timer.rose) = (true, true);
                }
            }
        }
    }

    /// The next match that raises an interrupt, in virtual nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        if !self.is_running() {
            return None;
        }
        let from = self.counter(self.seen);
        let timers =
            self.timers.iter().enumerate().filter(|(index, timer)| {
                timer.is(INTERRUPT_ENABLE) && (!timer.is(LEVEL) || self.status >> index & 1 == 0)
            });
        let nearest = timers.map(|(_, timer)| timer.distance(from)).min()?;
        self.seen.checked_add(nearest)?.checked_mul(TICK_NS)
    }

    /// The line of timer `index` (below 3).
    pub fn take_line(&mut self, index: usize) -> Option<Line> {
        let legacy = self.replaces_legacy();
        let level = self.status >> index & 1 != 0;
        let timer = self.timers.get_mut(index)?;
        let pin = match index {
            0 if legacy => 2,
            1 if legacy => 8,
            _ => (timer.configuration >> 9 & 0x1f) as u8,
        };
        let rose = std::mem::take(&mut timer.rose);
        let allowed = legacy && index < 2 || (20..24).contains(&pin);
        let high = timer.is(INTERRUPT_ENABLE) && if timer.is(LEVEL) { level } else { timer.high };
        allowed.then_some(Line { pin, high, rose: rose && high })
    }

    fn register(&self, tick: u64, offset: u64) -> u64 {
        match offset {
            GCAP_ID => PERIOD_FEMTOSECONDS << 32 | u64::from(BLOCK_ID),
            GEN_CONF => self.configuration,
            GINTR_STA => self.status,
            MAIN_CNT => self.counter(tick),
            TIMER_0.. => {
                let timer = self.timers.get(((offset - TIMER_0) / TIMER_BYTES) as usize);
                match (timer, offset % TIMER_BYTES) {
                    (Some(timer), CONFIGURATION) => timer.configuration | CAPABILITIES,
                    (Some(timer), COMPARATOR) => timer.comparator,
                    _ => 0,
                }
            }
            _ => 0,
        }
    }

    /// A load of `size` bytes.
    pub fn read(&mut self, now_ns: u64, offset: u64, size: u8) -> u64 {
        self.tick(now_ns);
        let value = self.register(now_ns / TICK_NS, offset & !7) >> (8 * (offset & 7));
        value & u64::MAX >> (64 - 8 * u32::from(size.clamp(1, 8)))
    }

    /// A store of 4 or 8 bytes; others are undefined and dropped.
    pub fn write(&mut self, now_ns: u64, offset: u64, size: u8, value: u64) {
        if size < 4 || !offset.is_multiple_of(u64::from(size)) {
            return;
        }
        self.tick(now_ns);
        let tick = now_ns / TICK_NS;
        let shift = 8 * (offset & 7);
        let mask = (u64::MAX >> (64 - 8 * u32::from(size.min(8)))) << shift;
        let old = self.register(tick, offset & !7);
        let written = value << shift & mask;
        let whole = old & !mask | written;
        match offset & !7 {
            GEN_CONF => self.configure(tick, whole & (ENABLE | LEGACY)),
            GINTR_STA => self.status &= !written,
            MAIN_CNT if !self.is_running() => self.counter = whole,
            offset @ TIMER_0.. => self.write_timer(offset, whole),
            _ => {}
        }
    }

    fn configure(&mut self, tick: u64, configuration: u64) {
        let counter = self.counter(tick);
        self.configuration = configuration;
        self.counter = if self.is_running() { counter.wrapping_sub(tick) } else { counter };
        if !self.is_running() {
            self.timers.iter_mut().for_each(|timer| timer.high = false);
        }
    }

    fn write_timer(&mut self, offset: u64, value: u64) {
        let index = ((offset - TIMER_0) / TIMER_BYTES) as usize;
        let Some(timer) = self.timers.get_mut(index) else { return };
        match offset % TIMER_BYTES {
            CONFIGURATION => {
                timer.configuration = value & WRITABLE;
                timer.comparator &= timer.mask();
                if timer.is(LEVEL) || !timer.is(INTERRUPT_ENABLE) {
                    timer.high = false;
                }
            }
            COMPARATOR => {
                let value = value & timer.mask();
                if !timer.is(PERIODIC) || timer.is(VALUE_SET) {
                    timer.comparator = value;
                }
                if timer.is(PERIODIC) {
                    timer.period = value;
                }
                timer.configuration &= !VALUE_SET;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
