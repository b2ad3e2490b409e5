//! Frames on their way to passt.
//!
//! An acknowledgement that carries nothing else replaces one of the same connection that still waits. passt takes any
//! that says the same twice for a loss and sends everything after it again (that of Debian 12 does); the guest answers
//! each repeated segment by another such acknowledgement. Queued in full they would keep that going for ever.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Bytes that wait at most; what is more is lost.
const MOST_WAITING: usize = 4 << 20;
/// Frames that are looked at for one that is replaced.
const MOST_SEARCHED: usize = 32;
/// Length of an Ethernet header.
const ETHERNET: usize = 14;
/// Flags of TCP: all but ACK, and PSH, which is only a hint.
const NOT_ONLY_ACK: u8 = 0b0010_0111;
const ACK: u8 = 0b0001_0000;

/// Frames in their order.
#[derive(Clone, Default)]
pub struct Queue {
    waiting: Arc<Mutex<Waiting>>,
    more: Arc<Notify>,
}

#[derive(Default)]
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Queue {
    /// Sends a frame, in order.
    pub fn send(&self, frame: &[u8]) {
        let frame = unpadded(frame);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.bytes + frame.len() > MOST_WAITING || waiting.replaces(frame) {
            return;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame.to_vec());
        drop(waiting);
        self.more.notify_one();
    }

    /// Waits for frames, and gives up to about `most` bytes of them as passt wants them: each after its length.
    pub async fn next(&self, most: usize) -> Vec<u8> {
        loop {
            let bytes = self.take(most);
            if !bytes.is_empty() {
                return bytes;
            }
            self.more.notified().await;
        }
    }

    fn take(&self, most: usize) -> Vec<u8> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = Vec::new();
        while bytes.len() < most
            && let Some(frame) = waiting.frames.pop_front()
        {
            waiting.bytes -= frame.len();
            bytes.extend(u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend(frame);
        }
        bytes
    }
}

impl Waiting {
    /// Puts an acknowledgement in the place of the last frame of its connection, if that is one, too.
    fn replaces(&mut self, frame: &[u8]) -> bool {
        let Some(new) = Segment::of(frame).filter(|segment| segment.is_only_ack) else { return false };
        let last = self.frames.iter_mut().rev().take(MOST_SEARCHED).find_map(|old| {
            let segment = Segment::of(old).filter(|segment| segment.connection == new.connection)?;
            Some((segment.is_only_ack, segment.acknowledged, old))
        });
        match last {
            // Not one that is older.
            Some((true, acknowledged, old)) if new.acknowledged.wrapping_sub(acknowledged) < 1 << 31 => {
                self.bytes = self.bytes - old.len() + frame.len();
                *old = frame.to_vec();
                true
            }
            _ => false,
        }
    }
}

/// What is looked at of a TCP segment.
struct Segment<'a> {
    /// Addresses and ports.
    connection: (&'a [u8], &'a [u8]),
    acknowledged: u32,
    is_only_ack: bool,
}

impl<'a> Segment<'a> {
    /// The segment in a frame without padding; none if it is anything else, or a fragment.
    fn of(frame: &'a [u8]) -> Option<Self> {
        let packet = frame.get(ETHERNET..)?;
        let (addresses, header) = match (frame.get(12..14)?, packet.first()? >> 4) {
            ([0x08, 0x00], 4)
                if packet.get(9) == Some(&6) && packet.get(6)? & 0x3f == 0 && packet.get(7) == Some(&0) =>
            {
                (packet.get(12..20)?, usize::from(packet.first()? & 15) * 4)
            }
            ([0x86, 0xdd], 6) if packet.get(6) == Some(&6) => (packet.get(8..40)?, 40),
            _ => return None,
        };
        let segment = packet.get(header..)?;
        let acknowledged = u32::from_be_bytes(segment.get(8..12)?.try_into().ok()?);
        let (length, flags) = (usize::from(segment.get(12)? >> 4) * 4, *segment.get(13)?);
        let is_only_ack = flags & NOT_ONLY_ACK == 0 && flags & ACK != 0 && segment.len() == length;
        Some(Self { connection: (addresses, segment.get(..4)?), acknowledged, is_only_ack })
    }
}

/// Without the zeroes that a card adds to a short frame: passt takes them for data of the packet.
fn unpadded(frame: &[u8]) -> &[u8] {
    let word = |at: usize| match frame.get(at..at + 2) {
        Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
        _ => 0,
    };
    let length = match word(12) {
        0x0800 => ETHERNET + word(16),
        0x86dd => ETHERNET + 40 + word(18),
        _ => frame.len(),
    };
    frame.get(..length).unwrap_or(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passt_sees_packets_without_padding() {
        let frame = |kind: [u8; 2], length_at: usize, length: u8| {
            let mut frame = vec![0; 60];
            frame[12..14].copy_from_slice(&kind);
            frame[length_at + 1] = length;
            unpadded(&frame).len()
        };
        assert_eq!(frame([8, 0], 16, 40), 54);
        assert_eq!(frame([0x86, 0xdd], 18, 2), 56);
        // Not padded, longer than it is, and of another kind.
        assert_eq!((frame([8, 0], 16, 46), frame([8, 0], 16, 99), frame([8, 6], 16, 40)), (60, 60, 60));
        assert_eq!((unpadded(&[8; 13]).len(), unpadded(&[]).len()), (13, 0));
    }

    /// A segment in a frame of IPv4, or of IPv6.
    fn segment(version: u8, port: u8, acknowledged: u32, flags: u8, data: usize) -> Vec<u8> {
        let mut packet = if version == 4 { vec![0; 20] } else { vec![0; 40] };
        if version == 4 {
            (packet[0], packet[3], packet[9]) = (0x45, 40 + data as u8, 6);
        } else {
            (packet[0], packet[5], packet[6]) = (0x60, 20 + data as u8, 6);
        }
        packet.extend([0, port, 0, 80, 0, 0, 0, 0]);
        packet.extend(acknowledged.to_be_bytes());
        packet.extend([0x50, flags, 1, 0, 0, 0, 0, 0]);
        packet.resize(packet.len() + data, 7);
        let kind = if version == 4 { [8, 0] } else { [0x86, 0xdd] };
        [&[0; 12][..], &kind, &packet].concat()
    }

    /// How many frames wait after these were sent.
    fn left(frames: &[Vec<u8>]) -> usize {
        let queue = Queue::default();
        frames.iter().for_each(|frame| queue.send(frame));
        let bytes = frames.iter().map(Vec::len).min().unwrap_or_default();
        let all = queue.take(usize::MAX);
        assert!(queue.waiting.lock().unwrap().bytes == 0 && all.len() >= bytes);
        let (mut rest, mut count) = (&all[..], 0);
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            rest = &more[u32::from_be_bytes(*length) as usize..];
            count += 1;
        }
        count
    }

    #[test]
    fn only_the_newest_acknowledgement_of_a_connection_waits() {
        const SYN_ACK: u8 = 0b1_0010;
        for version in [4, 6] {
            let ack = |port, number| segment(version, port, number, ACK, 0);
            assert_eq!(left(&[ack(1, 5), ack(1, 5), ack(1, 9)]), 1);
            assert_eq!(left(&[ack(1, u32::MAX), ack(2, 5), ack(1, 3)]), 2);
            // An older one, data, and what opens or ends a connection stay what they are.
            assert_eq!(left(&[ack(1, 9), ack(1, 8)]), 2);
            assert_eq!(left(&[ack(1, 9), segment(version, 1, 9, ACK, 3), ack(1, 9)]), 3);
            assert_eq!(left(&[segment(version, 1, 9, SYN_ACK, 0), ack(1, 9), segment(version, 1, 9, ACK | 1, 0)]), 3);
        }
    }

    #[test]
    fn any_bytes_are_sent_and_too_many_are_lost() {
        let whole = segment(4, 1, 5, ACK, 0);
        let pieces: Vec<Vec<u8>> = (1..whole.len()).map(|length| whole[..length].to_vec()).collect();
        assert_eq!(left(&pieces), pieces.len());
        let queue = Queue::default();
        (0..100).for_each(|_| queue.send(&vec![1; 65_000]));
        assert!(queue.take(usize::MAX).len() <= MOST_WAITING + 4 * 100);
        assert!(queue.take(usize::MAX).is_empty());
    }
}
