//! The program as its users run it: real processes on loopback, followed by their events.
#![allow(dead_code)] // each test file uses its part

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use ftemu_images::Guest;
use serde_json::Value;

/// A folder of a test's own, removed at the end.
pub struct Folder(tempfile::TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder for the test"))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and gives its path.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).expect("a file for the test");
        path
    }

    /// Makes two servers' identities, `a` and `b`, that trust each other.
    pub fn identities(&self) {
        for (own, other) in [("a", "b"), ("b", "a")] {
            let line = run([OsStr::new("identity"), OsStr::new("--identity"), self.path(own).as_os_str()]).output;
            fs::create_dir_all(self.path(other)).expect("a folder for the test");
            self.file(&format!("{other}/trust"), line.as_bytes());
        }
    }
}

/// The arguments that name a guest's parts.
pub fn guest_arguments(folder: &Folder, guest: &Guest) -> Vec<String> {
    let files = guest.write_to(folder.0.path()).expect("the guest's files");
    let mut arguments = vec!["--kernel".into(), files.kernel.display().to_string()];
    if let Some(initrd) = files.initrd {
        arguments.extend(["--initrd".into(), initrd.display().to_string()]);
    }
    arguments.extend(["--append".into(), guest.command_line.clone(), "--memory".into(), "64M".into()]);
    arguments
}

pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ftemu"))
}

/// What a finished run of the program left.
pub struct Outcome {
    pub status: ExitStatus,
    pub output: String,
    pub complaints: String,
}

impl Outcome {
    /// It failed, and said all of this, and did not panic.
    #[track_caller]
    pub fn failed_saying(&self, words: &[&str]) {
        assert!(!self.status.success(), "it succeeded: {}", self.complaints);
        self.said(words);
    }

    /// It said all of this, and did not panic.
    #[track_caller]
    pub fn said(&self, words: &[&str]) {
        assert!(!self.complaints.contains("panicked"), "{}", self.complaints);
        for word in words {
            assert!(self.complaints.contains(word), "nothing of {word:?} in: {}", self.complaints);
        }
    }
}

/// Runs the program to its end, with nothing to read.
pub fn run(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Outcome {
    let output = program().args(arguments).stdin(Stdio::null()).output().expect("the program starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Outcome { status: output.status, output: text(&output.stdout), complaints: text(&output.stderr) }
}

/// A side of a pair that runs; killed at the latest when dropped.
pub struct Side {
    child: Child,
    events: Lines<BufReader<ChildStdout>>,
    complaints: JoinHandle<String>,
}

impl Side {
    /// Starts `run` or `standby` with these arguments, its events on standard output.
    pub fn start(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut command = program();
        command.args(arguments);
        Self::spawn(command)
    }

    /// Starts a command that ends in such a side.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .args(["--events", "-"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let events = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let complaints = collect(child.stderr.take().expect("a pipe"));
        Self { child, events, complaints }
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// The next event of that name, if there is one before its end.
    pub fn seek(&mut self, name: &str) -> Option<Value> {
        let events = (&mut self.events).map(|line| line.expect("a line"));
        let mut events = events.map(|line| serde_json::from_str::<Value>(&line).expect("an event"));
        events.find(|event| event["event"] == name)
    }

    /// The next event of that name.
    #[track_caller]
    pub fn wait_for(&mut self, name: &str) -> Value {
        for line in &mut self.events {
            let line = line.expect("a line");
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
            if event["event"] == name {
                return event;
            }
        }
        panic!("it ended without {name}");
    }

    /// Where it listens for the other server, or serves its console.
    #[track_caller]
    pub fn address(&mut self, of: &str) -> String {
        self.wait_for(of)["address"].as_str().expect("an address").to_owned()
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("a process to kill");
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().expect("kill");
        assert!(status.success());
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Outcome {
        let mut output = String::new();
        for line in &mut self.events {
            output.push_str(&line.expect("a line"));
            output.push('\n');
        }
        let status = self.child.wait().expect("it ends");
        let complaints = std::mem::replace(&mut self.complaints, std::thread::spawn(String::new));
        Outcome { status, output, complaints: complaints.join().expect("complaints") }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A console client that runs; killed at the latest when dropped.
pub struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it has shown so far.
    pub shown: Vec<u8>,
}

impl Client {
    pub fn start(servers: &[&str]) -> Self {
        let mut child = program()
            .args(["console", &servers.join(",")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let input = child.stdin.take().expect("a pipe");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Self { child, input, output, shown: Vec::new() }
    }

    pub fn type_in(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).expect("it reads what is typed");
        self.input.flush().expect("it reads what is typed");
    }

    /// Reads until what it has shown contains `text`.
    pub fn wait_for(&mut self, text: &str) {
        while !contains(&self.shown, text.as_bytes()) {
            let bytes = self.output.fill_buf().expect("it shows something");
            assert!(!bytes.is_empty(), "it ended without {text:?}: {}", String::from_utf8_lossy(&self.shown));
            let length = bytes.len();
            self.shown.extend_from_slice(bytes);
            self.output.consume(length);
        }
    }

    /// Reads to its end and gives all it has shown.
    pub fn finish(mut self) -> String {
        self.output.read_to_end(&mut self.shown).expect("it ends");
        assert!(self.child.wait().expect("it ends").success());
        String::from_utf8_lossy(&self.shown).into_owned()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The arguments of the side `name` (`a` or `b`).
pub fn side_arguments(folder: &Folder, name: &str) -> Vec<String> {
    let identity = folder.path(name).display().to_string();
    vec!["--identity".into(), identity, "--console-listen".into(), "127.0.0.1:0".into()]
}

/// The whole of a file.
pub fn bytes_of(path: &Path) -> Vec<u8> {
    fs::read(path).expect("a file of the test")
}
