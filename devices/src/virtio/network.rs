//! The network device (Virtio 1.2 §5.1). Frames that find no buffer wait, up to a bound, and are then lost, as on a wire.

use super::offload::{CSUM, HOST_TSO4, HOST_TSO6, Offload};
use super::queue::Chain;
use super::{DeviceType, Rings, VERSION_1, Virtio};
use crate::context::Context;
use crate::output::Output;
use crate::state::saved;
use ftemu_cpu::Memory;
use std::collections::VecDeque;

/// Feature bits (§5.1.3).
const MAC: u64 = 1 << 5;
const MRG_RXBUF: u64 = 1 << 15;
const STATUS: u64 = 1 << 16;
/// Queues (§5.1.2).
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Bytes of struct virtio_net_hdr (§5.1.6), with and without the count of buffers at its end.
const HEADER: usize = 12;
const SHORT_HEADER: usize = 10;
/// Bytes of an Ethernet frame without its checksum: addresses and type alone, and the longest with a VLAN tag.
const SHORTEST: usize = 14;
const LONGEST: usize = 1518;
/// The longest packet that is cut into frames.
const LONGEST_PACKET: u64 = (64 << 10) + 18;
/// Frames that wait for a buffer.
const MOST_WAITING: usize = 256;
/// Buffers that one frame may be spread over.
const MOST_BUFFERS: usize = 64;

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The machine's NIC number, in frames that come and go.
    nic: u8,
    mac: [u8; 6],
    link: bool,
    /// Frames in the order they came.
    waiting: VecDeque<Vec<u8>>,
}
saved!(Network { nic, mac, link, waiting });

/// What became of a frame.
enum Received {
    Stored,
    Dropped,
    /// There are not enough buffers yet.
    Waits,
}

impl Network {
    /// NIC number `nic` of the machine, with its link up.
    pub fn new(nic: u8, mac: [u8; 6]) -> Network {
        Network { nic, mac, link: true, waiting: VecDeque::new() }
    }

    /// A frame arrives. Without a link, or of an impossible length, it is lost.
    fn receive(&mut self, frame: &[u8], rings: &mut Rings, context: &mut Context) {
        if self.link && (SHORTEST..=LONGEST).contains(&frame.len()) && rings.is_ready(RECEIVE) {
            if self.waiting.len() < MOST_WAITING {
                self.waiting.push_back(frame.to_vec());
            }
            self.deliver(rings, context);
        }
    }

    /// The cable is plugged in or pulled out.
    fn set_link(&mut self, up: bool, rings: &mut Rings) {
        if self.link != up {
            self.link = up;
            rings.configuration_changed();
        }
    }

    fn deliver(&mut self, rings: &mut Rings, context: &mut Context) {
        while let Some(frame) = self.waiting.front() {
            match store(frame, rings, context.memory) {
                Received::Waits => break,
                Received::Stored | Received::Dropped => drop(self.waiting.pop_front()),
            }
        }
    }

    fn send(&self, rings: &mut Rings, context: &mut Context) {
        let header = header_length(rings);
        while let Some(chain) = rings.pop(TRANSMIT, context.memory) {
            let mut asked = [0; SHORT_HEADER];
            let is_there = chain.readable.read(context.memory, &mut asked);
            let packet = chain.readable.slice(header as u64, u64::MAX).take(context.memory, LONGEST_PACKET);
            if let Some(packet) = packet.filter(|_| self.link && is_there) {
                let offload = Offload::from_header(&asked).allowed(rings.features);
                let fits = |frame: &Vec<u8>| (SHORTEST..=LONGEST).contains(&frame.len());
                for bytes in offload.frames(packet).into_iter().filter(fits) {
                    context.outputs.push(context.now, Output::Frame { nic: self.nic, bytes });
                }
            }
            rings.push(TRANSMIT, context.memory, chain.head, 0);
        }
    }
}

/// Before 1.0 the header had no count of buffers unless that was negotiated.
fn header_length(rings: &Rings) -> usize {
    if rings.has(VERSION_1) || rings.has(MRG_RXBUF) { HEADER } else { SHORT_HEADER }
}

/// Puts a frame in the buffers at the front of the receive queue, all of them or none.
fn store(frame: &[u8], rings: &mut Rings, memory: &mut Memory) -> Received {
    let header = header_length(rings);
    let needed = (header + frame.len()) as u64;
    let most = if rings.has(MRG_RXBUF) { MOST_BUFFERS } else { 1 };
    let (mut chains, mut room): (Vec<Chain>, u64) = (Vec::new(), 0);
    while room < needed {
        let chain = if chains.len() < most { rings.pop(RECEIVE, memory) } else { None };
        let Some(chain) = chain else {
            rings.unpop(RECEIVE, chains.len() as u16);
            return if chains.len() < most { Received::Waits } else { Received::Dropped };
        };
        room = room.saturating_add(chain.writable.length());
        chains.push(chain);
    }
    let mut bytes = vec![0; header];
    if header == HEADER {
        bytes[SHORT_HEADER..].copy_from_slice(&(chains.len() as u16).to_le_bytes());
    }
    bytes.extend_from_slice(frame);
    let mut rest = &bytes[..];
    for chain in &chains {
        let (head, tail) =
            rest.split_at(rest.len().min(usize::try_from(chain.writable.length()).unwrap_or(usize::MAX)));
        chain.writable.write(memory, head);
        rings.push(RECEIVE, memory, chain.head, head.len() as u32);
        rest = tail;
    }
    Received::Stored
}

impl DeviceType for Network {
    const DEVICE_ID: u16 = 0x1000;
    const SUBSYSTEM_ID: u16 = 1;
    const CLASS: u32 = 0x02_0000;
    const QUEUES: &'static [u16] = &[256, 256];

    fn features(&self) -> u64 {
        CSUM | MAC | HOST_TSO4 | HOST_TSO6 | MRG_RXBUF | STATUS
    }

    /// struct virtio_net_config (§5.1.4): the address, and the link in bit 0 of the status.
    fn configuration(&self) -> Vec<u8> {
        [&self.mac[..], &u16::from(self.link).to_le_bytes(), &1u16.to_le_bytes()].concat()
    }

    fn notified(&mut self, queue: u16, rings: &mut Rings, context: &mut Context) {
        match queue {
            RECEIVE => self.deliver(rings, context),
            _ => self.send(rings, context),
        }
    }

    fn reset(&mut self) {
        self.waiting = VecDeque::new();
    }
}

impl Virtio<Network> {
    /// A frame arrives.
    pub fn receive(&mut self, frame: &[u8], context: &mut Context) {
        self.with(|device, rings| device.receive(frame, rings, context));
    }

    /// Frames that will surely not be lost for want of room. Before a driver is ready all of them are.
    pub fn room(&self) -> usize {
        match self.rings.is_ready(RECEIVE) {
            true => MOST_WAITING.saturating_sub(self.device.waiting.len()),
            false => usize::MAX,
        }
    }

    /// The cable is plugged in.
    pub fn link(&self) -> bool {
        self.device.link
    }

    /// The cable is plugged in or pulled.
    pub fn set_link(&mut self, up: bool) {
        self.with(|device, rings| device.set_link(up, rings));
    }
}
