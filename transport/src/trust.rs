//! Whom this server lets in: a file with one key a line.
//!
//! A line is a fingerprint, then anything (a remark, a host's name). `#` starts a remark.
//! The file is read again when a key is not found in it, so that adding a line needs no restart.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::{Fingerprint, TrustError};

/// The keys that may talk to this server.
#[derive(Debug, Clone)]
pub struct Trust {
    keys: BTreeSet<Fingerprint>,
    file: Option<PathBuf>,
}

impl Trust {
    /// Trusts the keys in `path`.
    ///
    /// # Errors
    /// When the file cannot be read, has a line that is no key, or has no key at all.
    pub fn from_file(path: &Path) -> Result<Self, TrustError> {
        let text = fs::read_to_string(path).map_err(|source| TrustError::File { path: path.into(), source })?;
        let keys = parse(path, &text)?;
        if keys.is_empty() {
            return Err(TrustError::Empty { path: path.into() });
        }
        Ok(Self { keys, file: Some(path.into()) })
    }

    /// Trusts exactly these keys.
    pub fn of(keys: impl IntoIterator<Item = Fingerprint>) -> Self {
        Self { keys: keys.into_iter().collect(), file: None }
    }

    /// Whether `key` may talk to us, by the file as it is now.
    pub fn allows(&self, key: &Fingerprint) -> bool {
        self.keys.contains(key) || self.newly_added(key)
    }

    /// Where the keys come from, for messages to the user.
    pub fn source(&self) -> String {
        match &self.file {
            Some(path) => format!("trust file {}", path.display()),
            None => "the list of trusted keys".into(),
        }
    }

    fn newly_added(&self, key: &Fingerprint) -> bool {
        let Some(path) = &self.file else { return false };
        let read = fs::read_to_string(path).ok();
        read.and_then(|text| parse(path, &text).ok()).is_some_and(|keys| keys.contains(key))
    }
}

fn parse(path: &Path, text: &str) -> Result<BTreeSet<Fingerprint>, TrustError> {
    let mut keys = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default();
        let Some(word) = line.split_whitespace().next() else {
            continue;
        };
        let key = word.parse().map_err(|error: crate::FingerprintError| TrustError::Line {
            path: path.into(),
            line: index + 1,
            reason: error.to_string(),
        })?;
        keys.insert(key);
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn remarks_and_names_are_skipped() {
        let key = Identity::ephemeral().unwrap().fingerprint();
        let path = file(&format!("# servers\n\n  {key} server-b # the other one\n"));
        assert!(Trust::from_file(path.path()).unwrap().allows(&key));
    }

    #[test]
    fn a_line_added_later_counts() {
        let [first, second] = [0; 2].map(|_| Identity::ephemeral().unwrap().fingerprint());
        let path = file(&first.to_string());
        let trust = Trust::from_file(path.path()).unwrap();
        assert!(!trust.allows(&second));
        fs::write(path.path(), format!("{first}\n{second}\n")).unwrap();
        assert!(trust.allows(&second));
    }

    #[test]
    fn errors_say_where_and_what() {
        let bad = Trust::from_file(file("\nhello\n").path()).unwrap_err().to_string();
        assert!(bad.contains("line 2") && bad.contains("ftemu identity"), "{bad}");
        let empty = Trust::from_file(file("# none\n").path()).unwrap_err().to_string();
        assert!(empty.contains("names no key"), "{empty}");
        let missing = Trust::from_file(Path::new("/nowhere/trust")).unwrap_err().to_string();
        assert!(missing.contains("/nowhere/trust"), "{missing}");
    }
}
