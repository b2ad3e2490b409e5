//! What comes over the line between two servers, from a record file, from the guest's network, and out of packages.

use ftemu_devices::Machine;
use ftemu_images::catalogue;
use ftemu_lockstep::log::{Log, read_batch};
use ftemu_lockstep::record::Position;
use ftemu_lockstep::stations::Stations;
use ftemu_lockstep::wire::Reader;
use ftemu_lockstep::{Guest, Icount, Identity, Message, RecordReader, file};

use crate::program::passt::outgoing::Queue;
use crate::program::passt::waiting::{Front, Waiting};
use crate::viewer::now;

/// A configuration in a record that asks for more RAM than this is not tried.
const MOST_MEMORY: u64 = 64 << 20;
const PREFIX_BYTES: usize = 20;
const HASH_BYTES: usize = 16;

/// Any bytes as a message between servers, as a batch of the log, and as a server's identity.
///
/// # Panics
/// When something is broken.
pub fn message(bytes: &[u8]) {
    if let Ok(message) = Message::decode(bytes) {
        let again = message.encode();
        assert_eq!(Message::decode(&again), Ok(message.clone()));
        let _ = message.class();
    }
    let start = Position::start(Icount(0));
    if let Ok((records, end)) = read_batch(start, bytes) {
        let (mut ours, mut theirs) = (Log::new(start), Log::new(start));
        records.into_iter().for_each(|record| ours.append(record.count, record.entry));
        assert_eq!(ours.end(), end, "the same records are encoded otherwise");
        assert_eq!(theirs.receive(0, bytes, end.chain), Ok(()));
        assert_eq!(theirs.end(), end);
    }
    if let Ok(identity) = Identity::decode(&mut Reader::new(bytes)) {
        let _ = (identity.drives(), identity.cpu(), identity.check(&identity));
    }
}

/// Any bytes as a record file, whole and in pieces; then as what is in one whose hashes are right. A guest that it holds is
/// restored.
///
/// # Panics
/// When something is broken.
pub fn record(bytes: &[u8]) {
    let Some((first, bytes)) = bytes.split_first() else { return };
    let whole = read(bytes, bytes.len());
    assert_eq!(whole, read(bytes, 1 + usize::from(*first)), "what is read depends on the pieces");
    let length = bytes.len() * usize::from(*first) / 255;
    let (head, frames) = bytes.split_at(length);
    read(&[sealed(head), frames.to_vec()].concat(), 1 << 20);
}

/// A head with its length and hash.
fn sealed(head: &[u8]) -> Vec<u8> {
    let mut out = [&file::MAGIC[..], &file::VERSION.to_le_bytes(), &(head.len() as u64).to_le_bytes(), head].concat();
    assert_eq!(out.len(), PREFIX_BYTES + head.len());
    let hash = blake3::hash(&out);
    out.extend_from_slice(&hash.as_bytes()[..HASH_BYTES]);
    out
}

/// Reads a file in pieces of a size; how many records there were, and how it ended.
fn read(bytes: &[u8], piece: usize) -> (u64, String) {
    let (mut reader, mut records, mut head) = (RecordReader::new(), 0, None);
    for piece in bytes.chunks(piece.max(1)) {
        reader.feed(piece);
        if head.is_none() {
            match reader.head() {
                Ok(found) => head = found,
                Err(error) => return (records, error.to_string()),
            }
            if let Some(head) = &head {
                restore(head);
            }
        }
        loop {
            match reader.next_record() {
                Ok(Some(_)) => records += 1,
                Ok(None) => break,
                Err(error) => return (records, error.to_string()),
            }
            reader.take_sectors();
        }
    }
    (records, reader.finish().map_or_else(|error| error.to_string(), |()| "whole".into()))
}

fn restore(head: &ftemu_lockstep::Head) {
    let small = u64::from_le_bytes(*head.image.config.first_chunk().unwrap_or(&[0; 8])) <= MOST_MEMORY;
    if small && let Ok(mut machine) = head.image.restore::<Machine>() {
        Guest::digest(&mut machine);
    }
}

/// Any bytes as frames that a guest sends: who it is on its network is learnt from them, and announced.
///
/// # Panics
/// When something is broken.
pub fn frame(bytes: &[u8]) {
    let mut stations = Stations::default();
    let mut rest = bytes;
    while let Some((head, more)) = rest.split_first_chunk::<2>() {
        let (frame, more) = more.split_at(usize::from(head[0]).min(more.len()));
        stations.look(head[1] & 3, frame);
        stations.is_own(head[1] & 3, frame);
        rest = more;
    }
    for (nic, frame) in stations.announcements() {
        assert!((60..200).contains(&frame.len()) && stations.is_own(nic, &frame));
    }
}

/// Any bytes as what passt says, in pieces; then as frames that a guest sends to it, of which each comes out as one of them was,
/// or without its end.
///
/// # Panics
/// When something is broken.
pub fn passt(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let whole = frames_of(rest, rest.len());
    assert_eq!(whole, frames_of(rest, 1 + usize::from(*first)), "what is read depends on the pieces");
    let (queue, mut sent, mut rest) = (Queue::default(), Vec::new(), rest);
    while let Some((length, more)) = rest.split_first() {
        let (frame, more) = more.split_at(usize::from(*length).min(more.len()));
        queue.send(frame);
        sent.push(frame);
        rest = more;
    }
    if !sent.is_empty() {
        let queued = now(queue.next(usize::MAX)).expect("what was sent");
        let (queued, trouble) = frames_of(&queued, queued.len());
        assert!(trouble == Front::Part && queued.len() <= sent.len());
        assert!(queued.iter().all(|frame| sent.iter().any(|sent| sent.starts_with(frame))));
    }
}

/// The frames in a stream that comes in pieces, and what is behind them.
fn frames_of(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, Front) {
    let (mut waiting, mut frames) = (Waiting::default(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        waiting.make_room(piece.len());
        waiting.end().extend_from_slice(piece);
        while waiting.front() == Front::Frame {
            let before = waiting.len();
            frames.push(waiting.take().expect("the frame at the front"));
            assert!(waiting.len() < before);
        }
    }
    (frames, waiting.front())
}

/// Any bytes as a package's archive of files, of which one is wanted.
///
/// # Panics
/// When something is broken.
pub fn package(bytes: &[u8]) {
    let found = catalogue::find_in_tar(bytes, "boot/vmlinuz-");
    assert!(found.ok().flatten().is_none_or(|file| file.len() <= bytes.len()));
}
