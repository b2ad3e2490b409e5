//! What a side writes with `--events`: lines of JSON, read while they are written.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// One event.
#[derive(Clone, Debug)]
pub(super) struct Event(Value);

impl Event {
    pub(super) fn name(&self) -> &str {
        self.0.get("event").and_then(Value::as_str).unwrap_or_default()
    }

    /// A number of the event; none if it has no such field.
    pub(super) fn number(&self, field: &str) -> Option<u64> {
        self.0.get(field)?.as_u64()
    }

    /// A text of the event; none if it has no such field.
    pub(super) fn text(&self, field: &str) -> Option<String> {
        Some(self.0.get(field)?.as_str()?.to_owned())
    }

    /// When it was written, in nanoseconds of Unix time.
    pub(super) fn time_ns(&self) -> u64 {
        self.number("time_ns").unwrap_or(0)
    }
}

/// The events file of a side.
pub(super) struct Journal(PathBuf);

impl Journal {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Everything written so far. A line that is not whole yet, or never will be, is left out.
    pub(super) fn events(&self) -> Vec<Event> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).map(Event).collect()
    }

    /// The first event of a name.
    pub(super) fn first(&self, name: &str) -> Option<Event> {
        self.events().into_iter().find(|event| event.name() == name)
    }
}
