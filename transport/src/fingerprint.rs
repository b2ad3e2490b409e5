//! What names a key: the BLAKE3 hash of its SubjectPublicKeyInfo (RFC 5280 section 4.1.2.7).
//!
//! The hash covers the public key alone, so a certificate may be made anew around the same key
//! without anybody having to trust it again.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use thiserror::Error;

/// In front of every fingerprint in text form; the digit is the version of the hash rule.
const PREFIX: &str = "ftemu1:";

/// The name of a public key: 32 bytes, in text `ftemu1:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint([u8; 32]);

/// A text is no fingerprint.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a key looks like {PREFIX} and 64 hexadecimal digits, as `ftemu identity` prints it")]
pub struct FingerprintError;

impl Fingerprint {
    /// The fingerprint of the key inside a certificate.
    ///
    /// # Errors
    /// When the bytes are no X.509 certificate.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let key = parsed.subject_public_key_info();
        Ok(Self(*blake3::hash(key.as_ref()).as_bytes()))
    }

    /// The hash itself.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.strip_prefix(PREFIX).ok_or(FingerprintError)?;
        let hash = blake3::Hash::from_hex(digits).map_err(|_| FingerprintError)?;
        Ok(Self(*hash.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let fingerprint = Fingerprint([0xa5; 32]);
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
    }

    #[test]
    fn other_texts_are_refused() {
        let digits = "a5".repeat(32);
        for text in ["", "ftemu1:", &digits, &format!("ftemu2:{digits}"), &format!("{PREFIX}{digits}0")] {
            assert_eq!(text.parse::<Fingerprint>(), Err(FingerprintError), "{text}");
        }
    }
}
