//! What the driver has set up: status, features and queues (Virtio 1.2 §2.1, §2.2, §4.1.4.5), and what all device types do
//! with them.

use super::queue::{Broken, Chain, Queue, Rules};
use super::{EVENT_IDX, INDIRECT_DESC, VERSION_1};
use crate::state::saved;
use ftemu_cpu::Memory;

/// Device status bits (§2.1).
pub(super) const DRIVER_OK: u8 = 4;
pub(super) const FEATURES_OK: u8 = 8;
pub(super) const NEEDS_RESET: u8 = 0x40;
/// Bits of the ISR status (§4.1.4.5).
const ISR_QUEUE: u8 = 1;
const ISR_CONFIGURATION: u8 = 2;

/// The driver's side of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rings {
    /// Device status, as the driver wrote it and the device completed it.
    pub(super) status: u8,
    /// Causes of the interrupt.
    pub(super) isr: u8,
    /// The driver broke the rules: nothing happens until it resets the device.
    pub(super) broken: bool,
    /// Whether the function may do DMA.
    pub(super) master: bool,
    /// Feature bits the driver has accepted.
    pub(super) features: u64,
    /// Counts changes of the device configuration.
    pub(super) generation: u8,
    /// The queues, by index.
    pub(super) queues: Vec<Queue>,
}

saved!(Rings { status, isr, broken, master, features, generation, queues });

impl Rings {
    /// A device nobody has touched, with queues of these sizes.
    pub(super) fn new(sizes: &[u16]) -> Rings {
        let queues = sizes.iter().map(|size| Queue::new(*size)).collect();
        Rings { status: 0, isr: 0, broken: false, master: false, features: 0, generation: 0, queues }
    }

    /// The driver resets the device.
    pub(super) fn reset(&mut self) {
        let Rings { status, isr, broken, master: _, features, generation: _, queues } = self;
        (*status, *isr, *broken, *features) = (0, 0, false, 0);
        queues.iter_mut().for_each(Queue::reset);
    }

    /// Whether the driver has accepted all of these feature bits.
    pub fn has(&self, features: u64) -> bool {
        self.features & features == features
    }

    /// Whether the device may use a queue: it is set up, the driver is ready and has allowed DMA. Drivers from before
    /// 1.0 use queues before they say so, and may forget to allow DMA.
    pub fn is_ready(&self, queue: u16) -> bool {
        let driver = self.status & DRIVER_OK != 0 && self.master || !self.has(VERSION_1);
        driver && !self.broken && self.queues.get(usize::from(queue)).is_some_and(|queue| queue.enabled)
    }

    fn rules(&self) -> Rules {
        Rules { indirect: self.has(INDIRECT_DESC), event_index: self.has(EVENT_IDX) }
    }

    /// The next chain of a queue; `None` if there is none, or none that can be used.
    pub fn pop(&mut self, queue: u16, memory: &mut Memory) -> Option<Chain> {
        if !self.is_ready(queue) {
            return None;
        }
        let rules = self.rules();
        match self.queues.get_mut(usize::from(queue))?.pop(memory, rules) {
            Ok(chain) => chain,
            Err(reason) => {
                self.break_off(reason);
                None
            }
        }
    }

    /// Puts the `count` chains popped last back.
    pub fn unpop(&mut self, queue: u16, count: u16) {
        if let Some(queue) = self.queues.get_mut(usize::from(queue)) {
            queue.unpop(count);
        }
    }

    /// Gives a chain back with `written` bytes in it, and interrupts if the driver wants that.
    pub fn push(&mut self, queue: u16, memory: &mut Memory, head: u16, written: u32) {
        if !self.is_ready(queue) {
            return;
        }
        let rules = self.rules();
        match self.queues.get_mut(usize::from(queue)).map(|queue| queue.push(memory, rules, head, written)) {
            Some(Ok(true)) => self.isr |= ISR_QUEUE,
            Some(Err(reason)) => self.break_off(reason),
            Some(Ok(false)) | None => {}
        }
    }

    /// The driver broke the rules: the device stops and asks for a reset (§2.1.2).
    pub fn break_off(&mut self, _reason: Broken) {
        self.broken = true;
        if self.has(VERSION_1) {
            self.status |= NEEDS_RESET;
            if self.status & DRIVER_OK != 0 {
                self.isr |= ISR_CONFIGURATION;
            }
        }
    }

    /// Tells the driver that the device configuration has changed.
    pub fn configuration_changed(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.status & DRIVER_OK != 0 {
            self.isr |= ISR_CONFIGURATION;
        }
    }

    /// Whether numbers are as the device makes them, with queues of these sizes; asked after loading.
    pub(super) fn is_plausible(&self, sizes: &[u16]) -> bool {
        self.queues.iter().map(|queue| queue.maximum).eq(sizes.iter().copied())
            && self.queues.iter().all(Queue::is_plausible)
    }

    /// Reading the ISR status clears it, and the interrupt.
    pub(super) fn take_isr(&mut self) -> u8 {
        std::mem::take(&mut self.isr)
    }
}
