//! `--without` and `--code-cache`: optimisations of the CPU left out, to find out which one a fault lies in, and how much
//! translated code is kept.

use crate::units;
use anyhow::{Context as _, Result};
use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use ftemu_cpu::{Cpu, Optimisation, Optimisations};

/// Stands for all of them.
const ALL: &str = "all";

/// What `run` and `replay` may leave out or bound.
#[derive(Debug, Args)]
pub struct WithoutArguments {
    /// Leave out optimisations of the CPU, to find out which one a fault lies in. The guest runs slower, and bit for
    /// bit the same.
    #[arg(long = "without", value_name = "NAME", value_delimiter = ',', value_parser = names(), hide_short_help = true)]
    names: Vec<String>,
    /// How much translated code to keep, and as much at most for what is known about it.
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = units::bytes, hide_short_help = true)]
    code_cache: u64,
}

/// The names with one line each, as the long help lists them.
fn names() -> PossibleValuesParser {
    let each = Optimisation::ALL.iter().map(|one| PossibleValue::new(one.name()).help(one.description()));
    PossibleValuesParser::new(each.chain([PossibleValue::new(ALL).help("none of these: the slowest way")]))
}

impl WithoutArguments {
    /// Has a CPU do so.
    pub fn apply(&self, cpu: &mut Cpu) -> Result<()> {
        cpu.set_optimisations(self.optimisations());
        let bytes = usize::try_from(self.code_cache).unwrap_or(usize::MAX);
        cpu.set_code_cache(bytes).context("cannot get memory for translated code")
    }

    /// Those that are left.
    fn optimisations(&self) -> Optimisations {
        let left_out = |one: &Optimisation| self.names.iter().any(|name| name == ALL || name == one.name());
        Optimisation::ALL
            .iter()
            .filter(|one| left_out(one))
            .fold(Optimisations::default(), |left, one| left.without(*one))
    }
}
