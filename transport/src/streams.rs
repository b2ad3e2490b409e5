//! The tasks that move messages between the queues and the QUIC streams.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{ReadError, ReadExactError, RecvStream, SendStream, VarInt};
use tokio::sync::{Semaphore, mpsc};

use crate::Class;
use crate::frame::{LENGTH_BYTES, length_field};
use crate::link::{Event, Message, Shared};

/// The code of a close for breaking the rules of framing.
const PROTOCOL_VIOLATION: u32 = 0x100;
/// Messages that go to the stream in one call, at most.
const BATCH: usize = 32;

/// Why reading from a stream ended.
pub(crate) enum Ended {
    /// The peer announced a longer message than it may send.
    TooLong(usize),
    /// The connection is gone, or the peer ended the stream.
    Gone,
}

impl From<ReadExactError> for Ended {
    fn from(_: ReadExactError) -> Self {
        Ended::Gone
    }
}

impl From<ReadError> for Ended {
    fn from(_: ReadError) -> Self {
        Ended::Gone
    }
}

/// Writes a class's messages to its stream as they come.
pub(crate) async fn write(
    shared: Arc<Shared>,
    class: Class,
    mut queue: mpsc::UnboundedReceiver<Option<Bytes>>,
    mut stream: SendStream,
) {
    let _ = stream.set_priority(class.priority());
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let count = tokio::select! {
            count = queue.recv_many(&mut batch, BATCH) => count,
            _ = shared.connection.closed() => 0,
        };
        let ends = batch.contains(&None);
        let mut chunks: Vec<Bytes> = batch.drain(..).flatten().flat_map(frame).collect();
        if count == 0 || stream.write_all_chunks(&mut chunks).await.is_err() {
            return;
        }
        if ends {
            // Ends when the peer has acknowledged the last byte; only then does the queue count as closed.
            let _ = stream.finish().is_ok() && stream.stopped().await.is_ok();
            return;
        }
    }
}

fn frame(message: Bytes) -> [Bytes; 2] {
    [Bytes::copy_from_slice(&length_field(message.len())), message]
}

/// Accepts the peer's log and bulk streams and reads all three.
pub(crate) async fn read_all(shared: Arc<Shared>, control: RecvStream) {
    tokio::spawn(read(Arc::clone(&shared), Class::Control, control));
    for class in [Class::Log, Class::Bulk] {
        let Ok(stream) = shared.connection.accept_uni().await else {
            return;
        };
        tokio::spawn(read(Arc::clone(&shared), class, stream));
    }
}

async fn read(shared: Arc<Shared>, class: Class, mut stream: RecvStream) {
    let ended = forward(&shared, class, &mut stream).await;
    if let Ended::TooLong(length) = ended {
        let reason = format!("a {class:?} message of {length} bytes is too long");
        shared.connection.close(VarInt::from_u32(PROTOCOL_VIOLATION), reason.as_bytes());
    }
}

/// Reports a stream's messages until it ends.
async fn forward(shared: &Shared, class: Class, stream: &mut RecvStream) -> Ended {
    let budget = Arc::new(Semaphore::new(class.budget()));
    loop {
        let length = match read_length(stream, class.limit()).await {
            Ok(length) => length,
            Err(ended) => return ended,
        };
        let permits = u32::try_from(length).unwrap_or(u32::MAX);
        let Ok(permit) = Arc::clone(&budget).acquire_many_owned(permits).await else {
            return Ended::Gone;
        };
        let bytes = match read_body(stream, length).await {
            Ok(bytes) => bytes,
            Err(ended) => return ended,
        };
        shared.report(Event::Message(Message { class, bytes, _budget: Some(permit) }));
    }
}

/// Reads one message of at most `limit` bytes; for the handshake.
pub(crate) async fn read_message(stream: &mut RecvStream, limit: usize) -> Result<Vec<u8>, Ended> {
    let length = read_length(stream, limit).await?;
    read_body(stream, length).await
}

async fn read_length(stream: &mut RecvStream, limit: usize) -> Result<usize, Ended> {
    let mut field = [0; LENGTH_BYTES];
    stream.read_exact(&mut field).await?;
    let length = usize::try_from(u32::from_le_bytes(field)).unwrap_or(usize::MAX);
    if length > limit { Err(Ended::TooLong(length)) } else { Ok(length) }
}

async fn read_body(stream: &mut RecvStream, length: usize) -> Result<Vec<u8>, Ended> {
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let rest = length - bytes.len();
        let chunk = stream.read_chunk(rest, true).await?.ok_or(Ended::Gone)?;
        bytes.extend_from_slice(&chunk.bytes);
    }
    Ok(bytes)
}
