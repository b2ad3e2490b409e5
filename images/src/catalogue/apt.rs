//! apt and dpkg, run as programs: which package, download it, take a file out of it.
//!
//! The system's package lists serve if they know the package. Otherwise lists of our own are fetched into the cache folder
//! (`Dir::State`, see apt.conf(5)), which any user may do; the system's are never touched.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{FetchError, Progress};

/// A package file in a folder that goes away with this value.
#[derive(Debug)]
pub(super) struct Downloaded {
    /// The package file's name without its ending: package, version, architecture.
    pub(super) name: String,
    path: PathBuf,
    _folder: Scratch,
}

/// A folder of this process's own, removed when dropped.
#[derive(Debug)]
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// apt with our own folder for lists and downloads.
#[derive(Debug)]
pub(super) struct Apt {
    folder: PathBuf,
    /// Where to look for apt's programs; the usual `PATH` if none.
    pub(super) programs: Option<PathBuf>,
}

impl Apt {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, programs: None }
    }

    /// Whether we have fetched lists of our own.
    pub(super) fn has_own_lists(&self) -> bool {
        self.folder.join("updated").exists()
    }

    /// Whether the lists know a package.
    pub(super) fn lists(&self, package: &str) -> Result<bool, FetchError> {
        let shown = self.output(self.apt("apt-cache").args(["--no-all-versions", "show", package]), "apt-cache show");
        match shown {
            Ok(text) => Ok(text.lines().any(|line| line.starts_with("Filename:"))),
            Err(FetchError::Apt { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }

    /// The packages that a package depends on.
    pub(super) fn depends(&self, package: &str) -> Result<Vec<String>, FetchError> {
        let text = self.output(self.apt("apt-cache").args(["--no-all-versions", "show", package]), "apt-cache show")?;
        let depends = text.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or_default();
        Ok(depends.split(',').filter_map(|item| item.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// Fetches package lists into our own folder.
    pub(super) fn update(&self, progress: &mut dyn FnMut(Progress)) -> Result<(), FetchError> {
        for folder in ["state/lists/partial", "cache/archives/partial"] {
            let path = self.folder.join(folder);
            fs::create_dir_all(&path).map_err(FetchError::cache(&path))?;
        }
        let mut command = self.command("apt-get");
        self.own_lists(&mut command);
        self.watched(command.arg("update"), "apt-get update", progress)?;
        let mark = self.folder.join("updated");
        fs::write(&mark, b"").map_err(FetchError::cache(&mark))
    }

    /// Downloads a package; apt checks it against its signed lists.
    pub(super) fn download(&self, package: &str, progress: &mut dyn FnMut(Progress)) -> Result<Downloaded, FetchError> {
        let folder = Scratch(self.folder.join(format!("download.{}.{package}", std::process::id())));
        fs::create_dir_all(&folder.0).map_err(FetchError::cache(&folder.0))?;
        let mut command = self.apt("apt-get");
        command.current_dir(&folder.0).args(["download", package]);
        self.watched(&mut command, &format!("downloading {package}"), progress)?;
        let path = package_file(&folder.0)?.ok_or_else(|| FetchError::Apt {
            what: format!("downloading {package}"),
            reason: "apt-get left no package file".to_owned(),
        })?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy().replace("%3a", ":")).unwrap_or_default();
        Ok(Downloaded { name, path, _folder: folder })
    }

    /// The bytes of the first regular file in a package whose path starts with `prefix`.
    pub(super) fn extract(&self, package: &Downloaded, prefix: &str) -> Result<Option<Vec<u8>>, FetchError> {
        let what = format!("unpacking {}", package.name);
        let mut command = self.command("dpkg-deb");
        command.arg("--fsys-tarfile").arg(&package.path).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| no_program("dpkg-deb", &what, &error))?;
        let pipe = child.stdout.take().expect("stdout is piped");
        let found = find_in_tar(pipe, prefix);
        // A package is read only as far as needed; what dpkg-deb says of a closed pipe does not matter then.
        let finished = child.wait_with_output().map_err(|error| apt_error(&what, &error.to_string()))?;
        match found {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) if finished.status.success() => Ok(None),
            Ok(None) => Err(apt_error(&what, &last_lines(&finished.stderr))),
            Err(error) => Err(apt_error(&what, &format!("{error} {}", last_lines(&finished.stderr)))),
        }
    }

    /// An apt program with our own lists, if we have fetched some.
    fn apt(&self, program: &str) -> Command {
        let mut command = self.command(program);
        if self.has_own_lists() {
            self.own_lists(&mut command);
        }
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = match &self.programs {
            Some(folder) => Command::new(folder.join(program)),
            None => Command::new(program),
        };
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// apt.conf(5): lists and caches in our folder; the system's configuration, keys and package status as they are.
    fn own_lists(&self, command: &mut Command) {
        let state = self.folder.join("state");
        let cache = self.folder.join("cache");
        command.arg("-o").arg(format!("Dir::State={}", state.display()));
        command.arg("-o").arg("Dir::State::status=/var/lib/dpkg/status");
        command.arg("-o").arg(format!("Dir::Cache={}", cache.display()));
    }

    fn output(&self, command: &mut Command, what: &str) -> Result<String, FetchError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let output = command.output().map_err(|error| no_program(&program, what, &error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(apt_error(what, &last_lines(&output.stderr)))
    }

    /// Runs apt-get and passes on its percentages (`APT::Status-Fd`, on standard output).
    fn watched(&self, command: &mut Command, what: &str, progress: &mut dyn FnMut(Progress)) -> Result<(), FetchError> {
        // As root apt drops to a user who cannot write into this folder.
        command.args(["-q", "-y", "-o", "APT::Status-Fd=1", "-o", "APT::Sandbox::User=root"]);
        command.args([
            "-o",
            "Acquire::Retries=2",
            "-o",
            "Acquire::http::Timeout=20",
            "-o",
            "Acquire::https::Timeout=20",
        ]);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| no_program(&program, what, &error))?;
        let stderr = child.stderr.take().expect("stderr is piped");
        let complaints = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = BufReader::new(stderr).read_to_end(&mut bytes);
            bytes
        });
        let stdout = child.stdout.take().expect("stdout is piped");
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(percent) = percentage(&line) {
                progress(Progress::Percent(percent));
            }
        }
        let status = child.wait().map_err(|error| apt_error(what, &error.to_string()))?;
        let complaints = complaints.join().unwrap_or_default();
        // apt-get update succeeds with warnings when it reached no server at all; then nothing is listed afterwards.
        if status.success() { Ok(()) } else { Err(apt_error(what, &last_lines(&complaints))) }
    }
}

/// `dlstatus:FILE:PERCENT:MESSAGE`, as apt writes it.
fn percentage(line: &str) -> Option<u8> {
    let percent = line.strip_prefix("dlstatus:")?.split(':').nth(1)?;
    let percent: f64 = percent.parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent as u8)
}

/// The first regular file in a tar archive whose path, without a leading `usr/`, begins with `prefix`.
///
/// # Errors
/// No tar archive, or cut short.
pub fn find_in_tar(pipe: impl Read, prefix: &str) -> std::io::Result<Option<Vec<u8>>> {
    for entry in tar::Archive::new(pipe).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let path = path.trim_start_matches("./").to_owned();
        let path = path.strip_prefix("usr/").unwrap_or(&path);
        if path.starts_with(prefix) && entry.header().entry_type().is_file() {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}

fn package_file(folder: &Path) -> Result<Option<PathBuf>, FetchError> {
    let entries = fs::read_dir(folder).map_err(FetchError::cache(folder))?;
    Ok(entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|e| e == "deb")))
}

fn no_program(program: &str, what: &str, error: &std::io::Error) -> FetchError {
    match error.kind() {
        std::io::ErrorKind::NotFound => FetchError::NoApt { program: program.to_owned() },
        _ => apt_error(what, &error.to_string()),
    }
}

fn apt_error(what: &str, reason: &str) -> FetchError {
    let reason = if reason.is_empty() { "it gave no reason; is there a connection?" } else { reason };
    FetchError::Apt { what: what.to_owned(), reason: reason.to_owned() }
}

/// The last lines of what a program complained about.
fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("; ")
}
