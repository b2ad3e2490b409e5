//! Marks on a console, with the host's time at which each arrived.

use std::io::Read;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// The programs of the mix, in the order of `images/src/debian/bench.sh`.
pub const PROGRAMS: [&str; 5] = ["sha256sum", "gzip", "bzip2", "sort", "awk"];

/// The console's lines that are marks, with their times since the kernel's entry.
pub struct Marks {
    lines: Vec<(Duration, String)>,
}

impl Marks {
    /// Reads a console to its end. Time counts from `start`, or from the moment `entry` is printed.
    pub fn read(mut console: impl Read, start: Instant, entry: Option<&str>) -> Result<Self> {
        let mut start = start;
        let mut entry = entry;
        let mut lines = Vec::new();
        let mut line = Vec::new();
        let mut bytes = [0; 4096];
        loop {
            let count = console.read(&mut bytes).context("reading the console")?;
            if count == 0 {
                return Ok(Self { lines });
            }
            let now = Instant::now();
            for byte in &bytes[..count] {
                if *byte != b'\n' {
                    line.push(*byte);
                }
                let text = String::from_utf8_lossy(&line);
                if entry.is_some_and(|entry| text.contains(entry)) {
                    (start, entry) = (now, None);
                }
                if *byte == b'\n' {
                    if let Some(at) = text.find("ftemu-mark ") {
                        lines.push((now - start, text[at..].trim_end().to_owned()));
                    }
                    line.clear();
                }
            }
        }
    }

    /// From the kernel's entry to PID 1, if there was a kernel.
    pub fn boot(&self) -> Option<Duration> {
        self.lines.iter().find(|(_, line)| line == "ftemu-mark init").map(|(time, _)| *time)
    }

    /// How long a program of the mix took, and the hash of its result.
    pub fn program(&self, name: &str) -> Result<(Duration, &str)> {
        let find = |prefix: String| {
            let found = self.lines.iter().find(|(_, line)| line.starts_with(&prefix));
            found.with_context(|| format!("the console showed no `{prefix}`"))
        };
        let (start, _) = find(format!("ftemu-mark start {name}"))?;
        let (stop, line) = find(format!("ftemu-mark stop {name}"))?;
        Ok((*stop - *start, line.rsplit(' ').next().unwrap_or_default()))
    }
}
