//! How messages lie in a stream: a length (4 bytes, little-endian), then that many bytes.
//!
//! Each class has a unidirectional stream each way, told apart by the order in which they are
//! opened (RFC 9000 section 2.1: stream numbers count up). Heartbeats have none: each is a datagram.

/// What kind of message, and thereby which stream and which urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Small and urgent: acknowledgements, handshakes, claims.
    Control,
    /// The log. Goes before bulk.
    Log,
    /// State transfer. Fills what room is left.
    Bulk,
    /// Signs of life: sent at once or lost, never again, and in no order.
    Heartbeat,
}

/// Bytes of the length field.
pub(crate) const LENGTH_BYTES: usize = 4;

impl Class {
    /// The classes that have a stream, in the order of its number.
    pub(crate) const STREAMS: [Class; 3] = [Class::Control, Class::Log, Class::Bulk];

    /// The number of the class's stream among a side's unidirectional ones, if it has one.
    pub(crate) fn stream(self) -> Option<usize> {
        match self {
            Class::Control => Some(0),
            Class::Log => Some(1),
            Class::Bulk => Some(2),
            Class::Heartbeat => None,
        }
    }

    /// quinn sends streams of a higher priority first.
    pub(crate) fn priority(self) -> i32 {
        match self {
            Class::Control => 2,
            Class::Log => 1,
            Class::Bulk | Class::Heartbeat => 0,
        }
    }

    /// The longest message of this class, in bytes. A peer that announces more is cut off before
    /// anything is allocated.
    pub const fn limit(self) -> usize {
        match self {
            Class::Control => 1 << 20,
            Class::Log | Class::Bulk => 4 << 20,
            Class::Heartbeat => 1 << 10,
        }
    }

    /// Received bytes of this class that may wait for our user before the peer has to wait.
    pub(crate) const fn budget(self) -> usize {
        4 * self.limit()
    }
}

/// The length field in front of a message. Messages are far below 4 GiB: see [`Class::limit`].
pub(crate) fn length_field(length: usize) -> [u8; LENGTH_BYTES] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}
