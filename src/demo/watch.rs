//! The guest's console as a user sees it: `ftemu console A,B`, read line by line, with the time at which each line came.

use std::io::Read;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A line of the console, without its line end.
pub(super) struct Line {
    pub(super) at: Instant,
    pub(super) text: String,
}

/// The console client's process.
pub(super) struct Watch {
    child: Child,
    lines: Receiver<Line>,
}

impl Watch {
    /// Attaches to whichever side is live.
    pub(super) fn start(consoles: &str) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.args(["console", consoles]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("starting the console")?;
        let stdout = child.stdout.take().context("standard output is piped")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || read_lines(stdout, &sender));
        Ok(Self { child, lines })
    }

    /// The next line, or none within a time.
    pub(super) fn next(&self, within: Duration) -> Result<Option<Line>> {
        match self.lines.recv_timeout(within) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the console ended before the guest did"),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(mut stdout: ChildStdout, lines: &Sender<Line>) {
    let mut partial = Vec::new();
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stdout.read(&mut bytes) {
        let at = Instant::now();
        for byte in bytes.get(..count).unwrap_or_default() {
            if *byte == b'\n' {
                let text = String::from_utf8_lossy(&partial).trim_end_matches('\r').to_owned();
                partial.clear();
                if lines.send(Line { at, text }).is_err() {
                    return;
                }
            } else {
                partial.push(*byte);
            }
        }
    }
}
