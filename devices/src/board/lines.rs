//! Interrupt lines: where every chip's line is wired, and how interrupts reach the CPU.
//!
//! ISA interrupt n reaches input n of the 8259A pair and pin n of the I/O APIC (the timer's is pin 2); the four PCI
//! interrupt lines join them where the PIIX3's PIRQ registers say. Lines that share an interrupt are ored.

use super::Board;
use super::deadlines::Effect;
use crate::hpet::Line;
use crate::io_apic;
use crate::map;
use crate::pci::bridge;

/// ISA interrupts that lines other than the timer's reach: all but 0, the cascade and the coprocessor's.
const ISA: std::ops::Range<u8> = 1..16;

impl Board {
    pub(super) fn settle_timer(&mut self, now_ns: u64) {
        let timer = self.chips.pit.line(now_ns);
        if !self.chips.hpet.replaces_legacy() {
            self.carry_edge(0, timer.high, timer.rose);
        }
        self.chips.local_apic.set_lint0(self.chips.pic.interrupt());
    }

    /// A line that may have fallen and risen again since it was last looked at.
    fn carry_edge(&mut self, irq: u8, high: bool, rose: bool) {
        if rose && high {
            self.set_interrupt(irq, false);
        }
        self.set_interrupt(irq, high);
    }

    /// Lines of the event timer: those of legacy replacement are ISA interrupts 0 and 8, the others pins of their own.
    fn settle_event_timer(&mut self) {
        for index in 0..3 {
            match self.chips.hpet.take_line(index) {
                Some(Line { pin: map::TIMER_PIN, high, rose }) => self.carry_edge(0, high, rose),
                Some(Line { pin: map::RTC_IRQ, high, rose }) => self.carry_edge(map::RTC_IRQ, high, rose),
                Some(Line { pin, high, rose }) => {
                    if rose {
                        self.chips.io_apic.set_line(pin, false);
                    }
                    self.chips.io_apic.set_line(pin, high);
                }
                None => {}
            }
        }
    }

    /// Carries every line to where it is wired, and messages from the I/O to the local APIC.
    pub fn settle(&mut self, now_ns: u64) {
        self.settle_timer(now_ns);
        self.carry_lines();
        self.settle_event_timer();
        self.send_messages();
        let chips = &mut self.chips;
        chips.local_apic.set_lint0(chips.pic.interrupt());
        chips.reset |= chips.keyboard_controller.take_reset() | chips.pci.take_reset();
    }

    /// All lines but the timers'. Lines that are as they were need not be carried again.
    fn carry_lines(&mut self) {
        let lines = self.isa_lines() | self.pci_lines();
        let replaced = self.chips.hpet.replaces_legacy();
        if self.carried.replace((lines, replaced)) == Some((lines, replaced)) {
            return;
        }
        for irq in ISA.filter(|irq| *irq != map::TIMER_PIN && !(replaced && *irq == map::RTC_IRQ)) {
            self.set_interrupt(irq, lines >> irq & 1 != 0);
        }
    }

    /// Lines of the chips on the board itself, bit n for ISA interrupt n.
    fn isa_lines(&self) -> u16 {
        let chips = &self.chips;
        let [keyboard, mouse] = chips.keyboard_controller.lines();
        let lines = [
            (map::KEYBOARD_IRQ, keyboard),
            (map::MOUSE_IRQ, mouse),
            (map::COM2_IRQ, chips.serial[1].line()),
            (map::COM1_IRQ, chips.serial[0].line()),
            (map::RTC_IRQ, chips.rtc.line()),
            (map::SCI_IRQ, chips.power.line()),
            (map::IDE_IRQS[0], chips.ide.interrupt(0)),
            (map::IDE_IRQS[1], chips.ide.interrupt(1)),
        ];
        lines.into_iter().fold(0, |all, (irq, high)| all | u16::from(high) << irq)
    }

    /// Lines of PCI devices, as the ISA bridge routes them. Slots are wired in rotation: INTA of slot 1 is PIRQA, that
    /// of slot 2 PIRQB.
    fn pci_lines(&self) -> u16 {
        let mut lines = 0;
        for slot in &self.routes.slots {
            let Some(device) = self.chips.pci_device(*slot) else { continue };
            let pin = device.function().interrupt_pin();
            if pin != 0
                && device.line()
                && !device.function().interrupt_disabled()
                && let Some(irq) = bridge::route(&self.chips.isa_bridge, map::pirq(*slot, pin))
            {
                lines |= 1 << irq;
            }
        }
        lines
    }

    fn set_interrupt(&mut self, irq: u8, high: bool) {
        self.chips.pic.set_line(irq, high);
        self.chips.io_apic.set_line(if irq == 0 { map::TIMER_PIN } else { irq }, high);
    }

    fn send_messages(&mut self) {
        let chips = &mut self.chips;
        let requests = chips.io_apic.requests();
        for pin in (0..io_apic::PINS).filter(|pin| requests >> pin & 1 != 0) {
            let accepted = chips.local_apic.receive(&chips.io_apic.message(pin));
            chips.io_apic.sent(pin, accepted);
        }
    }

    /// Whether a maskable interrupt waits for the CPU.
    pub fn has_interrupt(&self) -> bool {
        self.chips.local_apic.interrupt() || self.chips.local_apic.external_interrupt()
    }

    /// The interrupt acknowledge cycle: the vector.
    pub fn acknowledge(&mut self, now_ns: u64) -> u8 {
        let chips = &mut self.chips;
        let vector = match chips.local_apic.interrupt() {
            true => chips.local_apic.acknowledge(),
            false => chips.pic.acknowledge(),
        };
        self.conclude(now_ns, Effect::Fixed);
        vector
    }
}
