//! The numbers we publish, measured in one run, the contenders taking turns: `cargo bench --bench guests`.
//!
//! The same Debian kernel and busybox boot and run the same integer mix under ftemu, under QEMU's TCG with and without
//! `-icount shift=0`, and the mix runs on the host too. Time is the host's, taken when a mark arrives on the console.
//! Arguments: `--repeats N` (default 3), `--only NAME,NAME`. Results: a table, and `benches/results/*.json`.

mod contender;
#[path = "../suite/harness/host.rs"]
#[allow(dead_code, reason = "shared with the other benchmarks, which use other parts")]
mod host;
mod marks;
mod table;

use std::path::Path;

use anyhow::{Context, Result};
use contender::{Contender, Stage};
use ftemu_images::{Catalogue, debian};
use table::Samples;

fn main() -> Result<()> {
    let arguments = Arguments::parse()?;
    let folder = std::env::temp_dir().join(format!("ftemu-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let measured = measure(&arguments, &folder);
    std::fs::remove_dir_all(&folder).ok();
    let samples = measured?;
    print!("{}", samples.table());
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results").join(format!("guests-{}.json", host::date()));
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    std::fs::write(&path, samples.json())?;
    println!("written to {}", path.display());
    Ok(())
}

/// What to do, from the command line.
struct Arguments {
    repeats: usize,
    contenders: Vec<Contender>,
}

impl Arguments {
    fn parse() -> Result<Self> {
        let mut arguments = Self { repeats: 3, contenders: Contender::ALL.to_vec() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                // cargo bench says so to every benchmark.
                "--bench" => {}
                "--repeats" => {
                    arguments.repeats = words.next().context("--repeats N")?.parse().context("--repeats N")?
                }
                "--only" => {
                    let names = words.next().context("--only NAME,NAME")?;
                    arguments.contenders = names.split(',').map(Contender::by_name).collect::<Result<_>>()?;
                }
                other => anyhow::bail!("{other}: known are --repeats N and --only NAME,NAME"),
            }
        }
        Ok(arguments)
    }
}

/// Each contender once, then each again, so that a change of the host's mood meets them all.
fn measure(arguments: &Arguments, folder: &Path) -> Result<Samples> {
    let catalogue = Catalogue::user()?;
    let guest = catalogue.debian(debian::Mode::Bench, &mut |progress| eprintln!("{progress:?}"))?;
    let (busybox, busybox_name) = catalogue.busybox(&mut |_| {})?;
    let stage = Stage::new(folder, &guest, &busybox)?;
    let mut samples = Samples::new(&guest.name, &busybox_name);
    for repeat in 1..=arguments.repeats {
        for contender in &arguments.contenders {
            eprintln!("repeat {repeat}: {}", contender.name());
            let marks = contender.run(&stage).with_context(|| format!("running {}", contender.name()))?;
            samples.add(*contender, &marks)?;
        }
    }
    Ok(samples)
}
