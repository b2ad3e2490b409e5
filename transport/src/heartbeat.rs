//! Signs of life: heartbeats as datagrams (RFC 9221), and the watch over the peer's silence.
//!
//! Anything that arrives is a sign of life. A datagram is never sent again when it is lost, so a
//! heartbeat is never late news.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::link::{Event, Message, Shared};
use crate::{Class, SendError};

/// "I live."
const HEARTBEAT: u8 = 0;
/// "Do you live?" with a number.
const PROBE: u8 = 1;
/// The answer to a probe, with its number.
const ECHO: u8 = 2;
/// A heartbeat of the user's, with what it says.
const MESSAGE: u8 = 3;

/// When the peer was last heard.
pub(crate) struct Life {
    start: Instant,
    heard_ns: AtomicU64,
    silent: AtomicBool,
    again: Notify,
    /// The user sent a heartbeat since the last tick, so none of ours is needed.
    beaten: AtomicBool,
}

impl Life {
    pub(crate) fn new() -> Self {
        Self {
            start: Instant::now(),
            heard_ns: AtomicU64::new(0),
            silent: AtomicBool::new(false),
            again: Notify::new(),
            beaten: AtomicBool::new(false),
        }
    }

    /// Notes a sign of life.
    pub(crate) fn touch(&self) {
        let now_ns = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.heard_ns.fetch_max(now_ns, Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) {
            self.again.notify_one();
        }
    }

    fn last(&self) -> Instant {
        self.start + Duration::from_nanos(self.heard_ns.load(Ordering::Relaxed))
    }
}

/// Sends a heartbeat at every interval in which the user sent none.
pub(crate) async fn beat(shared: Arc<Shared>) {
    let mut ticks = interval(shared.settings.heartbeat_interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if shared.life.beaten.swap(false, Ordering::Relaxed) {
            continue;
        }
        if shared.connection.send_datagram(Bytes::from_static(&[HEARTBEAT])).is_err() {
            return;
        }
    }
}

/// Sends a heartbeat of the user's.
pub(crate) fn send(shared: &Shared, bytes: &[u8]) -> Result<(), SendError> {
    let mut datagram = Vec::with_capacity(bytes.len() + 1);
    datagram.push(MESSAGE);
    datagram.extend_from_slice(bytes);
    shared.life.beaten.store(true, Ordering::Relaxed);
    shared.connection.send_datagram(datagram.into()).map_err(|_| SendError::Closed)
}

/// Sends a question that only the living peer can answer, by way of [`Shared::echoed`].
pub(crate) fn probe(shared: &Shared, number: u64) {
    send_numbered(shared, PROBE, number);
}

/// Reads datagrams: every one is a sign of life, probes are answered.
pub(crate) async fn listen(shared: Arc<Shared>) {
    while let Ok(datagram) = shared.connection.read_datagram().await {
        shared.life.touch();
        let Some((kind, rest)) = datagram.split_first() else { continue };
        match *kind {
            MESSAGE => {
                let message = Message { class: Class::Heartbeat, bytes: rest.to_vec(), _budget: None };
                shared.report(Event::Message(message));
            }
            PROBE => number(rest).into_iter().for_each(|number| send_numbered(&shared, ECHO, number)),
            ECHO => number(rest).into_iter().for_each(|number| {
                shared.echoed.send_replace(number);
            }),
            _ => {}
        }
    }
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// Reports when the peer falls silent and when it is heard again.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let limit = shared.settings.silence_limit;
    loop {
        let due = shared.life.last() + limit;
        tokio::select! {
            () = sleep_until(due) => {}
            _ = shared.connection.closed() => return,
        }
        if was_asleep(due, limit) {
            // We ourselves stood still (stopped, or starved of CPU): what the peer sent meanwhile
            // is not read yet. Count from now.
            shared.life.touch();
        }
        if Instant::now() < shared.life.last() + limit {
            continue;
        }
        report_silence(&shared).await;
    }
}

fn was_asleep(due: Instant, limit: Duration) -> bool {
    Instant::now().saturating_duration_since(due) > limit / 4
}

/// Tells of the silence, and waits until it ends or the link does.
async fn report_silence(shared: &Shared) {
    shared.life.silent.store(true, Ordering::Relaxed);
    shared.report(Event::Silent { quiet: shared.life.last().elapsed() });
    tokio::select! {
        () = shared.life.again.notified() => shared.report(Event::Heard),
        _ = shared.connection.closed() => {}
    }
    shared.life.silent.store(false, Ordering::Relaxed);
}

fn send_numbered(shared: &Shared, kind: u8, number: u64) {
    let mut datagram = [kind; 9];
    datagram[1..].copy_from_slice(&number.to_le_bytes());
    // A closed connection has its own report.
    let _ = shared.connection.send_datagram(Bytes::copy_from_slice(&datagram));
}
