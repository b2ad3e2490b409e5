//! The programs that build a disk, and how they are run.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::BuildError;

/// Each program, and the Debian package that has it.
const NEEDED: [(&str, &str); 5] = [
    ("mmdebstrap", "mmdebstrap"),
    ("mke2fs", "e2fsprogs"),
    ("sfdisk", "fdisk"),
    ("grub-mkimage", "grub-common"),
    ("apt-get", "apt"),
];
/// What an ordinary user needs besides, to have a root of their own in a user namespace.
const FOR_USERS: [(&str, &str); 1] = [("newuidmap", "uidmap")];
/// GRUB for a PC's BIOS.
pub(super) const GRUB: &str = "/usr/lib/grub/i386-pc";

/// How many last lines of a program's complaints an error shows, besides those that speak of an error.
const SHOWN: usize = 4;
/// How many of the latter.
const ERRORS: usize = 6;

/// The programs, found.
#[derive(Debug)]
pub(super) struct Tools {
    /// Without it a user namespace gives one.
    pub(super) is_root: bool,
}

impl Tools {
    /// Looks for all programs, and says at once which are missing.
    pub(super) fn find() -> Result<Self, BuildError> {
        let is_root = nix::unistd::geteuid().is_root();
        let mut missing: Vec<(&str, &str)> =
            NEEDED.into_iter().filter(|(program, _)| which(program).is_none()).collect();
        if !is_root {
            missing.extend(FOR_USERS.into_iter().filter(|(program, _)| which(program).is_none()));
        }
        if !Path::new(GRUB).join("boot.img").exists() {
            missing.push(("GRUB for BIOS", "grub-pc-bin"));
        }
        if missing.is_empty() {
            return Ok(Self { is_root });
        }
        let programs = missing.iter().map(|(program, _)| (*program).to_owned()).collect();
        let packages = missing.iter().map(|(_, package)| *package).collect::<Vec<_>>().join(" ");
        Err(BuildError::Tools { programs, packages })
    }

    /// A program outside.
    pub(super) fn command(program: &str) -> Command {
        // Users' PATHs often lack the folders of mke2fs and sfdisk.
        let mut command = Command::new(which(program).unwrap_or_else(|| program.into()));
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// A program that sees the guest's files with their owners: the arguments are to be a program and its arguments.
    pub(super) fn inside(&self) -> Command {
        if self.is_root {
            Self::command("env")
        } else {
            let mut command = Self::command("mmdebstrap");
            command.arg("--unshare-helper").arg("env");
            command
        }
    }
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Runs a program; its complaints become the error, line by line they go to `heard` too.
pub(super) fn run(command: &mut Command, what: &str, heard: &mut dyn FnMut(&str)) -> Result<(), BuildError> {
    let failed = |reason: String| BuildError::Program { what: what.to_owned(), reason };
    let spawned = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| failed(format!("{}: {error}", shown(command.get_program()))))?;
    let (mut errors, mut last): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            if line.is_empty() {
                continue;
            }
            heard(&line);
            last.push(line);
            if last.len() > SHOWN {
                let line = last.remove(0);
                if errors.len() < ERRORS && tells(&line) {
                    errors.push(line);
                }
            }
        }
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(failed([errors, last].concat().join("; "))) }
}

/// Whether a line speaks of an error of its own, rather than of a package with such a name.
fn tells(line: &str) -> bool {
    ["rror:", "E: ", "dpkg: ", "Failed", "failed", "No space"].iter().any(|word| line.contains(word))
        && !line.contains("warning")
}

fn shown(text: &OsStr) -> String {
    text.to_string_lossy().into_owned()
}
