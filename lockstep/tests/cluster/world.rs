//! The world around two processes, in one thread: a queue of happenings, all drawn from one seed.

use crate::checker::Checker;
use crate::client::Client;
use crate::flood::Flooded;
use crate::link::Connection;
use crate::process::{INSTRUCTION, MILLISECOND, Nanoseconds, Process, settings};
use crate::random::Random;
use crate::toy::{DRIVES, Disks, Toy};
use ftemu_devices::storage::MemoryStorage;
use ftemu_lockstep::divergence::Report;
use ftemu_lockstep::event::{Finish, Verdict};
use ftemu_lockstep::{Action, Done, Event, Notice, Record, State, Step};
use std::collections::{BTreeMap, BTreeSet};

/// How a cluster's life is to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub arbiter: bool,
    /// Faults happen for so long.
    pub chaos_ns: Nanoseconds,
    /// Then none for so long: everything must be well again.
    pub calm_ns: Nanoseconds,
    /// A fault that no real part has, to see that the checkers notice.
    pub canary: Option<Canary>,
}

/// Deliberate breaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The primary is told at once that the log has arrived.
    ForgedAcknowledgements,
    /// The arbiter grants every claim.
    GenerousArbiter,
    /// The network brings frames to the live side alone.
    LearningSwitch,
}

/// Something that will happen.
pub enum Happening {
    Wake(usize),
    Worked(usize),
    Tell(usize, Event),
    Resume(usize),
    Ask { process: usize, term: u64 },
    Dial,
    Restart(usize),
    Fault,
    Type,
    Flood,
    Poll,
    Answer { process: usize, position: u64, bytes: Vec<u8>, asked: u64 },
}

/// What became of a cluster.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub lost: bool,
    pub bytes: u64,
    pub repeated: u64,
    pub frames: u64,
    pub frames_repeated: u64,
    pub frames_in: u64,
    pub failovers: u64,
    pub crashes: u64,
    pub digests: u64,
    pub disks: u64,
}

pub struct World {
    pub plan: Plan,
    pub random: Random,
    pub now: Nanoseconds,
    queue: BTreeMap<(Nanoseconds, u64), Happening>,
    sequence: u64,
    /// All processes that ever were.
    pub processes: Vec<Process>,
    /// The present one of each side.
    pub sides: [usize; 2],
    /// What each side's disks hold; they outlive its processes.
    pub disks: [Disks; 2],
    deferred: Vec<(usize, Event)>,
    pub connection: Option<Connection>,
    pub connections: u64,
    /// Connections that carry nothing more.
    pub broken: BTreeSet<u64>,
    /// Term and process.
    pub grants: BTreeMap<u64, usize>,
    pub checker: Checker,
    pub client: Client,
    pub flooded: Flooded,
    /// The guest may be gone: both copies met with a fault.
    pub excused: bool,
    pub outcome: Outcome,
    pub trace: Vec<String>,
    /// A difference between the guests is what is being tested.
    pub differing: bool,
    pub reports: Vec<Report>,
    pub sent_messages: u64,
    pub sent_bytes: u64,
    /// All that was sent, if it is wanted.
    pub tapped: Option<Vec<Vec<u8>>>,
}

impl World {
    pub fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let mut settings = settings(plan.arbiter);
        settings.wait_for_standby = random.percent(30);
        let disks = [0, 1].map(|_| DRIVES.map(MemoryStorage::new));
        let primary = Process::primary(0, 1, settings.clone(), 0, Toy::new(plan.seed).on(&disks[0]));
        let standby = Process::standby(1, 2, settings, 0, &disks[1]);
        let mut world = Self {
            plan,
            random,
            now: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            processes: vec![primary, standby],
            sides: [0, 1],
            disks,
            deferred: Vec::new(),
            connection: None,
            connections: 0,
            broken: BTreeSet::new(),
            grants: BTreeMap::new(),
            checker: Checker::default(),
            client: Client::default(),
            flooded: Flooded::default(),
            excused: false,
            outcome: Outcome::default(),
            trace: Vec::new(),
            differing: false,
            reports: Vec::new(),
            sent_messages: 0,
            sent_bytes: 0,
            tapped: None,
        };
        for (time, happening) in [
            (0, Happening::Wake(0)),
            (0, Happening::Wake(1)),
            (1, Happening::Dial),
            (2, Happening::Type),
            (2, Happening::Flood),
            (3, Happening::Poll),
        ] {
            world.at(time, happening);
        }
        let first_fault = world.random.between(0, 400 * MILLISECOND);
        world.at(first_fault, Happening::Fault);
        world
    }

    pub fn at(&mut self, time: Nanoseconds, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((time.max(self.now), self.sequence), happening);
    }

    pub fn within(&mut self, low: Nanoseconds, high: Nanoseconds, happening: Happening) {
        let delay = self.random.between(low, high);
        self.at(self.now + delay, happening);
    }

    pub fn say(&mut self, what: String) {
        self.trace.push(format!("{:>10.3} ms  {what}", self.now as f64 / 1e6));
    }

    /// Lives until `end`.
    pub fn live_until(&mut self, end: Nanoseconds) -> Result<(), String> {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            self.now = entry.key().0;
            let happening = entry.remove();
            self.happen(happening)?;
        }
        self.now = end;
        Ok(())
    }

    pub fn calm(&self) -> bool {
        self.now >= self.plan.chaos_ns
    }

    pub fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Wake(number) => {
                let process = &mut self.processes[number];
                if process.armed.is_some_and(|armed| armed <= self.now) {
                    process.armed = None;
                }
                if process.alive() && process.paused_until.is_none() {
                    process.driver.node.tick(self.now);
                    self.pump(number)?;
                }
            }
            Happening::Worked(number) => self.worked(number)?,
            Happening::Tell(number, event) => self.tell(number, event)?,
            Happening::Resume(number) => self.resume(number)?,
            Happening::Ask { process, term } => self.ask(process, term),
            Happening::Dial => self.dial(),
            Happening::Restart(side) => self.restart(side)?,
            Happening::Fault => self.fault(),
            Happening::Type => self.type_something(),
            Happening::Flood => self.flood(),
            Happening::Poll => self.poll_console(),
            Happening::Answer { process, position, bytes, asked } => self.answer(process, position, &bytes, asked)?,
        }
        Ok(())
    }

    fn worked(&mut self, number: usize) -> Result<(), String> {
        let process = &mut self.processes[number];
        if let Some(until) = process.paused_until {
            self.at(until, Happening::Worked(number));
            return Ok(());
        }
        if process.alive() {
            let done = process.working.take().expect("work was under way");
            process.driver.finish(self.now, done);
            self.pump(number)?;
        }
        Ok(())
    }

    pub fn tell(&mut self, number: usize, event: Event) -> Result<(), String> {
        let process = &mut self.processes[number];
        if !process.alive() {
            return Ok(());
        }
        if process.paused_until.is_some() {
            self.deferred.push((number, event));
            return Ok(());
        }
        if let Event::Received { link, .. } = &event
            && self.broken.contains(link)
        {
            return Ok(());
        }
        process.driver.handle(self.now, event);
        self.pump(number)
    }

    fn resume(&mut self, number: usize) -> Result<(), String> {
        self.processes[number].paused_until = None;
        let deferred = std::mem::take(&mut self.deferred);
        let (ours, others): (Vec<_>, Vec<_>) = deferred.into_iter().partition(|(process, _)| *process == number);
        self.deferred = others;
        for (_, event) in ours {
            self.tell(number, event)?;
        }
        self.happen(Happening::Wake(number))
    }

    /// Carries out a process's actions and gives it work, as its edge would.
    fn pump(&mut self, number: usize) -> Result<(), String> {
        loop {
            while let Some(action) = self.processes[number].driver.poll() {
                self.act(number, action)?;
            }
            let process = &mut self.processes[number];
            if !process.alive() {
                return Ok(());
            }
            if process.working.is_some() {
                let deadline = process.driver.node.deadline();
                self.arm(number, deadline);
                return Ok(());
            }
            let before = process.driver.node.status().at.count;
            match process.driver.step(self.now) {
                Step::Wait(until) => {
                    self.arm(number, until);
                    if self.processes[number].driver.node.deadline().is_some_and(|deadline| deadline <= self.now) {
                        return Err(format!("process {number} wants to be woken in the past"));
                    }
                }
                Step::Worked(done) => {
                    let instructions = process.note(before, &done);
                    process.working = Some(done);
                    self.rebase(number);
                    self.at(self.now + instructions * INSTRUCTION, Happening::Worked(number));
                }
            }
            let process = &mut self.processes[number];
            let Some(action) = process.driver.poll() else {
                if process.working.is_some() {
                    continue;
                }
                return Ok(());
            };
            self.act(number, action)?;
        }
    }

    /// A standby that has just loaded its guest goes on counting where the giver's guest was.
    fn rebase(&mut self, number: usize) {
        if let (Some(Done::Loaded { at, .. }), Some(parent)) =
            (&self.processes[number].working, self.processes[number].parent)
        {
            let (bytes, frames) = (&self.processes[parent].bytes, &self.processes[parent].frames);
            let (bytes, frames) = (bytes.by(at.count), frames.by(at.count));
            self.processes[number].bytes.rebase(bytes);
            self.processes[number].frames.rebase(frames);
        }
    }

    fn arm(&mut self, number: usize, until: Option<Nanoseconds>) {
        let Some(until) = until else { return };
        let process = &mut self.processes[number];
        if process.armed.is_none_or(|armed| until < armed) {
            process.armed = Some(until);
            self.at(until, Happening::Wake(number));
        }
    }

    fn act(&mut self, number: usize, action: Action) -> Result<(), String> {
        match action {
            Action::Send { link, class, bytes } => self.send(number, link, class, bytes),
            Action::Disconnect { link } => self.disconnect(number, link),
            Action::Claim { term } => self.within(50_000, 20 * MILLISECOND, Happening::Ask { process: number, term }),
            Action::Record(bytes) => self.processes[number].record(&bytes),
            Action::Notice(notice) => self.noticed(number, notice)?,
            Action::Announce { nic, bytes } => self.announced(number, nic, &bytes)?,
            Action::Finished(finish) => self.finished(number, finish)?,
            Action::Release(release) => {
                let process = &self.processes[number];
                // A standby that was damaged for a test cannot take over: the next fault would be the second.
                let standby = process.standby.filter(|_| !self.differing).map(|standby| &self.processes[standby]);
                let checked = self.checker.released(number, process, standby, &release);
                checked.map_err(|error| format!("process {number}: {error}"))?;
            }
        }
        Ok(())
    }

    fn noticed(&mut self, number: usize, notice: Notice) -> Result<(), String> {
        self.say(format!("process {number}: {notice:?}"));
        match notice {
            Notice::Protected { .. } => {
                self.processes[number].standby = Some(self.sides[1 - self.processes[number].side]);
            }
            Notice::Diverged(report) if self.differing => self.reports.push(*report),
            Notice::Differs { .. } if self.differing => (),
            Notice::Live { .. } => self.outcome.failovers += 1,
            Notice::Differs { .. } | Notice::Nonsense(_) | Notice::Diverged(_) => {
                return Err(format!("process {number} says {notice:?}"));
            }
            Notice::Transferring { .. } if self.processes[number].state() == State::Joining => {
                self.processes[number].parent = Some(self.sides[1 - self.processes[number].side]);
            }
            _ => (),
        }
        Ok(())
    }

    fn finished(&mut self, number: usize, finish: Finish) -> Result<(), String> {
        self.say(format!("process {number} finished: {finish:?}"));
        self.processes[number].finished = Some(finish.clone());
        self.cut_off(number, false);
        let side = self.processes[number].side;
        self.within(20 * MILLISECOND, 300 * MILLISECOND, Happening::Restart(side));
        match finish {
            Finish::Failed(why) => Err(format!("process {number} failed: {why}")),
            _ => Ok(()),
        }
    }

    fn ask(&mut self, number: usize, term: u64) {
        let verdict = if !self.calm() && self.random.percent(15) {
            Verdict::Unreachable("the arbiter does not answer".into())
        } else {
            let winner = *self.grants.entry(term).or_insert(number);
            let won = winner == number || self.plan.canary == Some(Canary::GenerousArbiter);
            if won { Verdict::Won } else { Verdict::Lost { to: format!("process {winner}") } }
        };
        self.say(format!("arbiter to process {number} about term {term}: {verdict:?}"));
        self.within(50_000, 20 * MILLISECOND, Happening::Tell(number, Event::Claimed { term, verdict }));
    }

    /// The pair's whole log, as the present holder of the guest has recorded it.
    pub fn history(&self, number: usize) -> Vec<Record> {
        let process = &self.processes[number];
        let mut records = match process.parent {
            Some(parent) => self.history(parent),
            None => Vec::new(),
        };
        records.truncate(process.start as usize);
        assert_eq!(records.len() as u64, process.start, "process {number} began beyond its parent's record");
        records.extend_from_slice(&process.records);
        records
    }
}
