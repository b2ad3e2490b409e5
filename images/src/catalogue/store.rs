//! The cache folder: files with a sum beside each, so that a damaged one is noticed and fetched again.
//!
//! A file is written under another name and renamed, its sum last: whoever reads sees a whole pair or none that matches.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::{FetchError, Progress};
use crate::chain::hex;

/// Files in one folder, each `NAME` with `NAME.sum`: its SHA-256 and where it came from.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
}

impl Store {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where they are.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where a stored file is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A stored file's bytes and origin; none if there is none, or if it is not what was stored.
    pub(super) fn get(
        &self,
        name: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Option<(Vec<u8>, String)>, FetchError> {
        let Some(bytes) = read_if_there(&self.folder.join(name))? else { return Ok(None) };
        let sum = read_if_there(&self.sum_path(name))?.unwrap_or_default();
        let sum = String::from_utf8_lossy(&sum);
        match sum.trim_end().split_once("  ") {
            Some((sum, origin)) if sum == hex(&Sha256::digest(&bytes)) => Ok(Some((bytes, origin.to_owned()))),
            _ => {
                progress(Progress::Step(format!("the cached {name} is damaged; fetching it again")));
                Ok(None)
            }
        }
    }

    /// Stores a file.
    pub(super) fn put(&self, name: &str, bytes: &[u8], origin: &str) -> Result<(), FetchError> {
        fs::create_dir_all(&self.folder).map_err(FetchError::cache(&self.folder))?;
        write_whole(&self.folder.join(name), bytes)?;
        let sum = format!("{}  {origin}\n", hex(&Sha256::digest(bytes)));
        write_whole(&self.sum_path(name), sum.as_bytes())
    }

    /// The right to fetch, which one thread of one process has at a time: apt's lists and downloads are shared.
    pub(super) fn turn(&self, progress: &mut dyn FnMut(Progress)) -> Result<Flock<File>, FetchError> {
        fs::create_dir_all(&self.folder).map_err(FetchError::cache(&self.folder))?;
        let path = self.folder.join("fetching.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(FetchError::cache(&path))?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(turn) => return Ok(turn),
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, error)) => return Err(FetchError::cache(&path)(error.into())),
        };
        progress(Progress::Step("waiting for another ftemu that is fetching".to_owned()));
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| FetchError::cache(&path)(error.into()))
    }

    fn sum_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.sum"))
    }
}

fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>, FetchError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FetchError::cache(path)(error)),
    }
}

/// Writes a file under a name of this process's own, then renames it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), FetchError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(partial);
    let written = fs::File::create(&partial)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path));
    written.map_err(|error| {
        let _ = fs::remove_file(&partial);
        FetchError::cache(path)(error)
    })
}
