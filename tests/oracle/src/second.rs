//! Engine against Unicorn: cases about system state, and the host's programs once more.

use crate::campaign::{Mismatch, mnemonics};
use crate::case::{Case, Subject};
use crate::compare::{differences, report};
use crate::engine::Engine;
use crate::generate;
use crate::known::Facts;
use crate::shrink::shrink;
use crate::unicorn::Reference;
use anyhow::Result;
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// Which cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subjects {
    /// Paging and segments.
    System,
    /// Programs as the host runs them.
    User,
}

/// Engine and Unicorn.
pub struct Second {
    engine: Engine,
    reference: Reference,
    /// Cases compared.
    pub compared: u64,
    /// Cases not compared, by known error.
    pub known: BTreeMap<&'static str, u64>,
    /// How the engine's runs ended.
    pub vectors: BTreeMap<u8, u64>,
    /// Cases that differ: how many, and the report of the first, by instructions and first difference.
    pub failures: BTreeMap<String, (u64, String)>,
}

impl Second {
    /// Both machines.
    ///
    /// # Errors
    /// One of them cannot be set up here.
    pub fn new() -> Result<Second> {
        Ok(Second {
            engine: Engine::new()?,
            reference: Reference::new()?,
            compared: 0,
            known: BTreeMap::new(),
            vectors: BTreeMap::new(),
            failures: BTreeMap::new(),
        })
    }

    /// Runs the cases of seeds `seed` to `seed + cases`, or until so many kinds have failed.
    pub fn run(&mut self, subjects: Subjects, seed: u64, cases: u64, patience: usize) {
        for seed in seed..seed + cases {
            let case = match subjects {
                Subjects::System => generate::system::case(seed),
                Subjects::User => generate::case(seed, (seed / 64) as usize, None),
            };
            match self.differs(&case) {
                Ok(Some(first)) => self.examine(&case, first),
                Ok(None) => self.compared += 1,
                Err(reason) => *self.known.entry(reason).or_default() += 1,
            }
            if self.failures.len() >= patience {
                return;
            }
        }
    }

    fn examine(&mut self, case: &Case, first: Mismatch) {
        let smallest = shrink(case, |case| matches!(self.differs(case), Ok(Some(_))));
        let mismatch = self.differs(&smallest).ok().flatten().unwrap_or(first);
        let kind = format!("{}: {}", mnemonics(&smallest), mismatch.kind);
        self.failures.entry(kind).or_insert((0, mismatch.text)).0 += 1;
    }

    /// How a case differs, if it does.
    ///
    /// # Errors
    /// Why it cannot be compared.
    fn differs(&mut self, case: &Case) -> Result<Option<Mismatch>, &'static str> {
        let program = case.assemble().ok_or("it cannot be assembled")?;
        let engine = self.engine.run(case, &program).ok_or("the engine does not end")?;
        let facts = Facts::of(case, &program, &engine);
        if let Some(reason) = facts.reason() {
            return Err(reason);
        }
        let reference = self.reference.run(case, &program).ok_or("Unicorn does not end")?;
        *self.vectors.entry(engine.vector).or_default() += 1;
        let found = differences(case, &reference, &engine, facts.excused());
        let names = [self.reference.name(), self.engine.name()];
        let text = report(case, names, &found);
        Ok(found.first().map(|first| Mismatch { kind: first.what.clone(), text }))
    }
}

impl Display for Second {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let differ: u64 = self.failures.values().map(|(count, _)| count).sum();
        write!(formatter, "{} as Unicorn, {differ} differ; ends:", self.compared)?;
        for (vector, count) in &self.vectors {
            write!(formatter, " #{vector} {count}")?;
        }
        for (reason, count) in &self.known {
            write!(formatter, "\n  {count:>6} not compared: {reason}")?;
        }
        Ok(())
    }
}
