//! The tether: a TCP connection beside QUIC whose only message is its end.
//!
//! A killed process says nothing over UDP. Its kernel, however, ends its TCP connections at once,
//! so the peer learns of the death within a round trip. No data is ever taken from a tether but a
//! nonce that was agreed over the authenticated QUIC connection: nobody else can attach one.
//!
//! TCP itself is not authenticated: somebody on the way could end the connection. So a broken
//! tether only raises the question. The peer is asked over QUIC whether it lives, and only if it
//! does not answer either is it dead.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn::VarInt;
use rustls::crypto::ring;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use crate::datagrams;
use crate::link::{Closed, Event, Shared};

/// Proves that a tether belongs to a QUIC connection; used once.
pub(crate) type Nonce = [u8; 32];

/// Strangers' connections that may be open while we wait for their nonce.
const STRANGERS: usize = 16;
/// How long a new connection has to show its nonce.
const NONCE_LIMIT: Duration = Duration::from_secs(2);
/// The least time given to a peer to answer a probe after its tether broke.
const PROBE_LIMIT: Duration = Duration::from_millis(3);
/// Probes sent, in case some are lost.
const PROBES: u32 = 3;

/// A number nobody can guess.
pub(crate) fn nonce() -> Nonce {
    let mut nonce = [0; 32];
    let filled = ring::default_provider().secure_random.fill(&mut nonce);
    assert!(filled.is_ok(), "the system gives no random numbers");
    nonce
}

/// The nonces a listener waits for.
#[derive(Default)]
pub(crate) struct Expected(Mutex<BTreeMap<Nonce, oneshot::Sender<TcpStream>>>);

impl Expected {
    /// Waits for the connection that shows `nonce`.
    pub(crate) fn expect(&self, nonce: Nonce) -> oneshot::Receiver<TcpStream> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(nonce, sender);
        receiver
    }

    /// Takes the one who waits for `nonce`, and no longer expects it.
    pub(crate) fn take(&self, nonce: &Nonce) -> Option<oneshot::Sender<TcpStream>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(nonce)
    }
}

/// Accepts TCP connections and passes on those with an expected nonce.
pub(crate) async fn accept(listener: TcpListener, expected: Arc<Expected>) {
    let strangers = Arc::new(Semaphore::new(STRANGERS));
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            // Out of file descriptors or the like: let others end first.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&strangers).try_acquire_owned() else {
            continue;
        };
        let expected = Arc::clone(&expected);
        tokio::spawn(async move {
            let nonce = timeout(NONCE_LIMIT, read_nonce(&mut stream)).await.ok().flatten();
            if let Some(waiting) = nonce.and_then(|nonce| expected.take(&nonce)) {
                // The one who waited may have given up.
                let _ = waiting.send(stream);
            }
            drop(permit);
        });
    }
}

/// The listener's half of pairing: answers with the nonce the dialler expects.
pub(crate) async fn answer(mut stream: TcpStream, theirs: &Nonce) -> Option<TcpStream> {
    stream.write_all(theirs).await.ok()?;
    Some(stream)
}

/// The dialler's half of pairing: shows the listener's nonce and expects its own back.
pub(crate) async fn present(mut stream: TcpStream, theirs: &Nonce, ours: &Nonce) -> Option<TcpStream> {
    stream.set_nodelay(true).ok()?;
    stream.write_all(theirs).await.ok()?;
    let shown = read_nonce(&mut stream).await?;
    (shown == *ours).then_some(stream)
}

async fn read_nonce(stream: &mut TcpStream) -> Option<Nonce> {
    let mut nonce = [0; 32];
    stream.read_exact(&mut nonce).await.ok()?;
    Some(nonce)
}

/// Watches a paired tether; when it ends, finds out whether the peer did.
pub(crate) async fn watch(shared: Arc<Shared>, mut stream: TcpStream) {
    shared.tethered.store(true, Ordering::Relaxed);
    let mut byte = [0];
    tokio::select! {
        // Data is against the rules and ends the tether just the same.
        _ = stream.read(&mut byte) => {}
        _ = shared.connection.closed() => return,
    }
    shared.tethered.store(false, Ordering::Relaxed);
    tokio::select! {
        answered = ask(&shared) => conclude(&shared, answered),
        _ = shared.connection.closed() => {}
    }
}

fn conclude(shared: &Shared, answered: bool) {
    if answered {
        return shared.report(Event::TetherLost);
    }
    shared.finish(Closed::ProcessDied);
    shared.connection.close(VarInt::from_u32(0), b"your process seems to be gone");
}

/// Whether the peer answers over QUIC.
async fn ask(shared: &Shared) -> bool {
    let number = u64::from_le_bytes(std::array::from_fn({
        let random = nonce();
        move |index| random[index]
    }));
    let mut echoed = shared.echoed.subscribe();
    let limit = PROBE_LIMIT.max(shared.connection.rtt() * 4);
    let start = Instant::now();
    for turn in 1..=PROBES {
        datagrams::probe(shared, number);
        let answer = echoed.wait_for(|echo| *echo == number);
        tokio::select! {
            answer = answer => return answer.is_ok(),
            () = sleep_until(start + limit * turn / PROBES) => {}
        }
    }
    false
}
