//! The block device (Virtio 1.2 §5.2): reads, writes, flushes and discards of one drive, several in flight.
//!
//! A request is complete at the virtual time that [`Drives`](crate::drives::Drives) fixed when it was issued. What a guest
//! can make the host hold is bounded: while too much is in flight, requests wait in the ring.

use super::buffer::Buffer;
use super::queue::{Broken, Chain};
use super::{DeviceType, Rings};
use crate::context::Context;
use crate::state::saved;
use crate::storage::Request;

/// Feature bits (§5.2.3).
const SEG_MAX: u64 = 1 << 2;
const RO: u64 = 1 << 5;
const BLK_SIZE: u64 = 1 << 6;
const FLUSH: u64 = 1 << 9;
const DISCARD: u64 = 1 << 13;

/// Types of requests (§5.2.6).
const T_IN: u32 = 0;
const T_OUT: u32 = 1;
const T_FLUSH: u32 = 4;
const T_GET_ID: u32 = 8;
const T_DISCARD: u32 = 11;
/// Their results.
const S_OK: u8 = 0;
const S_IOERR: u8 = 1;
const S_UNSUPP: u8 = 2;

const QUEUE: u16 = 0;
const SECTOR: u64 = 512;
/// Bytes of a request's header, of a drive's name, and of one range to discard.
const HEADER: u64 = 16;
const ID_BYTES: usize = 20;
const RANGE: u64 = 16;
/// Pieces of data in a request: with header and status the 128 that drivers think in.
const MOST_SEGMENTS: u32 = 126;
/// Sectors of one discard.
const MOST_DISCARDED: u32 = 1 << 22;
/// Bytes of data in a request; more is an error. Drivers ask for an eighth of it.
const MOST_BYTES: u64 = 8 << 20;
/// Requests and bytes in flight from which on further ones wait in the ring.
const MOST_IN_FLIGHT: usize = 256;
const MOST_BYTES_IN_FLIGHT: u64 = 32 << 20;

/// A request that has been issued.
#[derive(Clone, Debug, PartialEq, Eq)]
struct InFlight {
    ticket: u64,
    due_ns: u64,
    bytes: u64,
    head: u16,
    /// Where what was read goes; empty for all but reads.
    data: Buffer,
    /// Where the result goes.
    status: Buffer,
    /// The driver has reset the device since: nobody waits for the result.
    abandoned: bool,
}
saved!(InFlight { ticket, due_ns, bytes, head, data, status, abandoned });

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    drive: u8,
    sectors: u64,
    read_only: bool,
    serial: String,
    in_flight: Vec<InFlight>,
}

saved!(Block { drive, sectors, read_only, serial, in_flight });

/// What to do with a request.
enum Verdict {
    Issue { request: Request, bytes: u64, data: Buffer },
    Done { status: u8, written: u32 },
}

const REFUSED: Verdict = Verdict::Done { status: S_IOERR, written: 0 };

impl Block {
    /// The device for drive number `drive` of the machine, which has `sectors` of 512 bytes. Of the serial number a
    /// driver sees 20 bytes.
    pub fn new(drive: u8, sectors: u64, read_only: bool, serial: &str) -> Block {
        Block { drive, sectors, read_only, serial: serial.to_owned(), in_flight: Vec::new() }
    }

    fn has_room(&self) -> bool {
        let bytes = self.in_flight.iter().map(|request| request.bytes);
        self.in_flight.len() < MOST_IN_FLIGHT && bytes.fold(0, u64::saturating_add) < MOST_BYTES_IN_FLIGHT
    }

    /// Takes requests from the ring while there is room.
    fn pump(&mut self, rings: &mut Rings, context: &mut Context) {
        while self.has_room() {
            let Some(chain) = rings.pop(QUEUE, context.memory) else { break };
            self.begin(&chain, rings, context);
        }
    }

    fn begin(&mut self, chain: &Chain, rings: &mut Rings, context: &mut Context) {
        let mut header = [0; HEADER as usize];
        let (true, Some((data, status))) =
            (chain.readable.read(context.memory, &mut header), chain.writable.split_last())
        else {
            return rings.break_off(Broken::Request);
        };
        let kind = u64::from_le_bytes(std::array::from_fn(|at| header[at])) as u32;
        let sector = u64::from_le_bytes(std::array::from_fn(|at| header[8 + at]));
        let out = chain.readable.slice(HEADER, u64::MAX);
        match self.judge(kind, sector, &data, &out, context) {
            Verdict::Issue { request, bytes, data } => {
                let issued = context.drives.issue(self.drive, context.now_ns, request);
                let (ticket, due_ns, head) = (issued.ticket, issued.due_ns, chain.head);
                self.in_flight.push(InFlight { ticket, due_ns, bytes, head, data, status, abandoned: false });
            }
            Verdict::Done { status: result, written } => {
                status.write(context.memory, &[result]);
                rings.push(QUEUE, context.memory, chain.head, written + 1);
            }
        }
    }

    fn judge(&self, kind: u32, sector: u64, data: &Buffer, out: &Buffer, context: &mut Context) -> Verdict {
        match kind {
            T_IN => self.judge_read(sector, data),
            T_OUT => self.judge_write(sector, out, context),
            T_FLUSH => Verdict::Issue { request: Request::Flush, bytes: 0, data: Buffer::default() },
            T_GET_ID => self.identify(data, context),
            T_DISCARD => self.judge_discard(out, context),
            _ => Verdict::Done { status: S_UNSUPP, written: 0 },
        }
    }

    /// The number of sectors in `bytes` from `sector` on, if they are whole and on the disk.
    fn range(&self, sector: u64, bytes: u64) -> Option<u32> {
        let count = bytes / SECTOR;
        let inside = sector.checked_add(count).is_some_and(|end| end <= self.sectors);
        (inside && bytes <= MOST_BYTES && bytes.is_multiple_of(SECTOR)).then_some(count as u32)
    }

    fn judge_read(&self, sector: u64, data: &Buffer) -> Verdict {
        let bytes = data.length();
        match self.range(sector, bytes) {
            Some(0) => Verdict::Done { status: S_OK, written: 0 },
            Some(count) => Verdict::Issue { request: Request::Read { sector, count }, bytes, data: data.clone() },
            None => REFUSED,
        }
    }

    fn judge_write(&self, sector: u64, out: &Buffer, context: &mut Context) -> Verdict {
        let Some(count) = self.range(sector, out.length()).filter(|_| !self.read_only) else { return REFUSED };
        match out.take(context.memory, MOST_BYTES) {
            Some(_) if count == 0 => Verdict::Done { status: S_OK, written: 0 },
            Some(bytes) => {
                let length = bytes.len() as u64;
                Verdict::Issue { request: Request::Write { sector, bytes }, bytes: length, data: Buffer::default() }
            }
            None => REFUSED,
        }
    }

    fn identify(&self, data: &Buffer, context: &mut Context) -> Verdict {
        let mut id = self.serial.as_bytes().to_vec();
        id.resize(ID_BYTES, 0);
        id.truncate(usize::try_from(data.length()).unwrap_or(ID_BYTES));
        match data.write(context.memory, &id) {
            true => Verdict::Done { status: S_OK, written: id.len() as u32 },
            false => REFUSED,
        }
    }

    /// One range: sector, count of sectors, flags, of which a discard knows none (§5.2.6.1).
    fn judge_discard(&self, out: &Buffer, context: &mut Context) -> Verdict {
        let Some(bytes) = out.take(context.memory, RANGE).filter(|bytes| bytes.len() == RANGE as usize) else {
            return REFUSED;
        };
        let sector = u64::from_le_bytes(std::array::from_fn(|at| bytes[at]));
        let rest = u64::from_le_bytes(std::array::from_fn(|at| bytes[8 + at]));
        let (count, flags) = (rest & 0xffff_ffff, rest >> 32);
        let inside = sector.checked_add(count).is_some_and(|end| end <= self.sectors);
        match (flags, inside && count <= u64::from(MOST_DISCARDED) && !self.read_only) {
            (0, true) if count == 0 => Verdict::Done { status: S_OK, written: 0 },
            (0, true) => {
                Verdict::Issue { request: Request::Discard { sector, count }, bytes: 0, data: Buffer::default() }
            }
            (0, false) => REFUSED,
            _ => Verdict::Done { status: S_UNSUPP, written: 0 },
        }
    }

    /// The drive is done with a request: its result goes to the driver.
    fn finish(request: &InFlight, result: Option<&[u8]>, rings: &mut Rings, context: &mut Context) {
        if request.abandoned {
            return;
        }
        let stored = result.is_some_and(|bytes| request.data.is_empty() || request.data.write(context.memory, bytes));
        request.status.write(context.memory, &[if stored { S_OK } else { S_IOERR }]);
        let written = if stored { request.data.length() as u32 } else { 0 };
        rings.push(QUEUE, context.memory, request.head, written + 1);
    }
}

impl DeviceType for Block {
    const DEVICE_ID: u16 = 0x1001;
    const SUBSYSTEM_ID: u16 = 2;
    const CLASS: u32 = 0x01_0000;
    const QUEUES: &'static [u16] = &[256];

    fn features(&self) -> u64 {
        SEG_MAX | BLK_SIZE | FLUSH | if self.read_only { RO } else { DISCARD }
    }

    /// struct virtio_blk_config (§5.2.4), up to and with what discarding needs.
    fn configuration(&self) -> Vec<u8> {
        let mut bytes = self.sectors.to_le_bytes().to_vec(); // 00h capacity
        bytes.extend(0u32.to_le_bytes()); // 08h size_max
        bytes.extend(MOST_SEGMENTS.to_le_bytes()); // 0Ch seg_max
        bytes.extend([0; 4]); // 10h geometry
        bytes.extend((SECTOR as u32).to_le_bytes()); // 14h blk_size
        bytes.extend([0; 8]); // 18h topology
        bytes.extend([0; 4]); // 20h writeback, 22h num_queues
        bytes.extend(MOST_DISCARDED.to_le_bytes()); // 24h max_discard_sectors
        bytes.extend(1u32.to_le_bytes()); // 28h max_discard_seg
        bytes.extend(8u32.to_le_bytes()); // 2Ch discard_sector_alignment
        bytes
    }

    fn notified(&mut self, _queue: u16, rings: &mut Rings, context: &mut Context) {
        self.pump(rings, context);
    }

    fn reset(&mut self) {
        self.in_flight.iter_mut().for_each(|request| request.abandoned = true);
    }

    /// Takes what the drive is done with, in the order in which it became due. The drives know when that is.
    fn tick(&mut self, rings: &mut Rings, context: &mut Context) {
        let mut due: Vec<(u64, u64)> = self.in_flight.iter().map(|request| (request.due_ns, request.ticket)).collect();
        due.retain(|(due_ns, _)| *due_ns <= context.now_ns);
        due.sort_unstable();
        for (_, ticket) in due {
            let Some(result) = context.drives.complete(self.drive, ticket) else { continue };
            if let Some(index) = self.in_flight.iter().position(|request| request.ticket == ticket) {
                let request = self.in_flight.remove(index);
                Block::finish(&request, result.as_deref().ok(), rings, context);
            }
        }
        self.pump(rings, context);
    }
}
