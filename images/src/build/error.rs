//! Why a disk could not be built.

use crate::disk::ImageError;

/// Why a disk could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Programs that are not installed.
    #[error("missing: {}; install them with: apt-get install {packages}", programs.join(", "))]
    Tools {
        /// The programs.
        programs: Vec<String>,
        /// Debian's packages that have them.
        packages: String,
    },
    /// Not a plan that can be carried out.
    #[error("{0}")]
    Plan(String),
    /// apt knows no place to get Debian's packages from.
    #[error("this machine's apt knows no archive of Debian packages for {release}; say where one is with --mirror")]
    NoMirror {
        /// The wanted release.
        release: String,
    },
    /// A program failed.
    #[error("{what} failed: {reason}")]
    Program {
        /// The program, in words.
        what: String,
        /// The last lines of what it said.
        reason: String,
    },
    /// The boot loader does not fit before the first partition, or is not as expected.
    #[error("the boot loader of grub-pc-bin cannot be installed: {0}")]
    Loader(String),
    /// The disk's file.
    #[error(transparent)]
    Image(#[from] ImageError),
}

impl BuildError {
    /// Whether a mirror's package lists were at fault.
    pub(super) fn is_about_lists(&self) -> bool {
        let Self::Program { reason, .. } = self else { return false };
        ["apt-get update", "index files failed", "Failed to fetch"].iter().any(|words| reason.contains(words))
    }
}
