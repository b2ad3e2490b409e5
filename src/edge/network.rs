//! The thread of the link: everything that the other server waits for happens here, and nothing else does.
//!
//! Consoles, screens, signals and files have the program's first thread.

use std::future::Future;
use std::thread::JoinHandle as Thread;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::urgency;
use crate::journal::Journal;

/// The thread; it ends with its value.
pub struct LinkThread {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<Thread<()>>,
}

impl LinkThread {
    /// Starts it.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(journal: &Journal) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the link's runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let journal = journal.clone();
        let thread = std::thread::Builder::new().name("link".into()).spawn(move || {
            let granted = urgency::raise();
            journal.note("link_thread", json!({ "short_slice": granted.slice, "nice": granted.nice }));
            // Ends with the sender.
            let _ = runtime.block_on(stopped);
        });
        Ok(Self { handle, stop: Some(stop), thread: Some(thread.context("cannot start the link's thread")?) })
    }

    /// Runs something there.
    pub fn spawn<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.handle.spawn(future)
    }

    /// Where things can be spawned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for LinkThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // What happened there was told there.
            let _ = thread.join();
        }
    }
}
