//! The data phases of a command: what comes from the drive in pieces and goes to the host in blocks, and back
//! (ATA/ATAPI-6 §9). A piece is issued to [`crate::drives::Drives`] and the device is busy until it is due.

use super::device::Device;
use super::task_file::{BSY, DRQ, READY, Width};
use crate::context::Context;
use crate::state::{saved, saved_choice};
use crate::storage::Request;

/// The drives' unit, in bytes.
pub const SECTOR: u32 = 512;
/// Sectors that are issued at once: 2 MiB.
const PIECE: u64 = 4096;
/// Interrupt Reason: the packet phase, or the command's end.
pub const COMMAND: u8 = 1 << 0;
/// Interrupt Reason: to the host.
pub const TO_HOST: u8 = 1 << 1;

/// Who is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Nobody: no command runs.
    #[default]
    Idle,
    /// The drive.
    Drive,
    /// The host, to move a block or to let the bus master do it.
    Host,
}
saved_choice!(Stage { Idle = 0, Drive = 1, Host = 2 });

/// What the command wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Goal {
    /// To end when the drive has answered, without data.
    #[default]
    End,
    /// Sectors to the host.
    Read,
    /// Sectors from the host.
    Write,
    /// To have sectors read, for the drive's verdict alone.
    Verify,
    /// Bytes made here to the host.
    Reply,
    /// A command packet from the host.
    Packet,
    /// A list of ranges from the host, to be discarded.
    Ranges,
    /// The device was reset and drops what the drive still answers.
    Reset,
}
saved_choice!(Goal { End = 0, Read = 1, Write = 2, Verify = 3, Reply = 4, Packet = 5, Ranges = 6, Reset = 7 });

saved_choice!(Width { Narrow = 0, Wide = 1 });

/// How a command moves its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manner {
    /// By the bus master, not through the Data register.
    pub dma: bool,
    /// Bytes of a block through the Data register, at least 2.
    pub block: u32,
    /// It is a packet command: Interrupt Reason and Byte Count go with the data.
    pub packet: bool,
    /// What was written is flushed before the command ends.
    pub durable: bool,
    /// How it shows the address it stops at.
    pub width: Width,
}
saved!(Manner { dma, block, packet, durable, width });

impl Default for Manner {
    fn default() -> Self {
        Manner { dma: false, block: SECTOR, packet: false, durable: false, width: Width::Narrow }
    }
}

/// The command that runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transfer {
    pub(super) stage: Stage,
    pub(super) goal: Goal,
    pub(super) manner: Manner,
    /// The first sector of the piece at hand, and the first after it.
    pub(super) piece: u64,
    pub(super) sector: u64,
    /// Sectors after the piece at hand.
    pub(super) left: u64,
    /// The piece at hand, how much of it has gone through, and where the block ends.
    pub(super) buffer: Vec<u8>,
    pub(super) position: u32,
    pub(super) end: u32,
    /// The ticket of what the drive is working on.
    pub(super) pending: Option<u64>,
}
saved!(Transfer { stage, goal, manner, piece, sector, left, buffer, position, end, pending });

impl Transfer {
    fn length(&self) -> u32 {
        self.buffer.len() as u32
    }

    /// Whether the host can take bytes now.
    pub(super) fn is_to_host(&self) -> bool {
        self.stage == Stage::Host && matches!(self.goal, Goal::Read | Goal::Reply)
    }

    /// Whether the host can give bytes now.
    pub(super) fn is_from_host(&self) -> bool {
        self.stage == Stage::Host && matches!(self.goal, Goal::Write | Goal::Packet | Goal::Ranges)
    }

    /// Whether the block goes through the Data register, and more of it is left than `size` bytes.
    pub(super) fn has_within(&self, size: u8) -> bool {
        !self.manner.dma && self.position.saturating_add(u32::from(size)) < self.end.min(self.length())
    }

    /// What the bus master has still to move.
    pub(super) fn rest(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.position as usize..).unwrap_or_default()
    }

    /// The next 1 to 4 bytes of the block; what is beyond it is 0.
    pub(super) fn take(&mut self, size: u8) -> u32 {
        let end = self.end.min(self.length());
        let mut bytes = [0; 4];
        let block = self.buffer.get(self.position as usize..end as usize).unwrap_or_default();
        let length = block.len().min(usize::from(size.min(4)));
        bytes[..length].copy_from_slice(&block[..length]);
        self.position = self.position.saturating_add(length as u32).min(end);
        u32::from_le_bytes(bytes)
    }

    /// Puts the next 1 to 4 bytes of the block in their place; what is beyond it is dropped.
    pub(super) fn put(&mut self, size: u8, value: u32) {
        let end = self.end.min(self.length());
        let block = self.buffer.get_mut(self.position as usize..end as usize).unwrap_or_default();
        let length = block.len().min(usize::from(size.min(4)));
        block[..length].copy_from_slice(&value.to_le_bytes()[..length]);
        self.position = self.position.saturating_add(length as u32).min(end);
    }
}

impl Device {
    /// Begins to move `count` sectors, at least one, to the host, or only to read them.
    pub(super) fn read_sectors(&mut self, context: &mut Context, goal: Goal, sector: u64, count: u64, manner: Manner) {
        self.transfer = Transfer { goal, manner, sector, left: count, ..Transfer::default() };
        self.fetch(context);
    }

    /// Begins to take `count` sectors, at least one, from the host.
    pub(super) fn write_sectors(&mut self, sector: u64, count: u64, manner: Manner) {
        self.transfer = Transfer { goal: Goal::Write, manner, sector, left: count, ..Transfer::default() };
        self.collect();
        self.interrupt = false;
    }

    /// Begins to send bytes made here.
    pub(super) fn reply(&mut self, bytes: Vec<u8>, manner: Manner) {
        self.transfer = Transfer { goal: Goal::Reply, manner, buffer: bytes, ..Transfer::default() };
        self.present();
    }

    /// Begins to take `bytes` bytes from the host that are not sectors. No interrupt asks for the first block.
    pub(super) fn receive(&mut self, goal: Goal, bytes: u32, manner: Manner) {
        self.transfer = Transfer { goal, manner, buffer: vec![0; bytes as usize], ..Transfer::default() };
        self.accept();
        self.interrupt = false;
    }

    /// Gives the drive something to do that ends the command.
    pub(super) fn end_with(&mut self, context: &mut Context, request: Request) {
        self.transfer = Transfer::default();
        self.issue(context, request);
    }

    fn issue(&mut self, context: &mut Context, request: Request) {
        self.transfer.pending = Some(context.drives.issue(self.drive(), context.now_ns, request).ticket);
        self.transfer.stage = Stage::Drive;
        self.file.status = BSY;
    }

    /// Steps to the next piece; returns its sectors.
    fn step(&mut self) -> u64 {
        let transfer = &mut self.transfer;
        let count = transfer.left.min(PIECE);
        transfer.piece = transfer.sector;
        transfer.sector = transfer.sector.saturating_add(count);
        transfer.left -= count;
        (transfer.position, transfer.end) = (0, 0);
        count
    }

    /// Reads the next piece.
    fn fetch(&mut self, context: &mut Context) {
        let count = self.step() as u32;
        self.transfer.buffer = Vec::new();
        self.issue(context, Request::Read { sector: self.transfer.piece, count });
    }

    /// Makes room for the next piece and asks the host for it.
    fn collect(&mut self) {
        let bytes = self.step() * u64::from(SECTOR);
        self.transfer.buffer = vec![0; bytes as usize];
        self.accept();
    }

    /// Offers the next block to the host.
    fn present(&mut self) {
        let Manner { dma, block, packet, .. } = self.transfer.manner;
        self.request();
        if dma {
            return;
        }
        let rest = self.transfer.length().saturating_sub(self.transfer.position);
        let length = if rest <= block { rest } else { block & !1 };
        self.transfer.end = self.transfer.position.saturating_add(length);
        if packet {
            self.file.set_bytes(length as u16);
            self.file.count.current = TO_HOST;
        }
        self.interrupt = true;
    }

    /// Asks the host for the next block.
    fn accept(&mut self) {
        let Manner { dma, block, .. } = self.transfer.manner;
        self.request();
        if !dma {
            self.transfer.end = self.transfer.position.saturating_add(block).min(self.transfer.length());
            self.interrupt = true;
        }
    }

    fn request(&mut self) {
        self.transfer.stage = Stage::Host;
        self.file.status = READY | DRQ;
    }

    /// The host has taken a block, or the bus master the whole piece.
    pub(super) fn sent(&mut self, context: &mut Context) {
        if self.transfer.position < self.transfer.length() {
            self.present();
        } else if self.transfer.left > 0 {
            self.fetch(context);
        } else if self.transfer.manner.dma || self.transfer.manner.packet {
            self.finish();
        } else {
            // The interrupt of a command that reads by PIO comes with its last block.
            self.transfer = Transfer::default();
            self.file.status = READY;
        }
    }

    /// The host has given a block, or the bus master the whole piece.
    pub(super) fn received(&mut self, context: &mut Context) {
        if self.transfer.position < self.transfer.length() {
            return self.accept();
        }
        match self.transfer.goal {
            Goal::Packet => self.packet(context),
            Goal::Ranges => {
                self.transfer.position = 0;
                self.discard_next(context);
            }
            _ => {
                let bytes = std::mem::take(&mut self.transfer.buffer);
                self.issue(context, Request::Write { sector: self.transfer.piece, bytes });
            }
        }
    }

    /// Discards the next range of a list; ends the command after the last.
    pub(super) fn discard_next(&mut self, context: &mut Context) {
        while let Some((entry, _)) = self.transfer.rest().split_first_chunk::<8>() {
            let entry = u64::from_le_bytes(*entry);
            let (sector, count) = (entry & 0xffff_ffff_ffff, entry >> 48);
            self.transfer.position = self.transfer.position.saturating_add(8);
            if count != 0 {
                return self.issue(context, Request::Discard { sector, count });
            }
        }
        self.finish();
    }

    /// A load from the Data register.
    pub fn data_read(&mut self, context: &mut Context, size: u8) -> u32 {
        if !self.transfer.is_to_host() || self.transfer.manner.dma {
            return 0;
        }
        let value = self.transfer.take(size);
        if self.transfer.position >= self.transfer.end {
            self.sent(context);
        }
        value
    }

    /// A store to the Data register.
    pub fn data_write(&mut self, context: &mut Context, size: u8, value: u32) {
        if !self.transfer.is_from_host() || self.transfer.manner.dma {
            return;
        }
        self.transfer.put(size, value);
        if self.transfer.position >= self.transfer.end {
            self.received(context);
        }
    }

    /// Takes the drive's answer if it is there.
    pub fn tick(&mut self, context: &mut Context) {
        let Some(ticket) = self.transfer.pending else { return };
        let Some(answer) = context.drives.complete(self.drive(), ticket) else { return };
        self.transfer.pending = None;
        match (self.transfer.goal, answer) {
            (Goal::Reset, _) => self.end_reset(),
            (Goal::Read, Ok(bytes)) if !bytes.is_empty() => {
                self.transfer.buffer = bytes;
                self.present();
            }
            (Goal::Write, Ok(_)) if self.transfer.left > 0 => self.collect(),
            (Goal::Write, Ok(_)) if self.transfer.manner.durable => self.end_with(context, Request::Flush),
            (Goal::Verify, Ok(_)) if self.transfer.left > 0 => self.fetch(context),
            (Goal::Ranges, Ok(_)) => self.discard_next(context),
            (Goal::Read | Goal::Verify, Err(_)) | (Goal::Read, Ok(_)) => self.unreadable(),
            (_, Ok(_)) => self.finish(),
            (_, Err(_)) => self.unwritable(),
        }
    }
}
