//! Receiving: filter, packet buffer, descriptors, checksums (manual §3.2). A frame that finds no descriptor waits in the
//! packet buffer; one that finds no room there is lost and counted, as on the chip.

use super::checksum::{add, fold, frame_check};
use super::filter::Filter;
use super::interrupts::Interrupts;
use super::registers::*;
use super::ring::Ring;
use super::statistics::{MPC, RNBC, ROC, Statistics};
use crate::state::{Saved, saved};
use ftemu_cpu::Memory;
use std::collections::VecDeque;

/// The shortest frame without its frame check sequence; shorter ones are padded on the wire.
const SHORTEST: usize = 60;
/// The longest, with it: without LPE, without LPE but with a VLAN tag, and with LPE.
const LONGEST: usize = 1518;
const LONGEST_LPE: usize = 16384;

const STATUS_DD: u8 = 1 << 0;
const STATUS_EOP: u8 = 1 << 1;
const STATUS_IXSM: u8 = 1 << 2;
const STATUS_VP: u8 = 1 << 3;
const STATUS_TCPCS: u8 = 1 << 5;
const STATUS_IPCS: u8 = 1 << 6;
const STATUS_PIF: u8 = 1 << 7;
const ERROR_TCPE: u8 = 1 << 5;
const ERROR_IPE: u8 = 1 << 6;

/// Frames in the packet buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fifo {
    frames: VecDeque<Vec<u8>>,
}

impl Saved for Fifo {
    fn save(&self, out: &mut Vec<u8>) {
        (self.frames.len() as u32).save(out);
        self.frames.iter().for_each(|frame| frame.save(out));
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        let count = u32::load(bytes)?;
        let frames: Option<VecDeque<Vec<u8>>> = (0..count).map(|_| Vec::load(bytes)).collect();
        Some(Fifo { frames: frames? })
    }
}

/// The receiver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Receiver {
    /// RCTL.
    pub rctl: u32,
    /// The descriptors.
    pub ring: Ring,
    fifo: Fifo,
}
saved!(Receiver { rctl, ring, fifo });

/// What receiving needs of the rest of the chip.
pub struct Surroundings<'a> {
    pub filter: &'a Filter,
    pub interrupts: &'a mut Interrupts,
    pub statistics: &'a mut Statistics,
    pub memory: &'a mut Memory,
    pub now_ns: u64,
    /// KiB of packet buffer for receiving.
    pub buffer: u32,
    pub rxcsum: u32,
    /// The Ethernet type of a VLAN tag.
    pub vlan_type: u16,
    /// Tags are taken out.
    pub strip: bool,
    /// The chip may reach memory.
    pub master: bool,
}

/// What goes into a frame's last descriptor.
struct Report {
    checksum: u16,
    status: u8,
    errors: u8,
    special: u16,
}

impl Receiver {
    /// Writes RCTL.
    pub fn set_rctl(&mut self, value: u32) {
        self.rctl = value & 0x06df_b7fe;
        if value & RCTL_EN == 0 {
            self.fifo.frames.clear();
        }
    }

    /// A frame without its frame check sequence comes from the wire.
    pub fn take(&mut self, frame: &[u8], around: &mut Surroundings<'_>) {
        if self.rctl & RCTL_EN == 0 || frame.len() < 14 {
            return;
        }
        let Some(destination) = frame.first_chunk::<6>() else { return };
        let tag = tag_of(frame, around.vlan_type);
        let longest = match self.rctl & RCTL_LPE {
            0 => LONGEST + if tag.is_some() { 4 } else { 0 },
            _ => LONGEST_LPE,
        };
        if frame.len() + 4 > longest {
            around.statistics.count(ROC);
            return;
        }
        let for_us = around.filter.takes(self.rctl, *destination);
        if !for_us || tag.is_some_and(|tag| !around.filter.takes_tag(self.rctl, tag)) {
            return;
        }
        self.buffer(frame, around);
    }

    fn buffer(&mut self, frame: &[u8], around: &mut Surroundings<'_>) {
        let held: usize = self.fifo.frames.iter().map(|frame| frame.len().max(SHORTEST) + 4).sum();
        if held + frame.len() > around.buffer as usize * 1024 {
            around.statistics.count(MPC);
            around.interrupts.raise(ICR_RXO, around.now_ns);
            return;
        }
        self.fifo.frames.push_back(frame.to_vec());
        self.deliver(around);
        if !self.fifo.frames.is_empty() {
            around.statistics.count(RNBC);
        }
    }

    /// Frames of full length that will surely not be lost for want of room. A receiver that is off loses all of them.
    pub fn room(&self, buffer: u32) -> usize {
        const FULL: usize = 1522;
        if self.rctl & RCTL_EN == 0 {
            return usize::MAX;
        }
        let held: usize = self.fifo.frames.iter().map(|frame| frame.len().max(SHORTEST) + 4).sum();
        let free = (buffer as usize * 1024).saturating_sub(held) / FULL;
        // While frames wait there is no descriptor for them.
        let descriptors = if self.fifo.frames.is_empty() { self.ring.available() as usize } else { 0 };
        free + descriptors / FULL.div_ceil(self.buffer_bytes())
    }

    /// Moves frames to memory while there are descriptors for them.
    pub fn deliver(&mut self, around: &mut Surroundings<'_>) {
        let mut delivered = false;
        while around.master && self.rctl & RCTL_EN != 0 {
            let Some(frame) = self.fifo.frames.front() else { break };
            let length = frame.len().max(SHORTEST) + 4;
            if (self.ring.available() as usize) < length.div_ceil(self.buffer_bytes()) {
                break;
            }
            let Some(frame) = self.fifo.frames.pop_front() else { break };
            if !self.store(frame, around) {
                break;
            }
            delivered = true;
        }
        if delivered {
            around.interrupts.received(around.now_ns);
            if self.ring.is_low(self.rctl >> 8 & 3) {
                around.interrupts.raise(ICR_RXDMT0, around.now_ns);
            }
        }
    }

    /// Bytes in each buffer of software.
    fn buffer_bytes(&self) -> usize {
        let small = 2048 >> (self.rctl >> 16 & 3);
        if self.rctl & RCTL_BSEX != 0 && small != 2048 { small * 16 } else { small }
    }

    /// False: the ring is not in memory.
    fn store(&mut self, mut frame: Vec<u8>, around: &mut Surroundings<'_>) -> bool {
        let destination = [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]];
        around.statistics.received(destination, (frame.len().max(SHORTEST) + 4) as u64);
        let report = self.report(&mut frame, around);
        if frame.len() < SHORTEST {
            frame.resize(SHORTEST, 0);
        }
        if self.rctl & RCTL_SECRC == 0 {
            let check = frame_check(&frame);
            frame.extend(check);
        }
        let pieces = frame.chunks(self.buffer_bytes());
        let last = pieces.len() - 1;
        for (index, piece) in pieces.enumerate() {
            let Some(descriptor) = self.ring.fetch(around.memory) else { return false };
            let [a, b, c, d, e, f, g, h, ..] = descriptor;
            let address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
            if address != 0 {
                around.memory.store(address, piece);
            }
            let end = if index == last { STATUS_EOP } else { 0 };
            let mut words = Vec::with_capacity(8);
            words.extend((piece.len() as u16).to_le_bytes());
            words.extend(report.checksum.to_le_bytes());
            words.extend([report.status | STATUS_DD | end, report.errors]);
            words.extend(report.special.to_le_bytes());
            self.ring.write_back(around.memory, 8, &words);
            self.ring.advance();
        }
        true
    }

    /// Takes out the VLAN tag and checks sums, as software wants it.
    fn report(&self, frame: &mut Vec<u8>, around: &Surroundings<'_>) -> Report {
        let listed = Filter::takes(around.filter, 0, [frame[0], frame[1], frame[2], frame[3], frame[4], frame[5]]);
        let passed = if !listed && frame[0] & 1 == 0 { STATUS_PIF } else { 0 };
        let mut report = Report { checksum: 0, status: passed, errors: 0, special: 0 };
        if let Some(tag) = tag_of(frame, around.vlan_type).filter(|_| around.strip) {
            frame.drain(12..16);
            report.special = tag;
            report.status |= STATUS_VP;
        }
        let start = (around.rxcsum & 0xff) as usize;
        report.checksum = !fold(add(0, frame.get(start..).unwrap_or(&[])));
        match checked(frame, around.rxcsum) {
            None => report.status |= STATUS_IXSM,
            Some(Checked { internet, transport }) => {
                report.status |= internet.map_or(0, |_| STATUS_IPCS) | transport.map_or(0, |_| STATUS_TCPCS);
                report.errors |= if internet == Some(false) { ERROR_IPE } else { 0 };
                report.errors |= if transport == Some(false) { ERROR_TCPE } else { 0 };
            }
        }
        report
    }
}

fn tag_of(frame: &[u8], vlan_type: u16) -> Option<u16> {
    let tag = frame.get(12..16)?;
    (u16::from_be_bytes([tag[0], tag[1]]) == vlan_type).then(|| u16::from_be_bytes([tag[2], tag[3]]))
}

/// Which sums were looked at, and whether they are right.
struct Checked {
    internet: Option<bool>,
    transport: Option<bool>,
}

/// Checks what RXCSUM asks for of an IPv4 packet. `None`: nothing was.
fn checked(frame: &[u8], rxcsum: u32) -> Option<Checked> {
    let (internet, transport) = (rxcsum & RXCSUM_IPOFLD != 0, rxcsum & RXCSUM_TUOFLD != 0);
    let packet = frame.get(14..).filter(|_| frame[12..14] == [8, 0])?;
    let header = packet.get(..usize::from(packet.first()? & 15) * 4).filter(|header| header.len() >= 20)?;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let payload = packet.get(header.len()..total)?;
    if header[0] >> 4 != 4 {
        return None;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let sum = match header[9] {
        _ if fragment => None,
        6 if payload.len() >= 20 => Some(true),
        17 if payload.len() >= 8 && payload[6..8] != [0, 0] => Some(true),
        _ => None,
    };
    let pseudo = add(u64::from(header[9]) + payload.len() as u64, &header[12..20]);
    let checked = Checked {
        internet: internet.then(|| fold(add(0, header)) == 0xffff),
        transport: sum.filter(|_| transport).map(|_| fold(add(pseudo, payload)) == 0xffff),
    };
    (checked.internet.is_some() || checked.transport.is_some()).then_some(checked)
}
