//! The arbiter for one box or a shared disk: a claim is a file that only one can create.
//!
//! The claim of term N is the file `PATH.term-N`, and what it says is who won. It is written under another name first
//! and then linked into place, which fails if the name is taken: so a claim is there whole or not at all, and creating it
//! is atomic on local file systems and on NFS.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use ftemu_lockstep::Verdict;

/// Reads `file:PATH`.
///
/// # Errors
/// In words for the user.
pub fn parse(text: &str) -> Result<PathBuf, String> {
    match text.strip_prefix("file:") {
        Some("") => Err("file: wants a path, for example file:/shared/guest1".into()),
        Some(path) => Ok(path.into()),
        None => Err("the arbiters known are files: file:/shared/guest1".into()),
    }
}

/// A file arbiter, and the name under which this process claims.
#[derive(Debug, Clone)]
pub struct Arbiter {
    path: PathBuf,
    claimant: String,
}

impl Arbiter {
    /// Claims are made for `claimant`, which no other process may use.
    pub fn new(path: PathBuf, claimant: String) -> Self {
        Self { path, claimant }
    }

    /// Claims `term`. The same claimant gets the same answer each time.
    pub fn claim(&self, term: u64) -> Verdict {
        match self.try_claim(term) {
            Ok(verdict) => verdict,
            Err(error) => Verdict::Unreachable(format!("{}: {error}", self.path.display())),
        }
    }

    fn try_claim(&self, term: u64) -> std::io::Result<Verdict> {
        let claim = self.name(&format!("term-{term}"));
        let draft = self.name(&format!("draft-{}", blake3::hash(self.claimant.as_bytes()).to_hex()));
        let mut file = File::create(&draft)?;
        file.write_all(self.claimant.as_bytes())?;
        file.sync_all()?;
        let linked = fs::hard_link(&draft, &claim);
        fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            // Over NFS the answer to a link that succeeded may have been lost, so the file itself decides.
            _ => {
                let winner = fs::read_to_string(&claim)?;
                Ok(if winner == self.claimant { Verdict::Won } else { Verdict::Lost { to: winner } })
            }
        }
    }

    fn name(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }
}

/// Makes sure that a new guest finds no claims of an older one, which would make it halt itself at its first failover.
///
/// # Errors
/// When there are claims and they may not be removed, or the folder cannot be used.
pub fn prepare(path: &Path, forget: bool) -> Result<()> {
    let old = claims(path).with_context(|| format!("cannot use the arbiter file:{}", path.display()))?;
    if let (Some(first), false) = (old.first(), forget) {
        let winner = fs::read_to_string(first).unwrap_or_default();
        bail!(
            "the arbiter already holds a claim, {}, won by {winner}; if the guest of then still runs somewhere, start this \
             server as its standby (ftemu standby --peer ...); if not, use --forget-claims",
            first.display()
        );
    }
    for claim in old {
        fs::remove_file(&claim).with_context(|| format!("cannot remove the old claim {}", claim.display()))?;
    }
    Ok(())
}

fn claims(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut prefix = path.file_name().unwrap_or_default().to_os_string();
    prefix.push(".term-");
    let prefix = prefix.to_string_lossy().into_owned();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guest");
        (folder, path)
    }

    #[test]
    fn one_wins_and_stays_the_winner() {
        let (_folder, path) = folder();
        let [a, b] = ["a", "b"].map(|name| Arbiter::new(path.clone(), name.into()));
        assert_eq!(a.claim(1), Verdict::Won);
        assert_eq!(b.claim(1), Verdict::Lost { to: "a".into() });
        assert_eq!(a.claim(1), Verdict::Won);
        assert_eq!(b.claim(2), Verdict::Won);
    }

    #[test]
    fn of_many_at_once_one_wins() {
        let (_folder, path) = folder();
        let claim = |number: u32| Arbiter::new(path.clone(), number.to_string()).claim(1);
        let won = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..16).map(|number| scope.spawn(move || claim(number))).collect();
            claims
                .into_iter()
                .filter(|_| true)
                .map(|claim| claim.join().unwrap())
                .filter(|v| *v == Verdict::Won)
                .count()
        });
        assert_eq!(won, 1);
    }

    #[test]
    fn an_arbiter_out_of_reach_is_no_verdict() {
        let arbiter = Arbiter::new("/nowhere/at/all".into(), "a".into());
        assert!(matches!(arbiter.claim(1), Verdict::Unreachable(_)));
        assert!(prepare(Path::new("/nowhere/at/all"), false).is_err());
    }

    #[test]
    fn old_claims_are_kept_unless_told() {
        let (_folder, path) = folder();
        prepare(&path, false).unwrap();
        Arbiter::new(path.clone(), "somebody".into()).claim(3);
        let error = prepare(&path, false).unwrap_err().to_string();
        assert!(error.contains("somebody") && error.contains("--forget-claims"), "{error}");
        prepare(&path, true).unwrap();
        prepare(&path, false).unwrap();
    }

    #[test]
    fn arguments() {
        assert_eq!(parse("file:/a/b"), Ok("/a/b".into()));
        assert!(parse("/a/b").is_err() && parse("file:").is_err() && parse("etcd://x").is_err());
    }
}
