//! What the CPU is interrupted by, in the order of its priorities (APM vol. 2 §8.5).

use super::{Machine, NMI};

impl Machine {
    /// Whether an SMI waits that the CPU takes now.
    pub(super) fn has_management_interrupt(&self) -> bool {
        let state = self.cpu.state();
        self.board.chips.management_interrupt && !state.smm && !state.interrupt_shadow
    }

    /// Delivers an SMI, an NMI or an interrupt if one waits and the CPU takes it now. False: a triple fault.
    pub(super) fn deliver(&mut self) -> bool {
        if self.has_management_interrupt() {
            self.board.chips.management_interrupt = false;
            self.cpu.management_interrupt(&mut self.board);
        }
        let state = self.cpu.state();
        if self.board.chips.local_apic.has_nmi() && !state.nmi_blocked && !state.interrupt_shadow {
            self.board.chips.local_apic.take_nmi();
            let delivered = self.cpu.interrupt(&mut self.board, NMI);
            self.cpu.state_mut().nmi_blocked = true;
            delivered
        } else if self.cpu.interruptible() && self.board.has_interrupt() {
            let vector = self.board.acknowledge(self.now_ns());
            self.cpu.interrupt(&mut self.board, vector)
        } else {
            true
        }
    }
}
