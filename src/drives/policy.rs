//! What to do when the host's disk is full or broken.
//!
//! While the other server has the guest too, this side gives up at once: the other one goes on and nobody notices. A
//! side that is alone waits for room on a full disk, as long as it takes, and nothing is lost; what is broken becomes
//! an error in the guest.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::discs::Discs;
use crate::journal::Journal;

/// How often a full disk is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What the drives' threads must know of the pair.
#[derive(Clone)]
pub struct Policy {
    shared: Arc<Shared>,
    journal: Journal,
    discs: Discs,
}

struct Shared {
    protected: AtomicBool,
    ended: AtomicBool,
    waiting: Mutex<()>,
    changed: Condvar,
}

impl Policy {
    /// A side that is alone.
    pub fn new(journal: Journal) -> Self {
        let (protected, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let shared = Shared { protected, ended, waiting: Mutex::new(()), changed: Condvar::new() };
        Self { shared: Arc::new(shared), journal, discs: Discs::default() }
    }

    /// The discs that the guest may be given.
    pub fn discs(&self) -> &Discs {
        &self.discs
    }

    /// Whether either side may fail without loss.
    pub fn set_protected(&self, protected: bool) {
        if self.shared.protected.swap(protected, Ordering::Relaxed) != protected {
            self.shared.changed.notify_all();
        }
    }

    /// A life begins or ends: whoever waits for room in one that has ended gives up.
    pub fn set_ended(&self, ended: bool) {
        self.shared.ended.store(ended, Ordering::Relaxed);
        self.shared.changed.notify_all();
    }

    /// A disk is full. True: some time has passed, try again. False: it is a fault.
    pub fn await_room(&self, path: &Path, first: bool) -> bool {
        let over = || self.shared.protected.load(Ordering::Relaxed) || self.shared.ended.load(Ordering::Relaxed);
        if over() {
            return false;
        }
        if first {
            let path_text = path.display();
            let sentence = format!(
                "THE GUEST STANDS STILL: no space left for {path_text}. Make room on the disk that holds it; the guest goes on \
                 by itself, and nothing is lost"
            );
            self.journal.say("disk_full", &sentence, json!({ "path": path }));
        }
        let guard = self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.shared.changed.wait_timeout(guard, AGAIN);
        !over()
    }

    /// There is room again.
    pub fn found_room(&self, path: &Path) {
        let sentence = format!("there is room for {} again: the guest goes on", path.display());
        self.journal.say("disk_has_room", &sentence, json!({ "path": path }));
    }

    /// Something went wrong that is not the guest's business alone.
    pub fn complain(&self, path: &Path, what: &str) {
        self.journal.say("disk_fault", &format!("disk image: {what}"), json!({ "path": path, "why": what }));
    }
}
