//! A link to the peer: its handle, what it reports, and its end.
//!
//! Sending never blocks: messages queue per class and a task each writes them out at once. What
//! was received is bounded: a peer whose messages are not taken has to wait (QUIC flow control).

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, ConnectionError, Endpoint, VarInt};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::{Class, SendError, datagrams};

/// News from a link, in order. After [`Event::Closed`] nothing follows.
#[derive(Debug)]
pub enum Event {
    /// The peer sent a message.
    Message(Message),
    /// The tether broke although the peer lives: from now on only silence can show its death.
    TetherLost,
    /// The link has ended.
    Closed(Closed),
}

/// A received message. While it lives it counts against what may wait for us.
#[derive(Debug)]
pub struct Message {
    /// Which stream it came by.
    pub class: Class,
    /// What it says.
    pub bytes: Vec<u8>,
    /// Given back when the message is dropped.
    pub(crate) _budget: Option<OwnedSemaphorePermit>,
}

/// Why a link ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// The peer's process is gone: its system ended the tether and it answers no more.
    ProcessDied,
    /// The peer ended the link on purpose.
    ByPeer {
        /// The number it gave to [`Link::close`].
        code: u32,
        /// The words it gave.
        reason: String,
    },
    /// Nothing was heard for the idle limit.
    TimedOut,
    /// The peer or the network broke the protocol.
    Broken(String),
    /// [`Link::close`] was called here.
    ByUs,
}

impl fmt::Display for Closed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Closed::ProcessDied => formatter.write_str("the peer's process died"),
            Closed::ByPeer { reason, .. } => {
                write!(formatter, "the peer closed the link: {reason}")
            }
            Closed::TimedOut => formatter.write_str("the peer has not been heard of for too long"),
            Closed::Broken(reason) => write!(formatter, "the link broke: {reason}"),
            Closed::ByUs => formatter.write_str("closed by this side"),
        }
    }
}

/// What has gone over the link so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// UDP payload bytes sent, with all overhead of QUIC.
    pub sent_bytes: u64,
    /// UDP payload bytes received.
    pub received_bytes: u64,
    /// Packets that had to be sent again.
    pub lost_packets: u64,
}

/// A link to the peer. Cloning gives another handle; the last one dropped closes the link.
#[derive(Clone)]
pub struct Link {
    pub(crate) shared: Arc<Shared>,
    _closes: Arc<CloseOnDrop>,
}

/// The receiving end of a link.
pub struct Events {
    pub(crate) receiver: mpsc::UnboundedReceiver<Event>,
}

/// What the handle and the link's tasks have in common.
pub(crate) struct Shared {
    pub(crate) connection: Connection,
    pub(crate) endpoint: Endpoint,
    pub(crate) queues: [Queue; 3],
    /// The last probe that the peer answered.
    pub(crate) echoed: watch::Sender<u64>,
    pub(crate) tethered: AtomicBool,
    pub(crate) events: mpsc::UnboundedSender<Event>,
    pub(crate) closed: OnceLock<Closed>,
}

/// Messages of one class on their way to their stream; `None` is the end: nothing more will be sent.
pub(crate) type Queue = mpsc::UnboundedSender<Option<Bytes>>;

struct CloseOnDrop(Arc<Shared>);

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.connection.close(VarInt::from_u32(0), b"the link was dropped");
    }
}

impl Link {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let closes = Arc::new(CloseOnDrop(Arc::clone(&shared)));
        Self { shared, _closes: closes }
    }

    /// Queues a message; it goes out at once if the network takes it. Never blocks.
    ///
    /// # Errors
    /// When the link is closed or the message longer than [`Class::limit`].
    pub fn send(&self, class: Class, bytes: Vec<u8>) -> Result<(), SendError> {
        let length = bytes.len();
        if length > class.limit() {
            return Err(SendError::TooLong { class, length, limit: class.limit() });
        }
        let Some(queue) = self.shared.queue(class) else {
            return datagrams::send(&self.shared, &bytes);
        };
        queue.send(Some(Bytes::from(bytes))).map_err(|_| SendError::Closed)
    }

    /// The current estimate of the round trip.
    pub fn round_trip(&self) -> Duration {
        self.shared.connection.rtt()
    }

    /// What has gone over the link so far.
    pub fn traffic(&self) -> Traffic {
        let stats = self.shared.connection.stats();
        Traffic {
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            lost_packets: stats.path.lost_packets,
        }
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.shared.connection.remote_address()
    }

    /// Whether the death of the peer's process would be noticed at once.
    pub fn tethered(&self) -> bool {
        self.shared.tethered.load(Ordering::Relaxed)
    }

    /// Why the link ended, if it has.
    pub fn closed(&self) -> Option<&Closed> {
        self.shared.closed.get()
    }

    /// Ends the link and tells the peer. Messages still queued are lost.
    pub fn close(&self, code: u32, reason: &str) {
        self.shared.connection.close(VarInt::from_u32(code), reason.as_bytes());
    }

    /// Ends the link when everything that was sent has arrived; waits for that for `limit` at most.
    pub async fn finish(&self, limit: Duration, code: u32, reason: &str) {
        let all_arrived = async {
            for queue in &self.shared.queues {
                // A queue whose task is gone has nothing left to send.
                let _ = queue.send(None);
            }
            for queue in &self.shared.queues {
                queue.closed().await;
            }
        };
        let _ = tokio::time::timeout(limit, all_arrived).await;
        self.close(code, reason);
        let _ = tokio::time::timeout(limit, self.shared.endpoint.wait_idle()).await;
    }
}

impl Events {
    /// The next event; `None` once the link has ended and all is told.
    pub async fn recv(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

impl Shared {
    /// The queue of a class that has a stream.
    pub(crate) fn queue(&self, class: Class) -> Option<&Queue> {
        class.stream().and_then(|index| self.queues.get(index))
    }

    /// Reports the end of the link, once.
    pub(crate) fn finish(&self, reason: Closed) {
        if self.closed.set(reason.clone()).is_ok() {
            self.report(Event::Closed(reason));
        }
    }

    /// Passes an event to the user; there may be none left to hear it.
    pub(crate) fn report(&self, event: Event) {
        let _ = self.events.send(event);
    }

    /// Reports why the connection ended, when it does.
    pub(crate) async fn watch_close(self: Arc<Self>) {
        let error = self.connection.closed().await;
        self.finish(reason(error));
    }
}

fn reason(error: ConnectionError) -> Closed {
    match error {
        ConnectionError::ApplicationClosed(close) => Closed::ByPeer {
            code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
            reason: String::from_utf8_lossy(&close.reason).into_owned(),
        },
        ConnectionError::TimedOut => Closed::TimedOut,
        ConnectionError::LocallyClosed => Closed::ByUs,
        other => Closed::Broken(other.to_string()),
    }
}
