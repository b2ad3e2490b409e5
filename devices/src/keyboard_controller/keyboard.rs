//! The keyboard at the controller's first port (IBM Personal System/2 hardware reference, "Keyboards (101- and
//! 102-key)"). Keys do not repeat by themselves: whoever holds one down at the other end repeats it there.

use super::codes::{self, BREAK};
use crate::state::saved;
use std::collections::VecDeque;

/// More bytes than this wait only if nobody reads them for long.
const QUEUE_BYTES: usize = 256;
const OVERRUN: u8 = 0x00;
const ACKNOWLEDGE: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const ECHO: u8 = 0xee;
const SELF_TEST_PASSED: u8 = 0xaa;
/// Who it is: a keyboard with 101 keys.
const IDENTITY: [u8; 2] = [0xab, 0x83];
const DEFAULT_SET: u8 = 2;
/// 10.9 characters a second after half a second.
const DEFAULT_TYPEMATIC: u8 = 0x2b;

/// The keyboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyboard {
    queue: VecDeque<u8>,
    scanning: bool,
    /// 1 or 2.
    scan_set: u8,
    /// Scroll, number and capitals lock, from bit 0.
    leds: u8,
    typematic: u8,
    modifiers: u8,
    /// A command that takes a byte.
    command: u8,
    last: u8,
}
saved!(Keyboard { queue, scanning, scan_set, leds, typematic, modifiers, command, last });

impl Default for Keyboard {
    fn default() -> Self {
        Keyboard {
            queue: VecDeque::new(),
            scanning: true,
            scan_set: DEFAULT_SET,
            leds: 0,
            typematic: DEFAULT_TYPEMATIC,
            modifiers: 0,
            command: 0,
            last: 0,
        }
    }
}

impl Keyboard {
    /// A key goes down or up.
    pub fn key(&mut self, code: u16, pressed: bool) {
        let bytes = codes::set_2(code, pressed, self.modifiers);
        let modifier = codes::modifier(code);
        self.modifiers = if pressed { self.modifiers | modifier } else { self.modifiers & !modifier };
        if !self.scanning || bytes.is_empty() {
            return;
        }
        let bytes = if self.scan_set == 1 { set_1(&bytes) } else { bytes };
        // A code is sent as a whole or not at all.
        if self.queue.len() + bytes.len() < QUEUE_BYTES {
            self.queue.extend(bytes);
        } else if self.queue.len() < QUEUE_BYTES {
            self.queue.push_back(OVERRUN);
        }
    }

    /// A byte from the controller.
    pub fn write(&mut self, value: u8) {
        match std::mem::take(&mut self.command) {
            0xed => self.leds = value & 7,
            0xf0 => return self.select_set(value),
            0xf3 => self.typematic = value & 0x7f,
            _ => return self.start(value),
        }
        self.answer(&[ACKNOWLEDGE]);
    }

    fn select_set(&mut self, set: u8) {
        match set {
            0 => self.answer(&[ACKNOWLEDGE, self.scan_set]),
            1 | 2 => {
                self.scan_set = set;
                self.answer(&[ACKNOWLEDGE]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn start(&mut self, command: u8) {
        match command {
            0xed | 0xf0 | 0xf3 => {
                self.command = command;
                self.answer(&[ACKNOWLEDGE]);
            }
            ECHO => self.answer(&[ECHO]),
            0xf2 => self.answer(&[ACKNOWLEDGE, IDENTITY[0], IDENTITY[1]]),
            0xf4..=0xf6 => {
                if command != 0xf4 {
                    self.set_defaults();
                }
                self.scanning = command != 0xf5;
                self.queue.clear();
                self.answer(&[ACKNOWLEDGE]);
            }
            // What the keys of scan set 3 do: there is no set 3, but no harm in being told.
            0xf7..=0xfa => self.answer(&[ACKNOWLEDGE]),
            0xfe => self.queue.push_front(self.last),
            0xff => {
                let modifiers = self.modifiers;
                *self = Keyboard { modifiers, ..Keyboard::default() };
                self.answer(&[ACKNOWLEDGE, SELF_TEST_PASSED]);
            }
            _ => self.answer(&[RESEND]),
        }
    }

    fn set_defaults(&mut self) {
        self.typematic = DEFAULT_TYPEMATIC;
        self.scan_set = DEFAULT_SET;
    }

    /// What answers a command comes before keys that were pressed earlier, as a keyboard's answer does.
    fn answer(&mut self, bytes: &[u8]) {
        self.queue.truncate(QUEUE_BYTES);
        bytes.iter().rev().for_each(|byte| self.queue.push_front(*byte));
    }

    /// The next byte for the controller.
    pub fn send(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last = byte;
        Some(byte)
    }

    /// Whether there is a next byte.
    pub fn has_byte(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Scroll, number and capitals lock, from bit 0.
    pub fn leds(&self) -> u8 {
        self.leds
    }
}

/// What the keyboard itself sends in scan set 1.
fn set_1(bytes: &[u8]) -> Vec<u8> {
    let mut up = 0;
    let mut sent = Vec::new();
    for byte in bytes {
        match *byte {
            BREAK => up = 0x80,
            byte if byte >= 0xe0 => sent.push(byte),
            byte => sent.push(codes::translate(byte) | std::mem::take(&mut up)),
        }
    }
    sent
}
