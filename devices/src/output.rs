//! The one way out of the machine: a closed list of outputs, each with the count at which it left.

use ftemu_cpu::Icount;

/// Something that leaves the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Bytes a serial port sent: 0 is COM1, 1 is COM2.
    Serial {
        /// Which port.
        port: u8,
        /// The bytes, in order.
        bytes: Vec<u8>,
    },
    /// A frame left a network card.
    Frame {
        /// Which card, in the order of the configuration.
        nic: u8,
        /// From the destination address to the last byte of the payload; no check sequence.
        bytes: Vec<u8>,
    },
    /// The guest switched the machine off; it will not run again.
    PowerOff,
    /// The machine has reset itself.
    Reset,
}

/// An output and the count of instructions complete when (the last byte of) it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emitted {
    /// Every input before this count is part of the history that led to the output.
    pub count: Icount,
    /// What left.
    pub output: Output,
}

/// Outputs that wait to be drained. Not part of the machine's state.
#[derive(Debug, Default)]
pub struct Outputs {
    first: Option<Icount>,
    waiting: Vec<Emitted>,
}

impl Outputs {
    /// A byte leaves a serial port; bytes that follow each other are kept together.
    pub fn serial(&mut self, count: Icount, port: u8, byte: u8) {
        if let Some(Emitted { count: last, output: Output::Serial { port: same, bytes } }) = self.waiting.last_mut()
            && *same == port
        {
            *last = count;
            bytes.push(byte);
            return;
        }
        self.push(count, Output::Serial { port, bytes: vec![byte] });
    }

    /// Any other output.
    pub fn push(&mut self, count: Icount, output: Output) {
        self.first.get_or_insert(count);
        self.waiting.push(Emitted { count, output });
    }

    /// The count of the oldest byte that waits.
    pub fn first(&self) -> Option<Icount> {
        self.first
    }

    /// Takes everything.
    pub fn drain(&mut self) -> Vec<Emitted> {
        self.first = None;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_a_port_stay_together_under_the_last_count() {
        let mut outputs = Outputs::default();
        outputs.serial(Icount(5), 0, b'a');
        outputs.serial(Icount(9), 0, b'b');
        outputs.serial(Icount(11), 1, b'c');
        assert_eq!(outputs.first(), Some(Icount(5)));
        let drained = outputs.drain();
        assert_eq!(drained.len(), 2);
        assert_eq!(drained[0], Emitted { count: Icount(9), output: Output::Serial { port: 0, bytes: b"ab".to_vec() } });
        assert_eq!(outputs.first(), None);
    }
}
