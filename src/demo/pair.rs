//! Two servers: two processes of this program with identities made for the occasion, talking QUIC on loopback.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ftemu_transport::Identity;
use rustix::process::{Pid, Signal, kill_process};

use super::guest::Staged;
use super::journal::Journal;

/// How long a process may take to start, or to end when it is done.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often something is looked at that tells nobody when it changes.
const LOOK: Duration = Duration::from_millis(10);

/// A port that the system chooses; the side tells which.
const ANY_PORT: &str = "127.0.0.1:0";

/// The two servers.
pub(super) struct Pair {
    pub(super) primary: Side,
    pub(super) standby: Side,
}

impl Pair {
    /// Starts the standby, and when it listens, the primary with the guest.
    pub(super) fn start(staged: &Staged, arbiter: bool) -> Result<Self> {
        let folder = staged.folder();
        let (primary, standby) = (folder.join("primary"), folder.join("standby"));
        trust_each_other(&primary, &standby)?;
        let arbiter = arbiter.then(|| format!("file:{}", folder.join("arbiter").display()));

        let mut command = side_command("standby", &standby, arbiter.as_deref())?;
        command.args(["--once", "--listen", ANY_PORT]);
        let mut standby = Side::start("standby", command, &standby)?;
        let link = standby.address("listening")?;

        let mut command = side_command("run", &primary, arbiter.as_deref())?;
        command.args(["--no-stdio", "--peer", &link]).arg("--kernel").arg(&staged.files.kernel);
        if let Some(initrd) = &staged.files.initrd {
            command.arg("--initrd").arg(initrd);
        }
        command.args(["--append", &staged.guest.command_line]);
        let primary = Side::start("primary", command, &primary)?;
        Ok(Self { primary, standby })
    }

    /// What `ftemu console` is told: both consoles.
    pub(super) fn consoles(&mut self) -> Result<String> {
        Ok(format!("{},{}", self.primary.address("console")?, self.standby.address("console")?))
    }
}

/// This program, to be run again as one side.
fn side_command(name: &str, folder: &Path, arbiter: Option<&str>) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("finding this program")?);
    command.arg(name).arg("--identity").arg(folder);
    command.args(["--console-listen", ANY_PORT, "--status-interval", "100ms"]);
    command.arg("--events").arg(folder.join("events"));
    if let Some(arbiter) = arbiter {
        command.args(["--arbiter", arbiter]);
    }
    Ok(command)
}

/// Makes an identity in each folder and puts its key into the other's trust file.
fn trust_each_other(one: &Path, other: &Path) -> Result<()> {
    for (folder, peer) in [(one, other), (other, one)] {
        let identity = Identity::load_or_create(folder).context("making an identity")?;
        fs::create_dir_all(peer)?;
        fs::write(peer.join("trust"), format!("{} demo\n", identity.fingerprint()))?;
    }
    Ok(())
}

/// One server's process.
pub(super) struct Side {
    name: &'static str,
    child: Child,
    folder: PathBuf,
    pub(super) journal: Journal,
}

impl Side {
    fn start(name: &'static str, mut command: Command, folder: &Path) -> Result<Self> {
        let complaints = File::create(folder.join("stderr")).context("making a file for messages")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints);
        let child = command.spawn().with_context(|| format!("starting the {name}"))?;
        let journal = Journal::new(folder.join("events"));
        Ok(Self { name, child, folder: folder.to_owned(), journal })
    }

    /// The address in the first event of a name, once the side has told it.
    fn address(&mut self, event: &str) -> Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(address) = self.journal.first(event).and_then(|event| event.text("address")) {
                return Ok(address);
            }
            self.must_run()?;
            if Instant::now() > deadline {
                bail!("the {} tells no `{event}`:\n{}", self.name, self.complaints());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// An error with its last words if the process has ended.
    pub(super) fn must_run(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the {} has ended ({status}):\n{}", self.name, self.complaints()),
            None => Ok(()),
        }
    }

    /// Waits for the process to end by itself.
    pub(super) fn wait_for_end(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("the {} should have ended by now:\n{}", self.name, self.complaints());
            }
            std::thread::sleep(LOOK);
        }
    }

    /// SIGKILL: no chance to say goodbye.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("killing the {}", self.name))?;
        self.child.wait()?;
        Ok(())
    }

    /// SIGSTOP or SIGCONT.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).with_context(|| format!("{signal:?} for the {}", self.name))
    }

    /// What it has said on standard error.
    pub(super) fn complaints(&self) -> String {
        fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
