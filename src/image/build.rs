//! `ftemu image build`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use ftemu_images::build::{self, Architecture, Kernel, Plan, STEPS};
use ftemu_images::catalogue::Progress;

use super::progress;
use crate::units::{self, show_bytes};

/// What `image build` needs to know.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BuildArguments {
    /// The operating system.
    #[arg(value_enum)]
    system: System,
    /// The new disk; qcow2 if it ends so, else raw.
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
    /// The disk's size.
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = units::bytes)]
    size: u64,
    /// Debian's release.
    #[arg(long, value_name = "NAME", default_value = "bookworm")]
    release: String,
    /// amd64 or i386.
    #[arg(long, value_name = "NAME", default_value = "amd64")]
    arch: Architecture,
    /// amd64 or cloud; 686 or 686-pae [default: amd64, 686-pae].
    #[arg(long, value_name = "NAME")]
    kernel: Option<Kernel>,
    /// More packages, separated by commas.
    #[arg(long, value_name = "PACKAGES", value_delimiter = ',')]
    include: Vec<String>,
    /// The guest's host name.
    #[arg(long, value_name = "NAME", default_value = "debian")]
    hostname: String,
    /// The password of `debian` and `root` [default: debian, at the console only; ssh then takes keys alone].
    #[arg(long, value_name = "TEXT")]
    password: Option<String>,
    /// A public key (a file) that may log in through ssh.
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// Where Debian's packages are [default: where this machine's apt gets them].
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  ftemu image build debian --output debian.img && ftemu run debian.img
  ftemu image build debian --output db.qcow2 --size 20G --include postgresql,fio --ssh-key ~/.ssh/id_ed25519.pub
  ftemu image build debian --output old.img --arch i386 --kernel 686

The disk has one ext4 partition; GRUB, kernel and login appear on the screen and on the serial port; the network is
configured by DHCP. It takes a minute or two and no root: ordinary users need the package uidmap.";

#[derive(Clone, Copy, Debug, ValueEnum)]
enum System {
    /// Debian, from its packages.
    Debian,
}

pub(super) fn build(arguments: &BuildArguments) -> Result<ExitCode> {
    let System::Debian = arguments.system;
    let plan = plan(arguments)?;
    let bar = progress::steps(STEPS);
    let mut tell = |event| match event {
        Progress::Step(name) => {
            if !progress::seen() {
                eprintln!("ftemu: {name}");
            }
            bar.inc(1);
            bar.set_message(name);
        }
        Progress::Percent(percent) => bar.set_message(format!("{percent} %")),
    };
    let built = build::build(&plan, &arguments.output, &mut tell);
    bar.finish_and_clear();
    let built = built?;
    for note in &built.notes {
        eprintln!("ftemu: note: {note}");
    }
    let (output, whole) = (built.path.display(), show_bytes(built.bytes));
    println!(
        "{output}: Debian {} for {}, {whole}, {} on disk",
        plan.release,
        plan.architecture,
        show_bytes(built.used)
    );
    println!("log in as {} or root with the password {}", plan.user, plan.password);
    println!("run it: ftemu run {output}");
    Ok(ExitCode::SUCCESS)
}

fn plan(arguments: &BuildArguments) -> Result<Plan> {
    let mut plan = Plan::new(arguments.arch);
    plan.bytes = arguments.size;
    plan.release.clone_from(&arguments.release);
    plan.kernel = arguments.kernel.unwrap_or(plan.kernel);
    plan.include.clone_from(&arguments.include);
    plan.hostname.clone_from(&arguments.hostname);
    plan.mirror.clone_from(&arguments.mirror);
    if let Some(password) = &arguments.password {
        plan.password.clone_from(password);
        plan.ssh_passwords = true;
    }
    if let Some(path) = &arguments.ssh_key {
        let key = std::fs::read_to_string(path).with_context(|| format!("cannot read the key {}", path.display()))?;
        plan.ssh_key = Some(key.trim().to_owned());
    }
    Ok(plan)
}
