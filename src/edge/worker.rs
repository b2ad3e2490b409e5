//! The guest's thread: does the node's work, and waits when there is none.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ftemu_lockstep::{Guest, Hands, Work};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Edge, Inner};
use crate::{attribution, host};

/// The guest's thread as it runs.
pub struct Worker {
    thread: JoinHandle<()>,
    /// Closed when the thread ends.
    ended: oneshot::Receiver<()>,
}

impl Worker {
    /// Waits for the end of the last piece of work, which may be a long one, but not longer than `limit`. Says whether
    /// the thread ended as it should, as far as is known.
    pub async fn finish(self, limit: Duration) -> bool {
        let ended = timeout(limit, self.ended).await.is_ok();
        !ended || self.thread.join().is_ok()
    }
}

impl Edge {
    /// Starts the guest's thread. It ends when this life does.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start<G: Guest + Send + 'static>(self: &Arc<Self>, hands: Hands<G>) -> Result<Worker> {
        let edge = Arc::clone(self);
        let (ends, ended) = oneshot::channel();
        let thread = std::thread::Builder::new().name("guest".into()).spawn(move || {
            let _ends: oneshot::Sender<()> = ends;
            edge.work(hands);
        });
        Ok(Worker { thread: thread.context("cannot start the guest's thread")?, ended })
    }

    fn work<G: Guest>(&self, mut hands: Hands<G>) {
        // Whatever ends this thread ends the life, so that a standby is not left with a guest that stands still.
        let _ended = FailOnDrop(self);
        attribution::watch_this_thread();
        let mut inner = self.lock();
        while self.finished.borrow().is_none() {
            if self.view.is_wanted() {
                drop(inner);
                self.view.show(hands.guest().and_then(Guest::screen));
                inner = self.lock();
            }
            inner.node.stirred();
            let work = inner.node.work(host::now_ns());
            if let Work::Apply(input) = &work {
                let records = inner.node.status().records;
                inner.ledger.applied(input, records);
            }
            self.carry_out(&mut inner);
            inner = match work {
                Work::Wait { until_ns } => self.wait(inner, until_ns),
                work => {
                    drop(inner);
                    let done = hands.execute(work);
                    attribution::counted(|| hands.guest().and_then(Guest::tally));
                    let room = hands.guest().map_or(usize::MAX, Guest::frame_room);
                    let mut inner = self.lock();
                    inner.node.done(host::now_ns(), done);
                    self.flow.worked(room, inner.node.frames_wait());
                    self.carry_out(&mut inner);
                    inner
                }
            };
        }
    }

    /// Waits for an event, until a time at most.
    fn wait<'a>(&'a self, mut inner: MutexGuard<'a, Inner>, until_ns: Option<u64>) -> MutexGuard<'a, Inner> {
        if self.finished.borrow().is_some() {
            return inner;
        }
        let patience = until_ns
            .map_or(Duration::from_secs(1), |until| host::instant(until).saturating_duration_since(Instant::now()));
        // Something may have happened in consequence of the node's very words.
        if inner.node.stirred() {
            return inner;
        }
        inner.waiting = true;
        let waited = self.nudge.wait_timeout(inner, patience);
        let mut inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        inner.waiting = false;
        inner
    }
}

struct FailOnDrop<'a>(&'a Edge);

impl Drop for FailOnDrop<'_> {
    fn drop(&mut self) {
        self.0.fail("the guest's thread ended".into());
    }
}
