//! The times and sizes of a link, and how QUIC is tuned for them.
//!
//! The link's job is unusual: mostly tiny messages that must leave at once, now and then hundreds
//! of megabytes of bulk, between two servers that are near each other.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::CubicConfig;
use quinn::{AckFrequencyConfig, IdleTimeout, TransportConfig, VarInt};

/// The times of a link. All have a sensible default.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The connection is given up after nothing came for so long. What keeps it is said three times as often.
    pub idle_limit: Duration,
    /// How long reaching a peer may take.
    pub handshake_limit: Duration,
    /// How long to wait for the tether before the link goes on without.
    pub tether_limit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            idle_limit: Duration::from_secs(10),
            handshake_limit: Duration::from_secs(5),
            tether_limit: Duration::from_secs(1),
        }
    }
}

/// Bytes in flight before the network has said anything about its capacity. Log messages are
/// small and rare beside it, so they never wait for a window to open.
const INITIAL_WINDOW_BYTES: u64 = 256 << 10;
/// A stream's bytes in flight. Keeps bulk from queueing far ahead of the log on the way.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
/// All streams' bytes in flight and in our buffers.
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What QUIC keeps of datagrams; ours are at most 9 bytes.
const DATAGRAM_BUFFER_BYTES: usize = 16 << 10;
/// The round trip assumed before the first one is measured: servers of a pair are near.
const INITIAL_RTT: Duration = Duration::from_millis(20);
/// QUIC's acknowledgements may wait this long for a packet that takes them along: a busy guest's next piece of the log is one,
/// and a pair has half as many packets. When nothing follows, the loss of a log message shows so much later.
const ACK_DELAY: Duration = Duration::from_millis(20);

impl Settings {
    /// QUIC's own parameters (RFC 9000, RFC 9002).
    pub(crate) fn quic(&self) -> Arc<TransportConfig> {
        let mut acknowledgements = AckFrequencyConfig::default();
        acknowledgements.max_ack_delay(Some(ACK_DELAY));
        let mut congestion = CubicConfig::default();
        congestion.initial_window(INITIAL_WINDOW_BYTES);
        let mut config = TransportConfig::default();
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(0))
            .max_concurrent_uni_streams(VarInt::from_u32(3))
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
            .send_window(u64::from(CONNECTION_WINDOW_BYTES))
            .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
            .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
            .max_idle_timeout(IdleTimeout::try_from(self.idle_limit).ok())
            .keep_alive_interval(Some(self.idle_limit / 3))
            .initial_rtt(INITIAL_RTT)
            .ack_frequency_config(Some(acknowledgements))
            .congestion_controller_factory(Arc::new(congestion));
        Arc::new(config)
    }
}
