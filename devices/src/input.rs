//! The one way into the machine: a closed list of inputs, and how they are written in the log.

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
}

const CLOCK: u8 = 0;
const SERIAL: u8 = 1;
const POWER_BUTTON: u8 = 2;

impl Input {
    /// Appends the encoding: a tag, then LEB128 integers and length-prefixed bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Input::Clock { ns, rate } => {
                out.push(CLOCK);
                encode_integer(*ns, out);
                encode_integer(u64::from(*rate), out);
            }
            Input::Serial { port, bytes } => {
                out.extend([SERIAL, *port]);
                encode_integer(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Input::PowerButton => out.push(POWER_BUTTON),
        }
    }

    /// Takes one input off the front. `None`: the bytes are cut short or no input.
    pub fn decode(bytes: &mut &[u8]) -> Option<Input> {
        match take_byte(bytes)? {
            CLOCK => Some(Input::Clock { ns: decode_integer(bytes)?, rate: decode_integer(bytes)?.try_into().ok()? }),
            SERIAL => {
                let port = take_byte(bytes)?;
                let length = usize::try_from(decode_integer(bytes)?).ok()?;
                Some(Input::Serial { port, bytes: crate::state::take(bytes, length)?.to_vec() })
            }
            POWER_BUTTON => Some(Input::PowerButton),
            _ => None,
        }
    }
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
        assert_eq!(Input::decode(&mut &[3u8][..]), None);
        assert_eq!(Input::decode(&mut &[CLOCK, 0x80, 0x00, 1][..]), None, "not the shortest form");
        assert_eq!(Input::decode(&mut &[CLOCK, 1, 0xff, 0xff, 0xff, 0xff, 0x7f][..]), None, "more than 32 bits");
        assert_eq!(Input::decode(&mut &[[SERIAL, 0].as_slice(), &[0xff; 9], &[1]].concat()[..]), None);
    }
}
