//! The node: one side of a pair. It is told events and results of work, and says what to do; it does nothing itself.
//!
//! `common` is what both roles share, `primary` runs the guest, `standby` follows it and takes over. Roles change
//! in one place: `Node::turn`.

mod common;
mod flush;
mod follow;
mod greet;
mod pace;
mod peer;
mod primary;
mod standby;

use crate::clock::Pacer;
use crate::event::{Action, Event, Finish};
use crate::guest::Input;
use crate::handshake::Identity;
use crate::log::Log;
use crate::message::Message;
use crate::outputs::Piece;
use crate::record::Position;
use crate::settings::Settings;
use crate::waits::Percentiles;
use crate::work::{Done, Place, Work};
use common::{Common, Turn};
use ftemu_cpu::Icount;
use primary::Primary;
use standby::Standby;

/// One side of a pair.
#[derive(Debug)]
pub struct Node {
    common: Common,
    role: Role,
}

#[derive(Debug)]
enum Role {
    Primary(Box<Primary>),
    Standby(Box<Standby>),
    Finished,
}

/// What a side is doing, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It runs the guest and nobody follows.
    Alone,
    /// It runs the guest and a standby is being given its state.
    Sharing,
    /// It runs the guest and a standby follows.
    Primary,
    /// It waits for the arbiter before anything more is released.
    Claiming,
    /// It has no guest yet.
    Waiting,
    /// It is being given a guest.
    Joining,
    /// It follows a primary and could take over.
    Backup,
    /// It follows, but may not take over yet.
    Following,
    /// The primary is gone and the rest of the log is being executed.
    TakingOver,
    /// It looks for the cause of a divergence.
    Diagnosing,
    /// It is done.
    Finished,
}

/// A summary for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// It runs the guest and may release: the side that clients talk to.
    pub live: bool,
    /// Either side may fail without loss. As far as this side knows.
    pub protected: bool,
    /// The term.
    pub term: u64,
    /// Where the guest is.
    pub at: Place,
    /// A primary's: how far the backup is behind. A backup's: how long the log it has not executed takes it.
    pub lag_ns: u64,
    /// Records in the log so far.
    pub records: u64,
    /// The last count at which both digests agreed.
    pub agreed: Icount,
    /// Outputs are waiting.
    pub holding: bool,
    /// How long outputs waited that this side released, since it is protected.
    pub waited: Percentiles,
    /// The patience with the peer's silence, in ns.
    pub patience_ns: u64,
    /// The longest time for which this side could not look after its network, in ns.
    pub starved_ns: u64,
    /// While a standby's disks are being made equal: blocks of 1 MiB compared, and in all.
    pub compared: Option<(u64, u64)>,
}

impl Node {
    /// A side with a guest that stands at `place` ([`Place::of`]).
    ///
    /// `incarnation` must differ each time a process starts (a random number will do).
    pub fn primary(settings: Settings, identity: Identity, incarnation: u64, now: u64, place: Place) -> Self {
        let log = Log::new(Position::start(place.count));
        let mut common = Common::new(settings, identity, incarnation, now, log);
        common.guest.at = place;
        common.pacer = Pacer::new(now, place.now_ns, common.settings.clock_tolerance_ns);
        Self { common, role: Role::Primary(Box::new(Primary::new())) }
    }

    /// A side that waits for a guest.
    pub fn standby(settings: Settings, identity: Identity, incarnation: u64, now: u64) -> Self {
        let common = Common::new(settings, identity, incarnation, now, Log::new(Position::start(Icount(0))));
        Self { common, role: Role::Standby(Box::new(Standby::new())) }
    }

    /// Takes an event. `now` is nanoseconds of a steady clock that also runs while the process is stopped.
    pub fn handle(&mut self, now: u64, event: Event) {
        self.pass(now);
        self.common.stirred |= !matches!(event, Event::Received { .. });
        match event {
            Event::LinkUp { link } => self.link_up(link),
            Event::LinkDown { link, died } => self.link_down(link, died),
            Event::Received { link, bytes } => self.received(link, &bytes),
            Event::PeerDied => self.peer_gone("its process died"),
            Event::Claimed { term, verdict } => self.claimed(term, verdict),
            Event::Input(input) => match (&mut self.role, input) {
                (Role::Primary(primary), input) => primary.input(input),
                (Role::Standby(standby), Input::Frame { nic, bytes }) => standby.hear(&mut self.common, nic, bytes),
                (Role::Standby(_) | Role::Finished, _) => (),
            },
            Event::Stop => self.stop(),
        }
        self.turn();
    }

    /// Lets time pass: signs of life, silence, flushes. To be called at [`Node::deadline`], by whoever also takes what
    /// arrives from the peer, and when that is taken: its silence is judged by that. Any other time does no harm.
    pub fn tick(&mut self, now: u64) {
        self.common.silence.attend(self.common.now.max(now));
        self.pass(now);
    }

    /// Lets time pass.
    fn pass(&mut self, now: u64) {
        let common = &mut self.common;
        common.now = common.now.max(now);
        match &mut self.role {
            Role::Primary(primary) => primary.tick(common),
            Role::Standby(standby) => standby.tick(common),
            Role::Finished => (),
        }
        if !matches!(self.role, Role::Finished) {
            common.heartbeat();
            common.claim_again();
        }
        self.turn();
    }

    /// When [`Node::tick`] wants to be called at the latest.
    pub fn deadline(&self) -> Option<u64> {
        let look_at = match &self.role {
            Role::Primary(primary) => primary.look_at(&self.common),
            Role::Standby(standby) => standby.look_at(&self.common),
            Role::Finished => return None,
        };
        [self.flush_at(), look_at, self.common.deadline()].into_iter().flatten().min()
    }

    /// When something that waits for company is to be sent.
    fn flush_at(&self) -> Option<u64> {
        match &self.role {
            Role::Primary(primary) => primary.deadline(&self.common),
            Role::Standby(standby) => standby.deadline(&self.common),
            Role::Finished => None,
        }
    }

    /// Whether something has happened since the last time it was asked that may give the guest work: what waits with
    /// [`Work::Wait`] is to be nudged then.
    pub fn stirred(&mut self) -> bool {
        std::mem::take(&mut self.common.stirred)
    }

    /// The next thing for the edge to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.common.actions.pop_front()
    }

    /// The next piece of work for the guest. Until its result is given to [`Node::done`] there is no other.
    pub fn work(&mut self, now: u64) -> Work {
        self.pass(now);
        if self.common.guest.working.is_some() {
            return Work::Wait { until_ns: None };
        }
        let work = match &mut self.role {
            Role::Primary(primary) => primary.work(&mut self.common),
            Role::Standby(standby) => standby.work(&mut self.common),
            Role::Finished => Work::Wait { until_ns: None },
        };
        self.turn();
        match work {
            Work::Wait { until_ns } => Work::Wait { until_ns: [until_ns, self.flush_at()].into_iter().flatten().min() },
            work => {
                self.common.guest.working = Some(self.common.now);
                work
            }
        }
    }

    /// Takes the result of the last piece of work.
    pub fn done(&mut self, now: u64, done: Done) {
        self.pass(now);
        let started = self.common.guest.working.take();
        if std::mem::take(&mut self.common.guest.stale) {
            return;
        }
        if let Done::Failed(error) = done {
            // A primary that gives its guest away should know why nobody can take it.
            self.common.send(&Message::Refused { reason: error.to_string() });
            self.common.finish(Finish::Failed(error.to_string()));
            self.turn();
            return;
        }
        let took_ns = self.common.now.saturating_sub(started.unwrap_or(self.common.now));
        match &mut self.role {
            Role::Primary(primary) => primary.done(&mut self.common, done, took_ns),
            Role::Standby(standby) => standby.done(&mut self.common, done, took_ns),
            Role::Finished => (),
        }
        self.turn();
    }

    /// Console bytes of `port` that may be seen, from position `from` on; later if they are no longer kept.
    pub fn console(&self, port: u8, from: u64) -> Piece {
        self.common.outputs.piece(port, from)
    }

    /// Frames wait to be handed to the guest, which this side runs.
    pub fn frames_wait(&self) -> bool {
        matches!(&self.role, Role::Primary(primary) if primary.frames_wait())
    }

    /// A summary for people.
    pub fn status(&self) -> Status {
        let common = &self.common;
        let (state, protected, lag_ns, agreed) = match &self.role {
            Role::Primary(primary) => primary.summary(common),
            Role::Standby(standby) => standby.summary(common),
            Role::Finished => (State::Finished, false, 0, Icount(0)),
        };
        Status {
            state,
            live: matches!(state, State::Alone | State::Sharing | State::Primary),
            protected,
            term: common.term,
            at: common.guest.at,
            lag_ns,
            records: common.log.end().index,
            agreed,
            holding: !common.outputs.is_empty(),
            waited: common.outputs.waited(),
            patience_ns: common.silence.limit_ns(),
            starved_ns: common.silence.starved_ns(),
            compared: match &self.role {
                Role::Primary(primary) => primary.peer.compared(),
                Role::Standby(standby) => standby.compared(),
                Role::Finished => None,
            },
        }
    }

    /// The count that the log covers: a backup can reproduce everything up to it.
    pub fn covered(&self) -> Icount {
        self.common.log.end().count
    }

    /// Records of the log that survive this side: those the backup has acknowledged, or all while there is no backup.
    pub fn acknowledged(&self) -> u64 {
        match &self.role {
            Role::Primary(primary) if primary.peer.is_paired() => primary.acknowledged,
            _ => self.common.log.end().index,
        }
    }

    fn peer_gone(&mut self, why: &str) {
        match &mut self.role {
            Role::Primary(primary) => primary.lose_peer(&mut self.common, why),
            Role::Standby(standby) => standby.lose_primary(&mut self.common, why),
            Role::Finished => (),
        }
    }

    fn stop(&mut self) {
        if let Role::Primary(primary) = &mut self.role {
            primary.flush(&mut self.common);
        }
        self.common.goodbye(false);
        self.common.finish(Finish::Stopped);
    }

    /// Changes the role if something asked for it.
    fn turn(&mut self) {
        match self.common.turn.take() {
            None => (),
            Some(Turn::Live) => {
                let mut primary = Primary::new();
                primary.go_live(&mut self.common);
                self.role = Role::Primary(Box::new(primary));
            }
            Some(Turn::Finished) => {
                self.common.outputs.discard();
                self.role = Role::Finished;
            }
        }
    }
}
