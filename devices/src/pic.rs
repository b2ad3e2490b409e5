//! Two 8259A interrupt controllers, the second cascaded into IR2 of the first (Intel 8259A data sheet 231468; ELCR:
//! 82371SB PIIX3 §2.3.4).
//!
//! Lines are levels the board sets. In edge mode a request lives from the rising edge until it is acknowledged or the
//! line falls again; a request gone before INTA yields the spurious IR7, as the data sheet says.

use crate::state::saved;

/// Which word the chip expects at its odd address (data sheet, "Initialization Command Words").
const READY: u8 = 0;
const ICW2: u8 = 2;
const ICW3: u8 = 3;
const ICW4: u8 = 4;

/// One 8259A.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chip {
    lines: u8,
    edges: u8,
    elcr: u8,
    imr: u8,
    isr: u8,
    vector_base: u8,
    expects: u8,
    icw1: u8,
    icw4: u8,
    lowest_priority: u8,
    read_isr: bool,
    poll: bool,
    special_mask: bool,
    rotate_on_aeoi: bool,
}
saved!(Chip {
    lines,
    edges,
    elcr,
    imr,
    isr,
    vector_base,
    expects,
    icw1,
    icw4,
    lowest_priority,
    read_isr,
    poll,
    special_mask,
    rotate_on_aeoi,
});

impl Chip {
    fn new() -> Chip {
        Chip {
            lines: 0,
            edges: 0,
            elcr: 0,
            imr: 0xff,
            isr: 0,
            vector_base: 0,
            expects: READY,
            icw1: 0,
            icw4: 0,
            lowest_priority: 7,
            read_isr: false,
            poll: false,
            special_mask: false,
            rotate_on_aeoi: false,
        }
    }

    fn level_triggered(&self) -> u8 {
        if self.icw1 & 8 != 0 { 0xff } else { self.elcr }
    }

    /// The interrupt request register.
    fn irr(&self) -> u8 {
        let level = self.level_triggered();
        self.lines & (level | self.edges)
    }

    /// Whether the line has changed.
    fn set_line(&mut self, line: u8, high: bool) -> bool {
        let bit = 1 << line;
        let changes = (self.lines & bit != 0) != high;
        if changes {
            self.lines ^= bit;
            self.edges = if high { self.edges | bit } else { self.edges & !bit };
        }
        changes
    }

    /// Position in the priority order, 0 highest.
    fn rank(&self, line: u8) -> u8 {
        line.wrapping_sub(self.lowest_priority).wrapping_sub(1) & 7
    }

    fn highest(&self, set: u8) -> Option<u8> {
        if set == 0 {
            return None;
        }
        (1..=8).map(|rank| self.lowest_priority.wrapping_add(rank) & 7).find(|line| set >> line & 1 != 0)
    }

    /// The request that INT stands for, if any.
    fn request(&self, cascade: u8) -> Option<u8> {
        let line = self.highest(self.irr() & !self.imr)?;
        let mut blocking = self.isr;
        if self.special_mask {
            blocking &= !self.imr;
        }
        if self.icw4 & 0x10 != 0 {
            blocking &= !cascade; // special fully nested mode: the slave may interrupt its own service
        }
        match self.highest(blocking) {
            Some(service) if self.rank(service) <= self.rank(line) => None,
            _ => Some(line),
        }
    }

    /// INTA: the line taken into service, or `None` for the spurious one.
    fn acknowledge(&mut self, cascade: u8) -> Option<u8> {
        let line = self.request(cascade)?;
        self.edges &= !(1 << line);
        if self.icw4 & 2 == 0 {
            self.isr |= 1 << line;
        } else if self.rotate_on_aeoi {
            self.lowest_priority = line;
        }
        Some(line)
    }

    fn read(&mut self, odd: bool, cascade: u8) -> u8 {
        if std::mem::take(&mut self.poll) {
            return self.acknowledge(cascade).map_or(0, |line| 0x80 | line);
        }
        match (odd, self.read_isr) {
            (true, _) => self.imr,
            (false, true) => self.isr,
            (false, false) => self.irr(),
        }
    }

    fn write_odd(&mut self, value: u8) {
        match self.expects {
            ICW2 => {
                self.vector_base = value & 0xf8;
                self.expects = match self.icw1 {
                    icw1 if icw1 & 2 == 0 => ICW3,
                    icw1 if icw1 & 1 != 0 => ICW4,
                    _ => READY,
                };
            }
            ICW3 => self.expects = if self.icw1 & 1 != 0 { ICW4 } else { READY },
            ICW4 => {
                self.icw4 = value;
                self.expects = READY;
            }
            _ => self.imr = value,
        }
    }

    fn write_even(&mut self, value: u8) {
        if value & 0x10 != 0 {
            self.initialize(value);
        } else if value & 8 != 0 {
            self.operation_control_3(value);
        } else {
            self.operation_control_2(value);
        }
    }

    /// ICW1 resets all but the lines and the ELCR.
    fn initialize(&mut self, icw1: u8) {
        let Chip { lines, elcr, vector_base, .. } = *self;
        *self = Chip { lines, elcr, vector_base, imr: 0, icw1, expects: ICW2, ..Chip::new() };
    }

    fn operation_control_3(&mut self, value: u8) {
        if value & 0x40 != 0 {
            self.special_mask = value & 0x20 != 0;
        }
        self.poll = value & 4 != 0;
        if value & 2 != 0 {
            self.read_isr = value & 1 != 0;
        }
    }

    /// End of interrupt and rotation (data sheet, figure "Operation Command Word Format").
    fn operation_control_2(&mut self, value: u8) {
        let line = value & 7;
        match value >> 5 {
            0 => self.rotate_on_aeoi = false,
            4 => self.rotate_on_aeoi = true,
            6 => self.lowest_priority = line,
            command @ (1 | 5) => {
                let in_service = if self.special_mask { self.isr & !self.imr } else { self.isr };
                if let Some(highest) = self.highest(in_service) {
                    self.end(highest, command == 5);
                }
            }
            command @ (3 | 7) => self.end(line, command == 7),
            _ => {}
        }
    }

    fn end(&mut self, line: u8, rotate: bool) {
        self.isr &= !(1 << line);
        if rotate {
            self.lowest_priority = line;
        }
    }
}

/// The pair as a PC wires it: IRQ 0-7 at the master, 8-15 at the slave, whose INT is the master's IR2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pic {
    master: Chip,
    slave: Chip,
}
saved!(Pic { master, slave });

/// The master's input that carries the slave.
const CASCADE: u8 = 2;
/// Lines that a PC cannot make level-triggered: timer, keyboard, cascade; RTC, FPU.
const ELCR_MASTER: u8 = 0xf8;
const ELCR_SLAVE: u8 = 0xde;

impl Default for Pic {
    fn default() -> Self {
        Pic { master: Chip::new(), slave: Chip::new() }
    }
}

impl Pic {
    /// Reads 20h, 21h, A0h, A1h, 4D0h or 4D1h.
    pub fn read(&mut self, port: u16) -> u8 {
        let value = match port {
            0x20 | 0x21 => self.master.read(port & 1 != 0, 1 << CASCADE),
            0xa0 | 0xa1 => self.slave.read(port & 1 != 0, 0),
            0x4d0 => self.master.elcr,
            0x4d1 => self.slave.elcr,
            _ => 0xff,
        };
        self.cascade();
        value
    }

    /// Writes one of the same ports.
    pub fn write(&mut self, port: u16, value: u8) {
        match port {
            0x20 => self.master.write_even(value),
            0x21 => self.master.write_odd(value),
            0xa0 => self.slave.write_even(value),
            0xa1 => self.slave.write_odd(value),
            0x4d0 => self.master.elcr = value & ELCR_MASTER,
            0x4d1 => self.slave.elcr = value & ELCR_SLAVE,
            _ => {}
        }
        self.cascade();
    }

    /// Sets the level of an IRQ line, 0 to 15; 2 is the cascade and ignored.
    pub fn set_line(&mut self, irq: u8, high: bool) {
        match irq {
            0..=7 if irq != CASCADE => drop(self.master.set_line(irq, high)),
            8..=15 if self.slave.set_line(irq - 8, high) => self.cascade(),
            _ => {}
        }
    }

    /// Whether INT is asserted.
    pub fn interrupt(&self) -> bool {
        self.master.request(1 << CASCADE).is_some()
    }

    /// Whether a request on this line could assert INT: its mask bit and the cascade's are clear.
    pub fn is_unmasked(&self, irq: u8) -> bool {
        match irq {
            0..=7 => self.master.imr >> irq & 1 == 0,
            8..=15 => self.slave.imr >> (irq - 8) & 1 == 0 && self.master.imr >> CASCADE & 1 == 0,
            _ => false,
        }
    }

    /// The INTA cycles: the vector, which is the spurious one if the request has gone away.
    pub fn acknowledge(&mut self) -> u8 {
        let Some(line) = self.master.acknowledge(1 << CASCADE) else { return self.master.vector_base | 7 };
        if line != CASCADE {
            return self.master.vector_base | line;
        }
        let vector = self.slave.vector_base | self.slave.acknowledge(0).unwrap_or(7);
        self.master.set_line(CASCADE, false); // INT drops between the INTA pulses
        self.cascade();
        vector
    }

    fn cascade(&mut self) {
        self.master.set_line(CASCADE, self.slave.request(0).is_some());
    }
}

#[cfg(test)]
mod tests;
