//! A drive's thread: takes requests in order, answers each once.
//!
//! Writes under way are bounded in memory: when too many bytes wait for a slow disk, the one that brings more waits.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, anyhow};
use ftemu_devices::storage::{Disc, HOUSEKEEPING, Request, SECTOR_BYTES, StorageFault};
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
    /// The drive's size; that of its disc.
    sectors: u64,
}

struct Job {
    handle: u64,
    ticket: u64,
    task: Task,
}

enum Task {
    Perform(Request),
    /// The next requests are about this disc.
    Change(Disc),
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub fn start(disk: Option<Disk>, path: &Path, policy: Policy) -> Result<Self> {
        let sectors = disk.as_ref().map_or(0, |disk| disk.bytes() / SECTOR_BYTES);
        let state = State { sectors, ..State::default() };
        let queue = Arc::new(Queue { state: Mutex::new(state), changed: Condvar::new() });
        let disk = disk.ok_or_else(|| "there is no disc in the drive".to_owned());
        let worker = Working { disk, path: path.into(), policy, queue: Arc::clone(&queue) };
        let thread = std::thread::Builder::new().name("drive".into()).spawn(move || worker.work());
        Ok(Self { queue, thread: Some(thread.context("cannot start a drive's thread")?) })
    }

    /// The one handle that may be used from now on.
    pub fn handle(&self) -> Handle {
        let mut state = self.queue.lock();
        state.handle += 1;
        state.answers.clear();
        Handle { queue: Arc::clone(&self.queue), number: state.handle, sectors: state.sectors }
    }

    /// The drive's size; that of its disc.
    pub fn sectors(&self) -> u64 {
        self.queue.lock().sectors
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
            state.jobs.push_back(Job { handle, ticket, task: Task::Perform(request) });
            self.changed.notify_all();
        }
    }

    /// From here on requests are about this disc.
    pub fn change(&self, handle: u64, disc: &Disc) {
        let mut state = self.lock();
        if state.handle == handle {
            state.sectors = disc.sectors;
            state.jobs.push_back(Job { handle, ticket: HOUSEKEEPING, task: Task::Change(*disc) });
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
    /// Or why there is none.
    disk: Result<Disk, String>,
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
                    return self.disk.as_mut().map_or(Ok(()), Disk::flush);
                }
                state = queue.wait(state);
                continue;
            };
            let task = std::mem::replace(&mut job.task, Task::Perform(Request::Flush));
            drop(state);
            let (weight, answer) = match task {
                Task::Perform(request) => (weight(&request), Some(self.perform(&request))),
                Task::Change(disc) => {
                    self.change(&disc);
                    (0, None)
                }
            };
            state = queue.lock();
            state.waiting_bytes -= weight;
            if let Some(Job { handle, ticket, .. }) = state.jobs.pop_front()
                && handle == state.handle
                && let Some(answer) = answer
            {
                state.answers.insert(ticket, answer);
            }
            queue.changed.notify_all();
        }
    }

    /// The disc before is closed first. Without the new one the drive fails as soon as the guest reads.
    fn change(&mut self, disc: &Disc) {
        self.disk = Err("the disc was taken out".into());
        self.disk = self.policy.discs().open(disc).map_err(|error| format!("{error:#}"));
        if let Err(why) = &self.disk {
            self.policy.complain(&self.path, why);
        }
    }

    fn perform(&mut self, request: &Request) -> Answer {
        let mut first = true;
        loop {
            let disk = match &mut self.disk {
                Ok(disk) => disk,
                Err(_) if *request == Request::Flush => return Ok(Vec::new()),
                Err(why) => return Err(StorageFault(why.clone())),
            };
            match attempt(disk, request) {
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
}

fn attempt(disk: &mut Disk, request: &Request) -> Result<Vec<u8>, ImageError> {
    match request {
        Request::Read { sector, count } => {
            let mut bytes = vec![0; *count as usize * SECTOR_BYTES as usize];
            disk.read_at(sector * SECTOR_BYTES, &mut bytes)?;
            return Ok(bytes);
        }
        Request::Write { sector, bytes } => disk.write_at(sector * SECTOR_BYTES, bytes)?,
        Request::Flush => disk.flush()?,
        Request::Discard { sector, count } => disk.discard(sector * SECTOR_BYTES, count * SECTOR_BYTES)?,
    }
    Ok(Vec::new())
}

struct EndOnDrop<'a>(&'a Queue);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}
