//! TLS 1.3 (RFC 8446) with pinned keys, both ways.
//!
//! The usual question, "did somebody vouch for this name?", is replaced by "is this the key I was
//! told?". That the peer *holds* the key is still proven by the signature in CertificateVerify,
//! which rustls checks with the certificate's public key. There are no tickets and no early data:
//! every connection proves its key anew.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::version::TLS13;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible};
use rustls::{ServerConfig, SignatureScheme};

use crate::{Fingerprint, Identity, LinkError, Trust};

/// Names the link protocol and its version in the TLS handshake (ALPN, RFC 7301).
const PROTOCOL: &[u8] = b"ftemu-link/1";

/// The TLS alert (RFC 8446 section 6) that a peer gets whose key is not trusted: access_denied.
pub(crate) const ALERT_ACCESS_DENIED: u8 = 49;
/// The TLS alert for a peer that speaks no protocol of ours: no_application_protocol.
pub(crate) const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;

/// Accepts the trusted keys, and remembers the key it refused. One serves one handshake.
pub(crate) struct Pin {
    trust: Arc<Trust>,
    provider: Arc<CryptoProvider>,
    refused: Mutex<Option<Fingerprint>>,
}

impl Pin {
    pub(crate) fn new(trust: Arc<Trust>) -> Arc<Self> {
        Arc::new(Self { trust, provider: Arc::new(ring::default_provider()), refused: Mutex::new(None) })
    }

    /// The key that was offered and refused, if one was.
    pub(crate) fn refused(&self) -> Option<Fingerprint> {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the trusted keys come from, for messages to the user.
    pub(crate) fn source(&self) -> String {
        self.trust.source()
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let offered = Fingerprint::of_certificate(certificate)?;
        if self.trust.allows(&offered) {
            return Ok(());
        }
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(offered);
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pin").field("trust", &self.trust).finish_non_exhaustive()
    }
}

/// TLS 1.2 is not offered, so its signatures cannot occur.
fn no_tls12() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(end_entity).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

impl ClientCertVerifier for Pin {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(end_entity).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        no_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes()
    }
}

/// The TLS side of a dialling endpoint.
pub(crate) fn client(identity: &Identity, pin: Arc<Pin>) -> Result<QuicClientConfig, LinkError> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&pin.provider));
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(key_error)?;
    let builder = builder.dangerous().with_custom_certificate_verifier(pin);
    let config = builder.with_client_auth_cert(vec![identity.certificate()], identity.key());
    let mut config = config.map_err(key_error)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    QuicClientConfig::try_from(config).map_err(|error| LinkError::Key(error.to_string()))
}

/// The TLS side of a listening endpoint.
pub(crate) fn server(identity: &Identity, pin: Arc<Pin>) -> Result<QuicServerConfig, LinkError> {
    let builder = ServerConfig::builder_with_provider(Arc::clone(&pin.provider));
    let builder = builder.with_protocol_versions(&[&TLS13]).map_err(key_error)?;
    let builder = builder.with_client_cert_verifier(pin);
    let config = builder.with_single_cert(vec![identity.certificate()], identity.key());
    let mut config = config.map_err(key_error)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    QuicServerConfig::try_from(config).map_err(|error| LinkError::Key(error.to_string()))
}

#[allow(clippy::needless_pass_by_value)] // so that it can be named in map_err
fn key_error(error: Error) -> LinkError {
    LinkError::Key(error.to_string())
}
