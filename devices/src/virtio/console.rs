//! The console device (Virtio 1.2 §5.3) with one port, which is the machine's third serial stream.

use super::{DeviceType, Rings, Virtio};
use crate::context::Context;
use crate::state::saved;
use std::collections::VecDeque;

/// The port number in [`Output::Serial`](crate::Output::Serial) and [`Input::Serial`](crate::Input::Serial).
pub const PORT: u8 = 2;
/// Queues (§5.3.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Bytes of one chain; what a hostile driver makes longer is cut off.
const MOST_BYTES: u64 = 128 << 10;

/// A terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Console {
    waiting: VecDeque<u8>,
}
saved!(Console { waiting });

impl Console {
    /// Bytes arrive from outside.
    fn push(&mut self, bytes: &[u8], rings: &mut Rings, context: &mut Context) {
        self.waiting.extend(bytes);
        self.deliver(rings, context);
    }

    fn deliver(&mut self, rings: &mut Rings, context: &mut Context) {
        while !self.waiting.is_empty() {
            let Some(chain) = rings.pop(RECEIVE, context.memory) else { break };
            let length = chain.writable.length().min(self.waiting.len() as u64);
            let bytes: Vec<u8> = self.waiting.drain(..length as usize).collect();
            chain.writable.write(context.memory, &bytes);
            rings.push(RECEIVE, context.memory, chain.head, length as u32);
        }
    }

    fn send(rings: &mut Rings, context: &mut Context) {
        while let Some(chain) = rings.pop(TRANSMIT, context.memory) {
            let text = chain.readable.slice(0, MOST_BYTES).take(context.memory, MOST_BYTES);
            for byte in text.unwrap_or_default() {
                context.outputs.serial(context.now, PORT, byte);
            }
            rings.push(TRANSMIT, context.memory, chain.head, 0);
        }
    }
}

impl DeviceType for Console {
    const DEVICE_ID: u16 = 0x1003;
    const SUBSYSTEM_ID: u16 = 3;
    const CLASS: u32 = 0x07_8000;
    const QUEUES: &'static [u16] = &[128, 128];

    fn features(&self) -> u64 {
        0
    }

    /// struct virtio_console_config (§5.3.4): no size, one port.
    fn configuration(&self) -> Vec<u8> {
        vec![0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]
    }

    fn notified(&mut self, queue: u16, rings: &mut Rings, context: &mut Context) {
        match queue {
            RECEIVE => self.deliver(rings, context),
            _ => Console::send(rings, context),
        }
    }

    /// What waits is not the driver's: the next one gets it.
    fn reset(&mut self) {}
}

impl Virtio<Console> {
    /// Bytes arrive from outside.
    pub fn push(&mut self, bytes: &[u8], context: &mut Context) {
        self.with(|device, rings| device.push(bytes, rings, context));
    }
}
