//! Many cases: the host works on one batch while the engine runs the previous one, each case whole and in slices.

use crate::case::{Case, Outcome, Program, Subject};
use crate::compare::{Excused, differences, report};
use crate::engine::{Engine, Slicing};
use crate::generate;
use crate::host::{BATCH, Host};
use crate::shrink::shrink;
use anyhow::Result;
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
    /// Reports of the cases that differ, shrunk.
    pub failures: Vec<String>,
}

impl Display for Statistics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} compared, {} skipped, {} differ; ends:", self.compared, self.skipped, self.failures.len())?;
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
    /// Failures after which it ends.
    pub patience: usize,
    /// What it has seen.
    pub statistics: Statistics,
}

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
        while !batch.is_empty() {
            let following = self.generate(end);
            let expected = self.host.collect(&batch)?;
            self.host.submit(&following)?;
            suspects.extend(self.check(&batch, expected));
            batch = following;
            if suspects.len() + self.statistics.failures.len() >= self.patience {
                break;
            }
        }
        self.host.collect(&batch)?;
        for case in suspects {
            self.examine(&case);
        }
        Ok(())
    }

    /// Compares a batch and gives the cases that differ.
    fn check(&mut self, batch: &Batch, expected: Vec<Option<Outcome>>) -> Vec<Case> {
        let mut suspects = Vec::new();
        for ((case, program), expected) in batch.iter().zip(expected) {
            let Some(expected) = expected else {
                self.statistics.skipped += 1;
                continue;
            };
            self.statistics.note(case, &expected);
            if mismatch(&mut self.engine, case, program, &expected).is_some() {
                suspects.push(case.clone());
            }
        }
        suspects
    }

    /// The next batch of cases that can be assembled.
    fn generate(&mut self, end: u64) -> Batch {
        let mut batch = Vec::new();
        let image = (self.next / BATCH as u64) as usize;
        while batch.len() < BATCH && self.next < end {
            let case = generate::case(self.next, image);
            self.next += 1;
            match case.assemble() {
                Some(program) => batch.push((case, program)),
                None => self.statistics.skipped += 1,
            }
        }
        batch
    }

    /// Shrinks a case that differs and writes the report.
    fn examine(&mut self, case: &Case) {
        let smallest = shrink(case, |case| self.differs(case).is_some());
        let text = match self.differs(&smallest) {
            Some(text) => text,
            None => format!("seed {:#x} differed once and then no more\n{}", case.seed, case.listing()),
        };
        self.statistics.failures.push(text);
    }

    /// The report of a case if it differs.
    pub fn differs(&mut self, case: &Case) -> Option<String> {
        let program = case.assemble()?;
        let expected = self.host.run(case, &program)?;
        mismatch(&mut self.engine, case, &program, &expected)
    }
}

/// The report if the engine, whole or in slices, does not do what was expected.
fn mismatch(engine: &mut Engine, case: &Case, program: &Program, expected: &Outcome) -> Option<String> {
    engine.slicing = Slicing::Whole;
    let Some(whole) = engine.run(case, program) else {
        return Some(format!("the engine does not end\n{}", report(case, ["host", "engine"], &[])));
    };
    let found = differences(case, expected, &whole, Excused::default());
    if !found.is_empty() {
        return Some(report(case, ["host", "engine"], &found));
    }
    engine.slicing = Slicing::Random(case.seed);
    let Some(sliced) = engine.run(case, program) else {
        return Some(format!("the engine does not end in slices\n{}", report(case, ["whole", "sliced"], &[])));
    };
    let found = differences(case, &whole, &sliced, Excused::default());
    (!found.is_empty()).then(|| report(case, ["whole", "sliced"], &found))
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
