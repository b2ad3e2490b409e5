//! What goes by datagrams (RFC 9221): heartbeats of the user's, and the question whether the peer lives.
//!
//! A datagram is never sent again when it is lost, so a heartbeat is never late news. Who is silent is for the user to judge,
//! who alone knows what the peer was to say and when.

use std::sync::Arc;

use bytes::Bytes;

use crate::link::{Event, Message, Shared};
use crate::{Class, SendError};

/// "Do you live?" with a number.
const PROBE: u8 = 1;
/// The answer to a probe, with its number.
const ECHO: u8 = 2;
/// A heartbeat of the user's, with what it says.
const MESSAGE: u8 = 3;

/// Sends a heartbeat of the user's.
pub(crate) fn send(shared: &Shared, bytes: &[u8]) -> Result<(), SendError> {
    let mut datagram = Vec::with_capacity(bytes.len() + 1);
    datagram.push(MESSAGE);
    datagram.extend_from_slice(bytes);
    shared.connection.send_datagram(datagram.into()).map_err(|_| SendError::Closed)
}

/// Sends a question that only the living peer can answer, by way of [`Shared::echoed`].
pub(crate) fn probe(shared: &Shared, number: u64) {
    send_numbered(shared, PROBE, number);
}

/// Reads datagrams: heartbeats are passed on, probes are answered.
pub(crate) async fn listen(shared: Arc<Shared>) {
    while let Ok(datagram) = shared.connection.read_datagram().await {
        let Some((kind, rest)) = datagram.split_first() else { continue };
        match *kind {
            MESSAGE => {
                let message = Message { class: Class::Heartbeat, bytes: rest.to_vec(), _budget: None };
                shared.report(Event::Message(message));
            }
            PROBE => number(rest).into_iter().for_each(|number| send_numbered(&shared, ECHO, number)),
            ECHO => number(rest).into_iter().for_each(|number| {
                shared.echoed.send_replace(number);
            }),
            _ => {}
        }
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

fn send_numbered(shared: &Shared, kind: u8, number: u64) {
    let mut datagram = [kind; 9];
    datagram[1..].copy_from_slice(&number.to_le_bytes());
    // A closed connection has its own report.
    let _ = shared.connection.send_datagram(Bytes::copy_from_slice(&datagram));
}
