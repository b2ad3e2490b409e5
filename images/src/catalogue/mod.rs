//! The guest catalogue: what a demonstration or a test runs, obtained once and kept in the user's cache folder.
//!
//! Nothing is installed and nothing of the system's is changed: packages are downloaded and taken apart in the cache folder,
//! with package lists of our own there when the system's are missing or too old. Works for any user.

mod apt;
mod network;
mod packaged;
mod store;

use std::path::{Path, PathBuf};

use crate::{Guest, debian};
use apt::Apt;
pub use apt::find_in_tar;
pub use network::Card;
pub use packaged::{PACKAGED, Packaged};
use store::Store;

/// Debian's kernel for virtual machines; a package that depends on the current version's package.
const KERNEL: &str = "linux-image-cloud-amd64";
/// A busybox that needs no libraries.
const BUSYBOX: &str = "busybox-static";

/// Why a guest could not be obtained.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not a Debian-like system.
    #[error(
        "`{program}` is not here: Debian's packages come through apt; install apt and dpkg, or give --kernel and --initrd yourself"
    )]
    NoApt {
        /// The missing program.
        program: String,
    },
    /// apt ran and failed: offline, no such package, disk full.
    #[error("{what} failed: {reason}")]
    Apt {
        /// The command, in words.
        what: String,
        /// What it said.
        reason: String,
    },
    /// The package lists are missing or too old, and updating is not wanted.
    #[error("apt's lists do not know {package}; allow an update, or run `apt-get update`")]
    NotListed {
        /// The package.
        package: String,
    },
    /// A package without the file that it should have.
    #[error("package {package} has no file like {pattern}")]
    NoSuchFile {
        /// The package.
        package: String,
        /// What was looked for.
        pattern: String,
    },
    /// The cache folder cannot be written, or read.
    #[error("{}: {reason}; make room, or point XDG_CACHE_HOME to another folder", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// Neither `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("no cache folder: neither XDG_CACHE_HOME nor HOME is set")]
    NoFolder,
}

impl FetchError {
    fn cache(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Cache { path, reason }
    }
}

/// How a fetch goes on, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Something begins.
    Step(String),
    /// The current download, in percent.
    Percent(u8),
}

/// The catalogue over one cache folder.
#[derive(Debug)]
pub struct Catalogue {
    store: Store,
    apt: Apt,
    update: bool,
}

impl Catalogue {
    /// The catalogue in the user's cache folder: `$XDG_CACHE_HOME/ftemu`, or `~/.cache/ftemu`.
    ///
    /// # Errors
    /// Neither variable is set.
    pub fn user() -> Result<Self, FetchError> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
        Ok(Self::at(folder.ok_or(FetchError::NoFolder)?.join("ftemu")))
    }

    /// The catalogue in a folder, which need not exist yet.
    pub fn at(folder: PathBuf) -> Self {
        Self { apt: Apt::new(folder.join("apt")), store: Store::new(folder), update: true }
    }

    /// Where its files are kept.
    pub fn folder(&self) -> &Path {
        self.store.folder()
    }

    /// Whether package lists may be updated when they do not know what is needed (they may, by default).
    pub fn allow_update(mut self, allowed: bool) -> Self {
        self.update = allowed;
        self
    }

    /// Debian's cloud kernel with busybox, doing what `mode` says.
    ///
    /// # Errors
    /// See [`FetchError`]; nothing half-made stays in the cache.
    pub fn debian(&self, mode: debian::Mode, progress: &mut dyn FnMut(Progress)) -> Result<Guest, FetchError> {
        let (kernel, name) = self.part("vmlinuz", progress, |catalogue, progress| {
            let package = catalogue.versioned_kernel(KERNEL, progress)?;
            catalogue.packaged_file(&package, "boot/vmlinuz-", progress)
        })?;
        let (busybox, _) = self.busybox(progress)?;
        let initrd = Some(debian::initramfs(&busybox));
        Ok(Guest { name, kernel, initrd, command_line: debian::command_line(mode) })
    }

    /// The busybox program and its package's name.
    ///
    /// # Errors
    /// As [`Catalogue::debian`].
    pub fn busybox(&self, progress: &mut dyn FnMut(Progress)) -> Result<(Vec<u8>, String), FetchError> {
        self.part("busybox", progress, |catalogue, progress| {
            catalogue.ensure_listed(BUSYBOX, progress)?;
            catalogue.packaged_file(BUSYBOX, "bin/busybox", progress)
        })
    }

    /// A part from the cache, or fetched and stored there. A damaged one is fetched again.
    fn part(
        &self,
        name: &str,
        progress: &mut dyn FnMut(Progress),
        fetch: impl FnOnce(&Self, &mut dyn FnMut(Progress)) -> Result<(Vec<u8>, String), FetchError>,
    ) -> Result<(Vec<u8>, String), FetchError> {
        if let Some(found) = self.store.get(name, progress)? {
            return Ok(found);
        }
        let _turn = self.store.turn(progress)?;
        // Whoever had it before may have fetched this.
        if let Some(found) = self.store.get(name, &mut |_| {})? {
            return Ok(found);
        }
        let (bytes, origin) = fetch(self, progress)?;
        self.store.put(name, &bytes, &origin)?;
        Ok((bytes, origin))
    }

    /// The package that holds the current kernel, given the one that depends on it.
    fn versioned_kernel(&self, kernel: &str, progress: &mut dyn FnMut(Progress)) -> Result<String, FetchError> {
        self.ensure_listed(kernel, progress)?;
        let depends = self.apt.depends(kernel)?;
        let versioned = depends.into_iter().find(|name| name.starts_with("linux-image-"));
        versioned.ok_or_else(|| FetchError::NotListed { package: kernel.to_owned() })
    }

    fn ensure_listed(&self, package: &str, progress: &mut dyn FnMut(Progress)) -> Result<(), FetchError> {
        if self.apt.lists(package)? {
            return Ok(());
        }
        self.update(progress)?;
        if self.apt.lists(package)? {
            return Ok(());
        }
        Err(FetchError::NotListed { package: package.to_owned() })
    }

    fn update(&self, progress: &mut dyn FnMut(Progress)) -> Result<(), FetchError> {
        if !self.update {
            return Ok(());
        }
        progress(Progress::Step("updating package lists (ours, in the cache folder)".to_owned()));
        self.apt.update(progress)
    }

    fn download(&self, package: &str, progress: &mut dyn FnMut(Progress)) -> Result<apt::Downloaded, FetchError> {
        progress(Progress::Step(format!("downloading {package}")));
        match self.apt.download(package, progress) {
            // A list that is too old names files that the archive no longer has.
            Err(FetchError::Apt { .. }) if self.update && !self.apt.has_own_lists() => {
                self.update(progress)?;
                self.apt.download(package, progress)
            }
            other => other,
        }
    }

    /// Downloads a package and takes one file out of it: the first whose path starts with `prefix`.
    fn packaged_file(
        &self,
        package: &str,
        prefix: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Vec<u8>, String), FetchError> {
        let downloaded = self.download(package, progress)?;
        progress(Progress::Step(format!("unpacking {}", downloaded.name)));
        let bytes = self.apt.extract(&downloaded, prefix)?;
        let bytes = bytes
            .ok_or_else(|| FetchError::NoSuchFile { package: package.to_owned(), pattern: format!("{prefix}*") })?;
        Ok((bytes, downloaded.name.clone()))
    }
}

#[cfg(test)]
mod tests;
