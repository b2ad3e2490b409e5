//! A contender's console: what it says, with the host's time at which it came, and what is typed.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How much of the last output an error shows.
const SHOWN: usize = 1500;

/// How a contender is asked to end, and how long it may take.
const TERMINATE: rustix::process::Signal = rustix::process::Signal::TERM;
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A running contender. It ends with this value.
pub struct Console {
    child: Child,
    input: ChildStdin,
    output: Receiver<(Instant, Vec<u8>)>,
    /// Not yet looked for, with the time of its last bytes.
    waiting: String,
    last: Instant,
    /// When the process was started.
    pub start: Instant,
}

impl Console {
    /// Starts a contender.
    pub fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
        let input = child.stdin.take().context("stdin is piped")?;
        let mut stdout = child.stdout.take().context("stdout is piped")?;
        let (sender, output) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stdout.read(&mut bytes) {
                if sender.send((Instant::now(), bytes[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, output, waiting: String::new(), last: start, start })
    }

    /// The process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// Types a line.
    pub fn line(&mut self, text: &str) -> Result<()> {
        self.input.write_all(format!("{text}\n").as_bytes())?;
        Ok(self.input.flush()?)
    }

    /// Waits until the console shows `mark`. Gives the time of its arrival and all that came up to and with it.
    pub fn until(&mut self, mark: &str, patience: Duration) -> Result<(Instant, String)> {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(at) = self.waiting.find(mark) {
                let rest = self.waiting.split_off(at + mark.len());
                return Ok((self.last, std::mem::replace(&mut self.waiting, rest)));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok((time, bytes)) => {
                    self.last = time;
                    self.waiting.push_str(&String::from_utf8_lossy(&bytes));
                }
                Err(RecvTimeoutError::Timeout) => bail!("no {mark:?} in {patience:?} after: {}", self.tail()),
                Err(RecvTimeoutError::Disconnected) => bail!("ended before {mark:?}, after: {}", self.tail()),
            }
        }
    }

    /// The last of what came and was not looked for.
    pub fn tail(&self) -> String {
        let skipped = self.waiting.chars().count().saturating_sub(SHOWN);
        self.waiting.chars().skip(skipped).collect()
    }

    /// Seconds of CPU that the process and the children it waited for have used: proc(5), `stat`, 14 to 17.
    pub fn cpu_seconds(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.process())).unwrap_or_default();
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(4);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        ticks as f64 / 100.0
    }

    /// The most memory it has had, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Console {
    /// Asks it to end, which leaves time for last words, and makes it.
    fn drop(&mut self) {
        let asked = rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), TERMINATE);
        let deadline = Instant::now() + LAST_WORDS;
        while asked.is_ok() && self.output.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
