//! Many cases: the host works on one batch while the engine runs the previous one, each case whole and in slices.

use crate::case::{Case, Outcome, Program, Subject};
use crate::catalogue;
use crate::compare::{differences, report};
use crate::engine::{Engine, Privilege, Slicing};
use crate::excuse::{excuse, refuses_mxcsr, refuses_offset};
use crate::generate;
use crate::host::{BATCH, Host};
use crate::shrink::shrink;
use anyhow::Result;
use iced_x86::{Decoder, DecoderOptions, Mnemonic};
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// What has been run.
#[derive(Default, Debug)]
pub struct Statistics {
    /// Cases that both sides finished and that were compared.
    pub compared: u64,
    /// Cases that the host did not finish, or that changed more lines than are compared.
    pub skipped: u64,
    /// How the compared ones ended, by vector.
    pub vectors: BTreeMap<u8, u64>,
    /// Mnemonics that were in them.
    pub instructions: BTreeMap<String, u64>,
    /// Cases that differ, shrunk: how many, and the report of the first, by instructions and first difference.
    pub failures: BTreeMap<String, (u64, String)>,
}

impl Display for Statistics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} compared, {} skipped, {} differ; ends:",
            self.compared,
            self.skipped,
            self.failures.values().map(|(count, _)| count).sum::<u64>()
        )?;
        for (vector, count) in &self.vectors {
            write!(formatter, " #{vector} {count}")?;
        }
        write!(formatter, "; {} mnemonics", self.instructions.len())
    }
}

/// Host against engine.
pub struct Campaign {
    host: Host,
    engine: Engine,
    next: u64,
    /// Kinds of failure after which it ends.
    pub patience: usize,
    /// The only mnemonic to test.
    pub only: Option<Mnemonic>,
    /// What it has seen.
    pub statistics: Statistics,
}

/// Suspects that are shrunk at a time.
const SUSPECTS: usize = 64;

type Batch = Vec<(Case, Program)>;

impl Campaign {
    /// A campaign whose first case has the given seed.
    ///
    /// # Errors
    /// The host oracle or the engine cannot be set up here.
    pub fn new(seed: u64) -> Result<Campaign> {
        Ok(Campaign {
            host: Host::new()?,
            engine: Engine::new()?,
            next: seed,
            patience: 5,
            only: None,
            statistics: Statistics::default(),
        })
    }

    /// Runs that many more cases, or until too many have failed.
    ///
    /// # Errors
    /// The host oracle's process cannot be kept alive.
    pub fn run(&mut self, cases: u64) -> Result<()> {
        let end = self.next + cases;
        let mut suspects = Vec::new();
        let mut batch = self.generate(end);
        self.host.submit(&batch)?;
        while !batch.is_empty() && suspects.len() < SUSPECTS {
            let following = self.generate(end);
            let expected = self.host.collect(&batch)?;
            self.host.submit(&following)?;
            suspects.extend(self.check(&batch, expected));
            batch = following;
        }
        self.host.collect(&batch)?;
        for (case, mismatch) in suspects {
            self.examine(&case, mismatch);
        }
        if self.statistics.failures.len() < self.patience && self.next < end {
            return self.run(end - self.next);
        }
        Ok(())
    }

    /// Compares a batch and gives the cases that differ.
    fn check(&mut self, batch: &Batch, expected: Vec<Option<Outcome>>) -> Vec<(Case, Mismatch)> {
        let mut suspects = Vec::new();
        for ((case, program), expected) in batch.iter().zip(expected) {
            let Some(expected) = expected else {
                self.statistics.skipped += 1;
                continue;
            };
            self.statistics.note(case, &expected);
            if let Some(mismatch) = mismatch(&mut self.engine, case, program, &expected) {
                suspects.push((case.clone(), mismatch));
            }
        }
        suspects
    }

    /// The next batch of cases that can be assembled.
    fn generate(&mut self, end: u64) -> Batch {
        let mut batch = Vec::new();
        let image = (self.next / BATCH as u64) as usize;
        while batch.len() < BATCH && self.next < end {
            let case = generate::case(self.next, image, self.only);
            self.next += 1;
            match case.assemble() {
                Some(program) => batch.push((case, program)),
                None => self.statistics.skipped += 1,
            }
        }
        batch
    }

    /// Shrinks a case that differs and files the report.
    fn examine(&mut self, case: &Case, first: Mismatch) {
        let smallest = shrink(case, |case| self.differs(case).is_some());
        let (kind, text) = match self.differs(&smallest) {
            Some(mismatch) => (format!("{}: {}", mnemonics(&smallest), mismatch.kind), mismatch.text),
            None => (format!("once and then no more: {}", first.kind), first.text),
        };
        self.statistics.failures.entry(kind).or_insert((0, text)).0 += 1;
    }

    /// How a case differs, if it does.
    pub fn differs(&mut self, case: &Case) -> Option<Mismatch> {
        let program = case.assemble()?;
        let expected = self.host.run(case, &program)?;
        mismatch(&mut self.engine, case, &program, &expected)
    }
}

/// A case that differs.
pub struct Mismatch {
    /// Between what, and what differs first.
    pub kind: String,
    /// For people.
    pub text: String,
}

/// Whether the engine, whole or in slices, does not do what was expected.
fn mismatch(engine: &mut Engine, case: &Case, program: &Program, expected: &Outcome) -> Option<Mismatch> {
    engine.slicing = Slicing::Whole;
    let whole = engine.run(case, program);
    let found = unequal(case, program, ["host", "engine"], expected, whole.as_ref());
    if found.is_some() {
        return found;
    }
    if case.seed.is_multiple_of(3) && catalogue::is_unprivileged(program) {
        engine.privilege = Privilege::Kernel;
        let kernel = engine.run(case, program);
        engine.privilege = Privilege::User;
        let found = unequal(case, program, ["host", "kernel"], expected, kernel.as_ref());
        if found.is_some() {
            return found;
        }
    }
    engine.slicing = Slicing::Random(case.seed);
    let sliced = engine.run(case, program);
    unequal(case, program, ["whole", "sliced"], whole.as_ref()?, sliced.as_ref())
}

fn unequal(
    case: &Case,
    program: &Program,
    names: [&str; 2],
    left: &Outcome,
    right: Option<&Outcome>,
) -> Option<Mismatch> {
    let Some(right) = right else {
        return Some(Mismatch { kind: format!("{} does not end", names[1]), text: report(case, names, &[]) });
    };
    if left.vector == 3 && refuses_mxcsr(program, right) || refuses_offset(program, left) {
        return None;
    }
    let mut excused = excuse(program, left);
    excused.user = names[1] == "kernel";
    let found = differences(case, left, right, excused);
    let kind = format!("{}/{} {}", names[0], names[1], found.first()?.what);
    Some(Mismatch { kind, text: report(case, names, &found) })
}

/// The instructions of a small case.
pub(crate) fn mnemonics(case: &Case) -> String {
    let Some(program) = case.assemble() else { return String::new() };
    let mut decoder = Decoder::with_ip(64, &program.bytes, program.address, DecoderOptions::AMD);
    let names: Vec<String> = decoder.iter().take(6).map(|one| format!("{:?}", one.code())).collect();
    names.join(" ")
}

impl Statistics {
    fn note(&mut self, case: &Case, outcome: &Outcome) {
        self.compared += 1;
        *self.vectors.entry(outcome.vector).or_default() += 1;
        for item in &case.items {
            if let crate::case::Item::Instruction(instruction) = item {
                let name = format!("{:?}", instruction.mnemonic());
                *self.instructions.entry(name).or_default() += 1;
            }
        }
    }
}
