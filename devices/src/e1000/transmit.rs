//! Transmitting: legacy, context and data descriptors (manual §3.3, §3.4). Software hands over descriptors by moving
//! the tail; the chip takes as much as the wire carries, at 1 Gbit/s of virtual time, and goes on later.

use super::interrupts::Interrupts;
use super::offload::{Offload, insert};
use super::registers::{ICR_TXQE, TCTL_EN};
use super::ring::Ring;
use super::statistics::{Statistics, TSCTC};
use crate::state::saved;
use ftemu_cpu::Memory;

const CMD_EOP: u8 = 1 << 0;
const CMD_IC: u8 = 1 << 2;
const CMD_TSE: u8 = 1 << 2;
const CMD_RS: u8 = 1 << 3;
const CMD_RPS: u8 = 1 << 4;
const CMD_DEXT: u8 = 1 << 5;
const CMD_VLE: u8 = 1 << 6;
const CMD_IDE: u8 = 1 << 7;
const STATUS_DD: u8 = 1 << 0;

/// No packet is longer, before it is cut into segments: IP's 64 KiB and headers.
const LONGEST: usize = (64 << 10) + 512;
/// No frame is longer on the wire.
const LONGEST_FRAME: usize = 16 << 10;
/// Taken at once: bytes, descriptors.
const BURST_BYTES: u64 = 64 << 10;
const BURST_DESCRIPTORS: u32 = 256;
/// 1 Gbit/s.
const NS_PER_BYTE: u64 = 8;
/// Preamble, frame check sequence and gap.
const WIRE_OVERHEAD: u64 = 24;

/// The transmitter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transmitter {
    /// The descriptors.
    pub ring: Ring,
    context: Offload,
    /// The packet so far, until its last descriptor.
    packet: Vec<u8>,
    /// Something of it is in `packet`.
    begun: bool,
    too_long: bool,
    /// POPTS of its first descriptor.
    popts: u8,
    /// The wire is busy until then.
    busy_until: u64,
}
saved!(Transmitter { ring, context, packet, begun, too_long, popts, busy_until });

/// What transmitting needs of the rest of the chip.
pub struct Surroundings<'a> {
    pub interrupts: &'a mut Interrupts,
    pub statistics: &'a mut Statistics,
    pub memory: &'a mut Memory,
    pub now_ns: u64,
    pub tctl: u32,
    /// The Ethernet type of a VLAN tag, if tags are put in.
    pub vlan_type: Option<u16>,
}

impl Transmitter {
    /// When the wire is free and there is something to send.
    pub fn deadline(&self, tctl: u32) -> Option<u64> {
        (tctl & TCTL_EN != 0 && self.busy_until != 0 && self.ring.available() > 0).then_some(self.busy_until)
    }

    /// Takes descriptors as far as the wire is free; gives the frames, without frame check sequences.
    pub fn run(&mut self, around: &mut Surroundings<'_>) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        if around.tctl & TCTL_EN == 0 || around.now_ns < self.busy_until || self.ring.available() == 0 {
            return frames;
        }
        let (mut bytes, mut taken) = (0, 0);
        // Without memory there the chip hangs until software moves the tail again.
        self.busy_until = 0;
        while let Some(descriptor) = self.ring.fetch(around.memory) {
            if bytes >= BURST_BYTES || taken >= BURST_DESCRIPTORS {
                self.busy_until = around.now_ns.saturating_add((bytes * NS_PER_BYTE).max(1000));
                return frames;
            }
            taken += 1;
            let sent = self.take(&descriptor, around);
            bytes += sent.iter().map(|frame| frame.len() as u64 + WIRE_OVERHEAD).sum::<u64>();
            frames.extend(sent);
            self.report(&descriptor, around);
        }
        if self.ring.available() == 0 {
            around.interrupts.raise(ICR_TXQE, around.now_ns);
        }
        frames
    }

    /// The descriptor is done with.
    fn report(&mut self, descriptor: &[u8; 16], around: &mut Surroundings<'_>) {
        let command = descriptor[11];
        if command & (CMD_RS | CMD_RPS) != 0 {
            self.ring.write_back(around.memory, 12, &[descriptor[12] | STATUS_DD]);
        }
        self.ring.advance();
        if command & (CMD_RS | CMD_RPS) != 0 {
            around.interrupts.sent(command & CMD_IDE != 0, around.now_ns);
        }
    }

    fn take(&mut self, descriptor: &[u8; 16], around: &mut Surroundings<'_>) -> Vec<Vec<u8>> {
        let command = descriptor[11];
        let [a, b, c, d, e, f, g, h, ..] = *descriptor;
        let address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        match (command & CMD_DEXT != 0, descriptor[10] >> 4) {
            (false, _) => self.legacy(descriptor, address, around),
            (true, 0) => {
                self.context = Offload::from_descriptor(descriptor);
                Vec::new()
            }
            (true, 1) => self.data(descriptor, address, around),
            (true, _) => Vec::new(),
        }
    }

    fn legacy(&mut self, descriptor: &[u8; 16], address: u64, around: &mut Surroundings<'_>) -> Vec<Vec<u8>> {
        let (command, start, at) = (descriptor[11], descriptor[13], descriptor[10]);
        self.gather(address, u16::from_le_bytes([descriptor[8], descriptor[9]]).into(), around.memory);
        self.begun = true;
        if command & CMD_EOP == 0 {
            return Vec::new();
        }
        let mut frame = self.end();
        if command & CMD_IC != 0 {
            insert(&mut frame, start.into(), 0, at.into());
        }
        send(vec![frame], tag(descriptor, around), around)
    }

    fn data(&mut self, descriptor: &[u8; 16], address: u64, around: &mut Surroundings<'_>) -> Vec<Vec<u8>> {
        let command = descriptor[11];
        if !self.begun {
            self.popts = descriptor[13];
            self.begun = true;
        }
        let length = u32::from_le_bytes([descriptor[8], descriptor[9], descriptor[10] & 15, 0]);
        self.gather(address, length as usize, around.memory);
        if command & CMD_EOP == 0 {
            return Vec::new();
        }
        let popts = self.popts;
        let mut frame = self.end();
        let frames = if command & CMD_TSE != 0 {
            around.statistics.count(TSCTC);
            self.context.segments(&frame, popts)
        } else {
            self.context.finish(&mut frame, popts);
            vec![frame]
        };
        send(frames, tag(descriptor, around), around)
    }

    fn gather(&mut self, address: u64, length: usize, memory: &Memory) {
        if self.packet.len() + length > LONGEST {
            self.too_long = true;
            return;
        }
        let start = self.packet.len();
        self.packet.resize(start + length, 0);
        memory.read(address, &mut self.packet[start..]);
    }

    /// The packet is whole; one that is too long is nothing.
    fn end(&mut self) -> Vec<u8> {
        let packet = std::mem::take(&mut self.packet);
        self.begun = false;
        self.popts = 0;
        if std::mem::take(&mut self.too_long) { Vec::new() } else { packet }
    }
}

/// The VLAN tag that a packet's last descriptor asks for.
fn tag(descriptor: &[u8; 16], around: &Surroundings<'_>) -> Option<[u8; 4]> {
    let vlan_type = around.vlan_type.filter(|_| descriptor[11] & CMD_VLE != 0)?.to_be_bytes();
    Some([vlan_type[0], vlan_type[1], descriptor[15], descriptor[14]])
}

/// Puts frames on the wire, those that are frames.
fn send(frames: Vec<Vec<u8>>, tag: Option<[u8; 4]>, around: &mut Surroundings<'_>) -> Vec<Vec<u8>> {
    let whole = |mut frame: Vec<u8>| {
        if frame.len() < 14 || frame.len() > LONGEST_FRAME {
            return None;
        }
        if let Some(tag) = tag {
            frame.splice(12..12, tag);
        }
        let destination = [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]];
        around.statistics.sent(destination, frame.len().max(60) as u64 + 4);
        Some(frame)
    };
    frames.into_iter().filter_map(whole).collect()
}
