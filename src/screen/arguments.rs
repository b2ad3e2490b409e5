//! What the command line says about screens.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::keys::{self, Chord, Typing};
use crate::units;

/// Of a side: who may see its screen.
#[derive(Debug, Args)]
pub struct VncArguments {
    /// Show the guest's screen here to VNC viewers, which also get its keyboard and mouse (not encrypted, no password:
    /// keep it on loopback and reach it through SSH).
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = units::address)]
    pub vnc: Option<SocketAddr>,
    /// Let --vnc listen where other machines reach it.
    #[arg(long, requires = "vnc")]
    pub vnc_insecure: bool,
}

/// Where the servers of a guest are.
#[derive(Debug, Args)]
pub struct ServerArguments {
    /// Where the servers of the guest serve their consoles (their --console-listen), joined by commas.
    #[arg(value_name = "ADDRESS:PORT", value_parser = servers)]
    pub servers: Servers,
    /// Give up when no server that runs the guest could be reached for this long.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = units::duration)]
    pub patience: Duration,
}

/// Addresses of a guest's servers: one argument, so that others may follow.
#[derive(Debug, Clone)]
pub struct Servers(pub Vec<String>);

fn servers(text: &str) -> Result<Servers, String> {
    let addresses: Vec<String> = text.split(',').map(str::to_owned).collect();
    match addresses.iter().find(|address| !address.contains(':')) {
        Some(wrong) => Err(format!(
            "{wrong:?} is no ADDRESS:PORT: say where the guest's server has its --console-listen, as in 127.0.0.1:7711"
        )),
        None => Ok(Servers(addresses)),
    }
}

/// What `screenshot` needs to know.
#[derive(Debug, Args)]
#[command(after_help = SCREENSHOT_EXAMPLES)]
pub struct ScreenshotArguments {
    /// Where to ask.
    #[command(flatten)]
    pub at: ServerArguments,
    /// The picture's file, a PNG; `-` is standard output.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

const SCREENSHOT_EXAMPLES: &str = "\
Examples:
  ftemu screenshot 127.0.0.1:7711 screen.png
  ftemu screenshot server-a:7711,server-b:7711 screen.png      # whichever runs the guest";

/// What `sendkey` needs to know.
#[derive(Debug, Args)]
#[command(after_help = SENDKEY_EXAMPLES)]
pub struct SendkeyArguments {
    /// Where to ask.
    #[command(flatten)]
    pub at: ServerArguments,
    /// Keys that are pressed together, joined by `-`, one argument after the other.
    #[arg(value_name = "KEYS", value_parser = keys::chord, required_unless_present = "text")]
    pub chords: Vec<Chord>,
    /// Type this afterwards, as on a US keyboard; a line feed is Enter.
    #[arg(long, value_name = "TEXT", value_parser = keys::text)]
    pub text: Option<Typing>,
}

const SENDKEY_EXAMPLES: &str = "\
Keys are named by what is on them: a to z, 0 to 9, f1 to f12, ctrl, alt, shift, altgr, meta, enter, esc, tab, space,
backspace, delete, insert, home, end, pageup, pagedown, up, down, left, right, print, pause, menu, minus, equal, ...

Examples:
  ftemu sendkey 127.0.0.1:7711 ctrl-alt-delete
  ftemu sendkey 127.0.0.1:7711 down down enter
  ftemu sendkey 127.0.0.1:7711 --text 'root
'";

/// What `press` needs to know.
#[derive(Debug, Args)]
#[command(after_help = PRESS_EXAMPLES)]
pub struct PressArguments {
    /// Where to ask.
    #[command(flatten)]
    pub at: ServerArguments,
    /// Which button.
    #[arg(value_enum)]
    pub button: Button,
}

const PRESS_EXAMPLES: &str = "\
Examples:
  ftemu press 127.0.0.1:7711 power      # the guest's operating system shuts down, if it listens to ACPI
  ftemu press 127.0.0.1:7711 reset      # as if the reset button were pressed: nothing is saved";

/// A button of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Button {
    /// The power button.
    Power,
    /// The reset button.
    Reset,
}
