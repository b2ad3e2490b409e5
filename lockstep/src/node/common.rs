//! What both roles have: the log, the outputs, the link, the guest as last heard of, the actions not yet taken.

use crate::clock::Pacer;
use crate::event::{Action, Finish, Notice, Verdict};
use crate::file;
use crate::guest::{Emitted, Input, Output, Ran};
use crate::handshake::Identity;
use crate::heard::Heard;
use crate::image::Image;
use crate::log::Log;
use crate::message::{Message, Side};
use crate::outputs::Outputs;
use crate::record::{Entry, Position};
use crate::settings::Settings;
use crate::silence::Silence;
use crate::stations::Stations;
use crate::work::Place;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Common {
    pub settings: Settings,
    pub identity: Identity,
    pub incarnation: u64,
    pub now: u64,
    pub term: u64,
    pub log: Log,
    pub outputs: Outputs,
    /// Who the guest is on its networks.
    pub stations: Stations,
    /// What a standby hears there.
    pub heard: Heard,
    pub actions: VecDeque<Action>,
    pub link: Option<Link>,
    /// The highest number of a connection so far.
    pub last_link: u64,
    /// When the peer was last heard; counts while there is one to hear.
    pub heard_ns: u64,
    pub silence: Silence,
    /// Something happened that may give the guest work.
    pub stirred: bool,
    /// The user was told that it is silent.
    pub silent: bool,
    pub guest: GuestView,
    pub pacer: Pacer,
    /// Records handed out for the record file; `None` until its head was.
    pub recorded: Option<u64>,
    pub claim: Option<Claim>,
    pub turn: Option<Turn>,
    next_heartbeat: u64,
    /// The guest's clock is told by then, though other messages are signs of life enough.
    next_clock: u64,
    told_no_arbiter: bool,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub number: u64,
    /// Hellos were exchanged and the peer is welcome.
    pub greeted: bool,
    /// This side has said that it will not pair; the peer ends the connection when it has read that.
    pub refused: bool,
}

/// The guest as the node last heard of it.
#[derive(Debug, Default)]
pub(super) struct GuestView {
    pub at: Place,
    /// A piece of work is out since then.
    pub working: Option<u64>,
    /// That work is of a guest that was dropped meanwhile: its result means nothing.
    pub stale: bool,
    /// It is halted; its deadline, if it has one.
    pub idle: Option<Option<u64>>,
    pub off: bool,
}

/// A term asked of the arbiter.
#[derive(Debug)]
pub(super) struct Claim {
    pub term: u64,
    again_ns: Option<u64>,
}

/// A change of role.
#[derive(Debug)]
pub(super) enum Turn {
    Live,
    Finished,
}

impl Common {
    pub fn new(settings: Settings, identity: Identity, incarnation: u64, now: u64, log: Log) -> Self {
        let outputs = Outputs::new(settings.history_bytes);
        let pacer = Pacer::new(now, 0, settings.clock_tolerance_ns);
        let silence = Silence::new(settings.silence_ns, settings.heartbeat_ns, now);
        Self {
            settings,
            identity,
            incarnation,
            now,
            term: 0,
            log,
            outputs,
            stations: Stations::default(),
            heard: Heard::default(),
            actions: VecDeque::new(),
            link: None,
            last_link: 0,
            heard_ns: now,
            silence,
            stirred: true,
            silent: false,
            guest: GuestView::default(),
            pacer,
            recorded: None,
            claim: None,
            turn: None,
            next_heartbeat: now,
            next_clock: now,
            told_no_arbiter: false,
        }
    }

    /// Sends if there is a link.
    pub fn send(&mut self, message: &Message) {
        if let Some(link) = &self.link {
            let (link, class) = (link.number, message.class());
            self.next_heartbeat = self.now.saturating_add(self.settings.heartbeat_ns);
            self.actions.push_back(Action::Send { link, class, bytes: message.encode() });
        }
    }

    pub fn notice(&mut self, notice: Notice) {
        self.stirred = true;
        self.actions.push_back(Action::Notice(notice));
    }

    /// Ends the link, if there is one, on our account.
    pub fn disconnect(&mut self) {
        if let Some(link) = self.link.take() {
            self.actions.push_back(Action::Disconnect { link: link.number });
        }
    }

    pub fn greeted(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.greeted)
    }

    /// The peer and we are a pair or on the way to one, by this link.
    pub fn greet(&mut self) {
        if let Some(link) = &mut self.link {
            link.greeted = true;
        }
        self.next_heartbeat = self.now;
        self.next_clock = self.now;
        self.heard();
        self.silence.restart(self.now);
        if !self.settings.arbiter && !self.told_no_arbiter {
            self.told_no_arbiter = true;
            self.notice(Notice::NoArbiter);
        }
    }

    pub fn heard(&mut self) {
        self.heard_ns = self.now;
        self.silence.heard(self.now);
        if self.silent {
            self.silent = false;
            self.notice(Notice::Heard);
        }
    }

    pub fn hello(&mut self, side: Side, position: Option<crate::record::Position>) {
        let (identity, incarnation, term) = (self.identity.clone(), self.incarnation, self.term);
        self.send(&Message::Hello { identity, incarnation, side, term, position });
    }

    /// Nothing was sent for so long that the peer needs a sign of life.
    pub fn sign_is_due(&self) -> bool {
        self.greeted() && self.now >= self.next_heartbeat
    }

    /// The peer was answered, and will be again: what it says comes before this side's own sign of life is due.
    pub fn answered(&mut self) {
        self.next_heartbeat = self.next_heartbeat.saturating_add(self.settings.heartbeat_ns / 4);
    }

    /// Sends a sign of life if one is due: any message is one, but what waits in a stream may not arrive in time.
    pub fn heartbeat(&mut self) {
        if self.sign_is_due() || self.greeted() && self.now >= self.next_clock {
            self.beat();
        }
    }

    /// Sends a message of a kind that comes again after [`Settings::progress_ns`] when the guest is busy; a sign of life that is
    /// due by then goes with it, and wakes nobody a second time.
    pub fn send_regularly(&mut self, message: &Message) {
        self.send(message);
        if self.greeted() && self.now.saturating_add(self.settings.progress_ns) >= self.next_clock {
            self.beat();
        }
    }

    fn beat(&mut self) {
        self.next_clock = self.now.saturating_add(self.settings.heartbeat_ns.saturating_mul(2));
        let now_ns = self.pacer.target_ns(self.now);
        self.send(&Message::Heartbeat { term: self.term, now_ns });
    }

    pub fn deadline(&self) -> Option<u64> {
        let heartbeat = self.greeted().then_some(self.next_heartbeat.min(self.next_clock));
        let claim = self.claim.as_ref().and_then(|claim| claim.again_ns);
        [heartbeat, claim].into_iter().flatten().min()
    }

    /// Asks the arbiter for the next term.
    pub fn claim(&mut self) {
        if self.claim.is_none() {
            let term = self.term + 1;
            self.claim = Some(Claim { term, again_ns: None });
            self.actions.push_back(Action::Claim { term });
        }
    }

    /// Asks again if the arbiter could not be reached.
    pub fn claim_again(&mut self) {
        let now = self.now;
        let Some(claim) = &mut self.claim else { return };
        if claim.again_ns.is_some_and(|again| now >= again) {
            claim.again_ns = None;
            let term = claim.term;
            self.actions.push_back(Action::Claim { term });
        }
    }

    /// Takes the arbiter's answer; true if the term is ours.
    pub fn claimed(&mut self, term: u64, verdict: Verdict) -> bool {
        let Some(claim) = &mut self.claim else { return false };
        if claim.term != term {
            return false;
        }
        match verdict {
            Verdict::Won => {
                self.claim = None;
                return true;
            }
            Verdict::Lost { .. } => self.finish(Finish::Fenced { term }),
            Verdict::Unreachable(why) => {
                claim.again_ns = Some(self.now + self.settings.claim_again_ns);
                self.notice(Notice::ArbiterUnreachable(why));
            }
        }
        false
    }

    pub fn goodbye(&mut self, finished: bool) {
        if self.greeted() {
            self.send(&Message::Goodbye { finished });
        }
    }

    /// This side is done. What is held is never seen.
    pub fn finish(&mut self, finish: Finish) {
        self.stirred = true;
        self.claim = None;
        self.outputs.discard();
        self.disconnect_unless(!matches!(finish, Finish::Fenced { .. }));
        self.actions.push_back(Action::Finished(finish));
        self.turn = Some(Turn::Finished);
    }

    /// After last words the edge ends the link when they have been sent; a fenced side has none.
    fn disconnect_unless(&mut self, parting: bool) {
        if !parting {
            self.disconnect();
        }
    }

    /// Notes where a run ended and why.
    pub fn ran(&mut self, ran: Ran, at: Place, took_ns: u64) {
        let instructions = at.count.0.saturating_sub(self.guest.at.count.0);
        self.pacer.ran(instructions, took_ns);
        self.guest.at = at;
        self.guest.idle = None;
        match ran {
            Ran::Idle { deadline_ns } => self.guest.idle = Some(deadline_ns),
            Ran::PoweredOff => self.guest.off = true,
            Ran::Count | Ran::Output | Ran::DriveFault { .. } => (),
        }
    }

    /// Notes where the guest is after an input, which may have woken it.
    pub fn applied(&mut self, at: Place) {
        self.guest.at = at;
        self.guest.idle = None;
    }

    /// Tells the guest's networks that it is here now.
    pub fn announce(&mut self) {
        let frames = self.stations.announcements();
        self.actions.extend(frames.into_iter().map(|(nic, bytes)| Action::Announce { nic, bytes }));
    }

    /// Lets out what may leave when `acknowledged` records are.
    pub fn release(&mut self, acknowledged: u64) {
        let released = self.outputs.release(acknowledged, self.now);
        self.actions.extend(released.into_iter().map(Action::Release));
    }

    pub fn append(&mut self, entry: Entry) {
        self.log.append(self.guest.at.count, entry);
    }

    /// The log covers the guest's run so far.
    pub fn cover(&mut self) {
        if self.log.end().count < self.guest.at.count {
            self.append(Entry::Covered);
        }
    }

    /// Begins the record file with an image taken at `position`; the log may have gone on meanwhile.
    pub fn record_head(&mut self, position: Position, image: &Image) {
        self.recorded = Some(position.index);
        let head = file::head(&self.identity, position, image);
        self.actions.push_back(Action::Record(head));
    }

    /// Hands out what the record file has not got.
    pub fn record(&mut self) {
        self.record_to(self.log.end().index);
    }

    /// The same, up to the record before `index`.
    pub fn record_to(&mut self, index: u64) {
        let Some(recorded) = self.recorded.filter(|&recorded| recorded < index) else { return };
        if let Some(end) = self.log.position(index) {
            let frame = file::frame(&self.log.batch_to(recorded, index), end.chain);
            self.recorded = Some(index);
            self.actions.push_back(Action::Record(frame));
        }
    }

    /// Drops records before `index` that the record file has too.
    pub fn forget(&mut self, index: u64) {
        self.log.forget(index.min(self.recorded.unwrap_or(u64::MAX)));
    }

    /// A drive's size changes with the disc in it: a standby that comes must have that one.
    pub fn change_disc(&mut self, input: &Input) {
        if let Input::Insert { drive, disc } = input
            && let Some(sectors) = self.identity.drives.get_mut(usize::from(*drive))
        {
            *sectors = disc.sectors;
        }
    }

    pub fn hold(&mut self, outputs: Vec<Emitted>, from: ftemu_cpu::Icount, needs: u64) {
        for emitted in &outputs {
            if let Output::Frame { nic, bytes } = &emitted.output {
                self.stations.look(*nic, bytes);
            }
        }
        let at = self.guest.at.count;
        let made =
            |count: ftemu_cpu::Icount| self.now.saturating_sub(self.pacer.duration_ns(at.0.saturating_sub(count.0)));
        self.outputs.hold(outputs, from, at, needs, made);
    }
}
