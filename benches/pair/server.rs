//! A guest served by this program, alone or by a pair, with a console client attached: all of them as processes.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ftemu_images::Guest;
use serde_json::Value;

/// How long a server may take to say where it listens.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a server tells its figures.
pub const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// A port that the system chooses.
const ANY_PORT: &str = "127.0.0.1:0";

/// A guest with its console.
pub trait Served {
    /// The console client; its input and output are pipes.
    fn console(&mut self) -> &mut Child;
    /// The servers' processes, the primary's first.
    fn servers(&self) -> Vec<u32>;
    /// The primary's events file.
    fn events(&self) -> &Path;

    /// The figures that the primary told last.
    fn status(&self) -> Value {
        events(self.events()).into_iter().rfind(|event| event["event"] == "status").unwrap_or_default()
    }
}

/// A process that ends with its value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An unprotected guest.
pub struct Alone {
    console: Process,
    events: PathBuf,
    server: Process,
}

impl Alone {
    /// Starts it; `name` tells it from others that run at the same time.
    pub fn start(folder: &Path, guest: &Guest, name: &str) -> Result<Self> {
        let events = fresh(folder, name)?.join("events");
        let server = Process(run(folder, guest, &events)?.spawn()?);
        let console = console(&address(&events, "console")?)?;
        Ok(Self { console, events, server })
    }
}

impl Served for Alone {
    fn console(&mut self) -> &mut Child {
        &mut self.console.0
    }

    fn servers(&self) -> Vec<u32> {
        vec![self.server.0.id()]
    }

    fn events(&self) -> &Path {
        &self.events
    }
}

/// A guest on two servers.
pub struct Protected {
    console: Process,
    events: PathBuf,
    servers: [Process; 2],
}

impl Protected {
    /// Starts both, and waits until the guest is protected.
    pub fn start(folder: &Path, guest: &Guest) -> Result<Self> {
        let (first, second) = (fresh(folder, "first")?, fresh(folder, "second")?);
        for (own, other) in [(&first, &second), (&second, &first)] {
            let key = ftemu().arg("identity").arg("--identity").arg(own).stdout(Stdio::piped()).output()?;
            fs::write(other.join("trust"), key.stdout)?;
        }
        let (events, others) = (first.join("events"), second.join("events"));
        let mut command = ftemu();
        command.args(["standby", "--once", "--listen", ANY_PORT, "--console-listen", ANY_PORT]);
        command.arg("--identity").arg(&second).arg("--events").arg(&others);
        let standby = Process(command.spawn()?);
        let mut command = run(folder, guest, &events)?;
        command.arg("--identity").arg(&first).args(["--peer", &address(&others, "listening")?]);
        let primary = Process(command.spawn()?);
        let consoles = format!("{},{}", address(&events, "console")?, address(&others, "console")?);
        wait_for_event(&events, "protected")?;
        Ok(Self { console: console(&consoles)?, events, servers: [primary, standby] })
    }

    /// The link's use since the guest was protected.
    pub fn link_mbits(&self) -> f64 {
        self.link_mbits_since(0)
    }

    /// The link's use since a moment of Unix time.
    pub fn link_mbits_since(&self, from_ns: u64) -> f64 {
        let counted = |event: &Value| event["event"] == "status" && event["protected"] == true;
        let all = events(&self.events);
        let mut within = all.iter().filter(|event| counted(event) && number(event, "time_ns") >= from_ns);
        let (Some(first), Some(last)) = (within.next(), within.next_back()) else { return f64::NAN };
        let grown = |field: &str| number(last, field).saturating_sub(number(first, field)) as f64;
        (grown("sent_bytes") + grown("received_bytes")) * 8.0 / 1e6 / (grown("time_ns") / 1e9)
    }
}

impl Served for Protected {
    fn console(&mut self) -> &mut Child {
        &mut self.console.0
    }

    fn servers(&self) -> Vec<u32> {
        self.servers.iter().map(|server| server.0.id()).collect()
    }

    fn events(&self) -> &Path {
        &self.events
    }
}

/// Processor time of a process so far, in seconds; of one that is gone, none.
pub fn cpu_seconds(process: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // Fields 14 and 15 of proc(5), in hundredths; the second, the name, may hold blanks.
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory that a process has had resident, in MiB.
pub fn peak_mib(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

fn ftemu() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftemu"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// An empty folder.
fn fresh(folder: &Path, name: &str) -> Result<PathBuf> {
    let folder = folder.join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn run(folder: &Path, guest: &Guest, events: &Path) -> Result<Command> {
    let files = guest.write_to(folder)?;
    let mut command = ftemu();
    command.args(["run", "--no-stdio", "--memory", "512M", "--console-listen", ANY_PORT]);
    command.arg("--status-interval").arg(format!("{}ms", STATUS_INTERVAL.as_millis()));
    command.arg("--kernel").arg(files.kernel).arg("--events").arg(events);
    if let Some(initrd) = files.initrd {
        command.arg("--initrd").arg(initrd);
    }
    command.args(["--append", &guest.command_line]);
    Ok(command)
}

fn console(servers: &str) -> Result<Process> {
    let mut command = ftemu();
    command.args(["console", servers]).stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(Process(command.spawn()?))
}

fn number(event: &Value, field: &str) -> u64 {
    event[field].as_u64().unwrap_or(0)
}

fn events(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn wait_for_event(path: &Path, name: &str) -> Result<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = events(path).into_iter().find(|event| event["event"] == name) {
            return Ok(event);
        }
        ensure!(Instant::now() < deadline, "no event `{name}` in {}", path.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn address(path: &Path, name: &str) -> Result<String> {
    let event = wait_for_event(path, name)?;
    event["address"].as_str().map(str::to_owned).context("the event has no address")
}

/// Reads a console until it has shown a text.
pub fn wait_for(console: &mut Child, text: &str) -> Result<()> {
    let stdout = console.stdout.as_mut().context("the console's output is piped")?;
    let mut seen = Vec::new();
    let mut byte = [0];
    while !seen.ends_with(text.as_bytes()) {
        stdout.read_exact(&mut byte).with_context(|| format!("waiting for {text:?}"))?;
        seen.push(byte[0]);
    }
    Ok(())
}

/// Types a byte and waits for its echo.
pub fn echo(console: &mut Child) -> Result<Duration> {
    let start = Instant::now();
    let stdin = console.stdin.as_mut().context("the console's input is piped")?;
    stdin.write_all(b"x")?;
    stdin.flush()?;
    wait_for(console, "x")?;
    Ok(start.elapsed())
}
