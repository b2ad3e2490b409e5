//! Sending an image to a standby in pieces, a few under way at a time, while the guest runs on.

use crate::guest::{Digest, Page};
use crate::image::Image;
use crate::message::{Begin, Message, Stream, Way};
use crate::mirror::BlockId;
use crate::record::Position;
use std::collections::{BTreeMap, VecDeque};

/// Console history, or state without RAM, in one message.
const PIECE_BYTES: usize = 64 << 10;

/// The primary's end. Pages are given up as they are sent.
#[derive(Debug)]
pub struct Sending {
    begin: Begin,
    state: VecDeque<u8>,
    pages: BTreeMap<u32, Box<Page>>,
    blocks: VecDeque<(BlockId, Vec<u8>)>,
    sent: u64,
    taken: u64,
    complete: bool,
}

impl Sending {
    /// Starts: the image, its digest, where the log goes on, the console's state. Also gives the first messages.
    pub fn new(
        term: u64,
        position: Position,
        image: Image,
        digest: Digest,
        streams: Vec<(Stream, Vec<u8>)>,
    ) -> (Self, Vec<Message>) {
        let Image { config, count: _, state, pages } = image;
        let (heads, histories): (Vec<Stream>, Vec<Vec<u8>>) = streams.into_iter().unzip();
        let (state_bytes, pages_to_come) = (state.len() as u64, pages.len() as u64);
        let begin = Begin { term, position, config, state_bytes, digest, pages: pages_to_come, streams: heads };
        let mut messages = vec![Message::Begin(Box::new(begin.clone()))];
        for (head, history) in begin.streams.iter().zip(&histories) {
            let Way::Serial(port) = head.way else { continue };
            let piece = |bytes: &[u8]| Message::History { port, bytes: bytes.to_vec() };
            messages.extend(history.chunks(PIECE_BYTES).map(piece));
        }
        (
            Self { begin, state: state.into(), pages, blocks: VecDeque::new(), sent: 0, taken: 0, complete: false },
            messages,
        )
    }

    /// Blocks of disks that belong to the image.
    pub fn add_blocks(&mut self, blocks: Vec<(BlockId, Vec<u8>)>) {
        self.blocks.extend(blocks);
    }

    /// What the standby was told at first.
    pub fn begin(&self) -> &Begin {
        &self.begin
    }

    /// The standby has put so many pieces in place.
    pub fn taken(&mut self, chunks: u64) {
        self.taken = self.taken.max(chunks.min(self.sent));
    }

    /// The next piece, if one may be sent now.
    pub fn next(&mut self, chunk_pages: usize, window: u64) -> Option<Message> {
        if self.complete || self.sent - self.taken >= window {
            return None;
        }
        if !self.state.is_empty() {
            let bytes = self.state.drain(..self.state.len().min(PIECE_BYTES)).collect();
            self.sent += 1;
            return Some(Message::State { chunk: self.sent - 1, bytes });
        }
        if let Some((id, bytes)) = self.blocks.pop_front() {
            self.sent += 1;
            return Some(Message::Block { chunk: self.sent - 1, id, bytes });
        }
        let mut pages = Vec::new();
        while pages.len() < chunk_pages.max(1) {
            let Some(page) = self.pages.pop_first() else { break };
            pages.push(page);
        }
        if pages.is_empty() {
            self.complete = true;
            return Some(Message::Complete { chunks: self.sent });
        }
        self.sent += 1;
        Some(Message::Pages { chunk: self.sent - 1, pages })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ftemu_cpu::Icount;

    #[test]
    fn pieces_keep_within_the_window_and_end_with_complete() {
        let pages = (0..5).map(|index| (index, Box::new([1; 4096]))).collect();
        let image = Image { config: vec![], count: Icount(0), state: vec![7; 10], pages };
        let history = (Stream { way: Way::Serial(0), start: 0, end: 3 }, b"abc".to_vec());
        let (mut sending, first) = Sending::new(1, Position::start(Icount(0)), image, [0; 32], vec![history]);
        assert_eq!(first.len(), 2);
        assert_eq!(sending.next(2, 3), Some(Message::State { chunk: 0, bytes: vec![7; 10] }));
        assert!(matches!(sending.next(2, 3), Some(Message::Pages { chunk: 1, .. })));
        assert!(matches!(sending.next(2, 3), Some(Message::Pages { chunk: 2, .. })));
        assert_eq!(sending.next(2, 3), None);
        sending.taken(9);
        assert!(matches!(sending.next(2, 3), Some(Message::Pages { chunk: 3, .. })));
        assert_eq!(sending.next(2, 3), Some(Message::Complete { chunks: 4 }));
        assert_eq!(sending.next(2, 3), None);
    }
}
