//! One round: a fresh pair, a moment, a death, and the guest's lines checked to the last.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ftemu_images::Chain;
use ftemu_images::chain::Seen;
use rustix::process::Signal;

use super::Victim;
use super::figures::{Figures, Observed};
use super::guest::Staged;
use super::pair::{Pair, Side};
use super::random::Random;
use super::watch::{Line, Watch};

/// How long the console may stay silent before the round counts as failed. A kernel that decompresses itself says
/// nothing for a while.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often the clock is looked at while no line comes.
const LOOK: Duration = Duration::from_millis(20);
/// Exit status of a side that was fenced.
const FENCED: i32 = 3;

/// What happens when.
pub(super) struct Plan {
    victim: Victim,
    silence: bool,
    /// The moment: after this many lines of the console, and then this much later.
    after_lines: u64,
    delay: Duration,
}

impl Plan {
    /// A random moment in the first three quarters of what the console shows, kernel messages included.
    pub(super) fn new(victim: Victim, silence: bool, staged: &Staged, random: &mut Random) -> Self {
        let after_lines = 1 + random.below(staged.console_lines() * 3 / 4);
        Self { victim, silence, after_lines, delay: Duration::from_micros(random.below(40_000)) }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let victim = match self.victim {
            Victim::Primary => "primary",
            Victim::Standby => "standby",
        };
        let signal = if self.silence { "SIGSTOP" } else { "SIGKILL" };
        let delay = self.delay.as_micros() as f64 / 1000.0;
        write!(f, "the {victim} gets {signal} {delay:.1} ms after line {} of the console", self.after_lines)
    }
}

/// A round under way.
pub(super) struct Round {
    plan: Plan,
    pair: Pair,
    watch: Watch,
    chain: Chain,
    show: bool,
    seen: u64,
    struck: Option<Instant>,
    times: Vec<Instant>,
}

impl Round {
    /// Starts the pair and attaches to its console.
    pub(super) fn new(staged: &Staged, plan: Plan, show: bool) -> Result<Self> {
        // Death by SIGSTOP is silence, and after silence only an arbiter's word lets a side go on.
        let mut pair = Pair::start(staged, plan.silence)?;
        let watch = Watch::start(&pair.consoles()?)?;
        Ok(Self { plan, pair, watch, chain: staged.chain(), show, seen: 0, struck: None, times: Vec::new() })
    }

    /// Plays it to the guest's end.
    pub(super) fn play(mut self) -> Result<Figures> {
        self.watch_until_the_end().with_context(|| self.last_words())?;
        let struck = self.struck.context("the guest ended before the plug was pulled: give it more --lines")?;
        self.check_the_ends().with_context(|| self.last_words())?;
        Figures::of(&Observed {
            victim: self.plan.victim,
            chain: &self.chain,
            times: &self.times,
            struck,
            primary: &self.pair.primary.journal,
            standby: &self.pair.standby.journal,
        })
    }

    fn watch_until_the_end(&mut self) -> Result<()> {
        let mut heard = Instant::now();
        let mut moment = None;
        while !self.chain.ended() {
            if self.struck.is_none() {
                self.pair.primary.must_run()?;
                self.pair.standby.must_run()?;
                moment = moment.or_else(|| self.moment());
                if moment.is_some_and(|moment| Instant::now() >= moment) {
                    self.strike()?;
                }
            }
            let within = moment
                .filter(|_| self.struck.is_none())
                .map_or(LOOK, |at| at.saturating_duration_since(Instant::now()));
            if let Some(line) = self.watch.next(within.min(LOOK))? {
                heard = line.at;
                self.take(line)?;
            }
            ensure!(heard.elapsed() < PATIENCE, "the console has been silent for {} s", PATIENCE.as_secs());
        }
        Ok(())
    }

    /// The planned moment, once its line has come and the pair protects the guest.
    fn moment(&self) -> Option<Instant> {
        let due = self.seen >= self.plan.after_lines && self.pair.primary.journal.first("protected").is_some();
        due.then(|| Instant::now() + self.plan.delay)
    }

    fn take(&mut self, line: Line) -> Result<()> {
        if self.show {
            println!("{}", line.text);
        }
        self.seen += 1;
        self.times.push(line.at);
        let seen = self.chain.feed(&line.text)?;
        if seen == Seen::Other && line.text.contains("Kernel panic") {
            bail!("the guest's kernel gave up: {}", line.text);
        }
        Ok(())
    }

    fn victim(&mut self) -> &mut Side {
        match self.plan.victim {
            Victim::Primary => &mut self.pair.primary,
            Victim::Standby => &mut self.pair.standby,
        }
    }

    fn strike(&mut self) -> Result<()> {
        if self.show {
            println!("----- {} -----", self.plan);
        }
        self.struck = Some(Instant::now());
        if self.plan.silence { self.victim().signal(Signal::STOP) } else { self.victim().kill() }
    }

    /// The survivor ends with the guest; a victim that only fell silent wakes, learns that it was fenced, and ends.
    fn check_the_ends(&mut self) -> Result<()> {
        let survivor = match self.plan.victim {
            Victim::Primary => &mut self.pair.standby,
            Victim::Standby => &mut self.pair.primary,
        };
        let status = survivor.wait_for_end()?;
        ensure!(status.success(), "the survivor should have ended well: {status}");
        if self.plan.silence {
            let victim = self.victim();
            victim.signal(Signal::CONT)?;
            let status = victim.wait_for_end()?;
            ensure!(
                status.code() == Some(FENCED),
                "the side that was silent should have found itself fenced: {status}"
            );
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let (primary, standby) = (self.pair.primary.complaints(), self.pair.standby.complaints());
        format!("after line {}; the primary said:\n{primary}\nthe standby said:\n{standby}", self.chain.number())
    }
}
