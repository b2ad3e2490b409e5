//! What the two nodes say to each other. The table with every field's meaning is in `docs/PROTOCOL.md`.

mod codec;

use crate::chain::Chain;
use crate::guest::{Digest, Page};
use crate::handshake::Identity;
use crate::mirror::{BlockId, Hash};
use crate::record::Position;
use ftemu_cpu::Icount;

/// How a message travels. Each class is an ordered stream of its own: none waits for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// The log and its acknowledgements: what outputs wait for.
    Log,
    /// Rare and small.
    Control,
    /// State transfer.
    Bulk,
    /// Signs of life; may be lost or overtaken, so a datagram will do.
    Heartbeat,
}

/// What a side is when a connection comes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// It runs the guest.
    Primary,
    /// It follows, or wants to.
    Standby,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first one in both directions.
    Hello {
        /// Must match.
        identity: Identity,
        /// Of this process; a process that was started anew has another.
        incarnation: u64,
        /// What the sender is.
        side: Side,
        /// The term it is in.
        term: u64,
        /// A standby's: what it has received, if it can go on from there.
        position: Option<Position>,
    },
    /// Primary: the standby may stay.
    Welcome {
        /// The pair's term.
        term: u64,
        /// The log goes on where the standby left off; otherwise [`Message::Begin`] follows.
        resume: bool,
    },
    /// This side will not pair.
    Refused {
        /// For the user.
        reason: String,
    },
    /// A state transfer begins.
    Begin(Box<Begin>),
    /// Console bytes that were sent before the image, for clients that attach again.
    History {
        /// Serial port.
        port: u8,
        /// The next ones.
        bytes: Vec<u8>,
    },
    /// The next bytes of the image's state without RAM.
    State {
        /// Number of this message among those of state and pages, from 0.
        chunk: u64,
        /// The next ones.
        bytes: Vec<u8>,
    },
    /// Pages of the image.
    Pages {
        /// Number of this message among those of state and pages, from 0.
        chunk: u64,
        /// Page number and content.
        pages: Vec<(u32, Box<Page>)>,
    },
    /// The disks are to be made equal; the standby answers with [`Message::Hashes`].
    Mirror {
        /// Sizes of the drives, in sectors of 512 bytes.
        sectors: Vec<u64>,
    },
    /// Standby: hashes of its blocks. None: it has written what was sent.
    Hashes {
        /// The first block's number among those of all drives.
        first: u64,
        /// BLAKE3 of each.
        hashes: Vec<Hash>,
    },
    /// A block of a disk.
    Block {
        /// Within an image: number of this message among those of state and pages. Before one: 0.
        chunk: u64,
        /// Which.
        id: BlockId,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// All blocks that differ, so far, were sent; the standby says the next hashes when it has written them.
    Compared {
        /// The next block to be compared; the end: none.
        next: u64,
    },
    /// The whole image was sent.
    Complete {
        /// Messages of state and pages.
        chunks: u64,
    },
    /// Standby: so many messages of state and pages were taken; the first, of none, asks for the image.
    Taken {
        /// In all.
        chunks: u64,
    },
    /// Standby: the image is in place; its digest shows that it is whole.
    Ready {
        /// Of the guest as loaded.
        digest: Digest,
    },
    /// Records.
    Log {
        /// Index of the first.
        first: u64,
        /// Outputs made up to this count have left the primary.
        released: Icount,
        /// The records, each encoded against the one before.
        records: Vec<u8>,
        /// The chain after the last.
        chain: Chain,
    },
    /// Backup: what it has.
    Acknowledge {
        /// Records received.
        received: u64,
        /// Where its guest is.
        executed: Icount,
        /// The last digest that agreed.
        agreed: Icount,
    },
    /// A sign of life.
    Heartbeat {
        /// The sender's term.
        term: u64,
        /// The guest's time as the sender's wall clock has it.
        now_ns: u64,
    },
    /// Backup: its digest differs; it stops, and will never go live.
    Differs {
        /// Where.
        count: Icount,
        /// Its own digest.
        digest: Digest,
    },
    /// Backup: what it found out about that, for the user.
    Findings {
        /// The report.
        text: String,
    },
    /// The sender leaves on purpose.
    Goodbye {
        /// The guest switched itself off and everything is out; otherwise the peer goes on alone.
        finished: bool,
    },
}

/// The head of a state transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The pair's term.
    pub term: u64,
    /// The log goes on from here; the image is of its count.
    pub position: Position,
    /// [`crate::Guest::config`].
    pub config: Vec<u8>,
    /// Bytes of [`crate::Guest::save`] to come.
    pub state_bytes: u64,
    /// The guest's digest.
    pub digest: Digest,
    /// Pages to come.
    pub pages: u64,
    /// How far each way out has got.
    pub streams: Vec<Stream>,
}

/// A way out of the guest whose outputs are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// A serial port; its bytes are counted.
    Serial(u8),
    /// A network card; its frames are counted.
    Nic(u8),
}

/// A way out at the time of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Which.
    pub way: Way,
    /// Position of the first byte of history to come; of frames there is none.
    pub start: u64,
    /// Bytes or frames the guest has sent.
    pub end: u64,
}

impl Message {
    /// How it travels.
    pub fn class(&self) -> Class {
        match self {
            Message::Log { .. } | Message::Acknowledge { .. } => Class::Log,
            Message::Begin(_)
            | Message::History { .. }
            | Message::State { .. }
            | Message::Pages { .. }
            | Message::Mirror { .. }
            | Message::Hashes { .. }
            | Message::Block { .. }
            | Message::Compared { .. }
            | Message::Complete { .. } => Class::Bulk,
            Message::Heartbeat { .. } => Class::Heartbeat,
            Message::Hello { .. }
            | Message::Welcome { .. }
            | Message::Refused { .. }
            | Message::Taken { .. }
            | Message::Ready { .. }
            | Message::Differs { .. }
            | Message::Findings { .. }
            | Message::Goodbye { .. } => Class::Control,
        }
    }
}
