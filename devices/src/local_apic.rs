//! The local APIC, xAPIC mode (Intel SDM vol. 3A chapter 11; AMD APM vol. 2 chapter 16).
//!
//! The board carries messages in, takes vectors out and passes EOIs on to the I/O APIC. The timer counts a bus clock of
//! 1 GHz, so one undivided tick is one virtual nanosecond; the TSC deadline is in the same unit.

use crate::io_apic::Message;
use crate::local_apic_timer::Timer;
use crate::state::saved;
use crate::vectors::Vectors;

/// Guest-physical address of the registers; the base in IA32_APIC_BASE cannot be moved.
pub const BASE: u64 = 0xfee0_0000;
/// Version 14h with six LVT entries.
const VERSION: u32 = 0x0005_0014;

/// IA32_APIC_BASE: this is the bootstrap processor.
const BOOTSTRAP: u64 = 1 << 8;
/// IA32_APIC_BASE: globally enabled.
const GLOBAL_ENABLE: u64 = 1 << 11;

const SOFTWARE_ENABLE: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;

/// ESR bits.
const SEND_ILLEGAL: u32 = 1 << 5;
const RECEIVE_ILLEGAL: u32 = 1 << 6;
const ILLEGAL_REGISTER: u32 = 1 << 7;

/// LVT entries in register order from 320h.
const TIMER: usize = 0;
const LINT0: usize = 3;
const LINT1: usize = 4;
const ERROR: usize = 5;
/// Writable bits of each LVT entry.
const LVT_WRITABLE: [u32; 6] = [0x0007_00ff, 0x0001_07ff, 0x0001_07ff, 0x0001_a7ff, 0x0001_a7ff, 0x0001_00ff];

/// The chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalApic {
    base: u64,
    id: u8,
    task_priority: u8,
    logical_destination: u8,
    destination_format: u32,
    spurious: u32,
    in_service: Vectors,
    trigger_mode: Vectors,
    requests: Vectors,
    error: u32,
    error_latch: u32,
    command: [u32; 2],
    lvt: [u32; 6],
    lint0: bool,
    nmi: bool,
    timer: Timer,
}
saved!(LocalApic {
    base,
    id,
    task_priority,
    logical_destination,
    destination_format,
    spurious,
    in_service,
    trigger_mode,
    requests,
    error,
    error_latch,
    command,
    lvt,
    lint0,
    nmi,
    timer,
});

impl Default for LocalApic {
    fn default() -> Self {
        LocalApic {
            base: BASE | GLOBAL_ENABLE | BOOTSTRAP,
            id: 0,
            task_priority: 0,
            logical_destination: 0,
            destination_format: u32::MAX,
            spurious: 0xff,
            in_service: Vectors::default(),
            trigger_mode: Vectors::default(),
            requests: Vectors::default(),
            error: 0,
            error_latch: 0,
            command: [0; 2],
            lvt: [MASKED; 6],
            lint0: false,
            nmi: false,
            timer: Timer::default(),
        }
    }
}

impl LocalApic {
    /// What PC firmware leaves: enabled, the 8259 pair through LINT0 as ExtINT ("virtual wire"), NMI on LINT1.
    pub fn set_virtual_wire(&mut self) {
        self.spurious = SOFTWARE_ENABLE | 0xff;
        self.lvt[LINT0] = 0x700;
        self.lvt[LINT1] = 0x400;
    }

    /// Whether the register window answers.
    pub fn is_globally_enabled(&self) -> bool {
        self.base & GLOBAL_ENABLE != 0
    }

    fn is_enabled(&self) -> bool {
        self.is_globally_enabled() && self.spurious & SOFTWARE_ENABLE != 0
    }

    /// IA32_APIC_BASE.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// Writes IA32_APIC_BASE. False is #GP: x2APIC mode, reserved bits and moving the base are refused.
    pub fn set_base(&mut self, value: u64) -> bool {
        if value & !GLOBAL_ENABLE != BASE | BOOTSTRAP {
            return false;
        }
        *self =
            LocalApic { base: value, lint0: self.lint0, ..LocalApic::default() }.keeping_if(value == self.base, self);
        true
    }

    /// Turning the APIC off or on resets it; rewriting the same value does nothing.
    fn keeping_if(self, same: bool, old: &LocalApic) -> LocalApic {
        if same { old.clone() } else { self }
    }

    /// IA32_TSC_DEADLINE; zero when disarmed.
    pub fn tsc_deadline(&self) -> u64 {
        self.timer.tsc_deadline(self.lvt[TIMER])
    }

    /// Writes IA32_TSC_DEADLINE, in time stamps of the board. Ignored outside of TSC-deadline mode.
    pub fn set_tsc_deadline(&mut self, now_ns: u64, value: u64) {
        self.tick(now_ns);
        self.timer.set_tsc_deadline(self.lvt[TIMER], value);
        self.tick(now_ns);
    }

    /// CR8.
    pub fn task_priority_class(&self) -> u8 {
        self.task_priority >> 4
    }

    /// MOV CR8.
    pub fn set_task_priority_class(&mut self, class: u8) {
        self.task_priority = class << 4;
    }

    /// Reads a 32-bit register; `offset` within the page.
    pub fn read(&mut self, now_ns: u64, offset: u64) -> u32 {
        self.tick(now_ns);
        let row = (offset >> 4 & 7) as usize;
        match offset & 0xff0 {
            0x020 => u32::from(self.id) << 24,
            0x030 => VERSION,
            0x080 => u32::from(self.task_priority),
            0x0a0 => u32::from(self.processor_priority()),
            0x0d0 => u32::from(self.logical_destination) << 24,
            0x0e0 => self.destination_format,
            0x0f0 => self.spurious,
            0x100..=0x170 => self.in_service.word(row),
            0x180..=0x1f0 => self.trigger_mode.word(row),
            0x200..=0x270 => self.requests.word(row),
            0x280 => self.error,
            0x300 => self.command[0],
            0x310 => self.command[1],
            0x320..=0x370 => self.lvt[row - 2],
            0x380 => self.timer.initial_count(),
            0x390 => self.timer.current_count(now_ns, self.lvt[TIMER]),
            0x3e0 => self.timer.divide_configuration(),
            0x090 | 0x0b0 | 0x0c0 => 0,
            _ => {
                self.raise_error(ILLEGAL_REGISTER);
                0
            }
        }
    }

    /// Writes a 32-bit register. An EOI of a level-triggered vector is returned, for the I/O APIC.
    pub fn write(&mut self, now_ns: u64, offset: u64, value: u32) -> Option<u8> {
        self.tick(now_ns);
        match offset & 0xff0 {
            0x020 => self.id = (value >> 24) as u8,
            0x080 => self.task_priority = value as u8,
            0x0b0 => return self.end_of_interrupt(),
            0x0d0 => self.logical_destination = (value >> 24) as u8,
            0x0e0 => self.destination_format = value | 0x0fff_ffff,
            0x0f0 => self.set_spurious(value),
            0x280 => self.error = std::mem::take(&mut self.error_latch),
            0x300 => self.send(value),
            0x310 => self.command[1] = value & 0xff00_0000,
            0x320..=0x370 => self.set_lvt((offset >> 4 & 7) as usize - 2, value),
            0x380 => self.timer.set_initial_count(now_ns, self.lvt[TIMER], value),
            0x3e0 => self.timer.set_divide_configuration(now_ns, value),
            0x030 | 0x090..=0x0a0 | 0x0c0 | 0x100..=0x270 | 0x390 => {}
            _ => self.raise_error(ILLEGAL_REGISTER),
        }
        self.tick(now_ns);
        None
    }

    fn set_spurious(&mut self, value: u32) {
        self.spurious = value & 0x3ff;
        if value & SOFTWARE_ENABLE == 0 {
            self.lvt.iter_mut().for_each(|entry| *entry |= MASKED);
        }
    }

    fn set_lvt(&mut self, index: usize, value: u32) {
        let old = self.lvt[index];
        self.lvt[index] = value & LVT_WRITABLE[index];
        if self.spurious & SOFTWARE_ENABLE == 0 {
            self.lvt[index] |= MASKED;
        }
        if index == TIMER {
            self.timer.mode_changed(old, self.lvt[TIMER]);
        }
    }

    /// ICR: with one processor every destination is itself or nobody (SDM vol. 3A §11.6).
    fn send(&mut self, value: u32) {
        self.command[0] = value & 0x000c_cfff;
        let (vector, mode) = (value as u8, (value >> 8) as u8 & 7);
        let to_self = match value >> 18 & 3 {
            0 => self.is_destination((self.command[1] >> 24) as u8, value >> 11 & 1 != 0),
            shorthand => shorthand != 3,
        };
        if mode < 2 && vector < 16 {
            self.raise_error(SEND_ILLEGAL);
        } else if to_self && matches!(mode, 0 | 1 | 4) {
            self.deliver(vector, mode, false);
        }
    }

    /// Whether a message with this destination means this APIC.
    pub fn is_destination(&self, destination: u8, logical: bool) -> bool {
        match (logical, self.destination_format >> 28) {
            (false, _) => destination == self.id || destination == 0xff,
            (true, 0xf) => destination & self.logical_destination != 0,
            (true, _) => {
                (destination ^ self.logical_destination) & 0xf0 == 0
                    && destination & self.logical_destination & 0xf != 0
            }
        }
    }

    /// Takes a message of the I/O APIC; false if it is not for this APIC or it does not take any now.
    pub fn receive(&mut self, message: &Message) -> bool {
        let Message { vector, mode, destination, logical, level } = *message;
        if !self.is_enabled() || !self.is_destination(destination, logical) {
            return false;
        }
        self.deliver(vector, mode, level);
        true
    }

    fn deliver(&mut self, vector: u8, mode: u8, level: bool) {
        match mode {
            0 | 1 if vector < 16 => self.raise_error(RECEIVE_ILLEGAL),
            0 | 1 => {
                self.requests.set(vector, true);
                self.trigger_mode.set(vector, level);
            }
            4 => self.nmi = true,
            _ => {}
        }
    }

    fn raise_local(&mut self, entry: usize) {
        let lvt = self.lvt[entry];
        if lvt & MASKED == 0 && self.is_enabled() {
            let mode = if matches!(entry, TIMER | ERROR) { 0 } else { (lvt >> 8) as u8 & 7 };
            self.deliver(lvt as u8, mode, false);
        }
    }

    fn raise_error(&mut self, bits: u32) {
        self.error_latch |= bits;
        let lvt = self.lvt[ERROR];
        if lvt & MASKED == 0 && lvt as u8 >= 16 {
            self.raise_local(ERROR);
        }
    }

    /// Sets the level of LINT0, which the 8259 pair drives.
    pub fn set_lint0(&mut self, high: bool) {
        if high && !self.lint0 && self.lvt[LINT0] >> 8 & 7 != 7 {
            self.raise_local(LINT0);
        }
        self.lint0 = high;
    }

    /// Whether the 8259 pair interrupts the processor: LINT0 as ExtINT, or the APIC is globally off.
    pub fn external_interrupt(&self) -> bool {
        self.lint0 && (!self.is_globally_enabled() || self.lvt[LINT0] & (MASKED | 0x700) == 0x700)
    }

    /// Whether an edge of the 8259 pair's INT would be seen.
    pub fn lint0_is_open(&self) -> bool {
        !self.is_globally_enabled() || self.lvt[LINT0] & MASKED == 0
    }

    fn processor_priority(&self) -> u8 {
        let service = self.in_service.highest().unwrap_or(0);
        if self.task_priority >> 4 >= service >> 4 { self.task_priority } else { service & 0xf0 }
    }

    /// Whether a vector waits whose class is above the processor priority.
    pub fn interrupt(&self) -> bool {
        self.is_enabled() && self.requests.highest().is_some_and(|vector| vector >> 4 > self.processor_priority() >> 4)
    }

    /// Moves the highest request into service. The spurious vector if there is none.
    pub fn acknowledge(&mut self) -> u8 {
        match self.requests.highest() {
            Some(vector) if self.interrupt() => {
                self.requests.set(vector, false);
                self.in_service.set(vector, true);
                vector
            }
            _ => self.spurious as u8,
        }
    }

    /// Whether an NMI waits.
    pub fn has_nmi(&self) -> bool {
        self.nmi
    }

    /// The NMI is being delivered.
    pub fn take_nmi(&mut self) -> bool {
        std::mem::take(&mut self.nmi)
    }

    fn end_of_interrupt(&mut self) -> Option<u8> {
        let vector = self.in_service.highest()?;
        self.in_service.set(vector, false);
        self.trigger_mode.contains(vector).then_some(vector)
    }

    /// When the timer will interrupt, in virtual nanoseconds.
    pub fn deadline(&self) -> Option<u64> {
        if self.lvt[TIMER] & MASKED != 0 || !self.is_enabled() {
            return None;
        }
        self.timer.deadline(self.lvt[TIMER])
    }

    /// Lets the timer expire if it is due.
    pub fn tick(&mut self, now_ns: u64) {
        if self.timer.expire(now_ns, self.lvt[TIMER]) {
            self.raise_local(TIMER);
        }
    }
}

#[cfg(test)]
mod tests;
