//! The side that is given a guest: it waits, takes the image, and then follows ([`super::follow`]).

use super::State;
use super::common::Common;
use super::follow::Following;
use crate::event::{Finish, Notice};
use crate::guest::{Digest, Page};
use crate::heard::Heard;
use crate::log::Log;
use crate::message::{Begin, Message};
use crate::mirror::{BlockId, DiskDone, DiskWork, Mirroring};
use crate::record::Position;
use crate::stations::Stations;
use crate::work::{Done, Place, Work};
use ftemu_cpu::Icount;
use std::collections::VecDeque;

#[derive(Debug)]
pub(super) struct Standby {
    pub stage: Stage,
    /// The process that gave, or is to give, the guest.
    primary: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// No guest, and no primary or none that has begun to give it.
    Waiting,
    /// The disks are being made equal.
    Mirroring(Mirroring),
    /// The image is coming.
    Joining(Box<Joining>),
    /// The guest is here and follows the log.
    Following(Box<Following>),
    /// The guest differs from the primary's: it stands still for the diagnosis.
    Diagnosing,
}

/// An image on its way.
#[derive(Debug)]
pub(super) struct Joining {
    begin: Begin,
    /// State without RAM, so far.
    state: Vec<u8>,
    /// Pieces that came.
    chunks: u64,
    /// Pieces that are in place.
    taken: u64,
    /// The guest is made; pages can be placed.
    created: bool,
    tasks: VecDeque<Work>,
}

impl Standby {
    pub fn new() -> Self {
        Self { stage: Stage::Waiting, primary: None }
    }

    /// It may say Hello: it is not about to go live or to end.
    pub fn may_pair(&self) -> bool {
        match &self.stage {
            Stage::Waiting | Stage::Mirroring(_) | Stage::Joining(_) => true,
            Stage::Following(following) => following.deciding.is_none(),
            Stage::Diagnosing => false,
        }
    }

    /// A primary said Hello; another process than before means that the one before is no more.
    pub fn hello(&mut self, common: &mut Common, incarnation: u64) {
        match &self.stage {
            Stage::Following(_) if self.primary != Some(incarnation) => {
                self.lose_primary(common, "its process was started anew");
            }
            _ => self.primary = Some(incarnation),
        }
    }

    /// What it has of the log, to go on from there.
    pub fn position(&self, common: &Common) -> Option<Position> {
        matches!(self.stage, Stage::Following(_)).then(|| common.log.end())
    }

    pub fn message(&mut self, common: &mut Common, message: Message) -> Result<(), String> {
        match message {
            Message::Heartbeat { term, now_ns } => self.heartbeat(common, term, now_ns),
            Message::Welcome { term, resume } => self.welcomed(common, term, resume),
            Message::Goodbye { finished: true } => match &mut self.stage {
                Stage::Following(following) if following.promotable => following.finishing = true,
                stage => {
                    if !matches!(stage, Stage::Waiting) {
                        let why = "the guest switched itself off before its state and disks were here".into();
                        common.notice(Notice::Dropped { why });
                    }
                    common.finish(Finish::PoweredOff);
                }
            },
            Message::Goodbye { finished: false } => self.lose_primary(common, "it was stopped"),
            Message::Begin(begin) => self.begin(common, *begin)?,
            Message::History { port, bytes } => {
                if matches!(self.stage, Stage::Joining(_)) {
                    common.outputs.history(port, &bytes);
                }
            }
            Message::State { chunk, bytes } => self.pieces(|joining| joining.state(common, chunk, &bytes))?,
            Message::Pages { chunk, pages } => self.pieces(|joining| joining.pages(chunk, pages))?,
            Message::Complete { chunks } => self.pieces(|joining| joining.complete(chunks))?,
            Message::Mirror { sectors } => self.mirror(common, &sectors)?,
            Message::Block { chunk, id, bytes } => match &mut self.stage {
                Stage::Mirroring(mirroring) => mirroring.block(id, bytes),
                _ => self.pieces(|joining| joining.block(chunk, id, bytes))?,
            },
            Message::Compared { next } => {
                if let Stage::Mirroring(mirroring) = &mut self.stage {
                    mirroring.compare(next);
                }
            }
            Message::Log { first, released, records, chain } => {
                if let Stage::Following(following) = &mut self.stage {
                    following.receive(common, first, released, &records, chain)?;
                }
            }
            other => return Err(format!("a primary does not send {:?}", other.class())),
        }
        Ok(())
    }

    fn heartbeat(&mut self, common: &mut Common, term: u64, now_ns: u64) {
        if let Stage::Following(following) = &mut self.stage {
            if term > common.term {
                // The primary went on alone while this side heard nothing.
                self.reset(common, "the primary went on without this side");
                common.disconnect();
                return;
            }
            following.clock = Some((common.now, now_ns));
        }
    }

    fn welcomed(&mut self, common: &mut Common, term: u64, resume: bool) {
        common.greet();
        match &mut self.stage {
            Stage::Following(following) if resume => {
                common.notice(Notice::Resumed);
                // What was said last may not have arrived.
                following.acknowledge(common);
            }
            Stage::Following(_) => self.reset(common, "the primary went on without this side"),
            Stage::Waiting | Stage::Mirroring(_) | Stage::Joining(_) | Stage::Diagnosing => (),
        }
        if !resume {
            common.term = term;
            common.send(&Message::Taken { chunks: 0 });
        }
    }

    fn begin(&mut self, common: &mut Common, begin: Begin) -> Result<(), String> {
        if !common.greeted() || !matches!(self.stage, Stage::Waiting | Stage::Mirroring(_)) {
            return Err("an image begins while there is one".into());
        }
        common.term = begin.term;
        common.outputs.begin(&begin.streams);
        common.notice(Notice::Transferring { pages: begin.pages });
        let create = Work::Create { config: begin.config.clone() };
        let tasks = VecDeque::from([create]);
        self.stage =
            Stage::Joining(Box::new(Joining { begin, state: Vec::new(), chunks: 0, taken: 0, created: false, tasks }));
        Ok(())
    }

    fn mirror(&mut self, common: &mut Common, sectors: &[u64]) -> Result<(), String> {
        if !common.greeted() || !matches!(self.stage, Stage::Waiting) {
            return Err("disks are to be made equal while there is a guest".into());
        }
        if sectors != common.identity.drives {
            return Err("the drives are not those of the greeting".into());
        }
        let mirroring = Mirroring::new(sectors);
        common.notice(Notice::Mirroring { bytes: mirroring.bytes() });
        self.stage = Stage::Mirroring(mirroring);
        Ok(())
    }

    fn pieces(&mut self, take: impl FnOnce(&mut Joining) -> Result<(), String>) -> Result<(), String> {
        match &mut self.stage {
            Stage::Joining(joining) => take(joining),
            _ => Ok(()),
        }
    }

    pub fn work(&mut self, common: &mut Common) -> Work {
        let wait = Work::Wait { until_ns: None };
        match &mut self.stage {
            Stage::Waiting | Stage::Diagnosing => wait,
            Stage::Mirroring(mirroring) => mirroring.work().map_or(wait, Work::Disk),
            Stage::Joining(joining) => joining.tasks.pop_front().unwrap_or(wait),
            Stage::Following(following) => match following.work(common) {
                Some(Work::Diagnose(case)) => {
                    self.stage = Stage::Diagnosing;
                    Work::Diagnose(case)
                }
                Some(work) => work,
                None => wait,
            },
        }
    }

    pub fn done(&mut self, common: &mut Common, done: Done, took_ns: u64) {
        match (&mut self.stage, done) {
            (Stage::Joining(joining), Done::Finished) => joining.placed(common),
            (_, Done::Disk(DiskDone::Failed(why))) => {
                let reason = format!("this side's disk failed: {why}");
                common.send(&Message::Refused { reason: reason.clone() });
                common.finish(Finish::Failed(reason));
            }
            (Stage::Mirroring(mirroring), Done::Disk(done)) => {
                mirroring.done(done).iter().for_each(|message| common.send(message));
            }
            (Stage::Joining(joining), Done::Disk(_)) => joining.placed(common),
            (Stage::Joining(_), Done::Loaded { at, digest }) => self.loaded(common, at, digest),
            (Stage::Following(following), done) => following.done(common, done, took_ns),
            (Stage::Diagnosing, Done::Diagnosed(report)) => {
                common.send(&Message::Findings { text: report.text.clone() });
                common.notice(Notice::Diverged(report));
                common.finish(Finish::Diverged);
            }
            _ => (),
        }
    }

    fn loaded(&mut self, common: &mut Common, at: Place, digest: Digest) {
        let Stage::Joining(joining) = &self.stage else { return };
        let begin = &joining.begin;
        let whole = digest == begin.digest && at.count == begin.position.count;
        if !whole || !common.outputs.stands_at(&begin.streams) {
            common.send(&Message::Refused { reason: "the guest's image arrived damaged".into() });
            common.notice(Notice::Nonsense("the guest's image arrived damaged".into()));
            self.reset(common, "the image was damaged");
            common.disconnect();
            return;
        }
        common.log = Log::new(begin.position);
        common.guest.at = at;
        common.guest.idle = None;
        common.guest.off = false;
        common.send(&Message::Ready { digest });
        self.stage = Stage::Following(Box::new(Following::new(common)));
    }

    /// A frame came by this side's network.
    pub fn hear(&mut self, common: &mut Common, nic: u8, bytes: Vec<u8>) {
        if let Stage::Following(following) = &self.stage {
            following.hear(common, nic, bytes);
        }
    }

    /// Without a guest again.
    pub fn reset(&mut self, common: &mut Common, why: &str) {
        let had = !matches!(self.stage, Stage::Waiting);
        self.stage = Stage::Waiting;
        common.outputs.discard();
        common.heard = Heard::default();
        common.stations = Stations::default();
        common.recorded = None;
        common.silent = false;
        common.guest.stale = common.guest.working.is_some();
        if had {
            common.notice(Notice::Dropped { why: why.to_owned() });
        }
    }

    pub fn link_lost(&mut self, common: &mut Common) {
        match &self.stage {
            Stage::Waiting | Stage::Diagnosing => (),
            Stage::Mirroring(_) | Stage::Joining(_) => {
                self.reset(common, "the connection broke during the state transfer");
            }
            Stage::Following(following) if !following.promotable => {
                self.reset(common, "the connection broke before the pair was complete");
            }
            Stage::Following(following) => {
                if following.deciding.is_none() && !following.finishing && common.greeted() {
                    common.notice(Notice::Disconnected);
                }
            }
        }
    }

    /// The primary is gone: this side takes over if it may.
    pub fn lose_primary(&mut self, common: &mut Common, why: &str) {
        match &mut self.stage {
            Stage::Waiting | Stage::Diagnosing => (),
            Stage::Following(following) if following.promotable => following.decide(common),
            Stage::Mirroring(_) | Stage::Joining(_) | Stage::Following(_) => self.reset(common, why),
        }
    }

    pub fn claim_won(&mut self, common: &mut Common, term: u64) {
        if let Stage::Following(following) = &mut self.stage {
            following.claim_won(common, term);
        }
    }

    pub fn tick(&mut self, common: &mut Common) {
        if let Stage::Following(following) = &mut self.stage {
            following.tick(common);
        }
    }

    pub fn deadline(&self, common: &Common) -> Option<u64> {
        match &self.stage {
            Stage::Following(following) => following.deadline(common),
            Stage::Waiting | Stage::Mirroring(_) | Stage::Joining(_) | Stage::Diagnosing => None,
        }
    }

    pub fn look_at(&self, common: &Common) -> Option<u64> {
        match &self.stage {
            Stage::Following(following) => following.look_at(common),
            Stage::Waiting | Stage::Mirroring(_) | Stage::Joining(_) | Stage::Diagnosing => None,
        }
    }

    /// How far its disks have been compared.
    pub fn compared(&self) -> Option<(u64, u64)> {
        if let Stage::Mirroring(mirroring) = &self.stage { Some(mirroring.progress()) } else { None }
    }

    pub fn summary(&self, common: &Common) -> (State, bool, u64, Icount) {
        match &self.stage {
            Stage::Waiting => (State::Waiting, false, 0, Icount(0)),
            Stage::Mirroring(_) | Stage::Joining(_) => (State::Joining, false, 0, Icount(0)),
            Stage::Diagnosing => (State::Diagnosing, false, 0, Icount(0)),
            Stage::Following(following) => following.summary(common),
        }
    }
}

impl Joining {
    fn next(&mut self, chunk: u64) -> Result<(), String> {
        if chunk != self.chunks {
            return Err(format!("piece {chunk} of the image came, {} was next", self.chunks));
        }
        self.chunks += 1;
        Ok(())
    }

    fn state(&mut self, common: &mut Common, chunk: u64, bytes: &[u8]) -> Result<(), String> {
        self.next(chunk)?;
        if (self.state.len() + bytes.len()) as u64 > self.begin.state_bytes {
            return Err("the image has more state than was announced".into());
        }
        self.state.extend_from_slice(bytes);
        self.taken(common);
        Ok(())
    }

    fn pages(&mut self, chunk: u64, pages: Vec<(u32, Box<Page>)>) -> Result<(), String> {
        self.next(chunk)?;
        self.tasks.push_back(Work::SetPages(pages));
        Ok(())
    }

    fn block(&mut self, chunk: u64, id: BlockId, bytes: Vec<u8>) -> Result<(), String> {
        self.next(chunk)?;
        self.tasks.push_back(Work::Disk(DiskWork::Write(id, bytes)));
        Ok(())
    }

    fn complete(&mut self, chunks: u64) -> Result<(), String> {
        if chunks != self.chunks {
            return Err(format!("{chunks} pieces of the image were sent, {} came", self.chunks));
        }
        self.tasks.push_back(Work::Load { state: std::mem::take(&mut self.state) });
        Ok(())
    }

    /// A task is done: the guest is made, or a piece of RAM is in place.
    fn placed(&mut self, common: &mut Common) {
        if std::mem::replace(&mut self.created, true) {
            self.taken(common);
        }
    }

    /// Tells the primary that more may come.
    fn taken(&mut self, common: &mut Common) {
        self.taken += 1;
        common.send(&Message::Taken { chunks: self.taken });
    }
}
