//! Nobody without a pinned key gets anything in, and the right server is told what to do.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use common::{PATIENCE, listener, loopback, next_message, pair};
use ftemu_transport::{Class, Identity, LinkError, Listener, Settings, Trust, dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn the_listener_refuses_an_unknown_key() {
    let settings = Settings::default();
    let here = Identity::ephemeral().unwrap();
    let stranger = Identity::ephemeral().unwrap();
    let trust = Trust::of([here.fingerprint()]);
    let friends = Trust::of([Identity::ephemeral().unwrap().fingerprint()]);
    let mut listener = Listener::bind(loopback(), here, friends, settings.clone()).unwrap();
    let address = listener.local_address().unwrap();
    let (accepted, dialled) = tokio::join!(listener.accept(), dial(address, &stranger, &trust, &settings));
    let accepted = accepted.err().unwrap();
    assert!(matches!(&accepted, LinkError::Untrusted { offered, .. } if *offered == stranger.fingerprint()));
    let dialled = dialled.err().unwrap();
    assert!(matches!(&dialled, LinkError::Refused { own, .. } if *own == stranger.fingerprint()), "{dialled}");
}

#[tokio::test]
async fn the_dialler_refuses_an_unknown_key() {
    let settings = Settings::default();
    let (mut listener, identity, _) = listener(&settings);
    let address = listener.local_address().unwrap();
    let friends = Trust::of([identity.fingerprint()]);
    let (accepted, dialled) = tokio::join!(listener.accept(), dial(address, &identity, &friends, &settings));
    assert!(matches!(dialled.err().unwrap(), LinkError::Untrusted { .. }));
    let accepted = accepted.err().unwrap();
    assert!(matches!(accepted, LinkError::Refused { .. }), "{accepted}");
}

#[tokio::test]
async fn nobody_there_is_said_soon() {
    let settings = Settings::default();
    let unused = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    let identity = Identity::ephemeral().unwrap();
    let result = dial(unused, &identity, &Trust::of([identity.fingerprint()]), &settings).await;
    let error = result.err().unwrap();
    assert!(matches!(error, LinkError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_port_in_use_is_said() {
    let (listener, identity, trust) = listener(&Settings::default());
    let address = listener.local_address().unwrap();
    let error = Listener::bind(address, identity, trust, Settings::default()).err().unwrap();
    assert!(error.to_string().contains("choose another one"), "{error}");
}

/// Bytes that look like nothing, like the start of QUIC, and much too many of them.
fn garbage(address: SocketAddr) {
    let socket = UdpSocket::bind(loopback()).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for turn in 0..2000_usize {
        let mut packet: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        })
        .take(turn % 1400)
        .collect();
        if let Some(head) = packet.first_chunk_mut::<6>().filter(|_| turn % 2 == 0) {
            // A long header of an Initial packet of version 1 (RFC 9000 section 17.2.2).
            *head = [0xc3, 0, 0, 0, 1, 8];
        }
        let _ = socket.send_to(&packet, address);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_does_nothing() {
    let settings = Settings::default();
    let (mut listener, (here, _here_events), (_there, mut there_events)) = pair(&settings).await;
    let address = listener.local_address().unwrap();
    tokio::task::spawn_blocking(move || garbage(address)).await.unwrap();
    for length in [1, 31, 32, 5000] {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        let _ = stranger.write_all(&vec![b'x'; length]).await;
    }
    here.send(Class::Log, b"still here".to_vec()).unwrap();
    assert_eq!(next_message(&mut there_events).await, (Class::Log, b"still here".to_vec()));
    assert!(here.tethered());
    let news = timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(news.is_err(), "a stranger got as far as {:?}", news.map(|link| link.err()));
}

/// A connection to the TCP port that shows no nonce is dropped, and is nobody's tether.
#[tokio::test]
async fn a_forged_tether_is_dropped() {
    let (listener, (here, _here_events), (there, mut there_events)) = pair(&Settings::default()).await;
    let mut forged = TcpStream::connect(listener.local_address().unwrap()).await.unwrap();
    forged.write_all(&[0; 32]).await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, forged.read_to_end(&mut answer)).await.expect("dropped");
    assert!(read.is_err() || answer.is_empty());
    here.send(Class::Control, b"and on".to_vec()).unwrap();
    assert_eq!(next_message(&mut there_events).await.1, b"and on");
    assert!(here.tethered() && there.tethered());
}

/// Without mutual TLS there is no link: a client that shows no certificate at all.
#[tokio::test]
async fn a_client_without_a_key_is_refused() {
    let (mut listener, _, _) = listener(&Settings::default());
    let address = listener.local_address().unwrap();
    let endpoint = quinn::Endpoint::client(loopback()).unwrap();
    let tls = nobody::client();
    let config = quinn::ClientConfig::new(std::sync::Arc::new(tls));
    let connecting = endpoint.connect_with(config, address, "ftemu").unwrap();
    let (accepted, outcome) = tokio::join!(listener.accept(), async {
        match connecting.await {
            Ok(connection) => connection.closed().await,
            Err(error) => error,
        }
    });
    assert!(accepted.is_err());
    assert!(matches!(outcome, quinn::ConnectionError::ConnectionClosed(_)), "{outcome:?}");
}

/// A TLS client that takes any server and shows no certificate.
mod nobody {
    use std::sync::Arc;

    use quinn::crypto::rustls::QuicClientConfig;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::ring;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ED25519]
        }
    }

    pub fn client() -> QuicClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody));
        let mut config = builder.with_no_client_auth();
        config.alpn_protocols = vec![b"ftemu-link/1".to_vec()];
        QuicClientConfig::try_from(config).unwrap()
    }
}
