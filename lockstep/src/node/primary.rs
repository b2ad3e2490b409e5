//! The side that runs the guest: chooses the counts of inputs, writes the log, holds outputs.

use super::State;
use super::common::{Common, Turn};
use super::greet::Greeting;
use super::peer::Peer;
use crate::event::{Finish, Notice};
use crate::guest::{Emitted, Input, Ran};
use crate::lag::Lag;
use crate::record::Entry;
use crate::work::{Done, Place, Work};
use ftemu_cpu::Icount;
use std::collections::VecDeque;

/// Bytes of frames that wait to be handed over, at most.
const MOST_FRAME_BYTES: usize = 4 << 20;

#[derive(Debug)]
pub(super) struct Primary {
    pub peer: Peer,
    /// From outside, not yet handed over.
    inputs: VecDeque<Input>,
    /// Bytes of frames among them.
    frame_bytes: usize,
    /// The clock was anchored for the first of them.
    anchored: bool,
    pub lag: Lag,
    /// Records sent to the backup.
    pub sent: u64,
    /// Records it has acknowledged.
    pub acknowledged: u64,
    pub agreed: Icount,
    pub flush_at: Option<u64>,
    /// Where the guest was at the last flush.
    pub flushed: Icount,
    /// No digest before this time.
    digest_at: u64,
    /// Bytes of the log so far at the last digest.
    digest_bytes: u64,
    pub rest_until: u64,
    pub slowed: bool,
    /// When the lag was last above its limit.
    pub lagged_at: u64,
    pub stalled: bool,
    /// A digest was taken at this count.
    digested: Option<Icount>,
    /// Why the peer is given up, while the arbiter is asked.
    pub losing: Option<String>,
    /// The standby given up has something to say yet.
    pub keep_link: bool,
    /// A standby that came meanwhile.
    pub waiting: Option<Greeting>,
    /// The guest may run although no standby protects it.
    pub released_to_run: bool,
    copying: Copying,
    /// The number of the standby that work with disks, or a copy, is for.
    pub copying_for: u64,
    powered_off: bool,
}

/// What the copy that is being made is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copying {
    Nothing,
    Record,
    Standby,
}

impl Primary {
    pub fn new() -> Self {
        Self {
            peer: Peer::None,
            inputs: VecDeque::new(),
            frame_bytes: 0,
            anchored: false,
            lag: Lag::default(),
            sent: 0,
            acknowledged: 0,
            agreed: Icount(0),
            flush_at: None,
            flushed: Icount(0),
            digest_at: 0,
            digest_bytes: 0,
            rest_until: 0,
            slowed: false,
            lagged_at: 0,
            stalled: false,
            digested: None,
            losing: None,
            keep_link: false,
            waiting: None,
            released_to_run: false,
            copying: Copying::Nothing,
            copying_for: 0,
            powered_off: false,
        }
    }

    /// A standby becomes the primary: the log is executed to its end and the term is won.
    pub fn go_live(&mut self, common: &mut Common) {
        self.released_to_run = true;
        let (log_end, agreed) = (common.log.end().index, common.guest.at.count);
        self.sent = log_end;
        self.acknowledged = log_end;
        self.digested = Some(agreed);
        common.append(Entry::Alone { term: common.term });
        common.announce();
        common.release(u64::MAX);
        common.heard.take().for_each(|frame| self.input(frame));
        common.record();
        self.forget(common);
        self.after_release(common);
    }

    /// Something for the guest. Frames beyond what a network would queue are lost, as there.
    pub fn input(&mut self, input: Input) {
        if let Input::Frame { bytes, .. } = &input {
            if self.frame_bytes + bytes.len() > MOST_FRAME_BYTES {
                return;
            }
            self.frame_bytes += bytes.len();
        }
        self.inputs.push_back(input);
    }

    /// There are frames that the guest has not been handed.
    pub fn frames_wait(&self) -> bool {
        self.frame_bytes > 0
    }

    pub fn work(&mut self, common: &mut Common) -> Work {
        let wait = Work::Wait { until_ns: None };
        if common.claim.is_some() {
            return wait;
        }
        if let Some(work) = self.copy(common) {
            return work;
        }
        if self.powered_off || common.settings.wait_for_standby && !self.released_to_run || self.stall(common) {
            return wait;
        }
        if let Some(work) = self.digest(common).or_else(|| self.hand_over(common)) {
            return work;
        }
        if common.guest.off {
            return wait;
        }
        if let Some(work) = self.sleep(common) {
            return work;
        }
        if let Some(clock) = common.pacer.anchor(common.now, common.guest.at.now_ns, false) {
            return self.apply(common, clock);
        }
        if common.now < self.rest_until {
            return Work::Wait { until_ns: Some(self.rest_until) };
        }
        Work::Run { until: self.until(common) }
    }

    /// A copy of the guest, if the record file or a standby wants one; before that, a standby's disks are made equal.
    fn copy(&mut self, common: &mut Common) -> Option<Work> {
        let mut blocks = None;
        self.copying = if common.settings.record && common.recorded.is_none() {
            Copying::Record
        } else if let Peer::Joining { asked: true, number, sending: None, mirror, .. } = &mut self.peer {
            self.copying_for = *number;
            if !mirror.is_equal() {
                return mirror.work().map(Work::Disk);
            }
            blocks = Some(mirror.rest());
            Copying::Standby
        } else {
            return None;
        };
        common.cover();
        Some(Work::Copy { blocks })
    }

    fn digest(&mut self, common: &Common) -> Option<Work> {
        let count = common.guest.at.count;
        let place = count.0 != 0 && count.0.is_multiple_of(common.settings.digest_interval.max(1));
        let logged = common.log.written().saturating_sub(self.digest_bytes);
        let due = common.now >= self.digest_at || logged > common.settings.keep_log_bytes as u64 / 2;
        (place && due && self.watched(common) && self.digested != Some(count)).then(|| {
            self.digested = Some(count);
            self.digest_bytes = common.log.written();
            Work::Digest
        })
    }

    /// Somebody reads the log: a standby or a record file.
    pub fn watched(&self, common: &Common) -> bool {
        common.recorded.is_some() || !matches!(self.peer, Peer::None)
    }

    /// The first input from outside, after an anchor that puts the guest's clock to its arrival.
    fn hand_over(&mut self, common: &mut Common) -> Option<Work> {
        if self.inputs.is_empty() || common.guest.off {
            return None;
        }
        if !self.anchored {
            self.anchored = true;
            let exact = common.guest.idle.is_some();
            if let Some(clock) = common.pacer.anchor(common.now, common.guest.at.now_ns, exact) {
                return Some(self.apply(common, clock));
            }
        }
        self.anchored = false;
        let input = self.inputs.pop_front()?;
        if let Input::Frame { bytes, .. } = &input {
            self.frame_bytes -= bytes.len();
        }
        Some(self.apply(common, input))
    }

    fn apply(&mut self, common: &mut Common, input: Input) -> Work {
        common.append(Entry::Input(input.clone()));
        common.change_disc(&input);
        match input {
            // The guest's clock alone is of interest to nobody outside.
            Input::Clock { .. } => self.flush_progress(common),
            _ => self.flush_within(common, common.settings.flush_ns),
        }
        Work::Apply(input)
    }

    /// What to do while the guest is halted: wait in real time for its deadline, then jump to it.
    fn sleep(&mut self, common: &Common) -> Option<Work> {
        let deadline = common.guest.idle?;
        let Some(deadline) = deadline else { return Some(Work::Wait { until_ns: None }) };
        if common.pacer.target_ns(common.now) >= deadline {
            return Some(Work::SkipIdle);
        }
        Some(Work::Wait { until_ns: Some(common.pacer.host_ns(deadline)) })
    }

    fn until(&self, common: &Common) -> Icount {
        let settings = &common.settings;
        let count = common.guest.at.count.0;
        // Acknowledgements are taken, and outputs released, while the guest runs: nothing waits for the slice's end.
        let slice = common.pacer.instructions(settings.slice_ns);
        let interval = settings.digest_interval.max(1);
        let boundary = (count / interval + 1).saturating_mul(interval);
        Icount(count.saturating_add(slice).min(boundary))
    }

    pub fn done(&mut self, common: &mut Common, done: Done, took_ns: u64) {
        match done {
            Done::Ran { ran, outputs, at, .. } => self.ran(common, ran, outputs, at, took_ns),
            Done::Applied { outputs, at } => {
                common.applied(at);
                if !outputs.is_empty() {
                    self.hold(common, outputs, Icount(at.count.0.saturating_sub(1)));
                    self.flush(common);
                    self.after_release(common);
                }
            }
            Done::Digest(digest) => {
                common.append(Entry::Digest(digest));
                self.digest_at = common.now.saturating_add(common.settings.digest_rest.after(took_ns));
                self.flush_progress(common);
            }
            Done::Disk(done) => self.mirrored(common, done),
            Done::Copied { image, digest, blocks } => match self.copying {
                Copying::Record => common.record_head(common.log.end(), &image),
                Copying::Standby => self.share(common, *image, digest, blocks),
                Copying::Nothing => (),
            },
            _ => (),
        }
    }

    fn ran(&mut self, common: &mut Common, ran: Ran, outputs: Vec<Emitted>, at: Place, took_ns: u64) {
        let from = common.guest.at.count;
        common.ran(ran, at, took_ns);
        self.rest(common, took_ns);
        let waiting = !outputs.is_empty();
        if waiting {
            self.hold(common, outputs, from);
        }
        if let Ran::DriveFault { drive, ticket } = ran {
            self.drive_fault(common, drive, ticket);
            return;
        }
        if common.guest.off && !self.powered_off {
            self.powered_off = true;
            common.cover();
            common.append(Entry::End);
        }
        if waiting || self.powered_off {
            self.flush(common);
        } else {
            self.flush_progress(common);
        }
        self.after_release(common);
    }

    /// The host could not serve the guest's drive. A protected guest goes on where its other copy is, and has seen
    /// nothing; an unprotected one has to live with the error.
    fn drive_fault(&mut self, common: &mut Common, drive: u8, ticket: u64) {
        if self.peer.is_protected() && common.greeted() {
            common.notice(Notice::DriveFailed { drive });
            self.flush(common);
            common.goodbye(false);
            common
                .finish(Finish::Failed(format!("drive {drive} failed here; the other server goes on with the guest")));
        } else {
            self.inputs.push_front(Input::DriveFault { drive, ticket });
            self.flush_within(common, common.settings.flush_ns);
        }
    }

    /// The output rule: with a backup, what was made may leave when the backup has the log up to here.
    fn hold(&mut self, common: &mut Common, outputs: Vec<Emitted>, from: Icount) {
        if self.peer.is_paired() {
            common.cover();
            let needs = common.log.end().index;
            common.hold(outputs, from, needs);
        } else {
            common.hold(outputs, from, 0);
            if common.claim.is_none() {
                common.release(0);
            }
        }
    }

    pub fn tick(&mut self, common: &mut Common) {
        self.watch_peer(common);
        // What waits for company is as good a sign of life.
        if self.flush_at.is_some_and(|due| common.now >= due || common.sign_is_due()) {
            self.flush(common);
        }
    }

    pub fn deadline(&self, common: &Common) -> Option<u64> {
        self.flush_at.filter(|_| self.watched(common))
    }

    /// Ends this side when the guest is off and everything is out.
    pub fn after_release(&mut self, common: &mut Common) {
        let ended = matches!(common.turn, Some(Turn::Finished));
        if common.guest.off && common.outputs.is_empty() && common.claim.is_none() && !ended {
            self.flush(common);
            common.goodbye(true);
            common.finish(Finish::PoweredOff);
        }
    }

    pub fn summary(&self, common: &Common) -> (State, bool, u64, Icount) {
        let state = match &self.peer {
            _ if common.claim.is_some() => State::Claiming,
            Peer::None => State::Alone,
            Peer::Joining { .. } => State::Sharing,
            Peer::Paired { .. } => State::Primary,
        };
        (state, self.peer.is_protected(), self.lag.lag_ns(common.now), self.agreed)
    }
}
