//! The record file: what lockstep hands out, compressed with zstd (RFC 8878) by a thread of its own.
//!
//! The guest never waits for the disk. If the disk is full or too slow, the recording ends with a loud message and
//! the guest goes on.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ftemu_lockstep::Sectors;
use ftemu_lockstep::file::sectors_frame;
use zstd::Encoder;

use crate::journal::Journal;

/// What was written goes to the disk this often, so that a crash loses little of the record.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
/// Bytes that may wait for the disk beside the guest's first image.
const WAITING_LIMIT_BYTES: u64 = 256 << 20;
/// zstd's level: fast, and half as large as without.
const LEVEL: i32 = 3;

/// A recording that goes on.
pub struct Recorder {
    feed: Option<Arc<Feed>>,
    tap: Tap,
    thread: Option<JoinHandle<()>>,
}

/// The way to the thread.
struct Feed {
    pieces: Sender<Vec<u8>>,
    waiting_bytes: Arc<AtomicU64>,
    /// The record's head is in.
    begun: AtomicBool,
    /// The disk is too slow: nothing more is taken.
    stopped: AtomicBool,
    path: PathBuf,
    journal: Journal,
}

/// Where drives put what the guest reads, for the record that is being made, if there is one.
#[derive(Clone, Default)]
pub struct Tap(Arc<Mutex<Option<Arc<Feed>>>>);

impl Tap {
    /// Records what was read from a disk. False: nothing is being recorded (yet).
    pub fn put(&self, sectors: impl FnOnce() -> Sectors) -> bool {
        let feed = self.lock().clone();
        let feed = feed.filter(|feed| feed.begun.load(Ordering::Acquire));
        feed.is_some_and(|feed| {
            feed.append(sectors_frame(&sectors()));
            true
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Feed>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    fn append(&self, bytes: Vec<u8>) {
        if self.stopped.load(Ordering::Relaxed) {
            return;
        }
        // The image of the guest's memory comes first, in one piece, and is no sign of a slow disk: it is not counted.
        if self.begun.load(Ordering::Relaxed) {
            let waiting = self.waiting_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            if waiting > WAITING_LIMIT_BYTES && !self.stopped.swap(true, Ordering::Relaxed) {
                self.journal.recording_failed(&self.path, "the disk is too slow for it");
                return;
            }
        }
        // A writer that has failed has said so.
        let _ = self.pieces.send(bytes);
        self.begun.store(true, Ordering::Release);
    }
}

impl Recorder {
    /// Starts a record in a new file.
    ///
    /// # Errors
    /// When the file exists or cannot be made.
    pub fn create(path: &Path, tap: Tap, journal: Journal) -> Result<Self> {
        let file = create_new(path).with_context(|| format!("cannot record into {}", path.display()))?;
        let (pieces, receiver) = channel();
        let waiting_bytes = Arc::new(AtomicU64::new(0));
        let writer = Writer { path: path.into(), journal: journal.clone(), waiting_bytes: Arc::clone(&waiting_bytes) };
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || writer.run(file, &receiver));
        let thread = Some(thread.context("cannot start the recording thread")?);
        let (begun, stopped) = (AtomicBool::new(false), AtomicBool::new(false));
        let feed = Arc::new(Feed { pieces, waiting_bytes, begun, stopped, path: path.into(), journal });
        *tap.lock() = Some(Arc::clone(&feed));
        Ok(Self { feed: Some(feed), tap, thread })
    }

    /// Takes the next bytes of the record.
    pub fn append(&mut self, bytes: Vec<u8>) {
        if let Some(feed) = &self.feed {
            feed.append(bytes);
        }
    }
}

impl Drop for Recorder {
    /// Closes the record: everything is on the disk afterwards.
    fn drop(&mut self) {
        *self.tap.lock() = None;
        self.feed = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A record that is worth having is not overwritten; an empty file or a device may be written to.
fn create_new(path: &Path) -> Result<File> {
    let there = path.metadata();
    if there.is_ok_and(|there| there.is_file() && there.len() > 0) {
        anyhow::bail!("there is such a file already; choose another name or remove it");
    }
    Ok(OpenOptions::new().write(true).create(true).truncate(true).open(path)?)
}

struct Writer {
    path: PathBuf,
    journal: Journal,
    waiting_bytes: Arc<AtomicU64>,
}

impl Writer {
    fn run(self, file: File, pieces: &Receiver<Vec<u8>>) {
        match self.write(file, pieces) {
            Ok(bytes) => self.journal.recording_closed(&self.path, bytes),
            Err(error) => self.journal.recording_failed(&self.path, &error.to_string()),
        }
    }

    fn write(&self, file: File, pieces: &Receiver<Vec<u8>>) -> io::Result<u64> {
        let mut encoder = Encoder::new(file, LEVEL)?;
        encoder.include_checksum(true)?;
        let mut dirty_since: Option<Instant> = None;
        let mut total = 0;
        loop {
            let patience = dirty_since.map_or(Duration::MAX, |since| FLUSH_INTERVAL.saturating_sub(since.elapsed()));
            match pieces.recv_timeout(patience) {
                Ok(bytes) => {
                    encoder.write_all(&bytes)?;
                    if total > 0 {
                        self.waiting_bytes.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
                    }
                    total += bytes.len() as u64;
                    dirty_since.get_or_insert_with(Instant::now);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if dirty_since.is_some_and(|since| since.elapsed() >= FLUSH_INTERVAL) {
                encoder.flush()?;
                dirty_since = None;
            }
        }
        let mut file = encoder.finish()?;
        file.flush()?;
        // A device or a pipe cannot be synchronized, and need not be.
        let _ = file.sync_all();
        Ok(total)
    }
}
