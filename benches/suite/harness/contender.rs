//! Who takes part, how each is started, and how it comes to a shell.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::console::Console;
use super::stage::Stage;
use super::workloads::{INIT, Kind, LOGIN, Workload};

/// Guest RAM in MiB, the same for all.
const MEMORY_MIB: u32 = 1024;
const TINY_MEMORY_MIB: u32 = 256;
/// How long a boot may take, and a workload.
const PATIENCE: Duration = Duration::from_secs(600);
/// What the guest's shell shall do first: be quiet, and let nothing else run meanwhile.
const QUIET: &str = "systemctl stop '*.timer' systemd-journald.socket systemd-journald 2> /dev/null; dmesg -n 1";
/// CPU features that the guest lacks, for libraries that look at CPUID by themselves: PCLMUL, FMA, MOVBE, AES, XSAVE,
/// OSXSAVE, AVX, F16C, RDRAND of leaf 1, all of leaf 7.
const OPENSSL_FEATURES: &str = "~0x7e40100200000000:0";
const GLIBC_FEATURES: &str =
    "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-AVX512BW,-BMI1,-BMI2,-LZCNT,-ERMS,-FSRM,-FMA,-MOVBE";

/// One way to run the workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contender {
    /// The same programs on the host itself, on one core, with the CPU features that the guest sees.
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

    /// As the table and `--contenders` call it.
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

    fn command(self, stage: &Stage, start: &Start) -> Command {
        match self {
            Self::Native => native(stage),
            Self::Ftemu => ftemu(stage, start),
            Self::Tcg => qemu(stage, &[]),
            Self::TcgIcount => qemu(stage, &["-icount", "shift=0"]),
        }
    }
}

/// How ftemu is started.
pub struct Start {
    /// The program.
    pub program: PathBuf,
    /// More options.
    pub options: Vec<String>,
}

/// A contender at its shell.
pub struct Running {
    /// Who.
    pub contender: Contender,
    console: Console,
    /// When the boot's marks came, and the CPU time used until then.
    boot: Vec<(&'static str, Duration, f64)>,
}

impl Running {
    /// Starts a contender and brings it to its shell.
    pub fn start(contender: Contender, stage: &Stage, start: &Start) -> Result<Self> {
        let console = Console::start(contender.command(stage, start))?;
        let mut running = Self { contender, console, boot: Vec::new() };
        if contender != Contender::Native {
            running.boot(stage.disk.is_some())?;
        }
        let console = &mut running.console;
        console.line("stty -echo 2> /dev/null; PS1=; mark=ftemu-mark")?;
        if contender != Contender::Native {
            console.line(QUIET)?;
            console.line("mount -t tmpfs -o size=600M scratch /mnt && export FTEMU_BENCH_SCRATCH=/mnt")?;
        }
        console.line("echo $mark ready")?;
        console.until("ftemu-mark ready", PATIENCE)?;
        Ok(running)
    }

    fn boot(&mut self, disk: bool) -> Result<()> {
        let console = &mut self.console;
        let entry = match self.contender.entry_mark() {
            Some(mark) => console.until(mark, PATIENCE)?.0,
            None => console.start,
        };
        let before = console.cpu_seconds();
        let mut mark = |name, console: &mut Console, text: &str| -> Result<()> {
            let (time, _) = console.until(text, PATIENCE)?;
            self.boot.push((name, time - entry, console.cpu_seconds() - before));
            Ok(())
        };
        if !disk {
            mark(INIT, console, "ftemu-mark init")?;
            console.until("# ", PATIENCE)?;
            return Ok(());
        }
        mark(INIT, console, "Run /init as init process")?;
        mark(LOGIN, console, " login: ")?;
        console.line("root")?;
        console.until("Password: ", PATIENCE)?;
        console.line("debian")?;
        console.until("# ", PATIENCE)?;
        Ok(())
    }

    /// Measures a workload.
    pub fn measure(&mut self, workload: &Workload, size: u32, during: &mut dyn FnMut(u32)) -> Result<Measured> {
        if workload.is_boot() {
            let found = self.boot.iter().find(|(name, _, _)| *name == workload.name);
            let (_, time, cpu) = found.with_context(|| format!("no {}", workload.name))?;
            return Ok(Measured { seconds: time.as_secs_f64(), cpu: *cpu, result: String::new() });
        }
        let console = &mut self.console;
        let script = if self.contender == Contender::Native { "$FTEMU_BENCH_FILES" } else { "/bench" };
        console.line(&format!("sh {script}/run.sh {} {size}", workload.name))?;
        let (start, _) = console.until(&format!("ftemu-mark start {}", workload.name), PATIENCE)?;
        let cpu = console.cpu_seconds();
        during(console.process());
        let (stop, _) = console.until(&format!("ftemu-mark stop {} ", workload.name), PATIENCE)?;
        let (_, result) = console.until("\n", PATIENCE)?;
        // The shell of the native runs must have waited for the script.
        console.line("echo $mark done")?;
        console.until("ftemu-mark done", PATIENCE)?;
        let (seconds, cpu) = ((stop - start).as_secs_f64(), console.cpu_seconds() - cpu);
        let result = result.trim().to_owned();
        ensure!(result != "failed", "it failed: {}", console.tail());
        let Kind::Rate(nominal) = workload.kind else { return Ok(Measured { seconds, cpu, result }) };
        let done: f64 = result.strip_prefix("work=").and_then(|text| text.parse().ok()).context("no amount of work")?;
        let scale = nominal / done.max(1.0);
        Ok(Measured { seconds: seconds * scale, cpu: cpu * scale, result: String::new() })
    }

    /// The most memory it has had, in KiB.
    pub fn peak_kib(&self) -> u64 {
        self.console.peak_kib()
    }
}

/// One run of one workload.
pub struct Measured {
    /// By the host's clock.
    pub seconds: f64,
    /// CPU time of the process.
    pub cpu: f64,
    /// Hash of what was computed, if it is the same everywhere.
    pub result: String,
}

fn kernel(command: &mut Command, stage: &Stage, dash: &str) {
    command.arg(format!("{dash}kernel")).arg(&stage.kernel).arg(format!("{dash}initrd")).arg(&stage.initrd);
    command.arg(format!("{dash}append")).arg(&stage.append);
}

fn memory(stage: &Stage) -> u32 {
    if stage.disk.is_some() { MEMORY_MIB } else { TINY_MEMORY_MIB }
}

fn ftemu(stage: &Stage, start: &Start) -> Command {
    let mut command = Command::new(&start.program);
    command.args(["run", "--memory", &format!("{}M", memory(stage))]);
    kernel(&mut command, stage, "--");
    if let Some(disk) = &stage.disk {
        command.arg("--drive").arg(format!("{},if=virtio,format=raw,snapshot", disk.display()));
    }
    command.args(&start.options);
    command
}

/// QEMU with the CPU model that ftemu shows its guests, and nothing else to look for.
fn qemu(stage: &Stage, options: &[&str]) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-accel", "tcg", "-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt,+pdpe1gb"]);
    command.args(["-m", &memory(stage).to_string()]);
    command.args(["-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"]).args(options);
    kernel(&mut command, stage, "-");
    if let Some(disk) = &stage.disk {
        command.arg("-drive").arg(format!("file={},if=virtio,format=raw,snapshot=on", disk.display()));
    }
    command
}

/// A shell among the disk's files on one core; for the tiny guest, its busybox among the host's.
fn native(stage: &Stage) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0"]);
    if stage.disk.is_some() {
        // Mounts are this shell's own; without the right to have them, they are in a user's namespace.
        let user: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["--map-root-user"] };
        command.arg("unshare").arg("--mount").args(user).args(["sh", "-c", ENTER, "sh"]).arg(&stage.native);
        command.env("FTEMU_BENCH_FILES", "/bench").env("FTEMU_BENCH_SCRATCH", "/mnt");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    } else {
        command.arg(stage.native.join("busybox")).arg("sh");
        command.env("FTEMU_BENCH_FILES", &stage.native).env("FTEMU_BENCH_SCRATCH", scratch(&stage.native));
    }
    command.env("OPENSSL_ia32cap", OPENSSL_FEATURES).env("GLIBC_TUNABLES", GLIBC_FEATURES);
    command
}

const ENTER: &str = "mount --rbind /dev \"$1/dev\" && mount --rbind /proc \"$1/proc\" && \
    mount -t tmpfs scratch \"$1/mnt\" && exec chroot \"$1\" /bin/sh";

fn scratch(native: &Path) -> PathBuf {
    let folder = native.with_file_name("scratch");
    let _ = std::fs::create_dir_all(&folder);
    folder
}
