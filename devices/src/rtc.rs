//! The MC146818 real-time clock and its CMOS RAM, ports 70h and 71h (Motorola MC146818A data sheet, AP-30).
//!
//! Time is not counted but computed: the clock shows `virtual ns + offset`. Flags are caught up when somebody looks or
//! when an enabled interrupt is due. The day of the week follows the date. Daylight saving is not kept.

use crate::calendar::{self, Format};
use crate::state::saved;

const SECOND_NS: i128 = 1_000_000_000;
/// The update-in-progress bit precedes the change by t_BUC + t_UC (244 us + 1984 us).
const UPDATE_NS: i128 = 2_228_000;
/// After a divider reset the first update comes half a second later.
const DIVIDER_RELEASE_NS: i128 = 500_000_000;

const REGISTER_A: usize = 10;
const REGISTER_B: usize = 11;
const REGISTER_C: usize = 12;
const REGISTER_D: usize = 13;
/// The century in BCD, where the FADT says it is.
pub const CENTURY: usize = 0x32;

const UPDATE_IN_PROGRESS: u8 = 0x80;
const SET: u8 = 0x80;
const IRQF: u8 = 0x80;
/// Periodic, alarm and update-ended: enables in register B, flags in register C.
const PERIODIC: u8 = 0x40;
const ALARM: u8 = 0x20;
const UPDATE_ENDED: u8 = 0x10;

/// The chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rtc {
    index: u8,
    /// Alarm bytes, registers A to C and RAM. Time bytes are current only while the clock stands still.
    cells: [u8; 128],
    /// Clock time (ns since 1970) minus virtual time.
    offset_ns: i128,
    /// Flags in register C are complete up to this virtual time.
    seen_ns: u64,
}
saved!(Rtc { index, cells, offset_ns, seen_ns });

impl Rtc {
    /// A clock that shows `epoch_seconds` (Unix time, UTC) at virtual time 0.
    pub fn new(epoch_seconds: u64) -> Rtc {
        let mut cells = [0; 128];
        cells[REGISTER_A] = 0x26;
        cells[REGISTER_B] = 0x02;
        Rtc { index: 0, cells, offset_ns: i128::from(epoch_seconds) * SECOND_NS, seen_ns: 0 }
    }

    /// Writes a byte of CMOS RAM as the one who built the machine: no register, no byte of the time.
    pub fn set_ram(&mut self, index: u8, value: u8) {
        if let Some(cell) = self.cells.get_mut(usize::from(index)).filter(|_| usize::from(index) > REGISTER_D) {
            *cell = value;
        }
    }

    /// Reads 70h or 71h.
    pub fn read(&mut self, now_ns: u64, port: u16) -> u8 {
        if port != 0x71 {
            return 0xff; // the index is write-only
        }
        self.catch_up(now_ns);
        let index = usize::from(self.index & 0x7f);
        match index {
            REGISTER_A => self.cells[REGISTER_A] | if self.is_updating(now_ns) { UPDATE_IN_PROGRESS } else { 0 },
            REGISTER_C => std::mem::take(&mut self.cells[REGISTER_C]),
            REGISTER_D => 0x80, // valid RAM and time
            _ if is_time(index) && !self.is_stopped() => self.shown(now_ns)[index],
            _ => self.cells[index],
        }
    }

    /// Writes 70h or 71h.
    pub fn write(&mut self, now_ns: u64, port: u16, value: u8) {
        if port != 0x71 {
            self.index = value;
            return;
        }
        self.catch_up(now_ns);
        let index = usize::from(self.index & 0x7f);
        match index {
            REGISTER_A | REGISTER_B => self.control(now_ns, index, value),
            REGISTER_C | REGISTER_D => {}
            _ if is_time(index) && !self.is_stopped() => {
                self.cells = self.shown(now_ns);
                self.cells[index] = value;
                self.start(now_ns, self.phase(now_ns));
            }
            _ => self.cells[index] = value,
        }
        self.update_irq();
    }

    /// Registers A and B: stopping keeps the time bytes, starting takes them up.
    fn control(&mut self, now_ns: u64, index: usize, value: u8) {
        let was_stopped = self.is_stopped();
        let was_reset = self.is_divider_reset();
        if !was_stopped {
            self.cells = self.shown(now_ns);
        }
        self.cells[index] = if index == REGISTER_A { value & 0x7f } else { value };
        if index == REGISTER_B && value & SET != 0 {
            self.cells[REGISTER_B] &= !UPDATE_ENDED;
        }
        if was_stopped && !self.is_stopped() {
            let phase = if was_reset { DIVIDER_RELEASE_NS } else { self.phase(now_ns) };
            self.start(now_ns, phase);
        }
    }

    fn is_divider_reset(&self) -> bool {
        self.cells[REGISTER_A] & 0x70 >= 0x60
    }

    fn is_stopped(&self) -> bool {
        self.cells[REGISTER_B] & SET != 0 || self.is_divider_reset()
    }

    fn format(&self) -> Format {
        Format { binary: self.cells[REGISTER_B] & 4 != 0, hours_24: self.cells[REGISTER_B] & 2 != 0 }
    }

    fn clock_ns(&self, now_ns: u64) -> i128 {
        i128::from(now_ns) + self.offset_ns
    }

    /// Whether a loaded state is within what software can set: years 0 to 9999 and more.
    pub fn is_plausible(&self) -> bool {
        self.offset_ns.unsigned_abs() < 1 << 80
    }

    fn seconds(&self, now_ns: u64) -> i64 {
        self.clock_ns(now_ns).div_euclid(SECOND_NS) as i64
    }

    /// Nanoseconds since the last update.
    fn phase(&self, now_ns: u64) -> i128 {
        self.clock_ns(now_ns).rem_euclid(SECOND_NS)
    }

    fn is_updating(&self, now_ns: u64) -> bool {
        !self.is_stopped() && self.phase(now_ns) >= SECOND_NS - UPDATE_NS
    }

    /// All cells with the time bytes as of now.
    fn shown(&self, now_ns: u64) -> [u8; 128] {
        let mut cells = self.cells;
        calendar::Time::from_seconds(self.seconds(now_ns)).encode(self.format(), &mut cells);
        cells
    }

    /// The clock runs on from what the time bytes say.
    fn start(&mut self, now_ns: u64, phase_ns: i128) {
        let seconds = calendar::Time::decode(self.format(), &self.cells).to_seconds();
        self.offset_ns = i128::from(seconds) * SECOND_NS + phase_ns - i128::from(now_ns);
        self.seen_ns = now_ns;
    }

    /// Periods of the periodic flag per 32768 Hz clock; `None` if off.
    fn periodic_clocks(&self) -> Option<i128> {
        match self.cells[REGISTER_A] & 0xf {
            _ if self.is_divider_reset() => None,
            0 => None,
            rate @ 1..=2 => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    /// Sets the flags of everything that happened since the last look.
    fn catch_up(&mut self, now_ns: u64) {
        let (from, to) = (self.clock_ns(self.seen_ns), self.clock_ns(now_ns));
        self.seen_ns = now_ns;
        if let Some(period) = self.periodic_clocks()
            && periods(from, period) != periods(to, period)
        {
            self.cells[REGISTER_C] |= PERIODIC;
        }
        let (before, after) = (from.div_euclid(SECOND_NS) as i64, to.div_euclid(SECOND_NS) as i64);
        if !self.is_stopped() && before != after {
            self.cells[REGISTER_C] |= UPDATE_ENDED;
            if self.next_alarm(before).is_some_and(|alarm| alarm <= after) {
                self.cells[REGISTER_C] |= ALARM;
            }
        }
        self.update_irq();
    }

    fn update_irq(&mut self) {
        let active = self.cells[REGISTER_C] & self.cells[REGISTER_B] & (PERIODIC | ALARM | UPDATE_ENDED) != 0;
        self.cells[REGISTER_C] = self.cells[REGISTER_C] & !IRQF | if active { IRQF } else { 0 };
    }

    /// The first second after `seconds` at which the alarm matches.
    fn next_alarm(&self, seconds: i64) -> Option<i64> {
        calendar::next_alarm(self.format(), [self.cells[5], self.cells[3], self.cells[1]], seconds)
    }

    /// IRQ 8.
    pub fn line(&self) -> bool {
        self.cells[REGISTER_C] & IRQF != 0
    }

    /// When an enabled interrupt will be raised, in virtual nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        if self.line() {
            return None;
        }
        let enabled = self.cells[REGISTER_B];
        let now = self.clock_ns(self.seen_ns);
        let periodic = self.periodic_clocks().filter(|_| enabled & PERIODIC != 0).map(|period| {
            let next = (periods(now, period) + 1) * period;
            div_ceil(next * SECOND_NS, 32_768)
        });
        let running = !self.is_stopped();
        let second = now.div_euclid(SECOND_NS);
        let update = (running && enabled & UPDATE_ENDED != 0).then_some((second + 1) * SECOND_NS);
        let alarm = if running && enabled & ALARM != 0 { self.next_alarm(second as i64) } else { None };
        let alarm = alarm.map(|second| i128::from(second) * SECOND_NS);
        let due = [periodic, update, alarm].into_iter().flatten().min()?;
        u64::try_from(due - self.offset_ns).ok()
    }

    /// Sets the flags that are due.
    pub fn tick(&mut self, now_ns: u64) {
        self.catch_up(now_ns);
    }
}

fn is_time(index: usize) -> bool {
    matches!(index, 0 | 2 | 4 | 6..=9 | CENTURY)
}

/// Completed periods of `clocks` cycles of 32768 Hz.
fn periods(clock_ns: i128, clocks: i128) -> i128 {
    (clock_ns * 32_768).div_euclid(SECOND_NS * clocks)
}

fn div_ceil(value: i128, divisor: i128) -> i128 {
    -(-value).div_euclid(divisor)
}

#[cfg(test)]
mod tests;
