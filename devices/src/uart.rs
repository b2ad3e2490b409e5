//! The 16550A UART (National Semiconductor PC16550D data sheet).
//!
//! Transmission takes no time: the transmitter is always empty again when THR has been written. Received bytes wait in
//! a queue of any length outside of the chip and enter its FIFO as that drains; the character timeout of data below
//! the trigger level counts as passed at once, so the chip needs no deadline.

use crate::state::saved;
use std::collections::VecDeque;

const FIFO_LENGTH: usize = 16;

/// Interrupt enable bits.
const ERBFI: u8 = 1;
const ETBEI: u8 = 2;
const ELSI: u8 = 4;
const EDSSI: u8 = 8;
/// Modem control bits.
const OUT2: u8 = 8;
const LOOP: u8 = 0x10;
/// Line status bits.
const DATA_READY: u8 = 1;
const OVERRUN: u8 = 2;
const TRANSMITTER_EMPTY: u8 = 0x60;
/// DCD, DSR and CTS of a terminal that is always there.
const MODEM_PRESENT: u8 = 0xb0;

/// The chip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uart {
    interrupt_enable: u8,
    fifo_control: u8,
    line_control: u8,
    modem_control: u8,
    modem_delta: u8,
    scratch: u8,
    divisor: [u8; 2],
    overrun: bool,
    transmitter_interrupt: bool,
    receiver: VecDeque<u8>,
    waiting: VecDeque<u8>,
}
saved!(Uart {
    interrupt_enable,
    fifo_control,
    line_control,
    modem_control,
    modem_delta,
    scratch,
    divisor,
    overrun,
    transmitter_interrupt,
    receiver,
    waiting,
});

impl Uart {
    /// Reads one of the eight registers.
    pub fn read(&mut self, register: u16) -> u8 {
        let divisor_latch = self.line_control & 0x80 != 0;
        match register & 7 {
            index @ (0 | 1) if divisor_latch => self.divisor[usize::from(index)],
            0 => self.receive(),
            1 => self.interrupt_enable,
            2 => self.interrupt_identification(),
            3 => self.line_control,
            4 => self.modem_control,
            5 => self.line_status(),
            6 => self.modem_status() | std::mem::take(&mut self.modem_delta),
            _ => self.scratch,
        }
    }

    /// Writes one of the eight registers. A byte that leaves the chip is returned.
    pub fn write(&mut self, register: u16, value: u8) -> Option<u8> {
        let divisor_latch = self.line_control & 0x80 != 0;
        match register & 7 {
            index @ (0 | 1) if divisor_latch => self.divisor[usize::from(index)] = value,
            0 => return self.transmit(value),
            1 => {
                // Enabling the interrupt while THR is empty raises it.
                let enabled = value & !self.interrupt_enable & ETBEI != 0;
                self.transmitter_interrupt |= enabled;
                self.interrupt_enable = value & 0xf;
            }
            2 => self.set_fifo_control(value),
            3 => self.line_control = value,
            4 => self.set_modem_control(value),
            7 => self.scratch = value,
            _ => {}
        }
        None
    }

    fn capacity(&self) -> usize {
        if self.fifo_control & 1 != 0 { FIFO_LENGTH } else { 1 }
    }

    fn trigger(&self) -> usize {
        if self.fifo_control & 1 == 0 {
            return 1;
        }
        [1, 4, 8, 14][usize::from(self.fifo_control >> 6)]
    }

    fn receive(&mut self) -> u8 {
        let byte = self.receiver.pop_front().unwrap_or(0);
        self.refill();
        byte
    }

    /// Lets waiting bytes in; the line is cut off in loopback.
    fn refill(&mut self) {
        while self.modem_control & LOOP == 0 && self.receiver.len() < self.capacity() {
            let Some(byte) = self.waiting.pop_front() else { break };
            self.receiver.push_back(byte);
        }
    }

    fn transmit(&mut self, byte: u8) -> Option<u8> {
        self.transmitter_interrupt = true;
        if self.modem_control & LOOP == 0 {
            return Some(byte);
        }
        if self.receiver.len() < self.capacity() {
            self.receiver.push_back(byte);
        } else {
            self.overrun = true;
            if self.capacity() == 1 {
                self.receiver[0] = byte;
            }
        }
        None
    }

    fn set_fifo_control(&mut self, value: u8) {
        let toggled = (value ^ self.fifo_control) & 1 != 0;
        if toggled || value & 3 == 3 {
            self.receiver.clear();
        }
        if toggled || value & 5 == 5 {
            self.transmitter_interrupt = true;
        }
        self.fifo_control = if value & 1 != 0 { value & 0xc9 } else { 0 };
        self.refill();
    }

    fn set_modem_control(&mut self, value: u8) {
        let before = self.modem_status();
        self.modem_control = value & 0x1f;
        let changed = before ^ self.modem_status();
        let ring_ended = before & 0x40 != 0 && changed & 0x40 != 0;
        self.modem_delta |= changed >> 4 & 0xb | if ring_ended { 4 } else { 0 };
        self.refill();
    }

    /// The upper half of MSR: the modem's lines, or our own outputs in loopback.
    fn modem_status(&self) -> u8 {
        let outputs = self.modem_control;
        if outputs & LOOP == 0 {
            return MODEM_PRESENT;
        }
        (outputs & 2) << 3 | (outputs & 1) << 5 | (outputs & 0xc) << 4
    }

    fn line_status(&mut self) -> u8 {
        TRANSMITTER_EMPTY
            | if self.receiver.is_empty() { 0 } else { DATA_READY }
            | if std::mem::take(&mut self.overrun) { OVERRUN } else { 0 }
    }

    /// The interrupt of the highest priority as IIR shows it, or 1 for none (data sheet, table IV).
    fn pending(&self) -> u8 {
        let enabled = |bit: u8| self.interrupt_enable & bit != 0;
        if enabled(ELSI) && self.overrun {
            0x6
        } else if enabled(ERBFI) && self.receiver.len() >= self.trigger() {
            0x4
        } else if enabled(ERBFI) && !self.receiver.is_empty() {
            0xc
        } else if enabled(ETBEI) && self.transmitter_interrupt {
            0x2
        } else if enabled(EDSSI) && self.modem_delta != 0 {
            0x0
        } else {
            0x1
        }
    }

    /// IIR. Reading it ends a transmitter interrupt.
    fn interrupt_identification(&mut self) -> u8 {
        let pending = self.pending();
        if pending == 2 {
            self.transmitter_interrupt = false;
        }
        pending | if self.fifo_control & 1 != 0 { 0xc0 } else { 0 }
    }

    /// Bytes arrive from outside.
    pub fn push(&mut self, bytes: &[u8]) {
        self.waiting.extend(bytes);
        self.refill();
    }

    /// Bytes that have not entered the FIFO yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The IRQ, which a PC gates with OUT2.
    pub fn line(&self) -> bool {
        self.pending() != 1 && self.modem_control & (OUT2 | LOOP) == OUT2
    }
}

#[cfg(test)]
mod tests;
