//! What viewers and console clients send, and what servers answer them.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use ftemu_devices::vga::Image;

use crate::program::keys;
use crate::program::protocol::{self, Encode, FromClient, FromServer};
use crate::program::vnc::picture::Picture;
use crate::program::vnc::pointer::Pointer;
use crate::program::vnc::wire::{self, Message};

/// Messages of one viewer at most: each may cost a picture.
const MESSAGES: u32 = 24;

/// Any bytes as what a viewer says (RFB); the first two are what is on the screen.
///
/// # Panics
/// When something is broken.
pub fn viewer(bytes: &[u8]) {
    let Some((seed, mut said)) = bytes.split_first_chunk::<2>() else { return };
    let mut image = screen(*seed, 0);
    let (mut picture, mut pointer) = (Picture::new(image.width, image.height), Pointer::default());
    greet(said);
    for turn in 0..MESSAGES {
        let Some(Ok(message)) = now(wire::read(&mut said)) else { return };
        match message {
            Message::Format(format) => picture.format = format,
            Message::Skills(skills) => {
                pointer.relative = skills.pointer_type;
                picture.skills = skills;
            }
            Message::Update { incremental } => {
                if !incremental {
                    image = screen(*seed, turn);
                }
                let update = picture.update(&image, !incremental);
                assert!(update.is_none_or(|update| !update.is_empty()));
            }
            Message::Key { keysym, place, .. } => {
                let _ = place.and_then(keys::by_place).or_else(|| keys::by_keysym(keysym));
                let _ = keys::needs_shift(keysym);
            }
            Message::Pointer { buttons, x, y } => drop(pointer.moved((x, y), buttons, picture.size())),
            Message::Nothing => {}
        }
    }
}

/// Any bytes as what a console's client says, and as what a server says to it; and as the name of a key.
///
/// # Panics
/// When something is broken.
pub fn console(bytes: &[u8]) {
    let mut said = bytes;
    while let Some(Ok((kind, content))) = now(protocol::read(&mut said)) {
        assert!(content.len() <= protocol::LIMIT);
        if let Some(message) = FromClient::decode(kind, &content) {
            let (_, content) = message.content();
            assert_eq!(FromClient::decode(kind, &content), Some(message));
        }
        if let Some(message) = FromServer::decode(kind, &content) {
            let (_, content) = message.content();
            assert_eq!(FromServer::decode(kind, &content), Some(message));
        }
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = (keys::chord(text), keys::text(text));
    }
}

/// A small screen with something on it.
fn screen([size, seed]: [u8; 2], turn: u32) -> Image {
    let (width, height) = (1 + u32::from(size & 15) * 9, 1 + u32::from(size >> 4) * 9);
    let colors = 1 + u32::from(seed & 31);
    let dot = |index: u32| (index.wrapping_mul(0x9e37_79b1 ^ u32::from(seed) ^ turn) >> 13) % 19;
    let rgb = (0..3 * width * height).map(|index| (dot(index / 3) % colors * 7 + index % 3) as u8).collect();
    Image { width, height, rgb }
}

/// Comes to terms with whoever says this.
fn greet(said: &[u8]) {
    let mut stream = tokio::io::join(said, tokio::io::sink());
    let _ = now(wire::greet(&mut stream));
}

/// What a future says that has no reason to wait.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
