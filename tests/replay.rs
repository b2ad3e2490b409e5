//! The promise: a recorded guest runs again bit for bit, in another process, at other addresses, under load.
//!
//! `ftemu run --record` writes the record of a real kernel's boot; `ftemu replay` runs it again with everything around it
//! changed, and compares every digest on the way. A record with one bit changed must be refused.

use ftemu_images::{Catalogue, debian};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder of this test's own, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("ftemu-replay-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for this test");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).expect("the folder can be removed");
    }
}

fn ftemu() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ftemu"));
    command.stdin(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Records a kernel's boot and some work, and gives the console's bytes.
fn record(folder: &Path, file: &Path) -> Vec<u8> {
    let mode = debian::Mode::Lines { lines: 8, seed: 3, pause_us: 500 };
    let guest =
        Catalogue::user().and_then(|catalogue| catalogue.debian(mode, &mut |_| ())).expect("a guest through apt");
    let files = guest.write_to(folder).expect("room for the guest");
    let mut command = ftemu();
    command.arg("run").arg("--kernel").arg(files.kernel).args(["--append", &guest.command_line]);
    if let Some(initrd) = files.initrd {
        command.arg("--initrd").arg(initrd);
    }
    let output = command.arg("--record").arg(file).output().expect("ftemu run");
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("ftemu-end 8 "), "the guest did its work: {}", said(&output));
    output.stdout
}

fn replay(file: &Path, around: &[&str]) -> Output {
    ftemu().arg("replay").arg(file).args(around).output().expect("ftemu replay")
}

/// Something else for the host to do while a replay runs.
fn under_load<R>(action: impl FnOnce() -> R) -> R {
    let mut load: Vec<_> = (0..2)
        .map(|_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell to keep busy"))
        .collect();
    let result = action();
    for child in &mut load {
        child.kill().and_then(|()| child.wait()).expect("the load ends");
    }
    result
}

#[test]
fn a_recorded_boot_runs_again_bit_for_bit() {
    let folder = Folder::new();
    let file = folder.0.join("guest.ftlog");
    let console = record(&folder.0, &file);
    let rounds: [&[&str]; 4] =
        [&[], &["--flush-randomly", "11"], &["--slices", "12"], &["--checkpoint-at", "1000000007", "--slices", "13"]];
    for around in rounds {
        let output = under_load(|| replay(&file, around));
        assert!(output.status.success(), "{around:?}: {}", said(&output));
        assert!(String::from_utf8_lossy(&output.stderr).contains("digests verified"), "{around:?}: {}", said(&output));
        assert!(output.stdout == console, "{around:?}: the console said something else");
    }
    let mut bytes = std::fs::read(&file).expect("the record");
    let middle = bytes.len() * 9 / 10;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).expect("room for the damaged record");
    let output = replay(&file, &[]);
    assert!(!output.status.success(), "a damaged record was taken: {}", said(&output));
    assert!(!said(&output).contains("panicked"), "{}", said(&output));
}
