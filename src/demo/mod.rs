//! `ftemu demo`: the whole story on one machine. A guest runs on two servers, which are two processes of this program; one
//! of them is killed at a random moment; and what the guest goes on to print is checked outside the guest.
//!
//! Nothing here reaches into the pair: the demonstration starts it by the command line, watches it through `ftemu console`
//! and reads what both sides write with `--events`, as anybody could.

mod figures;
mod guest;
mod journal;
mod pair;
mod random;
mod round;
mod watch;

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use figures::Summary;
use guest::Staged;
use random::Random;
use round::{Plan, Round};

/// What `demo` needs to know.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DemoArguments {
    /// How many times, each with a fresh pair.
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: u32,
    /// Where the random moments come from; printed, so that a run can be had again [default: from the clock].
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Which side dies.
    #[arg(long, value_enum, default_value_t = Victim::Primary)]
    kill: Victim,
    /// Stop the victim with SIGSTOP instead of killing it: it falls silent, and an arbiter decides.
    #[arg(long)]
    silence: bool,
    /// The guest.
    #[arg(long, value_enum, default_value_t = Choice::Debian)]
    guest: Choice,
    /// How many lines the guest prints.
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(10..))]
    lines: u64,
    /// Also write each round's figures as a line of JSON.
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// Do not show the guest's console.
    #[arg(long)]
    quiet: bool,
}

const EXAMPLES: &str = "\
Examples:
  Kill the primary once, somewhere:
    ftemu demo
  Twenty times, at moments that can be had again:
    ftemu demo --rounds 20 --seed 7 --quiet
  Kill the standby; the guest does not notice:
    ftemu demo --kill standby
  Let the primary fall silent instead:
    ftemu demo --silence

Exit status: 0 in every round, each line came once and was right; 1 otherwise.";

/// Which side dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Victim {
    /// The server that runs the guest.
    Primary,
    /// The server that follows.
    Standby,
}

/// Which guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// Debian's kernel with busybox, obtained through apt.
    Debian,
    /// A tiny guest of our own.
    Tiny,
}

/// Runs the rounds.
///
/// # Errors
/// When a round could not be carried out, or when its check did not hold.
pub fn demo(arguments: &DemoArguments) -> Result<ExitCode> {
    let seed = arguments.seed.unwrap_or_else(Random::seed_from_clock);
    let mut random = Random::new(seed);
    let mut summary = Summary::default();
    let mut file = match &arguments.figures {
        Some(path) => Some(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
        None => None,
    };
    println!("ftemu demo: seed {seed}");
    for number in 1..=arguments.rounds {
        let guest_seed = random.below(1 << 31);
        let staged = Staged::prepare(arguments.guest, arguments.lines, guest_seed)?;
        let plan = Plan::new(arguments.kill, arguments.silence, &staged, &mut random);
        println!("\nround {number} of {}: {}; {plan}", arguments.rounds, staged.guest.name);
        let figures = Round::new(&staged, plan, !arguments.quiet)
            .and_then(Round::play)
            .with_context(|| format!("round {number} of {} (seed {seed}) did not hold", arguments.rounds))?;
        print!("{figures}");
        if let Some(file) = &mut file {
            writeln!(file, "{}", figures.json()).context("writing the figures")?;
        }
        summary.add(figures);
    }
    print!("{summary}");
    Ok(ExitCode::SUCCESS)
}
