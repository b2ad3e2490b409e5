//! What the user is told: a sentence on standard error, and a line of JSON in the events file.
//!
//! A thread of its own writes, so that a terminal or a disk that stands still never stops the guest.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};
use ftemu_lockstep::Notice;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Map, Value, json};

use crate::console::terminal;
use crate::{host, units};

/// How long to wait at the end for what was not written yet.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The handle by which things are told.
#[derive(Debug, Clone)]
pub struct Journal {
    entries: Sender<Entry>,
}

#[derive(Debug)]
enum Entry {
    Told {
        sentence: Option<String>,
        line: String,
    },
    /// Of so many parts so many are done; none: nothing is under way.
    Progress(Option<(u64, u64)>),
    Flush(Sender<()>),
}

impl Journal {
    /// Starts the journal; `events` is the file for lines of JSON, `-` for standard output.
    ///
    /// # Errors
    /// When that file cannot be made.
    pub fn start(events: Option<&Path>) -> Result<Self> {
        let events: Option<Box<dyn Write + Send>> = match events {
            None => None,
            Some(path) if path == Path::new("-") => Some(Box::new(io::stdout())),
            Some(path) => {
                let file = File::create(path);
                Some(Box::new(file.with_context(|| format!("cannot write events into {}", path.display()))?))
            }
        };
        let (entries, receiver) = channel();
        let thread = std::thread::Builder::new().name("journal".into());
        thread.spawn(move || write(&receiver, events)).context("cannot start the journal's thread")?;
        Ok(Self { entries })
    }

    /// Tells an event with a sentence.
    pub fn say(&self, event: &str, sentence: &str, fields: Value) {
        self.tell(event, Some(sentence.into()), fields);
    }

    /// Tells an event in the events file only.
    pub fn note(&self, event: &str, fields: Value) {
        self.tell(event, None, fields);
    }

    /// Tells what the pair has to say.
    pub fn notice(&self, notice: &Notice) {
        let (event, fields) = crate::notices::fields(notice);
        self.say(event, &crate::notices::sentence(notice), fields);
    }

    /// The other server can connect there.
    pub fn listening(&self, address: SocketAddr) {
        let sentence = format!("waiting for the other server on {address}");
        self.say("listening", &sentence, json!({ "address": address.to_string() }));
    }

    /// Console clients can connect there.
    pub fn console(&self, address: SocketAddr) {
        let sentence = format!("the guest's console: ftemu console {address}");
        self.say("console", &sentence, json!({ "address": address.to_string() }));
    }

    /// The guest's screen is shown.
    pub fn vnc(&self, address: SocketAddr) {
        let sentence = format!("the guest's screen: a VNC viewer at {address}");
        self.say("vnc", &sentence, json!({ "address": address.to_string() }));
    }

    /// The record is whole.
    pub fn recording_closed(&self, path: &Path, bytes: u64) {
        let sentence = format!("recorded {} (before compression) into {}", units::show_bytes(bytes), path.display());
        self.say("recorded", &sentence, json!({ "path": path, "bytes": bytes }));
    }

    /// The record ends here, the guest does not.
    pub fn recording_failed(&self, path: &Path, why: &str) {
        let path_text = path.display();
        let sentence = format!(
            "RECORDING STOPPED: cannot write {path_text}: {why}. The guest goes on, unrecorded; what was written so far can \
             be replayed"
        );
        self.say("recording_failed", &sentence, json!({ "path": path, "why": why }));
    }

    /// How far a standby's disks are compared, for a bar on a terminal; `None`: there is nothing to compare any more.
    pub fn progress(&self, mebibytes: Option<(u64, u64)>) {
        let _ = self.entries.send(Entry::Progress(mebibytes));
    }

    /// Waits until all was written.
    pub fn flush(&self) {
        let (done, written) = channel();
        if self.entries.send(Entry::Flush(done)).is_ok() {
            let _ = written.recv_timeout(LAST_WORDS);
        }
    }

    fn tell(&self, event: &str, sentence: Option<String>, fields: Value) {
        let mut object = Map::new();
        object.insert("time_ns".into(), host::unix_ns().into());
        object.insert("event".into(), event.into());
        if let Some(sentence) = &sentence {
            object.insert("text".into(), sentence.clone().into());
        }
        if let Value::Object(fields) = fields {
            object.extend(fields);
        }
        let line = Value::Object(object).to_string();
        // The thread ends only with the process.
        let _ = self.entries.send(Entry::Told { sentence, line });
    }
}

fn write(entries: &Receiver<Entry>, mut events: Option<Box<dyn Write + Send>>) {
    let mut bar = None;
    for entry in entries {
        match entry {
            Entry::Told { sentence, line } => {
                if let Some(sentence) = sentence {
                    let complain = || terminal::complain(&sentence);
                    bar.as_ref().map_or_else(complain, |bar: &ProgressBar| bar.suspend(complain));
                }
                let written = events.as_mut().map(|events| writeln!(events, "{line}").and_then(|()| events.flush()));
                if let Some(Err(error)) = written {
                    terminal::complain(&format!("cannot write events any more: {error}"));
                    events = None;
                }
            }
            Entry::Progress(Some((done, all))) => {
                let bar = bar.get_or_insert_with(comparison);
                bar.set_length(all);
                bar.set_position(done);
            }
            Entry::Progress(None) => bar.take().iter().for_each(ProgressBar::finish_and_clear),
            Entry::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

/// A bar on standard error, if that is a terminal.
fn comparison() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("disks {wide_bar} {pos} of {len} MiB compared, {eta} left");
    style.map_or(bar.clone(), |style| bar.with_style(style))
}
