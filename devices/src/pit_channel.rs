//! One counter of the 8254 (data sheet 231164, "Mode Definitions"). Times are in input clocks.

use crate::state::saved;

/// A counter with its latches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    mode: u8,
    /// 1 low byte, 2 high byte, 3 low then high.
    access: u8,
    bcd: bool,
    gate: bool,
    /// The count in clocks, 1 to 65536; `None` until one is written.
    count: Option<u32>,
    /// The low byte of a count whose high byte is still to come.
    low_byte: Option<u8>,
    reads_high: bool,
    count_latch: Option<u16>,
    status_latch: Option<u8>,
    /// Counting goes on since `start`, on top of `held` clocks counted before a pause.
    counting: bool,
    start: u64,
    held: u64,
}
saved!(Channel {
    mode,
    access,
    bcd,
    gate,
    count,
    low_byte,
    reads_high,
    count_latch,
    status_latch,
    counting,
    start,
    held,
});

impl Channel {
    /// An unprogrammed channel.
    pub fn new(gate: bool) -> Channel {
        Channel {
            mode: 3,
            access: 3,
            bcd: false,
            gate,
            count: None,
            low_byte: None,
            reads_high: false,
            count_latch: None,
            status_latch: None,
            counting: false,
            start: 0,
            held: 0,
        }
    }

    /// The count, never zero.
    fn clocks(&self) -> Option<u64> {
        self.count.map(|count| u64::from(count.max(1)))
    }

    /// The gate input.
    pub fn gate(&self) -> bool {
        self.gate
    }

    /// A control word. False for a counter latch command, which does not reprogram.
    pub fn control(&mut self, now: u64, value: u8) -> bool {
        let access = value >> 4 & 3;
        if access == 0 {
            self.latch_count(now);
            return false;
        }
        let mode = value >> 1 & 7;
        let mode = if mode > 5 { mode - 4 } else { mode };
        *self = Channel { mode, access, bcd: value & 1 != 0, ..Channel::new(self.gate) };
        true
    }

    /// A count byte. True when it completed a count.
    pub fn write(&mut self, now: u64, value: u8) -> bool {
        let count = match (self.access, self.low_byte) {
            (1, _) => u16::from(value),
            (2, _) => u16::from(value) << 8,
            (_, None) => {
                self.low_byte = Some(value);
                if self.mode == 0 {
                    self.pause(now);
                }
                return false;
            }
            (_, Some(low)) => u16::from_le_bytes([low, value]),
        };
        self.low_byte = None;
        self.load(now, count);
        true
    }

    fn load(&mut self, now: u64, count: u16) {
        let (value, modulus) = if self.bcd { (from_bcd(count), 10_000) } else { (u32::from(count), 0x1_0000) };
        let value = if value == 0 { modulus } else { value };
        // A count of 1 is not allowed in modes 2 and 3; it counts as 2 here.
        self.count = Some(if matches!(self.mode, 2 | 3) { value.max(2) } else { value });
        self.held = 0;
        self.start = now;
        self.counting = match self.mode {
            1 | 5 => false, // wait for a rising gate
            _ => self.gate,
        };
    }

    /// The gate input (data sheet, "Gate Pin Operations Summary").
    pub fn set_gate(&mut self, now: u64, high: bool) {
        let rises = high && !self.gate;
        let falls = !high && self.gate;
        self.gate = high;
        if self.count.is_none() {
            return;
        }
        match self.mode {
            0 | 4 if falls => self.pause(now),
            0 | 4 if rises => {
                self.start = now;
                self.counting = true;
            }
            2 | 3 if falls => {
                self.counting = false;
                self.held = 0;
            }
            _ if rises => {
                self.held = 0;
                self.start = now;
                self.counting = true;
            }
            _ => {}
        }
    }

    fn pause(&mut self, now: u64) {
        self.held = self.elapsed(now);
        self.counting = false;
    }

    fn elapsed(&self, now: u64) -> u64 {
        self.held.saturating_add(if self.counting { now.saturating_sub(self.start) } else { 0 })
    }

    /// Whether the counter has been started, so that its output follows the count.
    fn is_started(&self) -> bool {
        self.counting || self.held != 0
    }

    /// OUT.
    pub fn output(&self, now: u64) -> bool {
        let elapsed = self.elapsed(now);
        let Some(count) = self.clocks() else { return self.mode != 0 };
        match self.mode {
            0 => elapsed > count,
            1 => !self.is_started() || elapsed >= count,
            2 => !self.counting || elapsed % count != count - 1,
            3 => !self.counting || elapsed % count < count.div_ceil(2),
            _ => !self.is_started() || elapsed != count,
        }
    }

    /// Rising edges of OUT since the count was loaded.
    pub fn rising_edges(&self, now: u64) -> u64 {
        let elapsed = self.elapsed(now);
        let Some(count) = self.clocks() else { return 0 };
        match self.mode {
            0 | 4 | 5 => u64::from(elapsed > count),
            1 => u64::from(self.is_started() && elapsed >= count),
            _ => elapsed / count,
        }
    }

    /// The clock at which the n-th rising edge since loading comes.
    pub fn clock_of_edge(&self, number: u64) -> Option<u64> {
        let count = self.clocks().filter(|_| self.counting)?;
        let elapsed = match self.mode {
            2 | 3 => number.checked_mul(count)?,
            _ if number > 1 => return None,
            1 => count,
            _ => count + 1,
        };
        self.start.checked_add(elapsed.saturating_sub(self.held))
    }

    /// The counting element as it would be read.
    fn value(&self, now: u64) -> u16 {
        let elapsed = self.elapsed(now);
        let Some(count) = self.clocks() else { return 0 };
        let modulus = if self.bcd { 10_000 } else { 0x1_0000 };
        let value = match self.mode {
            2 => count - elapsed % count,
            3 => {
                let phase = elapsed % count;
                let half = count.div_ceil(2);
                (count & !1) - 2 * (phase % half)
            }
            _ => count + modulus - elapsed % modulus,
        } % modulus;
        if self.bcd { to_bcd(value as u32) } else { value as u16 }
    }

    /// The counter latch command; a latched count stays until it is read.
    pub fn latch_count(&mut self, now: u64) {
        if self.count_latch.is_none() {
            self.count_latch = Some(self.value(now));
        }
    }

    /// The read-back command's status byte.
    pub fn latch_status(&mut self, now: u64) {
        if self.status_latch.is_none() {
            let null_count = u8::from(self.count.is_none() || self.low_byte.is_some());
            self.status_latch = Some(
                u8::from(self.output(now)) << 7
                    | null_count << 6
                    | self.access << 4
                    | self.mode << 1
                    | u8::from(self.bcd),
            );
        }
    }

    /// Reads status, latched or running count, in this order.
    pub fn read(&mut self, now: u64) -> u8 {
        if let Some(status) = self.status_latch.take() {
            return status;
        }
        let [low, high] = self.count_latch.unwrap_or_else(|| self.value(now)).to_le_bytes();
        let takes_high = self.access == 2 || self.access == 3 && self.reads_high;
        if self.access == 3 {
            self.reads_high = !self.reads_high;
        }
        if takes_high || self.access == 1 {
            self.count_latch = None;
        }
        if takes_high { high } else { low }
    }
}

fn from_bcd(value: u16) -> u32 {
    (0..4).rev().fold(0, |number, digit| number * 10 + u32::from(value >> (4 * digit) & 0xf))
}

fn to_bcd(mut value: u32) -> u16 {
    let mut digits = 0;
    for position in 0..4 {
        digits |= (value % 10) << (4 * position);
        value /= 10;
    }
    digits as u16
}
