//! `ftemu image fetch`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use ftemu_images::Catalogue;
use ftemu_images::catalogue::{PACKAGED, Packaged, Progress};

use super::progress;

/// What `image fetch` needs to know.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct FetchArguments {
    /// The guest; without one, all are listed.
    #[arg(value_name = "NAME")]
    guest: Option<Packaged>,
    /// Copy its files into this folder [default: they stay in the cache folder].
    #[arg(long, value_name = "FOLDER", requires = "guest")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  ftemu image fetch                                # what there is
  ftemu image fetch memtest                        # prints where its files are
  ftemu image fetch installer-amd64 --output .

Packages come through apt and are unpacked; nothing is installed.";

pub(super) fn fetch(arguments: &FetchArguments) -> Result<ExitCode> {
    let Some(guest) = arguments.guest else {
        for guest in PACKAGED {
            println!("{:26} {}", guest.name, guest.about);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let bar = progress::bar("fetching");
    let fetched = Catalogue::user()?.packaged(guest, &mut |event| match event {
        Progress::Step(name) => bar.set_message(name),
        Progress::Percent(percent) => progress::show(&bar, percent.into(), 100),
    });
    bar.finish_and_clear();
    for path in fetched.with_context(|| format!("cannot fetch {guest}"))? {
        let Some(folder) = &arguments.output else {
            println!("{}", path.display());
            continue;
        };
        let copy = folder.join(path.file_name().context("a file without a name")?);
        std::fs::copy(&path, &copy).with_context(|| format!("cannot write {}", copy.display()))?;
        println!("{}", copy.display());
    }
    Ok(ExitCode::SUCCESS)
}
