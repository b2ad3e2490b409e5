//! What a campaign has compared, and how it came out.

use super::Outcome;
use iced_x86::Instruction;
use std::collections::BTreeMap;
use std::fmt::{self, Display};

/// The kind of a difference, and a report of it; `None` where there is none. An error is why a case was not compared.
pub(super) type Verdict = Result<Option<(String, String)>, &'static str>;

/// Counts of cases.
#[derive(Default)]
pub struct Tally {
    /// Cases compared.
    pub compared: u64,
    /// Cases not compared, by reason.
    pub known: BTreeMap<&'static str, u64>,
    /// How the engine's runs ended; 3 is the end of the program.
    pub vectors: BTreeMap<u8, u64>,
    /// Mnemonics that were compared.
    pub mnemonics: BTreeMap<String, u64>,
    /// Cases that differ: how many, and the first report, by kind.
    pub failures: BTreeMap<String, (u64, String)>,
}

impl Tally {
    /// A case will be compared.
    pub(super) fn note(&mut self, instructions: &[Instruction], engine: &Outcome) {
        *self.vectors.entry(engine.vector.unwrap_or_default()).or_default() += 1;
        for one in instructions {
            *self.mnemonics.entry(format!("{:?}", one.mnemonic())).or_default() += 1;
        }
    }

    /// Checks seeds `seed` to `seed + cases`, or until so many kinds have failed.
    pub(super) fn run(
        &mut self,
        seed: u64,
        cases: u64,
        patience: usize,
        mut check: impl FnMut(&mut Tally, u64) -> Verdict,
    ) {
        for seed in seed..seed + cases {
            let verdict = check(self, seed);
            self.conclude(seed, verdict);
            if self.failures.len() >= patience {
                return;
            }
        }
    }

    fn conclude(&mut self, seed: u64, verdict: Verdict) {
        match verdict {
            Ok(None) => self.compared += 1,
            Ok(Some((kind, text))) => {
                let report = format!("seed {seed:#x}\n{text}");
                self.failures.entry(kind).or_insert((0, report)).0 += 1;
            }
            Err(reason) => *self.known.entry(reason).or_default() += 1,
        }
    }
}

impl Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed: u64 = self.failures.values().map(|(count, _)| count).sum();
        write!(formatter, "{} compared, {failed} differ, {} mnemonics; ends:", self.compared, self.mnemonics.len())?;
        for (vector, count) in &self.vectors {
            write!(formatter, " #{vector} {count}")?;
        }
        for (reason, count) in &self.known {
            write!(formatter, "\n  {count} not compared: {reason}")?;
        }
        Ok(())
    }
}
