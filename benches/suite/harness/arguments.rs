//! The command line of the benchmark.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::contender::Contender;
use super::samples::Clock;

/// What to do.
pub struct Arguments {
    /// How often each workload runs.
    pub repeats: usize,
    /// Names of workloads; empty for all.
    pub only: Vec<String>,
    /// Who takes part.
    pub contenders: Vec<Contender>,
    /// The tiny guest with tiny workloads.
    pub tiny: bool,
    /// Only make the guest, and say where it is.
    pub prepare: bool,
    /// Which time the printed table is about.
    pub clock: Clock,
    /// Another ftemu than the one just built.
    pub ftemu: Option<PathBuf>,
    /// More options for it.
    pub options: Vec<String>,
    /// Where `perf record` shall write a file for each workload of ftemu's.
    pub perf: Option<PathBuf>,
    /// Write the results here instead of `benches/results/`; `-` for nowhere.
    pub output: Option<PathBuf>,
}

/// What `--help` says.
pub const HELP: &str = "\
scripts/bench [OPTIONS]: the published figures, measured in one run, the contenders taking turns.
  --repeats N             how often each workload runs [3]
  --only NAME,NAME        some workloads (an unknown name lists all)
  --contenders NAME,NAME  some of native, ftemu, tcg, tcg-icount
  --quick                 one repeat, native and ftemu only
  --tiny                  tiny workloads in a tiny guest: says that the benchmark works, not how fast anything is
  --cpu                   the table compares CPU time instead of the host's clock: for busy hosts
  --prepare               only make the guest's disk, and say where it is
  --ftemu FILE            another ftemu
  --option TEXT           one more option for `ftemu run` (may be repeated)
  --perf FOLDER           perf record each workload of ftemu's into FOLDER/NAME.data
  --output FILE           where the JSON goes [benches/results/suite-DATE.json]; - for nowhere";

/// The words as the results tell them: what was measured, and not the names of files on this machine.
pub fn told(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut told: Vec<String> = words.filter(|word| word != "--bench").collect();
    for place in 1..told.len() {
        let option = &told[place - 1];
        if let Some(kind) = ["FILE", "FOLDER"].into_iter().find(|kind| HELP.contains(&format!("{option} {kind} "))) {
            told[place] = kind.into();
        }
    }
    told
}

impl Arguments {
    /// From words; none if help is wanted.
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Option<Self>> {
        let mut arguments = Self {
            repeats: 3,
            only: Vec::new(),
            contenders: Contender::ALL.to_vec(),
            tiny: false,
            prepare: false,
            clock: Clock::Wall,
            ftemu: None,
            options: Vec::new(),
            perf: None,
            output: None,
        };
        // cargo bench adds the first to every benchmark.
        let mut words = words.filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} wants a value"));
            match word.as_str() {
                "--repeats" => arguments.repeats = value()?.parse().context("--repeats N")?,
                "--only" => arguments.only = list(&value()?),
                "--contenders" => {
                    let names = list(&value()?);
                    arguments.contenders = names.iter().map(|name| Contender::by_name(name)).collect::<Result<_>>()?;
                }
                "--quick" => {
                    arguments.repeats = 1;
                    arguments.contenders = vec![Contender::Native, Contender::Ftemu];
                }
                "--tiny" => (arguments.tiny, arguments.repeats) = (true, 1),
                "--cpu" => arguments.clock = Clock::Cpu,
                "--prepare" => arguments.prepare = true,
                "--ftemu" => arguments.ftemu = Some(value()?.into()),
                "--option" => arguments.options.push(value()?),
                "--perf" => arguments.perf = Some(value()?.into()),
                "--output" => arguments.output = Some(value()?.into()),
                "--help" | "-h" => return Ok(None),
                other => bail!("{other} is not known\n{HELP}"),
            }
        }
        Ok(Some(arguments))
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::to_owned).collect()
}
