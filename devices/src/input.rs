//! The one way into the machine: a closed list of inputs, and how they are written in the log.

use crate::state::Saved;
use crate::storage::Disc;

/// Something from outside. It lands at an instruction count that the primary chose and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// From here on virtual time runs from `ns` (or from where it is, if later) at `rate`/1024 ns per instruction.
    Clock {
        /// Virtual nanoseconds.
        ns: u64,
        /// 1/1024 ns per instruction.
        rate: u32,
    },
    /// Bytes arrive at a serial port: 0 is COM1, 1 is COM2.
    Serial {
        /// Which port; others than 0 and 1 are not there and the bytes are lost.
        port: u8,
        /// The bytes, in order.
        bytes: Vec<u8>,
    },
    /// The power button is pressed.
    PowerButton,
    /// A frame arrives at a network card.
    Frame {
        /// Which card, in the order of the configuration; one that is not there loses the frame.
        nic: u8,
        /// From the destination address to the last byte of the payload; no check sequence.
        bytes: Vec<u8>,
    },
    /// A network card's cable is plugged in or pulled.
    Link {
        /// Which card.
        nic: u8,
        /// Whether there is a link now.
        up: bool,
    },
    /// A key goes down or up.
    Key {
        /// The key's number among Linux input event codes: `KEY_A` is 30.
        code: u16,
        /// Whether it is down now.
        pressed: bool,
    },
    /// The mouse moves, or its buttons change.
    Pointer {
        /// To the right.
        dx: i16,
        /// Downwards.
        dy: i16,
        /// Wheel steps, towards the user.
        wheel: i8,
        /// The buttons that are down now: 1 left, 2 right, 4 middle.
        buttons: u8,
    },
    /// The host cannot serve a request of a drive: the guest gets an error.
    DriveFault {
        /// Which drive, in the order of the configuration.
        drive: u8,
        /// The request.
        ticket: u64,
    },
    /// The reset button is pressed.
    Reset,
    /// The button at the tray of a drive for CDs is pressed.
    Eject {
        /// Which drive, in the order of the configuration.
        drive: u8,
    },
    /// A disc is put into such a drive.
    Insert {
        /// Which drive, in the order of the configuration.
        drive: u8,
        /// The disc.
        disc: Disc,
    },
}

const CLOCK: u8 = 0;
const SERIAL: u8 = 1;
const POWER_BUTTON: u8 = 2;
const FRAME: u8 = 3;
const LINK: u8 = 4;
const KEY: u8 = 5;
const POINTER: u8 = 6;
const DRIVE_FAULT: u8 = 7;
const RESET: u8 = 8;
const EJECT: u8 = 9;
const INSERT: u8 = 10;

impl Input {
    /// Appends the encoding: a tag, then LEB128 integers and length-prefixed bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Input::Clock { ns, rate } => {
                out.push(CLOCK);
                encode_integer(*ns, out);
                encode_integer(u64::from(*rate), out);
            }
            Input::Serial { port, bytes } => encode_bytes([SERIAL, *port], bytes, out),
            Input::PowerButton => out.push(POWER_BUTTON),
            Input::Frame { nic, bytes } => encode_bytes([FRAME, *nic], bytes, out),
            Input::Link { nic, up } => out.extend([LINK, *nic, u8::from(*up)]),
            Input::Key { code, pressed } => {
                out.push(KEY);
                out.extend(code.to_le_bytes());
                out.push(u8::from(*pressed));
            }
            Input::Pointer { dx, dy, wheel, buttons } => {
                out.push(POINTER);
                out.extend(dx.to_le_bytes());
                out.extend(dy.to_le_bytes());
                out.extend([*wheel as u8, *buttons]);
            }
            Input::DriveFault { drive, ticket } => {
                out.extend([DRIVE_FAULT, *drive]);
                encode_integer(*ticket, out);
            }
            Input::Reset => out.push(RESET),
            Input::Eject { drive } => out.extend([EJECT, *drive]),
            Input::Insert { drive, disc: Disc { sectors, hash } } => {
                out.extend([INSERT, *drive]);
                encode_integer(*sectors, out);
                out.extend(hash);
            }
        }
    }

    /// Takes one input off the front. `None`: the bytes are cut short or no input.
    pub fn decode(bytes: &mut &[u8]) -> Option<Input> {
        match take_byte(bytes)? {
            CLOCK => Some(Input::Clock { ns: decode_integer(bytes)?, rate: decode_integer(bytes)?.try_into().ok()? }),
            SERIAL => Some(Input::Serial { port: take_byte(bytes)?, bytes: take_bytes(bytes)? }),
            POWER_BUTTON => Some(Input::PowerButton),
            FRAME => Some(Input::Frame { nic: take_byte(bytes)?, bytes: take_bytes(bytes)? }),
            LINK => Some(Input::Link { nic: take_byte(bytes)?, up: bool::load(bytes)? }),
            KEY => Some(Input::Key { code: u16::load(bytes)?, pressed: bool::load(bytes)? }),
            POINTER => Some(Input::Pointer {
                dx: u16::load(bytes)? as i16,
                dy: u16::load(bytes)? as i16,
                wheel: take_byte(bytes)? as i8,
                buttons: take_byte(bytes)?,
            }),
            DRIVE_FAULT => Some(Input::DriveFault { drive: take_byte(bytes)?, ticket: decode_integer(bytes)? }),
            RESET => Some(Input::Reset),
            EJECT => Some(Input::Eject { drive: take_byte(bytes)? }),
            INSERT => {
                let (drive, sectors) = (take_byte(bytes)?, decode_integer(bytes)?);
                let hash = crate::state::take(bytes, 32)?.try_into().ok()?;
                Some(Input::Insert { drive, disc: Disc { sectors, hash } })
            }
            _ => None,
        }
    }
}

fn encode_bytes(head: [u8; 2], bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(head);
    encode_integer(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn take_bytes(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let length = usize::try_from(decode_integer(bytes)?).ok()?;
    Some(crate::state::take(bytes, length)?.to_vec())
}

fn take_byte(bytes: &mut &[u8]) -> Option<u8> {
    crate::state::take(bytes, 1).map(|byte| byte[0])
}

/// Unsigned LEB128.
fn encode_integer(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Unsigned LEB128; the shortest form only, so that equal inputs have equal bytes.
fn decode_integer(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(bytes)?;
        let part = u64::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return (byte != 0 || shift == 0).then_some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_round_trip_and_are_compact() {
        let inputs = [
            (Input::Clock { ns: u64::MAX, rate: u32::MAX }, 16),
            (Input::Clock { ns: 0, rate: 1024 }, 4),
            (Input::Serial { port: 1, bytes: vec![7; 300] }, 304),
            (Input::PowerButton, 1),
            (Input::Frame { nic: 1, bytes: vec![0xff; 60] }, 63),
            (Input::Link { nic: 0, up: false }, 3),
            (Input::Key { code: 30, pressed: true }, 4),
            (Input::Pointer { dx: -1, dy: i16::MIN, wheel: -1, buttons: 7 }, 7),
            (Input::DriveFault { drive: 2, ticket: 300 }, 4),
            (Input::Reset, 1),
            (Input::Eject { drive: 3 }, 2),
            (Input::Insert { drive: 3, disc: Disc { sectors: 300, hash: [7; 32] } }, 36),
        ];
        for (input, length) in inputs {
            let mut out = Vec::new();
            input.encode(&mut out);
            assert_eq!(out.len(), length);
            for cut in 0..out.len() {
                assert_eq!(Input::decode(&mut &out[..cut]), None);
            }
            let mut bytes = &out[..];
            assert_eq!(Input::decode(&mut bytes), Some(input));
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn hostile_bytes_are_refused() {
        assert_eq!(Input::decode(&mut &[11u8][..]), None);
        assert_eq!(Input::decode(&mut &[LINK, 0, 2][..]), None, "neither up nor down");
        assert_eq!(Input::decode(&mut &[CLOCK, 0x80, 0x00, 1][..]), None, "not the shortest form");
        assert_eq!(Input::decode(&mut &[CLOCK, 1, 0xff, 0xff, 0xff, 0xff, 0x7f][..]), None, "more than 32 bits");
        assert_eq!(Input::decode(&mut &[[SERIAL, 0].as_slice(), &[0xff; 9], &[1]].concat()[..]), None);
    }
}
