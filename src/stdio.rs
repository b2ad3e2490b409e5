//! The guest's console on this program's standard input and output.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use ftemu_lockstep::{Event, Input};
use serde_json::json;
use tokio::sync::mpsc;

use crate::console::ledger::CONSOLE_PORT;
use crate::console::terminal::{Raw, Typed, keyboard};
use crate::edge::Edge;
use crate::journal::Journal;

/// Bytes that may wait for standard output; beyond that they are dropped, and the user is told.
const WAITING_LIMIT_BYTES: usize = 64 << 20;
/// How long to wait at the end for whoever reads standard output.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Standard output, written by a thread of its own, so that the guest never waits for a terminal.
pub struct Screen {
    bytes: Option<Sender<Vec<u8>>>,
    waiting: Arc<AtomicUsize>,
    dropping: bool,
    journal: Journal,
    done: Receiver<()>,
    _thread: JoinHandle<()>,
}

impl Screen {
    /// Starts its thread.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(journal: Journal) -> Result<Self> {
        let (bytes, receiver) = channel();
        let (finished, done) = channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&waiting);
        let thread = std::thread::Builder::new().name("screen".into()).spawn(move || {
            write(&receiver, &counter);
            let _ = finished.send(());
        });
        let thread = thread.context("cannot start the screen's thread")?;
        Ok(Self { bytes: Some(bytes), waiting, dropping: false, journal, done, _thread: thread })
    }

    /// Shows console bytes.
    pub fn show(&mut self, bytes: Vec<u8>) {
        let waiting = self.waiting.fetch_add(bytes.len(), Ordering::Relaxed);
        if waiting > WAITING_LIMIT_BYTES {
            self.waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
            if !std::mem::replace(&mut self.dropping, true) {
                let sentence = "nobody reads standard output: console bytes are dropped there from now on";
                self.journal.say("output_dropped", sentence, json!({}));
            }
            return;
        }
        self.dropping = false;
        if let Some(sender) = &self.bytes {
            // A reader that went away wants nothing.
            let _ = sender.send(bytes);
        }
    }
}

impl Drop for Screen {
    /// Waits until all was written, if somebody reads it.
    fn drop(&mut self) {
        self.bytes = None;
        let _ = self.done.recv_timeout(LAST_WORDS);
    }
}

fn write(bytes: &Receiver<Vec<u8>>, waiting: &AtomicUsize) {
    let mut output = std::io::stdout();
    for bytes in bytes {
        let written = output.write_all(&bytes).and_then(|()| output.flush());
        waiting.fetch_sub(bytes.len(), Ordering::Relaxed);
        if written.is_err() {
            return;
        }
    }
}

/// The user's keyboard, as the guest's console.
pub struct Keyboard {
    typed: mpsc::Receiver<Typed>,
    _raw: Option<Raw>,
}

impl Keyboard {
    /// Starts reading standard input, raw if it is a terminal.
    ///
    /// # Errors
    /// When the terminal refuses.
    pub fn start() -> Result<Self> {
        let raw = Raw::enter()?;
        Ok(Self { typed: keyboard(raw.is_some())?, _raw: raw })
    }

    /// Hands the guest what is typed; returns when the user wants to leave.
    pub async fn type_into(&mut self, edge: &Edge) {
        while let Some(typed) = self.typed.recv().await {
            match typed {
                Typed::Bytes(bytes) => edge.handle(Event::Input(Input::Serial { port: CONSOLE_PORT, bytes })),
                Typed::Leave => return,
            }
        }
        // The input ended; the guest goes on.
        std::future::pending().await
    }
}
