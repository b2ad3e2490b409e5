//! `--without`: optimisations of the CPU left out, to find out which one a fault lies in.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};
use ftemu_cpu::{Optimisation, Optimisations};

/// Stands for all of them.
const ALL: &str = "all";

/// What `run` and `replay` may leave out.
#[derive(Debug, Args)]
pub struct WithoutArguments {
    /// Leave out optimisations of the CPU, to find out which one a fault lies in. The guest runs slower, and bit for
    /// bit the same.
    #[arg(long = "without", value_name = "NAME", value_delimiter = ',', value_parser = names(), hide_short_help = true)]
    names: Vec<String>,
}

/// The names with one line each, as the long help lists them.
fn names() -> PossibleValuesParser {
    let each = Optimisation::ALL.iter().map(|one| PossibleValue::new(one.name()).help(one.description()));
    PossibleValuesParser::new(each.chain([PossibleValue::new(ALL).help("none of these: the slowest way")]))
}

impl WithoutArguments {
    /// Those that are left.
    pub fn optimisations(&self) -> Optimisations {
        let left_out = |one: &Optimisation| self.names.iter().any(|name| name == ALL || name == one.name());
        Optimisation::ALL.iter().filter(|one| left_out(one)).fold(Optimisations::all(), |left, one| left.without(*one))
    }
}
