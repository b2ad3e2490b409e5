//! What goes into a guest, what comes out of it, and why its run ended.

use crate::wire::{Bad, Reader, put_bytes, put_number};
use ftemu_cpu::Icount;

/// Something from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// The virtual clock is anchored anew: `ns` now (never back), `rate` in 1/1024 ns per instruction.
    Clock {
        /// Virtual nanoseconds.
        ns: u64,
        /// 1/1024 ns per instruction.
        rate: u32,
    },
    /// Bytes for a serial port.
    Serial {
        /// 0 is COM1.
        port: u8,
        /// What arrived.
        bytes: Vec<u8>,
    },
    /// The power button was pressed.
    PowerButton,
}

impl Input {
    /// Appends the compact encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Input::Clock { ns, rate } => {
                put_number(out, 0);
                put_number(out, *ns);
                put_number(out, u64::from(*rate));
            }
            Input::Serial { port, bytes } => {
                put_number(out, 1);
                out.push(*port);
                put_bytes(out, bytes);
            }
            Input::PowerButton => put_number(out, 2),
        }
    }

    /// Reads what [`Input::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are cut short or name no input.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Input, Bad> {
        Ok(match reader.number()? {
            0 => Input::Clock { ns: reader.number()?, rate: reader.number32()? },
            1 => Input::Serial { port: reader.byte()?, bytes: reader.bytes()?.to_vec() },
            2 => Input::PowerButton,
            _ => return Err(reader.bad("no such input")),
        })
    }
}

/// Something for the outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Bytes from a serial port.
    Serial {
        /// 0 is COM1.
        port: u8,
        /// What the guest sent.
        bytes: Vec<u8>,
    },
    /// The guest switched itself off.
    PowerOff,
    /// The guest reset itself and goes on.
    Reset,
}

/// An output and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Instructions completed before the one that made it.
    pub count: Icount,
    /// What.
    pub output: Output,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran {
    /// The count was reached.
    Count,
    /// Outputs wait to be drained.
    Output,
    /// The guest is halted until an interrupt; `deadline_ns` is the next one that time alone brings.
    Idle {
        /// Virtual nanoseconds.
        deadline_ns: Option<u64>,
    },
    /// The guest is off.
    PoweredOff,
}
