//! Frames that come from passt.
//!
//! They are read as fast as passt sends them, and wait here until the guest takes them: the socket holds little, and
//! what does not fit into it passt drops (that of Debian 12), with all that it sends afterwards to be sent again.

use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;

use crate::edge::Edge;

/// No frame is longer.
const LONGEST: usize = 65_550;
/// Before each frame comes its length.
const LENGTH: usize = 4;
/// Bytes that are read at once.
const PIECE: usize = 256 << 10;
/// Bytes that wait for the guest: more than any receive window of one is by default (6 MiB with Linux).
const MOST_WAITING: usize = 16 << 20;

/// Bytes from passt, in their order.
#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// So many of them have been taken.
    taken: usize,
}

/// What is at the front.
#[derive(Debug, PartialEq, Eq)]
enum Front {
    Frame,
    Part,
    Nonsense(usize),
}

impl Waiting {
    fn rest(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    fn front(&self) -> Front {
        let Some((length, rest)) = self.rest().split_first_chunk::<LENGTH>() else { return Front::Part };
        match u32::from_be_bytes(*length) as usize {
            length if length > LONGEST => Front::Nonsense(length),
            length if length > rest.len() => Front::Part,
            _ => Front::Frame,
        }
    }

    /// The frame at the front.
    fn take(&mut self) -> Option<Vec<u8>> {
        let (length, rest) = self.rest().split_first_chunk::<LENGTH>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let frame = rest.get(..length).filter(|_| length <= LONGEST)?.to_vec();
        self.taken += LENGTH + length;
        Some(frame)
    }

    /// Makes room behind the last byte: what is in front of the first moves away when it is the larger part.
    fn make_room(&mut self) {
        if self.taken * 2 >= self.bytes.len() {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.reserve(PIECE);
    }
}

/// Tells the node of every frame, until passt speaks no more or nonsense; says what that was.
pub async fn receive(reader: &mut OwnedReadHalf, nic: u8, edge: &Edge) -> Option<String> {
    let mut waiting = Waiting::default();
    loop {
        let front = waiting.front();
        if let Front::Nonsense(length) = front {
            return Some(format!("passt announced a frame of {length} bytes"));
        }
        waiting.make_room();
        let may_read = waiting.rest().len() < MOST_WAITING;
        tokio::select! {
            length = reader.read_buf(&mut waiting.bytes), if may_read => {
                length.ok().filter(|length| *length > 0)?;
            }
            room = edge.room(), if front == Front::Frame => {
                let frames = std::iter::from_fn(|| waiting.take()).take(room).collect();
                edge.arrived(nic, frames);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(bytes: &[u8]) -> Waiting {
        Waiting { bytes: bytes.to_vec(), taken: 0 }
    }

    #[test]
    fn frames_are_taken_whole() {
        let mut two = waiting(&[0, 0, 0, 2, 7, 8, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((two.front(), two.take(), two.take()), (Front::Frame, Some(vec![7, 8]), Some(vec![])));
        assert_eq!((two.front(), two.take()), (Front::Part, None));
        two.make_room();
        two.bytes.push(9);
        assert_eq!((two.take(), two.rest().len()), (Some(vec![9]), 0));
        for part in [&[][..], &[0, 0, 0], &[0, 0, 0, 2, 7]] {
            assert_eq!((waiting(part).front(), waiting(part).take()), (Front::Part, None));
        }
        assert_eq!((waiting(&[255; 9]).front(), waiting(&[255; 9]).take()), (Front::Nonsense(0xffff_ffff), None));
    }
}
