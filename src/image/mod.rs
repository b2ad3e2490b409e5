//! `ftemu image`: disk images made, looked at, imported, checked, built.

mod build;
mod check;
mod create;
mod fetch;
mod import;
mod info;
mod progress;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use ftemu_images::Format;

use crate::units;

/// What `image` needs to know.
#[derive(Debug, Args)]
pub struct ImageArguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what an image is: format, size, space it takes, what it builds on.
    Info(InfoArguments),
    /// Make an empty disk.
    Create(CreateArguments),
    /// Convert an image of another program (vmdk, vhd, vhdx, vdi; also raw and qcow2) into one that runs.
    Import(ImportArguments),
    /// Check an image's tables and reference counts. Nothing is changed.
    Check(CheckArguments),
    /// Build a bootable disk from an operating system's packages.
    Build(build::BuildArguments),
    /// Fetch a guest that Debian packages as it is: memtest, ipxe, grub-rescue, installers.
    Fetch(fetch::FetchArguments),
}

#[derive(Debug, Args)]
#[command(after_help = INFO_EXAMPLES)]
struct InfoArguments {
    /// The image; a guest may be running from it.
    #[arg(value_name = "FILE")]
    image: PathBuf,
    /// As JSON; sizes are in bytes.
    #[arg(long)]
    json: bool,
}

const INFO_EXAMPLES: &str = "\
Examples:
  ftemu image info disk.vmdk
  ftemu image info --json disk.qcow2 | jq .bytes";

#[derive(Debug, Args)]
#[command(after_help = CREATE_EXAMPLES)]
struct CreateArguments {
    /// The new file.
    #[arg(value_name = "FILE")]
    image: PathBuf,
    /// The disk's size, with its unit K, M, G or T [default: the backing image's].
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, required_unless_present = "backing")]
    size: Option<u64>,
    /// raw or qcow2 [default: by the file's ending, qcow2 with --backing].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    /// An image that the new one builds on and never changes.
    #[arg(long, value_name = "FILE")]
    backing: Option<PathBuf>,
}

const CREATE_EXAMPLES: &str = "\
Examples:
  ftemu image create disk.qcow2 --size 20G
  ftemu image create try.qcow2 --backing debian.img      # what the guest writes goes to try.qcow2

Space is taken only as the guest writes.";

#[derive(Debug, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
struct ImportArguments {
    /// The image to read.
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The new file.
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// raw or qcow2 [default: by the new file's ending].
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
}

const IMPORT_EXAMPLES: &str = "\
Examples:
  ftemu image import windows.vmdk windows.qcow2
  ftemu image import server.vhdx server.img

The image that is read is not changed. What is zero takes no space in the new one.";

#[derive(Debug, Args)]
#[command(after_help = CHECK_HELP)]
struct CheckArguments {
    /// The image; nobody may be writing to it.
    #[arg(value_name = "FILE")]
    image: PathBuf,
}

const CHECK_HELP: &str = "\
Examples:
  ftemu image check disk.qcow2

Exit status: 0 nothing is wrong; 1 it could not be checked; 2 the disk's contents are in danger; 3 space is lost, but the
contents are fine. (`qemu-img check` uses the same numbers.)";

/// Does what `ftemu image` was told.
///
/// # Errors
/// In words for the user.
pub fn image(arguments: &ImageArguments) -> Result<ExitCode> {
    match &arguments.command {
        Command::Info(arguments) => info::info(arguments),
        Command::Create(arguments) => create::create(arguments),
        Command::Import(arguments) => import::import(arguments),
        Command::Check(arguments) => check::check(arguments),
        Command::Build(arguments) => build::build(arguments),
        Command::Fetch(arguments) => fetch::fetch(arguments),
    }
}

/// The format for a new file: as told, or as its name says.
fn format_for(path: &std::path::Path, told: Option<Format>) -> Result<Format> {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    let format = told.or_else(|| ending?.parse().ok()).unwrap_or(Format::Raw);
    anyhow::ensure!(format.runs(), "{format} images are only read; raw and qcow2 ones are made");
    Ok(format)
}
