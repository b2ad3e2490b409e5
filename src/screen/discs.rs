//! `ftemu eject` and `ftemu insert`: the tray of a guest's drive for CDs.
//!
//! A protected guest gets the same disc on both servers: each reads its own file, and what was read is compared before the
//! guest sees anything.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Args;
use ftemu_devices::storage::{Disc, SECTOR_BYTES};

use super::arguments::ServerArguments;
use super::commands::run;
use super::talk::Talk;
use crate::console::protocol::Press;

/// What `eject` needs to know.
#[derive(Debug, Args)]
#[command(after_help = EJECT_EXAMPLES)]
pub struct EjectArguments {
    /// Where to ask.
    #[command(flatten)]
    pub at: ServerArguments,
    /// Which of the guest's CD-ROM drives, from 0.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub drive: u8,
}

const EJECT_EXAMPLES: &str = "\
As if the button at the tray were pressed. A guest that uses the CD may have locked the tray: then it is only told of the wish,
as a real drive does.

Examples:
  ftemu eject 127.0.0.1:7711
  ftemu eject server-a:7711,server-b:7711";

/// What `insert` needs to know.
#[derive(Debug, Args)]
#[command(after_help = INSERT_EXAMPLES)]
pub struct InsertArguments {
    /// Where to ask.
    #[command(flatten)]
    pub at: ServerArguments,
    /// The CD image, as the servers find it: each has a copy of its own under this name.
    #[arg(value_name = "ISO")]
    pub file: PathBuf,
    /// Which of the guest's CD-ROM drives, from 0.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    pub drive: u8,
}

const INSERT_EXAMPLES: &str = "\
A CD that is in the drive is taken out first, locked or not. A guest that is to get its first CD so was started with --cdrom none.

Examples:
  ftemu insert 127.0.0.1:7711 drivers.iso
  ftemu insert server-a:7711,server-b:7711 /srv/iso/drivers.iso    # of a protected guest, both servers";

/// Presses the button at the tray.
///
/// # Errors
/// When no server that runs the guest can be reached, or the guest has no such drive.
pub fn eject(arguments: &EjectArguments) -> Result<ExitCode> {
    run(async { Talk::with_live(&arguments.at).await?.press([Press::Eject(arguments.drive)]).await })
}

/// Puts in a CD.
///
/// # Errors
/// When a server cannot be reached or cannot use the file, or the servers' files are not the same.
pub fn insert(arguments: &InsertArguments) -> Result<ExitCode> {
    let path = std::path::absolute(&arguments.file).context("there is no such path")?;
    run(put_in(&arguments.at, arguments.drive, &path))
}

async fn put_in(at: &ServerArguments, drive: u8, path: &Path) -> Result<()> {
    let name = path.to_str().context("the path is no text")?;
    let mut live = Talk::with_live(at).await?;
    let (disc, protected) = live.offer(drive, name).await?;
    let mut others = 0;
    for address in &at.servers.0 {
        let other = async {
            let (mut talk, live) = Talk::to(address).await?;
            anyhow::Ok(if live { None } else { Some(talk.offer(drive, name).await?.0) })
        };
        let offered = match other.await {
            Err(error) if protected => return Err(error).with_context(|| format!("{address}: the CD is not in")),
            offered => offered.ok().flatten(),
        };
        if let Some(theirs) = offered {
            ensure!(theirs == disc, "the servers do not have the same CD: {} and {}", Shown(disc), Shown(theirs));
            others += 1;
        }
    }
    ensure!(
        !protected || others > 0,
        "this guest is protected, so both servers must have the CD: name the consoles of both, joined by a comma"
    );
    live.press([Press::Insert(drive, disc)]).await
}

/// A disc in words.
struct Shown(Disc);

impl std::fmt::Display for Shown {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Disc { sectors, hash } = self.0;
        write!(formatter, "{} bytes with BLAKE3 ", sectors * SECTOR_BYTES)?;
        hash.iter().take(8).try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}
