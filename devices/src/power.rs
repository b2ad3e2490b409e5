//! ACPI fixed hardware: PM1 event and control blocks and the PM timer (ACPI 6.5 §4.8.3).
//!
//! The machine is always in ACPI mode (SCI_EN is set, there is no SMI command port).

use crate::clock;
use crate::state::saved;

/// PM1a_EVT_BLK: status at +0, enable at +2.
pub const EVENT_PORT: u16 = 0x600;
/// PM1a_CNT_BLK.
pub const CONTROL_PORT: u16 = 0x604;
/// PM_TMR_BLK.
pub const TIMER_PORT: u16 = 0x608;
/// The SCI's ISA interrupt, level-triggered and active high.
pub const SCI: u8 = 9;
/// SLP_TYP of S5 as `_S5_` in the DSDT says it.
pub const S5_TYPE: u8 = 5;

const TIMER_HZ: u64 = 3_579_545;
/// TMR_STS follows bit 23 of the 24-bit counter.
const TIMER_HALF: u64 = 1 << 23;

const TIMER_STATUS: u16 = 1 << 0;
const POWER_BUTTON: u16 = 1 << 8;
/// Status bits: timer, bus master, global, power button, sleep button, RTC, wake.
const STATUS_BITS: u16 = 0x8731;
/// Enable bits: timer, global, power button, sleep button, RTC.
const ENABLE_BITS: u16 = 0x0721;
const SCI_ENABLED: u16 = 1;
const SLEEP_ENABLE: u16 = 1 << 13;

/// The chip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Power {
    status: u16,
    enable: u16,
    control: u16,
    /// TMR_STS is complete up to this many half periods of the counter.
    halves_seen: u64,
    power_off: bool,
}
saved!(Power { status, enable, control, halves_seen, power_off });

fn counts(now_ns: u64) -> u64 {
    clock::cycles(now_ns, TIMER_HZ)
}

impl Power {
    /// Reads `size` bytes; the board never lets an access cross a register block.
    pub fn read(&mut self, now_ns: u64, port: u16, size: u8) -> u32 {
        self.tick(now_ns);
        let block = u64::from(self.status) | u64::from(self.enable) << 16 | u64::from(self.control | SCI_ENABLED) << 32;
        let (value, offset) = match port {
            TIMER_PORT.. => (counts(now_ns) & 0xff_ffff, port - TIMER_PORT),
            _ => (block, port.saturating_sub(EVENT_PORT)),
        };
        let shifted = value.checked_shr(8 * u32::from(offset)).unwrap_or(0) as u32;
        match size {
            1 => shifted & 0xff,
            2 => shifted & 0xffff,
            _ => shifted,
        }
    }

    /// Writes `size` bytes.
    pub fn write(&mut self, now_ns: u64, port: u16, size: u8, value: u32) {
        self.tick(now_ns);
        for (index, byte) in value.to_le_bytes().into_iter().take(usize::from(size)).enumerate() {
            self.write_byte(port.saturating_add(index as u16), byte);
        }
    }

    fn write_byte(&mut self, port: u16, byte: u8) {
        let low = u16::from(byte);
        let high = low << 8;
        match port.wrapping_sub(EVENT_PORT) {
            0 => self.status &= !(low & STATUS_BITS),
            1 => self.status &= !(high & STATUS_BITS),
            2 => self.enable = self.enable & 0xff00 | low & ENABLE_BITS,
            3 => self.enable = self.enable & 0x00ff | high & ENABLE_BITS,
            4 => self.control = self.control & 0xff00 | low & 0x0006,
            5 => {
                self.control = self.control & 0x00ff | high & 0x1c00;
                if high & SLEEP_ENABLE != 0 && self.control >> 10 & 7 == u16::from(S5_TYPE) {
                    self.power_off = true;
                }
            }
            _ => {}
        }
    }

    /// The power button was pressed.
    pub fn press_power_button(&mut self) {
        self.status |= POWER_BUTTON;
    }

    /// SCI, active high.
    pub fn line(&self) -> bool {
        self.status & self.enable & ENABLE_BITS != 0
    }

    /// Whether the guest has switched the machine off (S5).
    pub fn is_off(&self) -> bool {
        self.power_off
    }

    /// When TMR_STS will raise the SCI, in virtual nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        if self.enable & TIMER_STATUS == 0 || self.status & TIMER_STATUS != 0 {
            return None;
        }
        let count = (u128::from(self.halves_seen) + 1) * u128::from(TIMER_HALF);
        u64::try_from((count * 1_000_000_000).div_ceil(u128::from(TIMER_HZ))).ok()
    }

    /// Sets TMR_STS if the counter's top bit has changed.
    pub fn tick(&mut self, now_ns: u64) {
        let halves = counts(now_ns) / TIMER_HALF;
        if halves != self.halves_seen {
            self.halves_seen = halves;
            self.status |= TIMER_STATUS;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Random, assert_round_trip};

    const S: u64 = 1_000_000_000;

    #[test]
    fn the_timer_counts_at_3_58_mhz_in_24_bits() {
        let mut power = Power::default();
        assert_eq!(power.read(S, TIMER_PORT, 4), 3_579_545);
        assert_eq!(power.read(10 * S, TIMER_PORT, 4), 35_795_450 & 0xff_ffff);
    }

    #[test]
    fn timer_status_raises_the_sci_when_enabled() {
        let mut power = Power::default();
        assert_eq!(power.deadline(), None);
        power.write(0, EVENT_PORT + 2, 2, 1);
        let deadline = power.deadline().unwrap();
        assert_eq!(deadline / 1_000_000, 2343);
        power.tick(deadline - 1);
        assert!(!power.line());
        power.tick(deadline);
        assert!(power.line());
        power.write(deadline, EVENT_PORT, 2, 1);
        assert!(!power.line());
    }

    #[test]
    fn power_button_and_s5() {
        let mut power = Power::default();
        power.write(0, EVENT_PORT + 2, 2, 0xffff);
        assert_eq!(power.read(0, EVENT_PORT + 2, 2), 0x0721);
        power.press_power_button();
        assert!(power.line());
        assert_eq!(power.read(0, EVENT_PORT, 4), 0x0721_0100);
        assert_eq!(power.read(0, CONTROL_PORT, 2), 1);
        power.write(0, CONTROL_PORT, 2, 3 << 10 | 1 << 13);
        assert!(!power.is_off(), "no S3");
        power.write(0, CONTROL_PORT, 2, 5 << 10 | 1 << 13);
        assert!(power.is_off());
    }

    #[test]
    fn random_accesses_never_panic_and_states_round_trip() {
        let mut random = Random(0xac91);
        let mut power = Power::default();
        let mut now = 0;
        for _ in 0..20_000 {
            now += random.step(34);
            let (port, size) = (0x600 + random.below(16) as u16, 1 << random.below(3));
            match random.below(3) {
                0 => power.write(now, port, size, random.next() as u32),
                _ => drop(power.read(now, port, size)),
            }
            assert!(power.deadline().is_none_or(|deadline| deadline > now));
        }
        assert_round_trip(&power);
    }
}
