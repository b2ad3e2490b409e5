//! Who this server is: a private key and a certificate around it, in a folder of its owner's.
//!
//! Two files: `identity.key` (PKCS #8, RFC 5958, mode 0600) and `identity.crt` (X.509). The
//! certificate only carries the public key: no name or date in it is ever looked at.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::{Fingerprint, IdentityError};

const KEY_FILE: &str = "identity.key";
const CERTIFICATE_FILE: &str = "identity.crt";

/// The name both sides use in TLS; pinned keys are what is checked, so it need not tell anybody apart.
pub(crate) const SERVER_NAME: &str = "ftemu";

/// This server's private key (Ed25519) and the certificate that shows its public half.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// Reads the identity kept in `folder`, or makes one there if there is none yet.
    ///
    /// # Errors
    /// When the folder or its files cannot be used, are damaged, or when the key is open to others.
    pub fn load_or_create(folder: &Path) -> Result<Self, IdentityError> {
        let key_path = folder.join(KEY_FILE);
        if !key_path.exists() {
            create(folder)?;
        }
        Self::load(folder)
    }

    /// A new identity that lives in memory only.
    ///
    /// # Errors
    /// When the cryptographic library cannot make one.
    pub fn ephemeral() -> Result<Self, IdentityError> {
        let (key, certificate) = generate()?;
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes());
        let private = private.map_err(|error| IdentityError::Generate(error.to_string()))?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
        let certificate = certificate.map_err(|error| IdentityError::Generate(error.to_string()))?;
        let fingerprint = Fingerprint::of_certificate(&certificate);
        let fingerprint = fingerprint.map_err(|error| IdentityError::Generate(error.to_string()))?;
        Ok(Self { certificate, key: private, fingerprint })
    }

    /// What the other server has to trust.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }

    fn load(folder: &Path) -> Result<Self, IdentityError> {
        let key_path = folder.join(KEY_FILE);
        check_mode(&key_path)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?);
        let key = key.map_err(|error| damaged(&key_path, &error))?;
        let path = folder.join(CERTIFICATE_FILE);
        let certificate = CertificateDer::from_pem_slice(&read(&path)?);
        let certificate = certificate.map_err(|error| damaged(&path, &error))?;
        let fingerprint = Fingerprint::of_certificate(&certificate).map_err(|error| damaged(&path, &error))?;
        Ok(Self { certificate, key, fingerprint })
    }
}

fn create(folder: &Path) -> Result<(), IdentityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| IdentityError::File { path: folder.into(), source })?;
    let (key, certificate) = generate()?;
    // The key comes last: it is what `load_or_create` looks for, so a crash in between starts over.
    write_private(&folder.join(CERTIFICATE_FILE), &certificate)?;
    write_private(&folder.join(KEY_FILE), &key)
}

/// A new key and a certificate for it, both as PEM text.
fn generate() -> Result<(String, String), IdentityError> {
    let make = || -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let certificate = CertificateParams::new(vec![SERVER_NAME.into()])?.self_signed(&key)?;
        Ok((key.serialize_pem(), certificate.pem()))
    };
    make().map_err(|error| IdentityError::Generate(error.to_string()))
}

/// Writes under a temporary name first, so that nobody ever reads half a file.
fn write_private(path: &Path, text: &str) -> Result<(), IdentityError> {
    let partial = path.with_extension(format!("partial-{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().map_err(|source| IdentityError::File { path: path.into(), source })
}

fn read(path: &Path) -> Result<Vec<u8>, IdentityError> {
    fs::read(path).map_err(|source| IdentityError::File { path: path.into(), source })
}

fn check_mode(path: &PathBuf) -> Result<(), IdentityError> {
    let metadata = fs::metadata(path).map_err(|source| IdentityError::File { path: path.into(), source })?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path: path.into(), mode });
    }
    Ok(())
}

fn damaged(path: &Path, reason: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::Damaged { path: path.into(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let parent = folder();
        let folder = parent.path().join("deep");
        let first = Identity::load_or_create(&folder).unwrap().fingerprint();
        assert_eq!(Identity::load_or_create(&folder).unwrap().fingerprint(), first);
        let mode = fs::metadata(folder.join(KEY_FILE)).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn two_identities_differ() {
        let [one, two] = [Identity::ephemeral(), Identity::ephemeral()].map(|made| made.unwrap().fingerprint());
        assert_ne!(one, two);
    }

    #[test]
    fn an_exposed_key_is_refused() {
        let folder = folder();
        let folder = folder.path();
        Identity::load_or_create(folder).unwrap();
        fs::set_permissions(folder.join(KEY_FILE), fs::Permissions::from_mode(0o644)).unwrap();
        let error = Identity::load_or_create(folder).err().unwrap().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_damaged_key_is_named() {
        let folder = folder();
        let folder = folder.path();
        Identity::load_or_create(folder).unwrap();
        fs::write(folder.join(CERTIFICATE_FILE), "nothing").unwrap();
        let error = Identity::load_or_create(folder).err().unwrap().to_string();
        assert!(error.contains("identity.crt is damaged"), "{error}");
    }
}
