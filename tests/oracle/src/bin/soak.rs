//! Differential tests without end: `cargo run --release -p ftemu-oracle --bin soak -- --cases 1000000 --seed 1`.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ftemu_oracle::campaign::Campaign;
use ftemu_oracle::legacy::Legacy;
use ftemu_oracle::legacy::silicon_campaign::Campaign as Campaign16;
use ftemu_oracle::second::{Second, Subjects};
use ftemu_oracle::{catalogue, generate};

/// Random programs on the host's CPU and on the engine; prints a small reproducer for each that differs.
#[derive(Parser)]
struct Arguments {
    /// How many cases.
    #[arg(long, default_value_t = 1_000_000)]
    cases: u64,
    /// Seed of the first case; the others count up from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Kinds of failure after which to stop.
    #[arg(long, default_value_t = 20)]
    patience: usize,
    /// Only this mnemonic, as iced-x86 spells it.
    #[arg(long)]
    only: Option<String>,
    /// Against Unicorn instead of the host: `system` or `user` cases.
    #[arg(long, value_parser = subjects)]
    unicorn: Option<Subjects>,
    /// 16- and 32-bit code instead, against `unicorn` or `silicon`.
    #[arg(long, value_parser = ["unicorn", "silicon"])]
    legacy: Option<String>,
    /// Only print the program of this seed.
    #[arg(long)]
    show: Option<u64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let only = match &arguments.only {
        Some(name) => Some(catalogue::mnemonic(name).with_context(|| format!("{name} is not in the catalogue"))?),
        None => None,
    };
    if let Some(seed) = arguments.show {
        print!("{}", generate::case(seed, 0, only).listing());
        return Ok(());
    }
    if let Some(against) = &arguments.legacy {
        return legacy(&arguments, against);
    }
    if let Some(subjects) = arguments.unicorn {
        return second(&arguments, subjects);
    }
    let mut campaign = Campaign::new(arguments.seed)?;
    campaign.only = only;
    campaign.patience = arguments.patience;
    let mut left = arguments.cases;
    while left > 0 && campaign.statistics.failures.len() < arguments.patience {
        let step = left.min(50_000);
        campaign.run(step)?;
        left -= step;
        println!("seed {}: {}", arguments.seed, campaign.statistics);
    }
    for (kind, (count, text)) in &campaign.statistics.failures {
        println!("\n{count} x {kind}\n{text}");
    }
    ensure!(campaign.statistics.failures.is_empty(), "{} kinds of case differ", campaign.statistics.failures.len());
    Ok(())
}

fn subjects(name: &str) -> Result<Subjects, String> {
    match name {
        "system" => Ok(Subjects::System),
        "user" => Ok(Subjects::User),
        _ => Err("system or user".into()),
    }
}

/// Engine against Unicorn.
fn second(arguments: &Arguments, subjects: Subjects) -> Result<()> {
    let mut second = Second::new()?;
    second.run(subjects, arguments.seed, arguments.cases, arguments.patience);
    println!("seed {}: {second}", arguments.seed);
    for (kind, (count, text)) in &second.failures {
        println!("\n{count} x {kind}\n{text}");
    }
    ensure!(second.failures.is_empty(), "{} kinds of case differ", second.failures.len());
    Ok(())
}

/// Engine in the modes before long mode.
fn legacy(arguments: &Arguments, against: &str) -> Result<()> {
    let (seed, cases, patience) = (arguments.seed, arguments.cases, arguments.patience);
    let tally = if against == "silicon" {
        let mut campaign = Campaign16::new()?;
        campaign.run(seed, cases, patience);
        campaign.tally
    } else {
        let mut legacy = Legacy::new()?;
        legacy.run(seed, cases, patience);
        legacy.tally
    };
    println!("seed {seed}: {tally}");
    for (kind, (count, text)) in &tally.failures {
        println!("\n{count} x {kind}\n{text}");
    }
    ensure!(tally.failures.is_empty(), "{} kinds of case differ", tally.failures.len());
    Ok(())
}
