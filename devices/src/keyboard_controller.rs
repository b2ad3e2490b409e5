//! The 8042 keyboard controller with nothing plugged in: enough for a driver to find that out at once, and for the
//! reset line that software pulses with command FEh (IBM PC/AT technical reference, "Keyboard Controller").

use crate::state::saved;

const OUTPUT_FULL: u8 = 1;
const SYSTEM_FLAG: u8 = 4;
const LAST_WAS_COMMAND: u8 = 8;
const KEYBOARD_UNLOCKED: u8 = 0x10;

/// The chip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyboardController {
    command_byte: u8,
    /// A command that takes a byte at port 60h.
    command: u8,
    last_was_command: bool,
    output: Option<u8>,
    output_port: u8,
    reset: bool,
}
saved!(KeyboardController { command_byte, command, last_was_command, output, output_port, reset });

impl KeyboardController {
    /// Reads 60h (data) or 64h (status).
    pub fn read(&mut self, port: u16) -> u8 {
        if port == 0x60 {
            return self.output.take().unwrap_or(0);
        }
        let full = if self.output.is_some() { OUTPUT_FULL } else { 0 };
        let command = if self.last_was_command { LAST_WAS_COMMAND } else { 0 };
        KEYBOARD_UNLOCKED | SYSTEM_FLAG | command | full
    }

    /// Writes 60h (data) or 64h (command).
    pub fn write(&mut self, port: u16, value: u8) {
        self.last_was_command = port != 0x60;
        if port == 0x60 {
            self.data(value);
        } else {
            self.start(value);
        }
    }

    fn start(&mut self, command: u8) {
        self.command = command;
        match command {
            0x20 => self.output = Some(self.command_byte),
            0xa7 => self.command_byte |= 0x20,
            0xa8 => self.command_byte &= !0x20,
            0xa9 | 0xab => self.output = Some(1), // interface test: the clock line is stuck low
            0xaa => self.output = Some(0x55),     // self-test passed
            0xad => self.command_byte |= 0x10,
            0xae => self.command_byte &= !0x10,
            0xc0 => self.output = Some(0x80), // input port: keyboard not inhibited
            0xd0 => self.output = Some(self.output_port | 3),
            0xf0..=0xff if command & 1 == 0 => self.reset = true,
            _ => {}
        }
    }

    fn data(&mut self, value: u8) {
        match std::mem::take(&mut self.command) {
            0x60 => self.command_byte = value & 0x7f,
            0xd1 => {
                self.output_port = value;
                self.reset |= value & 1 == 0;
            }
            0xd2 | 0xd3 => self.output = Some(value),
            _ => {} // a byte for a device that is not there
        }
    }

    /// Whether the reset line was pulsed; clears it.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Random, assert_round_trip};

    #[test]
    fn self_test_and_command_byte() {
        let mut chip = KeyboardController::default();
        assert_eq!(chip.read(0x64), 0x14);
        chip.write(0x64, 0xaa);
        assert_eq!(chip.read(0x64), 0x1d);
        assert_eq!(chip.read(0x60), 0x55);
        chip.write(0x64, 0x60);
        chip.write(0x60, 0x47);
        chip.write(0x64, 0x20);
        assert_eq!(chip.read(0x60), 0x47);
        assert_eq!(chip.read(0x64) & OUTPUT_FULL, 0);
    }

    #[test]
    fn pulse_of_the_reset_line() {
        let mut chip = KeyboardController::default();
        chip.write(0x64, 0xff);
        assert!(!chip.take_reset());
        chip.write(0x64, 0xfe);
        assert!(chip.take_reset());
        assert!(!chip.take_reset());
    }

    #[test]
    fn random_accesses_never_panic_and_states_round_trip() {
        let mut random = Random(0x8042);
        let mut chip = KeyboardController::default();
        for _ in 0..10_000 {
            let port = [0x60, 0x64][random.below(2) as usize];
            match random.below(2) {
                0 => chip.write(port, random.next() as u8),
                _ => drop(chip.read(port)),
            }
        }
        assert_round_trip(&chip);
    }
}
