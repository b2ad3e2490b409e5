//! The mouse at the controller's second port (IBM Personal System/2 hardware reference, "Mouse"; Microsoft IntelliMouse
//! for the wheel): two counters of movement, three buttons, a wheel when software has knocked with sample rates 200,
//! 100, 80.
//!
//! In stream mode a packet leaves when the one before is on its way; the wire is slower than every sample rate that
//! software asks for, so the rate is kept and told but does not hold packets back.

use crate::state::{Saved, saved};
use std::collections::VecDeque;

const ACKNOWLEDGE: u8 = 0xfa;
const RESEND: u8 = 0xfe;
const SELF_TEST_PASSED: u8 = 0xaa;
const QUEUE_BYTES: usize = 64;
const WHEEL_KNOCK: [u8; 3] = [200, 100, 80];
const WHEEL_IDENTITY: u8 = 3;
const DEFAULT_RATE: u8 = 100;
const DEFAULT_RESOLUTION: u8 = 2;
/// Counters have nine bits.
const COUNTER: std::ops::RangeInclusive<i32> = -255..=255;
/// What can be told in one step of the wheel.
const WHEEL: std::ops::RangeInclusive<i32> = -8..=7;
/// Movement that is not told yet is forgotten beyond this.
const FARTHEST: i32 = 1 << 16;

/// Movement since the last packet: right, down, and the wheel towards the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Movement {
    x: i32,
    y: i32,
    wheel: i32,
}

impl Saved for Movement {
    fn save(&self, out: &mut Vec<u8>) {
        let Movement { x, y, wheel } = self;
        [x, y, wheel].into_iter().for_each(|value| (*value as u32).save(out));
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        let mut value = || u32::load(bytes).map(|value| (value as i32).clamp(-FARTHEST, FARTHEST));
        Some(Movement { x: value()?, y: value()?, wheel: value()? })
    }
}

/// The mouse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mouse {
    queue: VecDeque<u8>,
    movement: Movement,
    /// 1 left, 2 right, 4 middle.
    buttons: u8,
    told_buttons: u8,
    reporting: bool,
    remote: bool,
    wrap: bool,
    scaling: bool,
    resolution: u8,
    rate: u8,
    identity: u8,
    knock: [u8; 3],
    /// A command that takes a byte.
    command: u8,
    last: u8,
}
saved!(Mouse {
    queue,
    movement,
    buttons,
    told_buttons,
    reporting,
    remote,
    wrap,
    scaling,
    resolution,
    rate,
    identity,
    knock,
    command,
    last,
});

impl Default for Mouse {
    fn default() -> Self {
        Mouse {
            queue: VecDeque::new(),
            movement: Movement::default(),
            buttons: 0,
            told_buttons: 0,
            reporting: false,
            remote: false,
            wrap: false,
            scaling: false,
            resolution: DEFAULT_RESOLUTION,
            rate: DEFAULT_RATE,
            identity: 0,
            knock: [0; 3],
            command: 0,
            last: 0,
        }
    }
}

impl Mouse {
    /// It moves to the right and down, its wheel towards the user, and these buttons are down now.
    pub fn push(&mut self, dx: i16, dy: i16, wheel: i8, buttons: u8) {
        let add = |sum: i32, step: i32| (sum + step).clamp(-FARTHEST, FARTHEST);
        let Movement { x, y, wheel: turned } = self.movement;
        self.movement =
            Movement { x: add(x, i32::from(dx)), y: add(y, i32::from(dy)), wheel: add(turned, i32::from(wheel)) };
        // A click that begins and ends while the wire is busy is still a click.
        if self.streams() && self.buttons != self.told_buttons && self.buttons != buttons & 7 {
            self.packet();
        }
        self.buttons = buttons & 7;
        self.stream();
    }

    fn streams(&self) -> bool {
        self.reporting && !self.remote && !self.wrap
    }

    /// Puts a packet on its way if there is something to tell and the wire is free.
    fn stream(&mut self) {
        let told = self.movement == Movement::default() && self.buttons == self.told_buttons;
        if self.streams() && self.queue.is_empty() && !told {
            self.packet();
        }
    }

    fn packet(&mut self) {
        let Movement { x, y, wheel } = self.movement;
        let has_wheel = self.identity == WHEEL_IDENTITY;
        let (right, up) = (x.clamp(*COUNTER.start(), *COUNTER.end()), (-y).clamp(*COUNTER.start(), *COUNTER.end()));
        let steps = if has_wheel { wheel.clamp(*WHEEL.start(), *WHEEL.end()) } else { wheel };
        self.movement = Movement { x: x - right, y: y + up, wheel: wheel - steps };
        self.told_buttons = self.buttons;
        let (sent_right, sent_up) = if self.scaling && !self.remote { (scale(right), scale(up)) } else { (right, up) };
        let signs = u8::from(sent_right < 0) << 4 | u8::from(sent_up < 0) << 5;
        let bytes = [8 | self.buttons | signs, sent_right as u8, sent_up as u8, steps as u8];
        let length = if has_wheel { 4 } else { 3 };
        if self.queue.len() + length <= QUEUE_BYTES {
            self.queue.extend(&bytes[..length]);
        }
    }

    /// A byte from the controller.
    pub fn write(&mut self, value: u8) {
        if self.wrap && !matches!(value, 0xec | 0xff) {
            self.queue.push_back(value);
            self.queue.truncate(QUEUE_BYTES);
            return;
        }
        match std::mem::take(&mut self.command) {
            0xe8 if value <= 3 => self.resolution = value,
            0xf3 if (1..=200).contains(&value) => self.set_rate(value),
            0xe8 | 0xf3 => return self.answer(&[RESEND]),
            _ => return self.start(value),
        }
        self.answer(&[ACKNOWLEDGE]);
    }

    fn set_rate(&mut self, rate: u8) {
        self.rate = rate;
        self.knock = [self.knock[1], self.knock[2], rate];
        if self.knock == WHEEL_KNOCK {
            self.identity = WHEEL_IDENTITY;
        }
    }

    fn start(&mut self, command: u8) {
        match command {
            0xe6 | 0xe7 => self.scaling = command == 0xe7,
            0xe8 | 0xf3 => self.command = command,
            0xe9 => return self.tell_status(),
            0xea => self.set_mode(false, false),
            0xeb => {
                self.answer(&[ACKNOWLEDGE]);
                return self.packet();
            }
            0xec => self.set_mode(self.remote, false),
            0xee => self.set_mode(self.remote, true),
            0xf0 => self.set_mode(true, false),
            0xf2 => return self.answer(&[ACKNOWLEDGE, self.identity]),
            0xf4 | 0xf5 => {
                self.reporting = command == 0xf4;
                self.movement = Movement::default();
            }
            0xf6 => {
                let Mouse { buttons, identity, knock, .. } = *self;
                *self = Mouse { buttons, told_buttons: buttons, identity, knock, ..Mouse::default() };
            }
            0xfe => return self.queue.push_front(self.last),
            0xff => {
                *self = Mouse { buttons: self.buttons, told_buttons: self.buttons, ..Mouse::default() };
                return self.answer(&[ACKNOWLEDGE, SELF_TEST_PASSED, 0]);
            }
            _ => return self.answer(&[RESEND]),
        }
        self.answer(&[ACKNOWLEDGE]);
    }

    fn set_mode(&mut self, remote: bool, wrap: bool) {
        (self.remote, self.wrap) = (remote, wrap);
        self.movement = Movement::default();
    }

    fn tell_status(&mut self) {
        let buttons = (self.buttons & 1) << 2 | (self.buttons & 2) >> 1 | (self.buttons & 4) >> 1;
        let modes = u8::from(self.scaling) << 4 | u8::from(self.reporting) << 5 | u8::from(self.remote) << 6;
        self.answer(&[ACKNOWLEDGE, modes | buttons, self.resolution, self.rate]);
    }

    /// What was on its way is dropped when a command comes.
    fn answer(&mut self, bytes: &[u8]) {
        self.queue.clear();
        self.queue.extend(bytes);
    }

    /// The next byte for the controller.
    pub fn send(&mut self) -> Option<u8> {
        let byte = self.queue.pop_front()?;
        self.last = byte;
        self.stream();
        Some(byte)
    }

    /// Whether there is a next byte.
    pub fn has_byte(&self) -> bool {
        !self.queue.is_empty()
    }
}

/// Scaling 2:1 of the hardware reference: slow movement is slowed, fast movement doubled.
fn scale(counts: i32) -> i32 {
    let scaled = match counts.abs() {
        0 => 0,
        1 | 2 => 1,
        3 => 3,
        4 => 6,
        5 => 9,
        count => 2 * count,
    };
    (scaled * counts.signum()).clamp(*COUNTER.start(), *COUNTER.end())
}
