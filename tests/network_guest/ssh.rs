//! A session of a real ssh client: commands flow, and each reply is checked.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::namespaces::{GUEST, Network};
use crate::processes::Folder;

/// A key pair.
pub struct Key {
    folder: Folder,
    /// What the guest trusts.
    pub public: String,
}

impl Key {
    /// Makes one.
    pub fn new() -> Self {
        let folder = Folder::new();
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.path("key"));
        let status = command.status().expect("ssh-keygen; is openssh-client installed? (scripts/setup)");
        assert!(status.success());
        let public = std::fs::read_to_string(folder.path("key.pub")).expect("a public key");
        Self { folder, public }
    }
}

/// A session that asks and checks until it is told to end.
pub struct Session {
    over: Arc<AtomicBool>,
    asking: JoinHandle<(usize, Duration)>,
    client: Child,
}

impl Session {
    /// Logs in from the client's namespace, and goes on asking.
    pub fn start(network: &Network, key: &Key) -> Self {
        let mut command = network.command("client", "ssh");
        command.args(["-F", "none", "-T", "-q", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]);
        command.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "ServerAliveInterval=10", "-i"]);
        command.arg(key.folder.path("key")).arg(format!("root@{GUEST}")).arg("exec /bin/sh");
        let mut client = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("ssh");
        let input = client.stdin.take().expect("a pipe");
        let mut output = BufReader::new(client.stdout.take().expect("a pipe"));
        let mut talk = (input, 0);
        ask(&mut talk, &mut output);
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let asking = std::thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            while !until.load(Ordering::Relaxed) {
                slowest = slowest.max(ask(&mut talk, &mut output));
            }
            (talk.1, slowest)
        });
        Self { over, asking, client }
    }

    /// Ends the session: how many commands were answered, and the longest time that one took.
    pub fn finish(mut self) -> (usize, Duration) {
        self.over.store(true, Ordering::Relaxed);
        let seen = self.asking.join().expect("every command was answered");
        assert!(self.client.wait().expect("it ends").success(), "the session was broken off");
        seen
    }
}

/// Sends a command that takes the guest a moment; checks its reply and gives the time until that came.
fn ask((input, number): &mut (ChildStdin, usize), output: &mut BufReader<ChildStdout>) -> Duration {
    let asked = Instant::now();
    writeln!(input, "busybox usleep 5000; echo reply $(({number} * 7919 + 13))").expect("the session stands");
    let mut reply = String::new();
    output.read_line(&mut reply).expect("the session stands");
    assert_eq!(reply, format!("reply {}\n", *number * 7919 + 13), "to command {number}");
    *number += 1;
    asked.elapsed()
}
