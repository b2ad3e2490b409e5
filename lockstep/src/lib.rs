//! The pair: one guest on two servers, so that either may die. Sans-I/O, in quinn-proto's manner: no clock, socket,
//! file, thread or random source is in here; time comes in as integer nanoseconds of any steady clock.
//!
//! # How the edge drives it
//!
//! ```text
//! let mut hands = Hands::with(machine);                         // a primary or an unprotected guest
//! let mut node = Node::primary(settings, identity, incarnation, now, Place::of(&machine));
//! //  or:  Hands::empty()  and  Node::standby(settings, identity, incarnation, now)
//!
//! guest thread:  loop { let work = node.lock().work(now());
//!                       if let Work::Wait { until_ns } = work { wait for a nudge, or until then; continue }
//!                       let done = hands.execute(work);         // the lock is NOT held here
//!                       node.lock().done(now(), done);
//!                       carry out node.poll() }
//! network task:  on every event   { node.lock().handle(now(), event);  carry out node.poll();  nudge if node.stirred() }
//! its timer:     at node.deadline() { node.lock().tick(now());         carry out node.poll();  nudge if node.stirred() }
//! ```
//!
//! One thread will do as well: [`Driver`] couples a [`Node`] and its [`Hands`] (the simulator uses it). The order in which
//! `poll` gives actions must be kept per link and class, and for releases. `now` must be read *after* the lock is taken
//! (time that falls would be taken for no time) and come from a clock that runs on while the process is stopped.
//!
//! | edge has | it says | edge is told | it does |
//! |---|---|---|---|
//! | client bytes, button | [`Event::Input`] | [`Action::Release`] | write to stdio; wake console clients |
//! | link up, message, end | [`Event::LinkUp`], [`Event::Received`], [`Event::LinkDown`] | [`Action::Send`], [`Action::Disconnect`] | by [`Class`] |
//! | arbiter's answer | [`Event::Claimed`] | [`Action::Claim`] | ask it |
//! | frame from the network | [`Event::Input`], on both sides | [`Action::Announce`], [`Action::Release`] | send it before the next action |
//! | Ctrl-C | [`Event::Stop`] | [`Action::Finished`] | exit, status by [`Finish`] |
//! | | | [`Action::Record`] | append to the record file (zstd) |
//! | | | [`Action::Notice`] | tell the user |
//!
//! * The clock: the node itself anchors the guest's clock to `now` and waits out the guest's idle time. The edge never
//!   makes an [`Input::Clock`].
//! * Unprotected: `Node::primary` without any `LinkUp` just runs, and releases at once. A standby may be given later.
//! * Protected from the first instruction: [`Settings::wait_for_standby`].
//! * Links: whoever dials, both say `LinkUp` with a number of their own. `died: true` only if the peer's process is
//!   known to be dead. After any other `LinkDown` dial again; the pair resumes.
//! * Console clients: [`Node::console`] gives released bytes from a position on, on either side; a client that counts its
//!   bytes asks the survivor to go on from there, so it misses and repeats nothing.
//! * [`Node::status`]: role, term, count, lag, whether protected.
//! * A standby that ended with [`Finish::Fenced`] or [`Finish::Diverged`] may be started anew as `Node::standby` with
//!   another incarnation.
//!
//! # Records
//!
//! [`Action::Record`] bytes are a whole record file, uncompressed: header, image, records. [`RecordReader`] takes bytes in
//! pieces of any size and gives [`Record`]s and errors that say where; [`Replay`] runs a guest along them and compares
//! digests.
//!
//! Files, in the order data flows: `wire`, `record`, `chain`, `log`, `message`, `handshake`, `outputs`, `stations`, `heard`, `clock`, `lag`,
//! `transfer`, `node/`, `work`, `driver`, `file`, `replay`, `divergence`.

pub mod chain;
pub mod clock;
pub mod divergence;
pub mod driver;
pub mod event;
pub mod file;
pub mod guest;
pub mod handshake;
pub mod heard;
pub mod image;
pub mod kept;
pub mod lag;
pub mod log;
pub mod machine;
pub mod message;
pub mod mirror;
pub mod node;
pub mod outputs;
pub mod record;
pub mod replay;
pub mod settings;
pub mod silence;
pub mod stations;
pub mod transfer;
pub mod waits;
pub mod wire;
pub mod work;

pub use driver::{Driver, Step};
pub use event::{Action, Event, Finish, Notice, Release, Verdict};
pub use file::{FileError, Head, RecordReader, Sectors};
pub use ftemu_cpu::Icount;
pub use ftemu_devices::{Emitted, Input, Output, Ran};
pub use guest::{Guest, GuestError};
pub use handshake::{Identity, Mismatch, PROTOCOL};
pub use image::Image;
pub use message::{Class, Message};
pub use node::{Node, State, Status};
pub use outputs::Piece;
pub use record::{Entry, Record};
pub use replay::{Replay, ReplayError};
pub use settings::{Rest, Settings};
pub use work::{Done, Hands, Place, Work};
