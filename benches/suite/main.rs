//! The numbers we publish, measured in one run: `scripts/bench`, which is `cargo bench --bench suite`.
//!
//! One Debian disk boots under ftemu and under QEMU's TCG, with and without `-icount shift=0`; the same programs run in a
//! copy of the disk's files on the host. Workloads are started over the serial console, the contenders taking turns, and
//! timed by the host's clock. `docs/PERFORMANCE.md` says what each row means.

mod harness;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use harness::arguments::{Arguments, HELP, told};
use harness::contender::Start;
use harness::report::{self, About};
use harness::stage::Stage;
use harness::{host, measure, workloads};

fn main() -> Result<()> {
    let Some(arguments) = Arguments::parse(std::env::args().skip(1))? else {
        println!("{HELP}");
        return Ok(());
    };
    let mut members = workloads::select(&arguments.only)?;
    members.retain(|workload| !arguments.tiny || workload.is_everywhere());
    let program = arguments.ftemu.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_ftemu").into());
    let start = Start { program, options: arguments.options.clone() };
    let folder = tempfile::Builder::new().prefix("ftemu-bench-").tempdir()?;
    let stage = if arguments.tiny { Stage::tiny(folder.path())? } else { Stage::debian(&start.program)? };
    if arguments.prepare {
        let disk = stage.disk.as_deref().unwrap_or(Path::new("no disk"));
        println!("disk {}\nkernel {}\ninitrd {}", disk.display(), stage.kernel.display(), stage.initrd.display());
        println!("append {}\nfiles {}", stage.append, stage.native.display());
        return Ok(());
    }
    let about = About {
        arguments: told(std::env::args().skip(1)),
        guest: stage.about.clone(),
        build: format!("{} {}", env!("CARGO_PKG_VERSION"), host::commit()),
        load: host::load(),
    };
    let samples = measure(&arguments, &stage, &start, &members)?;
    println!("{}", report::markdown(&about, &samples, &members, arguments.clock));
    let json = report::json(&about, &samples, &members);
    if let Some(path) = output(&arguments) {
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        std::fs::write(&path, format!("{json:#}\n")).with_context(|| format!("writing {}", path.display()))?;
        println!("written to {}", path.display());
    }
    Ok(())
}

/// Where the results go: only all of them go to the repository by themselves.
fn output(arguments: &Arguments) -> Option<PathBuf> {
    let whole = arguments.only.is_empty() && !arguments.tiny && arguments.contenders.len() == 4;
    match &arguments.output {
        Some(path) => (path != Path::new("-")).then(|| path.clone()),
        None if !whole => None,
        None => {
            let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
            Some(results.join(format!("suite-{}.json", host::date())))
        }
    }
}
