//! A drive's thread: takes requests in order, answers each once.
//!
//! Writes under way are bounded in memory: when too many bytes wait for a slow disk, the one that brings more waits.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use ftemu_devices::storage::{Request, SECTOR_BYTES, StorageFault};
use ftemu_images::{Disk, ImageError};

use super::handle::Handle;
use super::policy::Policy;

/// Bytes of writes that may wait for the disk.
const WAITING_LIMIT_BYTES: usize = 64 << 20;

/// A result, as the machine gets it.
pub type Answer = Result<Vec<u8>, StorageFault>;

/// A drive's thread as it runs.
pub struct Worker {
    queue: Arc<Queue>,
    sectors: u64,
    thread: Option<JoinHandle<Result<(), ImageError>>>,
}

/// What goes to the thread and what comes back.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    waiting_bytes: usize,
    /// Of the present handle.
    answers: BTreeMap<u64, Answer>,
    /// Which handle is the present one.
    handle: u64,
    closing: bool,
    /// The thread is gone.
    ended: bool,
}

struct Job {
    handle: u64,
    ticket: u64,
    request: Request,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(disk: Disk, path: &Path, policy: Policy) -> Result<Self> {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new() });
        let sectors = disk.bytes() / SECTOR_BYTES;
        let worker = Working { disk, path: path.into(), policy, queue: Arc::clone(&queue) };
        let thread = std::thread::Builder::new().name("drive".into()).spawn(move || worker.work());
        Ok(Self { queue, sectors, thread: Some(thread.context("cannot start a drive's thread")?) })
    }

    /// The one handle that may be used from now on.
    pub fn handle(&self) -> Handle {
        let mut state = self.queue.lock();
        state.handle += 1;
        state.answers.clear();
        Handle { queue: Arc::clone(&self.queue), number: state.handle, sectors: self.sectors }
    }

    /// Waits until everything is on the disk.
    ///
    /// # Errors
    /// It could not be written.
    pub fn close(mut self) -> Result<()> {
        self.end().unwrap_or(Ok(()))
    }

    fn end(&mut self) -> Option<Result<()>> {
        let thread = self.thread.take()?;
        self.queue.lock().closing = true;
        self.queue.changed.notify_all();
        Some(match thread.join() {
            Ok(written) => written.context("the guest's last writes are not on the disk"),
            Err(_) => Err(anyhow!("a drive's thread ended in a panic; this is a defect of ftemu, please report it")),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Errors were told by whoever closed it.
        let _ = self.end();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request in line; waits while too much is in it.
    pub fn submit(&self, handle: u64, ticket: u64, request: Request) {
        let mut state = self.lock();
        while state.waiting_bytes >= WAITING_LIMIT_BYTES && !state.ended {
            state = self.wait(state);
        }
        if state.handle == handle {
            state.waiting_bytes += weight(&request);
            state.jobs.push_back(Job { handle, ticket, request });
            self.changed.notify_all();
        }
    }

    /// Waits for a request's answer.
    pub fn finish(&self, handle: u64, ticket: u64) -> Answer {
        let mut state = self.lock();
        loop {
            if state.handle != handle {
                return Err(StorageFault("the drive serves another machine now".into()));
            }
            if let Some(answer) = state.answers.remove(&ticket) {
                return answer;
            }
            let waits = |job: &Job| job.handle == handle && job.ticket == ticket;
            if state.ended || !state.working_on(ticket) && !state.jobs.iter().any(waits) {
                return Err(StorageFault(format!("request {ticket} was never made, or was answered before")));
            }
            state = self.wait(state);
        }
    }
}

impl State {
    /// The job at the front stays there until it is answered.
    fn working_on(&self, ticket: u64) -> bool {
        self.jobs.front().is_some_and(|job| job.handle == self.handle && job.ticket == ticket)
    }
}

fn weight(request: &Request) -> usize {
    if let Request::Write { bytes, .. } = request { bytes.len() } else { 0 }
}

/// What the thread has.
struct Working {
    disk: Disk,
    path: PathBuf,
    policy: Policy,
    queue: Arc<Queue>,
}

impl Working {
    fn work(mut self) -> Result<(), ImageError> {
        let queue = Arc::clone(&self.queue);
        let _ended = EndOnDrop(&queue);
        let mut state = queue.lock();
        loop {
            let Some(job) = state.jobs.front_mut() else {
                if state.closing {
                    drop(state);
                    return self.disk.flush();
                }
                state = queue.wait(state);
                continue;
            };
            let weight = weight(&job.request);
            let request = std::mem::replace(&mut job.request, Request::Flush);
            drop(state);
            let answer = self.perform(&request);
            state = queue.lock();
            state.waiting_bytes -= weight;
            if let Some(Job { handle, ticket, .. }) = state.jobs.pop_front()
                && handle == state.handle
            {
                state.answers.insert(ticket, answer);
            }
            queue.changed.notify_all();
        }
    }

    fn perform(&mut self, request: &Request) -> Answer {
        let mut first = true;
        loop {
            match self.attempt(request) {
                Err(ImageError::Full { .. }) if self.policy.await_room(&self.path, first) => first = false,
                Err(error) => {
                    let what = error.to_string();
                    self.policy.complain(&self.path, &what);
                    return Err(StorageFault(what));
                }
                Ok(bytes) => {
                    if !first {
                        self.policy.found_room(&self.path);
                    }
                    return Ok(bytes);
                }
            }
        }
    }

    fn attempt(&mut self, request: &Request) -> Result<Vec<u8>, ImageError> {
        match request {
            Request::Read { sector, count } => {
                let mut bytes = vec![0; *count as usize * SECTOR_BYTES as usize];
                self.disk.read_at(sector * SECTOR_BYTES, &mut bytes)?;
                return Ok(bytes);
            }
            Request::Write { sector, bytes } => self.disk.write_at(sector * SECTOR_BYTES, bytes)?,
            Request::Flush => self.disk.flush()?,
            Request::Discard { sector, count } => self.disk.discard(sector * SECTOR_BYTES, count * SECTOR_BYTES)?,
        }
        Ok(Vec::new())
    }
}

struct EndOnDrop<'a>(&'a Queue);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}
