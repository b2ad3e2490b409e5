//! The 8254 programmable interval timer and port 61h (Intel 8254 data sheet 231164; 82371SB PIIX3 §2.5).
//!
//! Counters are not stepped: each remembers when it was loaded, and its value and output are computed when somebody
//! looks. Channel 0 drives IRQ 0, channel 2 the speaker; channel 1 once refreshed memory. A new count written to a
//! running channel starts at once instead of at the end of its period.

use crate::clock;
use crate::pit_channel::Channel;
use crate::state::saved;

/// Input clock in Hz.
pub const FREQUENCY_HZ: u64 = 1_193_182;
/// Half a period of the memory refresh signal that port 61h bit 4 shows.
const REFRESH_NS: u64 = 15_085;

/// The chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pit {
    channels: [Channel; 3],
    speaker: bool,
    /// Rising edges of OUT 0 since its count was loaded that the board has been told of.
    edges_seen: u64,
}
saved!(Pit { channels, speaker, edges_seen });

impl Default for Pit {
    fn default() -> Self {
        Pit { channels: [Channel::new(true), Channel::new(true), Channel::new(false)], speaker: false, edges_seen: 0 }
    }
}

/// What became of a line since it was looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Its level now.
    pub high: bool,
    /// It rose in between, perhaps after falling.
    pub rose: bool,
}

/// Input clocks complete at a virtual time.
fn clocks(now_ns: u64) -> u64 {
    clock::cycles(now_ns, FREQUENCY_HZ)
}

/// The first nanosecond at which `clocks` input clocks are complete.
fn nanoseconds(clocks: u64) -> u64 {
    u64::try_from((u128::from(clocks) * 1_000_000_000).div_ceil(u128::from(FREQUENCY_HZ))).unwrap_or(u64::MAX)
}

impl Pit {
    /// Reads 40h-43h or 61h.
    pub fn read(&mut self, now_ns: u64, port: u16) -> u8 {
        let now = clocks(now_ns);
        match port {
            0x40..=0x42 => self.channels[usize::from(port - 0x40)].read(now),
            0x61 => self.port_b(now_ns, now),
            _ => 0xff,
        }
    }

    fn port_b(&self, now_ns: u64, now: u64) -> u8 {
        let gate = &self.channels[2];
        u8::from(gate.gate())
            | u8::from(self.speaker) << 1
            | (((now_ns / REFRESH_NS) & 1) as u8) << 4
            | u8::from(gate.output(now)) << 5
    }

    /// Writes 40h-43h or 61h.
    pub fn write(&mut self, now_ns: u64, port: u16, value: u8) {
        let now = clocks(now_ns);
        match port {
            0x40..=0x42 => {
                let channel = usize::from(port - 0x40);
                if self.channels[channel].write(now, value) && channel == 0 {
                    self.edges_seen = 0;
                }
            }
            0x43 if value >> 6 == 3 => self.read_back(now, value),
            0x43 => {
                let channel = usize::from(value >> 6);
                if self.channels[channel].control(now, value) && channel == 0 {
                    self.edges_seen = 0;
                }
            }
            0x61 => {
                self.speaker = value & 2 != 0;
                self.channels[2].set_gate(now, value & 1 != 0);
            }
            _ => {}
        }
    }

    fn read_back(&mut self, now: u64, command: u8) {
        for (index, channel) in self.channels.iter_mut().enumerate() {
            if command >> (index + 1) & 1 != 0 {
                if command & 0x10 == 0 {
                    channel.latch_status(now);
                }
                if command & 0x20 == 0 {
                    channel.latch_count(now);
                }
            }
        }
    }

    /// IRQ 0.
    pub fn line(&mut self, now_ns: u64) -> Line {
        let now = clocks(now_ns);
        let edges = self.channels[0].rising_edges(now);
        let rose = edges != self.edges_seen;
        self.edges_seen = edges;
        Line { high: self.channels[0].output(now), rose }
    }

    /// When IRQ 0 rises next, in virtual nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.channels[0].clock_of_edge(self.edges_seen.saturating_add(1)).map(nanoseconds)
    }
}

#[cfg(test)]
mod tests;
