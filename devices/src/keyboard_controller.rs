//! The 8042 keyboard controller with a PS/2 keyboard and a PS/2 mouse (IBM PC/AT technical reference, "Keyboard
//! Controller"; IBM Personal System/2 hardware reference, "Keyboard and Auxiliary Device Controller").
//!
//! The controller answers its own commands at once. A byte from keyboard or mouse takes the wire's time: eleven bits at
//! 16.7 kHz, from when the output buffer is free. So an interrupt line falls between any two bytes, and what is sent
//! when is a function of virtual time.

mod codes;
mod keyboard;
mod mouse;

use crate::state::saved;
use keyboard::Keyboard;
use mouse::Mouse;
use std::collections::VecDeque;

/// Status register.
const OUTPUT_FULL: u8 = 1;
const LAST_WAS_COMMAND: u8 = 8;
const KEYBOARD_UNLOCKED: u8 = 0x10;
const AUXILIARY_OUTPUT: u8 = 0x20;
/// Command byte.
const KEYBOARD_INTERRUPT: u8 = 1;
const AUXILIARY_INTERRUPT: u8 = 2;
const SYSTEM_FLAG: u8 = 4;
const KEYBOARD_DISABLED: u8 = 0x10;
const AUXILIARY_DISABLED: u8 = 0x20;
const TRANSLATE: u8 = 0x40;
/// Output port.
const NO_RESET: u8 = 1;
const A20: u8 = 2;

/// What a byte takes from a device to the output buffer.
const BYTE_NS: u64 = 660_000;
/// What a byte takes that the controller has kept itself until the output buffer was free.
const ANSWER_NS: u64 = 20_000;
/// Answers of the controller that may wait.
const ANSWERS: usize = 16;

/// Who sent a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Keyboard,
    Mouse,
}

/// The controller and what is plugged into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyboardController {
    command_byte: u8,
    /// A command that takes a byte at port 60h.
    command: u8,
    last_was_command: bool,
    output: Option<u8>,
    /// Whether the output byte counts as the mouse's.
    output_is_auxiliary: bool,
    /// The byte read last; an empty buffer still shows it.
    last: u8,
    output_port: u8,
    reset: bool,
    ram: [u8; 32],
    /// The controller's own answers: whether each counts as the mouse's, and the byte, in turn.
    answers: VecDeque<u8>,
    /// The keyboard has said that the next code is of a key that goes up.
    breaking: bool,
    /// When the next byte has come over the wire; meaningful while one is on its way.
    ready_ns: u64,
    on_its_way: bool,
    keyboard: Keyboard,
    mouse: Mouse,
}
saved!(KeyboardController {
    command_byte,
    command,
    last_was_command,
    output,
    output_is_auxiliary,
    last,
    output_port,
    reset,
    ram,
    answers,
    breaking,
    ready_ns,
    on_its_way,
    keyboard,
    mouse,
});

impl Default for KeyboardController {
    /// As PC firmware leaves it: the self-test passed, the keyboard translated and allowed to interrupt, A20 open.
    fn default() -> Self {
        KeyboardController {
            command_byte: KEYBOARD_INTERRUPT | SYSTEM_FLAG | AUXILIARY_DISABLED | TRANSLATE,
            command: 0,
            last_was_command: false,
            output: None,
            output_is_auxiliary: false,
            last: 0,
            output_port: NO_RESET | A20,
            reset: false,
            ram: [0; 32],
            answers: VecDeque::new(),
            breaking: false,
            ready_ns: 0,
            on_its_way: false,
            keyboard: Keyboard::default(),
            mouse: Mouse::default(),
        }
    }
}

impl KeyboardController {
    /// Reads 60h (data) or 64h (status).
    pub fn read(&mut self, now_ns: u64, port: u16) -> u8 {
        let auxiliary = if self.output_is_auxiliary { AUXILIARY_OUTPUT } else { 0 };
        if port == 0x60 {
            self.last = self.output.take().unwrap_or(self.last);
            self.expect(now_ns);
            return self.last;
        }
        let full = if self.output.is_some() { OUTPUT_FULL | auxiliary } else { 0 };
        let command = if self.last_was_command { LAST_WAS_COMMAND } else { 0 };
        KEYBOARD_UNLOCKED | self.command_byte & SYSTEM_FLAG | command | full
    }

    /// Writes 60h (data) or 64h (command).
    pub fn write(&mut self, now_ns: u64, port: u16, value: u8) {
        self.last_was_command = port != 0x60;
        if port == 0x60 {
            self.data(value);
        } else {
            self.start(value);
        }
        self.expect(now_ns);
    }

    fn start(&mut self, command: u8) {
        self.command = command;
        match command {
            0x20 => self.answer(self.command_byte),
            0x21..=0x3f => self.answer(self.ram[usize::from(command & 0x1f)]),
            0xa7 => self.command_byte |= AUXILIARY_DISABLED,
            0xa8 => self.command_byte &= !AUXILIARY_DISABLED,
            0xa9 | 0xab => self.answer(0), // interface test: no error
            0xaa => {
                self.command_byte |= SYSTEM_FLAG;
                self.answer(0x55); // self-test passed
            }
            0xad => self.command_byte |= KEYBOARD_DISABLED,
            0xae => self.command_byte &= !KEYBOARD_DISABLED,
            0xc0 => self.answer(0x80), // input port: keyboard not inhibited
            0xd0 => self.answer(self.output_port_now()),
            0xdd => self.output_port &= !A20,
            0xdf => self.output_port |= A20,
            // A pulse of 6 us on the output port's lowest lines, those whose bits are 0.
            0xf0..=0xff if command & 1 == 0 => self.reset = true,
            _ => {}
        }
    }

    /// The lines of the output buffer's interrupts are part of the port.
    fn output_port_now(&self) -> u8 {
        let full = self.output.is_some();
        let lines = u8::from(full && !self.output_is_auxiliary) << 4 | u8::from(full && self.output_is_auxiliary) << 5;
        self.output_port & 0xcf | lines
    }

    fn data(&mut self, value: u8) {
        match std::mem::take(&mut self.command) {
            0x60 => self.command_byte = value & 0x7f,
            command @ 0x61..=0x7f => self.ram[usize::from(command & 0x1f)] = value,
            0xd1 => {
                self.output_port = value | NO_RESET;
                self.reset |= value & NO_RESET == 0;
            }
            0xd2 => self.answer(value),
            0xd3 => self.answer_as(Source::Mouse, value),
            0xd4 => {
                self.command_byte &= !AUXILIARY_DISABLED;
                self.mouse.write(value);
            }
            _ => {
                // Speaking to the keyboard ends its being disabled.
                self.command_byte &= !KEYBOARD_DISABLED;
                self.keyboard.write(value);
            }
        }
    }

    fn answer(&mut self, byte: u8) {
        self.answer_as(Source::Keyboard, byte);
    }

    fn answer_as(&mut self, source: Source, byte: u8) {
        if self.output.is_none() && self.answers.is_empty() {
            self.put(source, byte);
        } else if self.answers.len() < 2 * ANSWERS {
            self.answers.extend([u8::from(source == Source::Mouse), byte]);
        }
    }

    fn put(&mut self, source: Source, byte: u8) {
        self.output = Some(byte);
        self.output_is_auxiliary = source == Source::Mouse;
    }

    /// The device whose byte comes next.
    fn sender(&self) -> Option<Source> {
        if self.keyboard.has_byte() && self.command_byte & KEYBOARD_DISABLED == 0 {
            Some(Source::Keyboard)
        } else if self.mouse.has_byte() && self.command_byte & AUXILIARY_DISABLED == 0 {
            Some(Source::Mouse)
        } else {
            None
        }
    }

    /// If a byte can come, it is on its way from now.
    fn expect(&mut self, now_ns: u64) {
        let delay = match self.sender() {
            _ if self.output.is_some() => None,
            _ if !self.answers.is_empty() => Some(ANSWER_NS),
            sender => sender.map(|_| BYTE_NS),
        };
        match delay {
            Some(delay) if !self.on_its_way => self.ready_ns = now_ns.saturating_add(delay),
            _ => {}
        }
        self.on_its_way = delay.is_some();
    }

    /// When the next byte comes, in virtual nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        self.on_its_way.then_some(self.ready_ns)
    }

    /// Takes the byte that has come.
    pub fn tick(&mut self, now_ns: u64) {
        if !self.on_its_way || now_ns < self.ready_ns {
            return;
        }
        self.on_its_way = false;
        if let (Some(source), Some(byte)) = (self.answers.pop_front(), self.answers.pop_front()) {
            self.put(if source == 1 { Source::Mouse } else { Source::Keyboard }, byte);
        } else if let Some(source) = self.sender() {
            let byte = match source {
                Source::Keyboard => self.keyboard.send().and_then(|byte| self.translated(byte)),
                Source::Mouse => self.mouse.send(),
            };
            if let Some(byte) = byte {
                self.put(source, byte);
            }
        }
        self.expect(now_ns);
    }

    /// A byte of the keyboard as software is to see it; `None`: the next one tells.
    fn translated(&mut self, byte: u8) -> Option<u8> {
        if self.command_byte & TRANSLATE == 0 {
            return Some(byte);
        }
        if byte == codes::BREAK {
            self.breaking = true;
            return None;
        }
        let up = if std::mem::take(&mut self.breaking) { 0x80 } else { 0 };
        Some(codes::translate(byte) | up)
    }

    /// A key goes down or up (a Linux input event code).
    pub fn key(&mut self, now_ns: u64, code: u16, pressed: bool) {
        self.keyboard.key(code, pressed);
        self.expect(now_ns);
    }

    /// The mouse moves right and down, its wheel turns towards the user; the buttons that are down: 1 left, 2 right,
    /// 4 middle.
    pub fn pointer(&mut self, now_ns: u64, (dx, dy, wheel): (i16, i16, i8), buttons: u8) {
        self.mouse.push(dx, dy, wheel, buttons);
        self.expect(now_ns);
    }

    /// IRQ 1 and IRQ 12.
    pub fn lines(&self) -> [bool; 2] {
        let full = self.output.is_some();
        [
            full && !self.output_is_auxiliary && self.command_byte & KEYBOARD_INTERRUPT != 0,
            full && self.output_is_auxiliary && self.command_byte & AUXILIARY_INTERRUPT != 0,
        ]
    }

    /// Whether address line 20 is open.
    pub fn a20(&self) -> bool {
        self.output_port & A20 != 0
    }

    /// The keyboard's lights: scroll, number and capitals lock, from bit 0.
    pub fn leds(&self) -> u8 {
        self.keyboard.leds()
    }

    /// Whether the reset line was pulsed; clears it.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset)
    }
}

#[cfg(test)]
mod tests;
