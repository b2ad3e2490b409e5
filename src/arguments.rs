//! The command line. Its help is the manual: each command says what it is for and shows how it is used.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::units;

/// A fault-tolerant computer in software: one unmodified x86-64 guest runs on two servers at once, instruction for
/// instruction. If either server dies, the other goes on within milliseconds; nothing is lost.
#[derive(Debug, Parser)]
#[command(version, after_help = OVERVIEW)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const OVERVIEW: &str = "\
A pair in four steps (here both servers are this machine; ftemu COMMAND --help tells more):
  1. Each server shows its key, which goes into the other one's trust file:
       ftemu identity --identity a >> b/trust ; ftemu identity --identity b >> a/trust
  2. Server B waits for a guest:
       ftemu standby --identity b --listen 127.0.0.1:7700 --console-listen 127.0.0.1:7712
  3. Server A runs it:
       ftemu run --identity a --peer 127.0.0.1:7700 --console-listen 127.0.0.1:7711 \\
           --kernel vmlinuz --initrd initrd.gz --append console=ttyS0
  4. Use it, and kill either server while you do:
       ftemu console 127.0.0.1:7711,127.0.0.1:7712";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole story on this machine: a guest, a pair, a death, and every line checked.
    Demo(crate::demo::DemoArguments),
    /// Run a guest, protected by a standby or alone.
    Run(RunArguments),
    /// Wait for a guest and follow it; take over when its server dies.
    Standby(StandbyArguments),
    /// Attach to a guest's serial console, on whichever server is live.
    Console(ConsoleArguments),
    /// Write a picture of a guest's screen.
    Screenshot(crate::screen::arguments::ScreenshotArguments),
    /// Press keys of a guest's keyboard.
    Sendkey(crate::screen::arguments::SendkeyArguments),
    /// Press a guest's power or reset button.
    Press(crate::screen::arguments::PressArguments),
    /// Press the button at the tray of a guest's CD-ROM drive.
    Eject(crate::screen::discs::EjectArguments),
    /// Put a CD into a guest's drive while it runs.
    Insert(crate::screen::discs::InsertArguments),
    /// Run a recorded guest again, bit for bit.
    Replay(ReplayArguments),
    /// Show this server's key, made at the first use.
    Identity(IdentityArguments),
    /// Make, look at, import, check and build disk images.
    Image(crate::image::ImageArguments),
}

/// What `run` needs to know.
#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub struct RunArguments {
    /// The guest's disks and CDs.
    #[command(flatten, next_help_heading = "Drives")]
    pub drives: crate::drives::DriveArguments,
    /// What to start from, in this order: c the first disk, d the first CD, n the network. `dc`: the CD, else the disk.
    #[arg(help_heading = MACHINE, long, value_name = "ORDER", default_value = "cdn", value_parser = crate::firmware::boot_order)]
    pub boot: crate::firmware::BootOrder,
    /// The BIOS to start disks with [default: SeaBIOS of the package `seabios`].
    #[arg(help_heading = MACHINE, long, value_name = "FILE")]
    pub firmware: Option<PathBuf>,
    /// Start this Linux kernel (a bzImage, as in /boot/vmlinuz-*) without a BIOS.
    #[arg(help_heading = MACHINE, long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// The kernel's initial RAM disk.
    #[arg(help_heading = MACHINE, long, value_name = "FILE", requires = "kernel")]
    pub initrd: Option<PathBuf>,
    /// The kernel's command line.
    #[arg(help_heading = MACHINE, long, value_name = "TEXT", default_value = "console=ttyS0", requires = "kernel")]
    pub append: String,
    /// The guest's memory, with its unit M or G: 2M to 512G, if the host has as much.
    #[arg(help_heading = MACHINE, long, value_name = "SIZE", default_value = "512M", value_parser = units::bytes)]
    pub memory: u64,
    /// Its network cards.
    #[command(flatten, next_help_heading = NETWORK)]
    pub cards: crate::network::CardArguments,
    /// If the standby cannot be reached, run the guest all the same, unprotected, and keep trying.
    #[arg(help_heading = PAIR, long, requires = "peer")]
    pub unprotected_if_alone: bool,
    /// Print where the guest's thread spends its time, at the end and on SIGUSR1, on standard error.
    #[arg(help_heading = ENGINE, long)]
    pub attribution: bool,
    /// Leave standard input and output alone; the console is reached by --console-listen.
    #[arg(help_heading = SCREEN, long)]
    pub no_stdio: bool,
    /// What makes the CPU fast.
    #[command(flatten, next_help_heading = ENGINE)]
    pub without: crate::without::WithoutArguments,
    /// Remove what earlier guests left at the arbiter. Only when none of them runs any more!
    #[arg(help_heading = PAIR, long, requires = "arbiter")]
    pub forget_claims: bool,
    /// What both sides of a pair have.
    #[command(flatten, next_help_heading = PAIR)]
    pub side: SideArguments,
}

/// Headings of the help: the options of `run` and `standby` are many.
const MACHINE: &str = "The machine";
const NETWORK: &str = "Networks";
const PAIR: &str = "The pair";
const SCREEN: &str = "Console and screen";
const RECORDS: &str = "Records and reports";
const ENGINE: &str = "The engine";

const RUN_EXAMPLES: &str = "\
Examples:
  A guest from its disk, its console on this terminal (Ctrl-A X ends it):
    ftemu run debian.img
  The same guest, protected by a standby that has its own copy of the disk:
    ftemu run debian.img --peer server-b:7700
  An installation, on a disk that stays as it is, with more memory:
    ftemu run disk.qcow2 --cdrom install.iso --boot d --memory 2G --snapshot
  With a screen (any VNC viewer), and with a network that needs no root; ssh -p 2222 localhost reaches the guest:
    ftemu run debian.img --vnc 127.0.0.1:5901 --net user --forward 2222:22
  On a bridge, behind a tap of your own (docs/NETWORK.md), and reached by `ftemu screenshot`, `sendkey`, `press`:
    ftemu run debian.img --net tap=tap0 --console-listen 127.0.0.1:7711
  A kernel without a disk:
    ftemu run --kernel vmlinuz --initrd initrd.gz --append console=ttyS0
  ... which also survives silence (a cut cable, a stopped server), not only a process's death:
    ftemu run ... --peer server-b:7700 --arbiter file:/shared/guest1
  A guest that runs alone until a standby comes (`ftemu standby --peer server-a:7700`):
    ftemu run ... --listen 0.0.0.0:7700

Exit status: 0 the guest switched itself off or was stopped by a signal; 1 an error; 3 another server runs the guest.";

/// What `standby` needs to know.
#[derive(Debug, Args)]
#[command(after_help = STANDBY_EXAMPLES)]
pub struct StandbyArguments {
    /// This server's copies of the guest's disks and CDs, in the order that `run` has them.
    #[command(flatten, next_help_heading = "Drives")]
    pub drives: crate::drives::DriveArguments,
    /// Exit when this standby has lost its guest (its primary is gone too early, or the two differed), instead of
    /// waiting for the next one.
    #[arg(help_heading = PAIR, long)]
    pub once: bool,
    /// What both sides of a pair have.
    #[command(flatten, next_help_heading = PAIR)]
    pub side: SideArguments,
}

const STANDBY_EXAMPLES: &str = "\
Examples:
  Wait for a guest with a disk, of which this server has a copy (an old one will do; its size matters):
    ftemu standby debian.img --listen 0.0.0.0:7700 --console-listen 127.0.0.1:7712
  Become the standby of a guest that runs already (one that was started with --listen, or a standby that took over):
    ftemu standby --peer server-b:7700
  Record the guest here, at no cost to its primary:
    ftemu standby --listen 0.0.0.0:7700 --record guest.ftlog

Exit status: 0 the guest switched itself off or this side was stopped by a signal; 1 an error; 3 another server runs the
guest; 4 the guests differed (--once).";

/// What both sides of a pair have.
#[derive(Debug, Args)]
pub struct SideArguments {
    /// The other server, which listens there.
    #[arg(long, value_name = "HOST:PORT")]
    pub peer: Option<String>,
    /// Wait here for the other server (UDP, and TCP on the same port).
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = units::address)]
    pub listen: Option<SocketAddr>,
    /// The keys of servers that may be the other one [default: `trust` in the identity's folder].
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// This server's key.
    #[command(flatten)]
    pub identity: IdentityArguments,
    /// Who decides when the servers cannot see each other: `file:PATH`, on a disk that both servers reach.
    /// Without an arbiter a side goes on alone only after the death of the other one's process, not after silence.
    #[arg(long, value_name = "file:PATH", value_parser = crate::arbiter::parse)]
    pub arbiter: Option<PathBuf>,
    /// The other server counts as gone after this long without a sign of life; with its unit ms, s or m.
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = units::duration)]
    pub silence_limit: Duration,
    /// Serve the guest's console here (TCP, not encrypted: keep it on loopback).
    #[arg(help_heading = SCREEN, long, value_name = "ADDRESS:PORT", value_parser = units::address)]
    pub console_listen: Option<SocketAddr>,
    /// Who may see the guest's screen.
    #[command(flatten, next_help_heading = SCREEN)]
    pub screen: crate::screen::arguments::VncArguments,
    /// The guest's networks.
    #[command(flatten, next_help_heading = NETWORK)]
    pub network: crate::network::NetworkArguments,
    /// Record the guest for `ftemu replay`.
    #[arg(help_heading = RECORDS, long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Write what happens as lines of JSON; `-` is standard output (with --no-stdio).
    #[arg(help_heading = RECORDS, long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// How often a line with the current figures goes there.
    #[arg(help_heading = RECORDS, long, value_name = "TIME", default_value = "1s", value_parser = units::duration)]
    pub status_interval: Duration,
    /// Pretend to be another build, to see that the other side refuses.
    #[arg(long, hide = true)]
    pub pretend_build: Option<String>,
    /// Pretend to have a CPU of another vendor, to see that the other side refuses.
    #[arg(long, hide = true)]
    pub pretend_cpu: Option<String>,
}

/// What `identity` needs to know.
#[derive(Debug, Args)]
#[command(after_help = IDENTITY_EXAMPLES)]
pub struct IdentityArguments {
    /// The folder of this server's key and trust file [default: $XDG_DATA_HOME/ftemu or ~/.local/share/ftemu].
    #[arg(long = "identity", value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

const IDENTITY_EXAMPLES: &str = "\
Examples:
  Let two servers trust each other (on each, with the other one's name):
    ssh server-b ftemu identity >> ~/.local/share/ftemu/trust";

/// What `console` needs to know.
#[derive(Debug, Args)]
#[command(after_help = CONSOLE_EXAMPLES)]
pub struct ConsoleArguments {
    /// Where the servers of the pair serve their consoles (their --console-listen).
    #[arg(value_name = "ADDRESS:PORT", value_delimiter = ',', required = true)]
    pub servers: Vec<String>,
    /// Give up when no server could be reached for this long.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub patience: Duration,
}

const CONSOLE_EXAMPLES: &str = "\
Ctrl-A X leaves, Ctrl-A Ctrl-A types a Ctrl-A. The guest goes on.

Examples:
  ftemu console 127.0.0.1:7711,127.0.0.1:7712
  ftemu console server-a:7711,server-b:7711 < commands > log";

/// What `replay` needs to know.
#[derive(Debug, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
pub struct ReplayArguments {
    /// What `--record` wrote.
    #[arg(value_name = "FILE")]
    pub record: PathBuf,
    /// Stop at this instruction count.
    #[arg(long, value_name = "COUNT")]
    pub until: Option<u64>,
    /// Drop everything derived from the guest's state (translations, TLB) at random moments; nothing may change.
    #[arg(long, value_name = "SEED")]
    pub flush_randomly: Option<u64>,
    /// Cut execution into random slices; nothing may change.
    #[arg(long, value_name = "SEED")]
    pub slices: Option<u64>,
    /// Save the machine at this count and go on with a new one loaded from that; nothing may change.
    #[arg(long, value_name = "COUNT")]
    pub checkpoint_at: Option<u64>,
    /// What makes the CPU fast.
    #[command(flatten)]
    pub without: crate::without::WithoutArguments,
    /// Print every digest as it is verified, one a line: `digest COUNT HEX`, on standard error.
    #[arg(long)]
    pub digests: bool,
    /// Do not print the guest's console.
    #[arg(long)]
    pub quiet: bool,
}

const REPLAY_EXAMPLES: &str = "\
The guest's console appears on standard output. Every digest in the record is verified on the way; the last line on
standard error says how far the record is good.

Examples:
  ftemu run --kernel vmlinuz --initrd initrd.gz --record guest.ftlog
  ftemu replay guest.ftlog
  ftemu replay guest.ftlog --slices 7 --flush-randomly 7 --quiet

Exit status: 0 all of the record was replayed bit for bit; 1 it was not, or the record is damaged.";
