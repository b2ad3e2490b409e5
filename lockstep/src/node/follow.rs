//! Following: executing the log behind the primary, and taking over from it.

use super::State;
use super::common::{Common, Turn};
use crate::chain::Chain;
use crate::divergence::{Case, Step};
use crate::event::{Finish, Notice};
use crate::guest::{Digest, Input, Ran};
use crate::message::Message;
use crate::record::Entry;
use crate::work::{Done, Work};
use ftemu_cpu::Icount;

#[derive(Debug)]
pub(super) struct Following {
    /// Index of the next record to execute.
    next: u64,
    /// The record that makes the pair has come: this side has all that the primary ever let out.
    pub promotable: bool,
    /// Everything up to here was let out by the primary.
    released: Icount,
    agreed: Icount,
    /// Index of the record after which the kept copy stands.
    kept: Option<u64>,
    keep_due: u32,
    /// No copy before this time.
    keep_at: u64,
    /// The guests are known to agree where this one stands.
    agrees_here: bool,
    /// The digest to compare with.
    expected: Option<Digest>,
    differs: Option<Box<Case>>,
    trail: Vec<Step>,
    acknowledge_at: u64,
    acknowledged: Icount,
    /// The primary's idea of the guest's time: (host time here, guest time).
    pub clock: Option<(u64, u64)>,
    pub deciding: Option<Deciding>,
    /// The guest is off at the primary: this side executes the rest of the log, for its disks' sake, and is done.
    pub finishing: bool,
}

/// Taking over.
#[derive(Debug)]
pub(super) struct Deciding {
    since_ns: u64,
    detection_ns: u64,
    lag_ns: u64,
    won: Option<u64>,
}

impl Following {
    pub fn new(common: &Common) -> Self {
        Self {
            next: common.log.end().index,
            promotable: false,
            released: Icount(0),
            agreed: common.guest.at.count,
            kept: None,
            keep_due: 0,
            keep_at: 0,
            agrees_here: true,
            expected: None,
            differs: None,
            trail: Vec::new(),
            acknowledge_at: common.now,
            acknowledged: common.guest.at.count,
            clock: None,
            deciding: None,
            finishing: false,
        }
    }

    /// Takes records, and says so at once: they are executed later.
    pub fn receive(
        &mut self,
        common: &mut Common,
        first: u64,
        released: Icount,
        records: &[u8],
        chain: Chain,
    ) -> Result<(), String> {
        if self.deciding.is_some() || self.differs.is_some() {
            return Ok(());
        }
        common.log.receive(first, records, chain).map_err(|error| error.to_string())?;
        self.released = self.released.max(released);
        for record in common.log.records(first, common.log.end().index) {
            match record.entry {
                Entry::Paired { term } => {
                    self.promotable = true;
                    common.term = term;
                    common.notice(Notice::Protected { term, count: record.count });
                }
                Entry::Input(Input::Frame { nic, bytes }) => common.heard.logged(common.now, nic, &bytes),
                _ => (),
            }
        }
        // What is that old and not in the log, the primary has lost or left out.
        let old = common.now.saturating_sub(common.settings.silence_ns.saturating_mul(4));
        common.heard.forget(old);
        self.acknowledge(common);
        common.outputs.released_by_peer(self.released.min(common.guest.at.count));
        Ok(())
    }

    /// A frame came by this side's network: the primary will log it, or this side needs it when it takes over.
    pub fn hear(&self, common: &mut Common, nic: u8, bytes: Vec<u8>) {
        if !common.stations.is_own(nic, &bytes) {
            common.heard.hear(common.now, nic, bytes);
        }
    }

    /// Tells the primary what is here.
    pub fn acknowledge(&mut self, common: &mut Common) {
        self.acknowledge_at = common.now + common.settings.heartbeat_ns / 2;
        self.acknowledged = common.guest.at.count;
        let received = common.log.end().index;
        common.send_regularly(&Message::Acknowledge { received, executed: self.acknowledged, agreed: self.agreed });
        common.answered();
    }

    /// The next step along the log.
    pub fn work(&mut self, common: &mut Common) -> Option<Work> {
        if let Some(case) = self.differs.take() {
            return Some(Work::Diagnose(case));
        }
        if common.settings.record && common.recorded.is_none() {
            return Some(Work::Copy { blocks: None });
        }
        if self.keep_is_due(common) {
            self.agrees_here = false;
            self.keep_due = common.settings.keep_every;
            self.kept = Some(self.next);
            self.forget(common);
            return Some(Work::Keep);
        }
        let work = self.step(common);
        self.agrees_here &= work.is_none();
        if work.is_none() {
            common.record_to(self.next);
            if self.finishing {
                // The primary parts only when everything is out.
                common.outputs.released_by_peer(common.guest.at.count);
                common.finish(Finish::PoweredOff);
            } else {
                self.finish_decision(common);
            }
        }
        work
    }

    fn keep_is_due(&self, common: &Common) -> bool {
        let long = common.log.bytes() > common.settings.keep_log_bytes;
        let due = self.keep_due == 0 && common.now >= self.keep_at || long;
        due && self.agrees_here && common.settings.keep_every > 0
    }

    fn step(&mut self, common: &mut Common) -> Option<Work> {
        loop {
            let record = common.log.get(self.next)?;
            if record.count > common.guest.at.count {
                let until = record.count;
                return self.advance(common, until);
            }
            let entry = record.entry.clone();
            self.next += 1;
            match entry {
                Entry::Input(input) => {
                    common.change_disc(&input);
                    return Some(Work::Apply(input));
                }
                Entry::Digest(digest) => {
                    self.expected = Some(digest);
                    return Some(Work::Digest);
                }
                Entry::Covered | Entry::Paired { .. } | Entry::Alone { .. } | Entry::End => (),
            }
        }
    }

    fn advance(&mut self, common: &mut Common, until: Icount) -> Option<Work> {
        match common.guest.idle {
            Some(Some(_)) => Some(Work::SkipIdle),
            // The primary's guest went on from a state in which this one cannot: they differ.
            Some(None) => self.differ(common, None, [0; 32]),
            None if common.guest.off => self.differ(common, None, [0; 32]),
            None => {
                let slice = common.pacer.instructions(common.settings.slice_ns);
                Some(Work::Run { until: until.min(Icount(common.guest.at.count.0.saturating_add(slice))) })
            }
        }
    }

    pub fn done(&mut self, common: &mut Common, done: Done, took_ns: u64) {
        match done {
            Done::Ran { ran, outputs, before, at } => {
                let from = common.guest.at.count;
                common.ran(ran, at, took_ns);
                if let Ran::DriveFault { drive, .. } = ran {
                    self.drive_fault(common, drive);
                    return;
                }
                common.hold(outputs, from, 0);
                common.outputs.released_by_peer(self.released);
                if at.count > from {
                    let records = self.next.saturating_sub(self.kept.unwrap_or(self.next));
                    let records = usize::try_from(records).unwrap_or(usize::MAX);
                    self.trail.push(Step { records, from, before, to: at.count, after: at.fingerprint });
                }
                self.forget(common);
            }
            Done::Applied { outputs, at } => {
                common.applied(at);
                common.hold(outputs, Icount(at.count.0.saturating_sub(1)), 0);
            }
            Done::Digest(digest) => self.compare(common, digest),
            Done::Finished => self.keep_at = common.now.saturating_add(common.settings.keep_rest.after(took_ns)),
            Done::Copied { image, .. } => {
                // Nothing was executed since the copy was asked for, but records may have come.
                if let Some(position) = common.log.position(self.next) {
                    common.record_head(position, &image);
                }
            }
            _ => (),
        }
    }

    /// This side's disk failed: it is of no use as a copy. Where the primary's guest saw no error this one must not see
    /// one either, so a side that is taking over cannot go on.
    fn drive_fault(&mut self, common: &mut Common, drive: u8) {
        common.notice(Notice::DriveFailed { drive });
        common.goodbye(false);
        let what = match self.deciding {
            Some(_) => "while it was taking over: the guest cannot go on here",
            None => "here; the primary goes on with the guest",
        };
        common.finish(Finish::Failed(format!("drive {drive} failed {what}")));
    }

    fn compare(&mut self, common: &mut Common, ours: Digest) {
        let Some(theirs) = self.expected.take() else { return };
        if ours == theirs {
            self.agreed = common.guest.at.count;
            self.agrees_here = true;
            self.trail.clear();
            self.keep_due = self.keep_due.saturating_sub(1);
            return;
        }
        self.differ(common, Some(theirs), ours);
    }

    /// The guests differ. This side tells the primary, stops, and looks for the cause.
    fn differ(&mut self, common: &mut Common, theirs: Option<Digest>, ours: Digest) -> Option<Work> {
        let count = common.guest.at.count;
        common.send(&Message::Differs { count, digest: ours });
        common.notice(Notice::Differs { count });
        common.claim = None;
        self.promotable = false;
        let records = self.kept.map_or(Vec::new(), |kept| common.log.records(kept, self.next));
        let trail = std::mem::take(&mut self.trail);
        self.differs = Some(Box::new(Case { count, agreed: self.agreed, theirs, ours, records, trail }));
        None
    }

    /// Drops records that are executed, and behind the kept copy, and in the record file: that gets what was executed only,
    /// after what was read from disks on the way.
    fn forget(&self, common: &mut Common) {
        common.record_to(self.next);
        common.forget(self.next.min(self.kept.unwrap_or(u64::MAX)));
    }

    /// The primary is gone: the term is claimed, and meanwhile the log is executed to its end.
    pub fn decide(&mut self, common: &mut Common) {
        if self.deciding.is_some() || self.finishing {
            return;
        }
        let behind = common.log.end().count.0.saturating_sub(common.guest.at.count.0);
        self.deciding = Some(Deciding {
            since_ns: common.now,
            detection_ns: common.now.saturating_sub(common.heard_ns),
            lag_ns: common.pacer.duration_ns(behind),
            won: None,
        });
        common.disconnect();
        if common.settings.arbiter {
            common.claim();
        } else {
            self.claim_won(common, common.term + 1);
        }
    }

    pub fn claim_won(&mut self, common: &mut Common, term: u64) {
        if let Some(deciding) = &mut self.deciding {
            deciding.won = Some(term);
        }
        if common.guest.working.is_none() && common.log.get(self.next).is_none() {
            self.finish_decision(common);
        }
    }

    /// The log is executed to its end: this side is the guest now, if it has won.
    fn finish_decision(&mut self, common: &mut Common) {
        let Some(deciding) = &self.deciding else { return };
        let Some(term) = deciding.won else { return };
        let (at, now) = (common.guest.at, common.now);
        common.term = term;
        common.notice(Notice::Live {
            term,
            count: at.count,
            detection_ns: deciding.detection_ns,
            replay_ns: now.saturating_sub(deciding.since_ns),
            lag_ns: deciding.lag_ns,
        });
        let clock = self.clock.map(|(here, there)| there.saturating_add(now.saturating_sub(here)));
        common.pacer.reset(now, clock.unwrap_or(at.now_ns).max(at.now_ns));
        common.turn = Some(Turn::Live);
    }

    pub fn tick(&mut self, common: &mut Common) {
        if self.deciding.is_some() || self.differs.is_some() {
            return;
        }
        if common.now >= self.acknowledge_at && self.acknowledged < common.guest.at.count && common.greeted() {
            self.acknowledge(common);
        }
        let Some(quiet_ns) = common.silence.exceeds(1) else { return };
        if common.settings.arbiter && self.promotable {
            self.decide(common);
        } else if !common.silent {
            common.silent = true;
            common.notice(Notice::Silent { quiet_ns });
        }
    }

    pub fn deadline(&self, common: &Common) -> Option<u64> {
        if self.deciding.is_some() || self.differs.is_some() {
            return None;
        }
        let behind = self.acknowledged < common.guest.at.count && common.greeted();
        behind.then_some(self.acknowledge_at)
    }

    /// When the watch over the primary must be looked at.
    pub fn look_at(&self, common: &Common) -> Option<u64> {
        let watches = self.deciding.is_none() && self.differs.is_none() && !common.silent;
        watches.then(|| common.silence.look_at())
    }

    pub fn summary(&self, common: &Common) -> (State, bool, u64, Icount) {
        let state = match &self.deciding {
            Some(Deciding { won: None, .. }) if common.log.get(self.next).is_none() => State::Claiming,
            Some(_) => State::TakingOver,
            None if self.promotable => State::Backup,
            None => State::Following,
        };
        let behind = common.log.end().count.0.saturating_sub(common.guest.at.count.0);
        let protected = self.promotable && self.deciding.is_none() && common.greeted() && !common.silent;
        (state, protected, common.pacer.duration_ns(behind), self.agreed)
    }
}
