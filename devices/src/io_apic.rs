//! The 82093AA I/O APIC: 24 pins, each with a redirection entry (Intel 290566-001).
//!
//! Lines are carried as asserted or not, so the polarity bit is kept but changes nothing. An edge on a masked pin is
//! lost, as the data sheet says; a level waits. Messages go to the local APIC one by one through [`IoApic::requests`].

use crate::state::saved;

/// Guest-physical address of the register window.
pub const BASE: u64 = 0xfec0_0000;
/// Number of pins.
pub const PINS: u8 = 24;
/// Version 11h, 24 entries.
const VERSION: u32 = (PINS as u32 - 1) << 16 | 0x11;

const MASKED: u64 = 1 << 16;
const LEVEL: u64 = 1 << 15;
const REMOTE_IRR: u64 = 1 << 14;
/// Delivery status and remote IRR are read-only; 17-55 are reserved.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// An interrupt message on its way to a local APIC (290566-001 §3.2.4, IOREDTBL).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Interrupt vector.
    pub vector: u8,
    /// Delivery mode: 0 fixed, 1 lowest priority, 2 SMI, 4 NMI, 5 INIT, 7 ExtINT.
    pub mode: u8,
    /// Destination field.
    pub destination: u8,
    /// The destination is logical.
    pub logical: bool,
    /// Level-triggered: an EOI is wanted.
    pub level: bool,
}

/// The chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IoApic {
    id: u8,
    select: u8,
    lines: u32,
    edges: u32,
    entries: [u64; PINS as usize],
}
saved!(IoApic { id, select, lines, edges, entries });

impl Default for IoApic {
    fn default() -> Self {
        IoApic { id: 0, select: 0, lines: 0, edges: 0, entries: [MASKED; PINS as usize] }
    }
}

impl IoApic {
    /// Reads the register window: IOREGSEL at 0, IOWIN at 10h.
    pub fn read(&self, offset: u64) -> u32 {
        match (offset, self.select) {
            (0, select) => u32::from(select),
            (0x10, 0 | 2) => u32::from(self.id) << 24,
            (0x10, 1) => VERSION,
            (0x10, select) => match self.entries.get(usize::from(select.wrapping_sub(0x10) / 2)) {
                Some(entry) => (entry >> (32 * u32::from(select & 1))) as u32,
                None => 0,
            },
            _ => 0,
        }
    }

    /// Writes the register window.
    pub fn write(&mut self, offset: u64, value: u32) {
        match (offset, self.select) {
            (0, _) => self.select = value as u8,
            (0x10, 0) => self.id = (value >> 24) as u8 & 0xf,
            (0x10, select @ 0x10..) => {
                if let Some(entry) = self.entries.get_mut(usize::from((select - 0x10) / 2)) {
                    write_entry(entry, select & 1 != 0, value);
                }
            }
            _ => {}
        }
    }

    /// Sets the level of a pin, 0 to 23.
    pub fn set_line(&mut self, pin: u8, high: bool) {
        if pin >= PINS {
            return;
        }
        let bit = 1 << pin;
        if !high {
            self.lines &= !bit;
        } else if self.lines & bit == 0 {
            self.lines |= bit;
            if self.entries[usize::from(pin)] & (MASKED | LEVEL) == 0 {
                self.edges |= bit;
            }
        }
    }

    /// Pins whose message waits to be sent.
    pub fn requests(&self) -> u32 {
        let mut requests = 0;
        let mut candidates = (self.lines | self.edges) & ((1 << PINS) - 1);
        while candidates != 0 {
            let pin = candidates.trailing_zeros();
            candidates &= candidates - 1;
            let entry = self.entries[pin as usize];
            let waits = match entry & LEVEL != 0 {
                true => self.lines >> pin & 1 != 0 && entry & REMOTE_IRR == 0,
                false => self.edges >> pin & 1 != 0,
            };
            if waits && entry & MASKED == 0 {
                requests |= 1 << pin;
            }
        }
        requests
    }

    /// The message a pin sends.
    pub fn message(&self, pin: u8) -> Message {
        let entry = self.entries[usize::from(pin % PINS)];
        Message {
            vector: entry as u8,
            mode: (entry >> 8) as u8 & 7,
            destination: (entry >> 56) as u8,
            logical: entry >> 11 & 1 != 0,
            level: entry & LEVEL != 0,
        }
    }

    /// The pin's message has been sent; `accepted` by a local APIC or not.
    pub fn sent(&mut self, pin: u8, accepted: bool) {
        let entry = &mut self.entries[usize::from(pin % PINS)];
        if *entry & LEVEL != 0 {
            *entry |= if accepted { REMOTE_IRR } else { 0 };
        } else {
            self.edges &= !(1 << pin);
        }
    }

    /// The EOI message of a local APIC: level-triggered pins with this vector may request again.
    pub fn end_of_interrupt(&mut self, vector: u8) {
        for entry in &mut self.entries {
            if *entry as u8 == vector {
                *entry &= !REMOTE_IRR;
            }
        }
    }

    /// Whether an edge on this pin would be seen.
    pub fn is_unmasked(&self, pin: u8) -> bool {
        self.entries[usize::from(pin % PINS)] & MASKED == 0
    }
}

fn write_entry(entry: &mut u64, high: bool, value: u32) {
    let written = match high {
        true => *entry & 0xffff_ffff | u64::from(value) << 32,
        false => *entry & !0xffff_ffff | u64::from(value),
    };
    *entry = written & WRITABLE | *entry & REMOTE_IRR;
    if *entry & LEVEL == 0 {
        *entry &= !REMOTE_IRR;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Random, assert_round_trip};

    fn set(chip: &mut IoApic, register: u32, value: u32) {
        chip.write(0, register);
        chip.write(0x10, value);
    }

    fn get(chip: &mut IoApic, register: u32) -> u32 {
        chip.write(0, register);
        chip.read(0x10)
    }

    #[test]
    fn identification_and_version() {
        let mut chip = IoApic::default();
        set(&mut chip, 0, 0x0500_0000);
        assert_eq!(get(&mut chip, 0), 0x0500_0000);
        assert_eq!(get(&mut chip, 1), 0x0017_0011);
        assert_eq!(get(&mut chip, 0x10), 0x0001_0000);
        assert_eq!(get(&mut chip, 0x40), 0);
    }

    #[test]
    fn an_edge_sends_one_message_and_a_masked_edge_is_lost() {
        let mut chip = IoApic::default();
        chip.set_line(4, true);
        set(&mut chip, 0x18, 0x0034);
        assert_eq!(chip.requests(), 0);
        chip.set_line(4, false);
        chip.set_line(4, true);
        assert_eq!(chip.requests(), 1 << 4);
        assert_eq!(chip.message(4).vector, 0x34);
        chip.sent(4, true);
        assert_eq!(chip.requests(), 0);
    }

    #[test]
    fn a_level_repeats_after_eoi_while_the_line_is_high() {
        let mut chip = IoApic::default();
        set(&mut chip, 0x22, 0x8039);
        chip.set_line(9, true);
        assert_eq!(chip.requests(), 1 << 9);
        chip.sent(9, true);
        assert_eq!(chip.requests(), 0);
        assert_eq!(get(&mut chip, 0x22) & REMOTE_IRR as u32, REMOTE_IRR as u32);
        chip.end_of_interrupt(0x39);
        assert_eq!(chip.requests(), 1 << 9);
        chip.set_line(9, false);
        assert_eq!(chip.requests(), 0);
    }

    #[test]
    fn switching_to_edge_clears_remote_irr() {
        let mut chip = IoApic::default();
        set(&mut chip, 0x22, 0x8039);
        chip.set_line(9, true);
        chip.sent(9, true);
        set(&mut chip, 0x22, 0x0001_0039);
        set(&mut chip, 0x22, 0x0001_8039);
        assert_eq!(get(&mut chip, 0x22), 0x0001_8039);
    }

    #[test]
    fn random_accesses_never_panic_and_states_round_trip() {
        let mut random = Random(0x82093);
        let mut chip = IoApic::default();
        for _ in 0..20_000 {
            match random.below(5) {
                0 => chip.write(0, random.below(0x50) as u32),
                1 => chip.write(0x10, random.next() as u32),
                2 => drop(chip.read(random.below(5) * 16)),
                3 => chip.set_line(random.below(26) as u8, random.below(2) == 0),
                _ => {
                    for pin in (0..PINS).filter(|pin| chip.requests() >> pin & 1 != 0).collect::<Vec<_>>() {
                        chip.sent(pin, random.below(2) == 0);
                    }
                    chip.end_of_interrupt(random.next() as u8);
                }
            }
        }
        assert_round_trip(&chip);
    }
}
