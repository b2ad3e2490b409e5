//! What a node is told and what it wants done. Bytes and numbers only: sockets, files and clocks are the edge's.

use crate::divergence::Report;
use crate::guest::Input;
use crate::handshake::Mismatch;
use crate::message::Class;
use ftemu_cpu::Icount;

/// Something happened outside.
#[derive(Clone, Debug)]
pub enum Event {
    /// For the guest. A side that is not live drops it: clients talk to the live side. But frames are remembered for a
    /// while by a standby, and handed to the guest if they turn out to be news when it takes over.
    Input(Input),
    /// A connection to the peer stands. Numbers are the edge's, from 1, and rise; a newer one replaces an older.
    LinkUp {
        /// Its number.
        link: u64,
    },
    /// The peer sent a message.
    Received {
        /// By this connection.
        link: u64,
        /// As it was in [`Action::Send`].
        bytes: Vec<u8>,
    },
    /// A connection ended.
    LinkDown {
        /// Which.
        link: u64,
        /// The peer's *process* is known to be dead: its system said so. Not: it is silent.
        died: bool,
    },
    /// The peer's process is known to be dead, learnt otherwise than by the end of a connection.
    PeerDied,
    /// The arbiter answered [`Action::Claim`].
    Claimed {
        /// The term that was claimed.
        term: u64,
        /// The answer.
        verdict: Verdict,
    },
    /// The user ends this side. A primary leaves a paired standby to take over; see [`Action::Finished`].
    Stop,
}

/// An arbiter's answer to a claim. Claims of one server for one term must be answered alike each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This server, and no other ever, goes on alone in that term.
    Won,
    /// Another has won it.
    Lost {
        /// What the arbiter says about the winner.
        to: String,
    },
    /// No answer could be had; the node claims again later.
    Unreachable(String),
}

/// Something for the edge to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send a message to the peer.
    Send {
        /// By this connection; if it is no more, drop the message.
        link: u64,
        /// In the order of this class.
        class: Class,
        /// What [`Event::Received`] brings to the peer.
        bytes: Vec<u8>,
    },
    /// End a connection; no [`Event::LinkDown`] is expected for it.
    Disconnect {
        /// Which.
        link: u64,
    },
    /// The outside may see this.
    Release(Release),
    /// A frame that the guest did not send, for its network: it lives here now. Comes before the guest's own.
    Announce {
        /// By the network of which card.
        nic: u8,
        /// As in [`Release::Frame`].
        bytes: Vec<u8>,
    },
    /// Win `term` at the arbiter, atomically, and say [`Event::Claimed`].
    Claim {
        /// The term.
        term: u64,
    },
    /// Bytes for the record file, in order, the first ones its header. Compress them as you like.
    Record(Vec<u8>),
    /// Something to tell the user.
    Notice(Notice),
    /// This side is done: the guest is off, or the user's [`Event::Stop`] is carried out, or it must not go on.
    Finished(Finish),
}

/// An output that may leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Release {
    /// Console bytes. After a failover some may come twice, with equal positions; [`crate::Node::console`] serves
    /// clients that attach in the middle.
    Serial {
        /// 0 is COM1.
        port: u8,
        /// Bytes the guest sent by this port before these, since it was made.
        position: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A frame for the network. After a failover some may come twice, with equal numbers, never out of order.
    Frame {
        /// Which network card sent it.
        nic: u8,
        /// Frames the guest sent by this card before, since it was made.
        number: u64,
        /// From the destination address to the last byte of the payload.
        bytes: Vec<u8>,
    },
    /// The guest switched itself off.
    PowerOff,
    /// The guest reset itself and goes on.
    Reset,
}

/// Why a side is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The guest switched itself off and all of its outputs are out.
    PoweredOff,
    /// [`Event::Stop`].
    Stopped,
    /// Another side won this term, or holds a higher one: nothing more may leave from here.
    Fenced {
        /// The term.
        term: u64,
    },
    /// Standby only: its guest differed from the primary's; the [`Notice::Diverged`] before says how.
    Diverged,
    /// The guest or its image is not usable here.
    Failed(String),
}

/// Something the user should know. `Display` says it in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// There is no arbiter; said once, at the start of a pair.
    NoArbiter,
    /// The handshake failed.
    Unlike(Mismatch),
    /// The peer refuses us, in its words.
    Refused(String),
    /// The peer's bytes make no sense; the connection is ended.
    Nonsense(String),
    /// The state transfer began.
    Transferring {
        /// Pages to send or to come.
        pages: u64,
    },
    /// A standby's disks are being made equal to the primary's.
    Mirroring {
        /// Bytes to compare.
        bytes: u64,
    },
    /// They are equal but for the last few blocks, which come with the image.
    Mirrored {
        /// Bytes that differed.
        sent_bytes: u64,
    },
    /// The guest changes its disks faster than they can be sent: it is slowed until they are equal.
    Outwritten,
    /// A drive of this side failed while the other side has the guest too: it goes on there.
    DriveFailed {
        /// Which drive.
        drive: u8,
    },
    /// Both sides are whole: from here on either may fail.
    Protected {
        /// The pair's term.
        term: u64,
        /// Where the guest is.
        count: Icount,
    },
    /// The primary goes on without a standby: the next failure loses the guest.
    Unprotected {
        /// The term it goes on in.
        term: u64,
        /// What happened to the standby.
        why: String,
    },
    /// Nothing is heard from the peer.
    Silent {
        /// For so long.
        quiet_ns: u64,
    },
    /// The peer is heard again.
    Heard,
    /// The connection broke; the pair waits for a new one.
    Disconnected,
    /// This standby has dropped what it had of the guest and waits for a primary.
    Dropped {
        /// What happened.
        why: String,
    },
    /// A new connection carries the pair on.
    Resumed,
    /// The backup lags; the guest is slowed so that it can follow.
    Slowed {
        /// By so much.
        lag_ns: u64,
    },
    /// The backup follows closely again.
    FullSpeed,
    /// The guest stands still until the peer answers.
    Stalled {
        /// Why.
        why: &'static str,
    },
    /// It runs again.
    Unstalled,
    /// The arbiter cannot be asked.
    ArbiterUnreachable(String),
    /// This standby is the guest now.
    Live {
        /// The term it won.
        term: u64,
        /// Where the guest went on.
        count: Icount,
        /// From the last sign of life until the decision.
        detection_ns: u64,
        /// From the decision until all of the log was executed and the claim won.
        replay_ns: u64,
        /// Virtual time that was received but not executed at the decision.
        lag_ns: u64,
    },
    /// Standby: what the difference is, as far as it can be told.
    Diverged(Box<Report>),
    /// Primary: the standby's report, in words.
    Findings(String),
    /// The digests differed at this count; what it was is being looked for.
    Differs {
        /// Where.
        count: Icount,
    },
}
