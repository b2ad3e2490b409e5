//! Frames that come from passt.
//!
//! They are read as fast as passt sends them, and wait here until the guest takes them: the socket holds little, and
//! what does not fit into it passt drops (that of Debian 12), with all that it sends afterwards to be sent again.

use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;

use super::waiting::{Front, Waiting};
use crate::edge::Edge;

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Bytes that wait for the guest: more than any receive window of one is by default (6 MiB with Linux).
const MOST_WAITING: usize = 16 << 20;

/// Tells the node of every frame, until passt speaks no more or nonsense; says what that was.
pub async fn receive(reader: &mut OwnedReadHalf, nic: u8, edge: &Edge) -> Option<String> {
    let mut waiting = Waiting::default();
    loop {
        let front = waiting.front();
        if let Front::Nonsense(length) = front {
            return Some(format!("passt announced a frame of {length} bytes"));
        }
        waiting.make_room(PIECE);
        let may_read = waiting.len() < MOST_WAITING;
        tokio::select! {
            length = reader.read_buf(waiting.end()), if may_read => {
                length.ok().filter(|length| *length > 0)?;
            }
            room = edge.room(), if front == Front::Frame => {
                let frames = std::iter::from_fn(|| waiting.take()).take(room).collect();
                edge.arrived(nic, frames);
            }
        }
    }
}
