//! Who takes part, and how each is started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ftemu_images::{Guest, GuestFiles, debian};

use crate::marks::Marks;

/// Guest RAM in MiB, the same for all.
const MEMORY_MIB: u32 = 512;

/// Files that all contenders use.
pub struct Stage {
    guest: GuestFiles,
    command_line: String,
    busybox: PathBuf,
    script: PathBuf,
    scratch: PathBuf,
}

impl Stage {
    /// Writes the guest, busybox and the mix into a folder.
    pub fn new(folder: &Path, guest: &Guest, busybox: &[u8]) -> Result<Self> {
        let stage = Self {
            guest: guest.write_to(folder)?,
            command_line: guest.command_line.clone(),
            busybox: folder.join("busybox"),
            script: folder.join("bench.sh"),
            scratch: folder.join("scratch"),
        };
        std::fs::write(&stage.busybox, busybox)?;
        std::fs::write(&stage.script, debian::BENCH)?;
        std::fs::create_dir_all(&stage.scratch)?;
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&stage.busybox, executable)?;
        Ok(stage)
    }
}

/// One way to run the mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// The same busybox and script on the host itself.
    Native,
    /// This program, unprotected.
    Ftemu,
    /// QEMU's TCG, which counts nothing.
    Tcg,
    /// QEMU's TCG with exact instruction counts: what lockstep would need.
    TcgIcount,
}

impl Contender {
    /// In the order of the table.
    pub const ALL: [Self; 4] = [Self::Native, Self::Ftemu, Self::Tcg, Self::TcgIcount];

    /// As the table and `--only` call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Ftemu => "ftemu",
            Self::Tcg => "tcg",
            Self::TcgIcount => "tcg-icount",
        }
    }

    /// The contender of a name.
    pub fn by_name(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|contender| contender.name() == name);
        found.with_context(|| format!("{name}: known are native, ftemu, tcg, tcg-icount"))
    }

    /// What its console prints right before the kernel is entered; the process's start if nothing.
    fn entry_mark(self) -> Option<&'static str> {
        matches!(self, Self::Tcg | Self::TcgIcount).then_some("Booting from ROM")
    }

    fn command(self, stage: &Stage) -> Command {
        match self {
            Self::Native => native(stage),
            Self::Ftemu => ftemu(stage),
            Self::Tcg => qemu(stage, &[]),
            Self::TcgIcount => qemu(stage, &["-icount", "shift=0"]),
        }
    }

    /// Runs it once, to the end of its output.
    pub fn run(self, stage: &Stage) -> Result<Marks> {
        let mut command = self.command(stage);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        let stderr = child.stderr.take().context("stderr is piped")?;
        let complaints = std::thread::spawn(move || std::io::read_to_string(stderr).unwrap_or_default());
        let marks = Marks::read(child.stdout.take().context("stdout is piped")?, start, self.entry_mark())?;
        let status = child.wait()?;
        let complaints = complaints.join().unwrap_or_default();
        if !status.success() {
            bail!("{status}: {}", complaints.trim());
        }
        Ok(marks)
    }
}

fn native(stage: &Stage) -> Command {
    let mut command = Command::new(&stage.busybox);
    command.arg("sh").arg(&stage.script).env("FTEMU_BUSYBOX", &stage.busybox).env("FTEMU_BENCH_FOLDER", &stage.scratch);
    command
}

fn ftemu(stage: &Stage) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftemu"));
    command.arg("run").arg("--kernel").arg(&stage.guest.kernel);
    if let Some(initrd) = &stage.guest.initrd {
        command.arg("--initrd").arg(initrd);
    }
    command.args(["--append", &stage.command_line, "--memory", &format!("{MEMORY_MIB}M")]);
    command
}

/// QEMU with the CPU model that ftemu shows its guests (x86-64-v2), and nothing else to look for.
fn qemu(stage: &Stage, options: &[&str]) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-accel", "tcg", "-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt", "-m", &MEMORY_MIB.to_string()]);
    command.args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"]).args(options);
    command.arg("-kernel").arg(&stage.guest.kernel);
    if let Some(initrd) = &stage.guest.initrd {
        command.arg("-initrd").arg(initrd);
    }
    command.args(["-append", &stage.command_line]);
    command
}
