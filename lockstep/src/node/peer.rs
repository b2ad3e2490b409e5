//! The primary's view of its standby: giving it the guest, hearing from it, losing it.

use super::common::Common;
use super::greet::Greeting;
use super::primary::Primary;
use crate::event::Notice;
use crate::guest::Digest;
use crate::image::Image;
use crate::message::Message;
use crate::mirror::{BlockId, DiskDone, Passes};
use crate::record::Entry;
use crate::transfer::Sending;
use ftemu_cpu::Icount;
use ftemu_devices::drives::BLOCK_BYTES;

#[derive(Debug)]
pub(super) enum Peer {
    /// Nobody: outputs leave at once.
    None,
    /// It is being given the guest, once it has asked: first its disks are made equal, then RAM is sent. Outputs leave at
    /// once.
    /// `number` tells it from one that came before it.
    Joining { incarnation: u64, number: u64, asked: bool, mirror: Box<Passes>, sending: Option<Box<Sending>> },
    /// It has the guest: outputs wait for it. `index` is that of the record that says so; when that is acknowledged
    /// the guest is protected.
    Paired { incarnation: u64, index: u64, protected: bool },
}

impl Peer {
    pub fn is_paired(&self) -> bool {
        matches!(self, Peer::Paired { .. })
    }

    /// How far its disks have been compared.
    pub fn compared(&self) -> Option<(u64, u64)> {
        match self {
            Peer::Joining { mirror, sending: None, .. } if !mirror.is_equal() => Some(mirror.progress()),
            _ => None,
        }
    }

    /// The guest is to run one part in two to the power of this, for its disks to be made equal.
    pub fn slowdown(&self) -> u32 {
        match self {
            Peer::Joining { mirror, .. } => mirror.slowdown(),
            _ => 0,
        }
    }

    pub fn is_protected(&self) -> bool {
        matches!(self, Peer::Paired { protected: true, .. })
    }
}

impl Primary {
    /// A standby said Hello.
    pub fn greeted_by(&mut self, common: &mut Common, greeting: Greeting) {
        if common.claim.is_some() {
            // Whether this side may go on at all is being decided.
            self.waiting = Some(greeting);
            return;
        }
        match self.peer {
            Peer::Paired { incarnation, .. } if incarnation == greeting.incarnation => self.resume(common, &greeting),
            Peer::Paired { .. } => {
                self.waiting = Some(greeting);
                self.lose_peer(common, "its process was started anew");
            }
            Peer::Joining { .. } | Peer::None => self.welcome(common, &greeting),
        }
    }

    /// The pair goes on by a new connection.
    fn resume(&mut self, common: &mut Common, greeting: &Greeting) {
        let at = greeting.position.filter(|position| common.log.position(position.index) == Some(*position));
        let Some(position) = at else {
            self.waiting = Some(greeting.clone());
            self.lose_peer(common, "it has lost the guest");
            return;
        };
        common.greet();
        common.send(&Message::Welcome { term: common.term, resume: true });
        common.notice(Notice::Resumed);
        self.sent = position.index;
        self.acknowledge(common, position.index, Icount(0));
        self.flush(common);
    }

    /// A standby may join; it gets an image when it asks, for the streams of a connection may overtake each other.
    fn welcome(&mut self, common: &mut Common, greeting: &Greeting) {
        common.greet();
        common.send(&Message::Welcome { term: common.term, resume: false });
        let mirror = Box::new(Passes::new(&common.identity.drives));
        let (incarnation, number) = (greeting.incarnation, common.last_link);
        self.peer = Peer::Joining { incarnation, number, asked: false, mirror, sending: None };
        self.lag.clear();
    }

    /// The copy is made: it goes out in pieces.
    pub fn share(&mut self, common: &mut Common, image: Image, digest: Digest, blocks: Vec<(BlockId, Vec<u8>)>) {
        // Another standby may have come while the copy was made, and not have asked yet.
        let Peer::Joining { asked: true, number, sending, .. } = &mut self.peer else { return };
        if *number != self.copying_for {
            return;
        }
        common.notice(Notice::Transferring { pages: image.pages.len() as u64 });
        let (mut began, first) = Sending::new(common.term, common.log.end(), image, digest, common.outputs.streams());
        began.add_blocks(blocks);
        *sending = Some(Box::new(began));
        first.iter().for_each(|message| common.send(message));
        self.send_pieces(common);
    }

    fn send_pieces(&mut self, common: &mut Common) {
        let Peer::Joining { sending: Some(sending), .. } = &mut self.peer else { return };
        while let Some(piece) = sending.next(common.settings.chunk_pages, common.settings.chunk_window) {
            common.send(&piece);
        }
    }

    pub fn message(&mut self, common: &mut Common, message: Message) -> Result<(), String> {
        match message {
            Message::Heartbeat { term, .. } => self.heartbeat(common, term),
            Message::Acknowledge { received, executed, agreed } => {
                if self.peer.is_paired() && common.greeted() && common.claim.is_none() {
                    if received > self.sent {
                        return Err(format!("{received} records acknowledged, {} sent", self.sent));
                    }
                    self.agreed = self.agreed.max(agreed);
                    // The guest may be waiting for just that.
                    common.stirred |= self.stalled || common.now < self.rest_until || common.guest.off;
                    self.acknowledge(common, received, executed);
                }
            }
            Message::Taken { chunks } => {
                if let Peer::Joining { asked, sending, .. } = &mut self.peer {
                    *asked = true;
                    sending.iter_mut().for_each(|sending| sending.taken(chunks));
                }
                self.send_pieces(common);
            }
            Message::Hashes { first, hashes } => {
                if let Peer::Joining { mirror, sending: None, .. } = &mut self.peer {
                    mirror.hashes(first, hashes)?;
                }
            }
            Message::Ready { digest } => self.ready(common, digest)?,
            Message::Differs { count, .. } => {
                common.notice(Notice::Differs { count });
                self.keep_link = true;
                self.lose_peer(common, "its guest differs from this one");
            }
            Message::Findings { text } => common.notice(Notice::Findings(text)),
            Message::Goodbye { .. } => self.lose_peer(common, "it was stopped"),
            other => return Err(format!("a standby does not send {:?}", other.class())),
        }
        Ok(())
    }

    /// Work on the disks is done: the standby hears what it led to.
    pub fn mirrored(&mut self, common: &mut Common, done: DiskDone) {
        let Peer::Joining { number, mirror, sending: None, .. } = &mut self.peer else { return };
        if *number != self.copying_for {
            return;
        }
        match done {
            DiskDone::Failed(why) => {
                let reason = format!("the primary cannot read its disk: {why}");
                common.send(&Message::Refused { reason: reason.clone() });
                self.lose_peer(common, &reason);
            }
            DiskDone::Finished => {
                common.notice(Notice::Mirroring { bytes: mirror.progress().1.saturating_mul(BLOCK_BYTES) });
                mirror.done(done).iter().for_each(|message| common.send(message));
            }
            done => {
                let before = mirror.slowdown();
                mirror.done(done).iter().for_each(|message| common.send(message));
                if mirror.is_equal() {
                    common.notice(Notice::Mirrored { sent_bytes: mirror.sent().saturating_mul(BLOCK_BYTES) });
                    self.rest_until = common.now;
                } else if mirror.is_hopeless() {
                    let reason = "the guest changes its disks faster than they can be copied";
                    common.send(&Message::Refused { reason: reason.into() });
                    self.rest_until = common.now;
                    self.lose_peer(common, reason);
                } else if before == 0 && mirror.slowdown() > 0 {
                    common.notice(Notice::Outwritten);
                }
            }
        }
    }

    fn heartbeat(&mut self, common: &mut Common, term: u64) {
        if term > common.term {
            common.finish(crate::event::Finish::Fenced { term });
        }
    }

    /// The standby has the whole image: from here on outputs wait for it.
    fn ready(&mut self, common: &mut Common, digest: Digest) -> Result<(), String> {
        let Peer::Joining { incarnation, sending: Some(sending), .. } = &self.peer else { return Ok(()) };
        if digest != sending.begin().digest {
            return Err("the standby's copy of the guest is not the guest".into());
        }
        let (incarnation, start) = (*incarnation, sending.begin().position.index);
        common.cover();
        let index = common.log.end().index;
        common.append(Entry::Paired { term: common.term });
        self.peer = Peer::Paired { incarnation, index, protected: false };
        self.sent = start;
        self.acknowledged = start;
        self.lag.clear();
        self.flush(common);
        Ok(())
    }

    /// The backup has `received` records: what waited for them may leave.
    fn acknowledge(&mut self, common: &mut Common, received: u64, executed: Icount) {
        self.acknowledged = self.acknowledged.max(received);
        self.lag.passed(executed, self.acknowledged);
        if let Peer::Paired { index, protected, .. } = &mut self.peer
            && !*protected
            && self.acknowledged > *index
        {
            *protected = true;
            common.outputs.waits().clear();
            self.released_to_run = true;
            common.notice(Notice::Protected { term: common.term, count: common.guest.at.count });
        }
        common.release(self.acknowledged);
        self.forget(common);
        self.after_release(common);
    }

    /// When the watch over the standby must be looked at.
    pub fn look_at(&self, common: &Common) -> Option<u64> {
        let watches = match &self.peer {
            Peer::Joining { .. } => true,
            Peer::Paired { .. } => common.claim.is_none() && !common.silent,
            Peer::None => false,
        };
        watches.then(|| common.silence.look_at())
    }

    /// Silence: with an arbiter the standby is given up, without one the user is told.
    pub fn watch_peer(&mut self, common: &mut Common) {
        let Some(quiet_ns) = common.silence.exceeds(1) else { return };
        match &self.peer {
            Peer::None => (),
            _ if common.claim.is_some() => (),
            Peer::Joining { .. } => {
                if common.silence.exceeds(4).is_some() {
                    self.lose_peer(common, "nothing was heard from it");
                }
            }
            Peer::Paired { .. } if common.settings.arbiter => self.lose_peer(common, "nothing was heard from it"),
            Peer::Paired { .. } => {
                if !common.silent {
                    common.silent = true;
                    common.notice(Notice::Silent { quiet_ns });
                }
            }
        }
    }

    pub fn link_lost(&mut self, common: &mut Common) {
        self.waiting = None;
        match &self.peer {
            Peer::None => (),
            Peer::Joining { .. } => {
                self.peer = Peer::None;
                let why = "the connection broke during the state transfer".into();
                common.notice(Notice::Unprotected { term: common.term, why });
            }
            Peer::Paired { .. } if common.greeted() => common.notice(Notice::Disconnected),
            Peer::Paired { .. } => (),
        }
    }

    /// The standby is gone. Before anything more is released, this side must have the next term.
    pub fn lose_peer(&mut self, common: &mut Common, why: &str) {
        match &self.peer {
            Peer::None => (),
            Peer::Joining { .. } => {
                common.disconnect();
                self.peer = Peer::None;
                common.notice(Notice::Unprotected { term: common.term, why: why.to_owned() });
            }
            Peer::Paired { .. } => {
                self.losing.get_or_insert(why.to_owned());
                if common.settings.arbiter {
                    common.claim();
                } else {
                    self.go_alone(common, common.term + 1);
                }
            }
        }
    }

    /// The term is won: everything that waits may leave.
    pub fn go_alone(&mut self, common: &mut Common, term: u64) {
        common.term = term;
        let why = self.losing.take().unwrap_or_default();
        self.peer = Peer::None;
        self.lag.clear();
        common.silent = false;
        common.append(Entry::Alone { term });
        common.notice(Notice::Unprotected { term, why });
        common.release(u64::MAX);
        self.flush(common);
        self.released_to_run = true;
        match self.waiting.take() {
            Some(greeting) => self.welcome(common, &greeting),
            None if std::mem::take(&mut self.keep_link) => (),
            None => common.disconnect(),
        }
        self.after_release(common);
    }
}
