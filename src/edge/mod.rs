//! One life of a side: a node, its guest, and what carries out the node's wishes.
//!
//! The node is behind one lock that is never held while the guest runs or anything blocks. Two threads matter: the
//! guest's (`worker`), and the link's (`network`). Whoever makes the node speak carries out what it says
//! before giving the lock back, so that its order is kept; each wish is only a push into a queue. Threads wake each
//! other; none looks again and again.

mod flow;
mod network;
mod screen;
mod sinks;
mod status;
mod urgency;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ftemu_lockstep::{Action, Class, Event, Finish, Input, Node, Notice, Release, Verdict};
use ftemu_transport::Link;
use tokio::sync::{mpsc, watch};

use crate::console::ledger::{CONSOLE_PORT, Ledger};
use crate::drives::Policy;
use crate::host;

pub use network::LinkThread;
pub use sinks::Sinks;
pub use status::Figures;

/// Time is let pass at least so often.
const LOOK: Duration = Duration::from_millis(100);
/// ... and not more often than this on account of a deadline.
const SHORTEST_LOOK: Duration = Duration::from_millis(5);
/// ... and while the guest runs not more often than this, for its thread lets time pass after every slice. Should something long
/// keep that thread, a sign of life comes later by no more than the usual time between two.
const BUSY_LOOK: Duration = Duration::from_millis(45);

/// One life of a side.
pub struct Edge {
    inner: Mutex<Inner>,
    /// The guest's thread waits here when there is nothing to do.
    nudge: Condvar,
    /// Network tasks learn here that there is something new: released bytes, a change of standing, the end.
    news: watch::Sender<u64>,
    finished: watch::Sender<Option<Finish>>,
    policy: Policy,
    /// How much the guest's network cards take.
    flow: flow::Flow,
    /// The guest's screen, for whoever wants to see it.
    view: screen::View,
}

/// What the lock guards.
struct Inner {
    node: Node,
    links: BTreeMap<u64, Link>,
    ledger: Ledger,
    sinks: Sinks,
    live: bool,
    paired: bool,
    limits: Limits,
    last_link: u64,
    log_bytes: u64,
    /// The guest's thread waits for a nudge.
    waiting: bool,
}

/// What this side does not put up with.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The guest is not to run unless it is protected: if the servers cannot pair, that is the end.
    pub must_pair: bool,
    /// A standby that has lost its guest does not wait for another.
    pub once: bool,
}

/// How a side stands, for console clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// It runs the guest and may release.
    pub live: bool,
    /// Its term.
    pub term: u64,
}

impl Edge {
    /// A life of `node`.
    pub fn new(node: Node, sinks: Sinks, limits: Limits) -> Arc<Self> {
        let live = node.status().live;
        let policy = sinks.policy.clone();
        policy.set_ended(false);
        let inner = Inner {
            node,
            links: BTreeMap::new(),
            ledger: Ledger::default(),
            sinks,
            live,
            paired: false,
            limits,
            last_link: 0,
            log_bytes: 0,
            waiting: false,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            nudge: Condvar::new(),
            news: watch::Sender::new(0),
            finished: watch::Sender::new(None),
            policy,
            flow: flow::Flow::default(),
            view: screen::View::default(),
        })
    }

    /// Tells the node something and carries out what it says.
    pub fn handle(&self, event: Event) {
        let mut inner = self.lock();
        inner.node.handle(host::now_ns(), event);
        self.carry_out(&mut inner);
    }

    /// A link to the peer stands; gives its number.
    pub fn link_up(&self, connection: Link) -> u64 {
        let mut inner = self.lock();
        inner.last_link += 1;
        let link = inner.last_link;
        inner.links.insert(link, connection);
        inner.node.handle(host::now_ns(), Event::LinkUp { link });
        self.carry_out(&mut inner);
        link
    }

    /// A link has ended.
    pub fn link_down(&self, link: u64, died: bool) {
        let mut inner = self.lock();
        if inner.links.remove(&link).is_some() {
            inner.node.handle(host::now_ns(), Event::LinkDown { link, died });
            self.carry_out(&mut inner);
        }
    }

    /// A console client typed. `false`: bytes are missing before these. Nothing happens if this side is not live.
    pub fn typed(&self, client: u64, sequence: u64, bytes: &[u8]) -> bool {
        let mut inner = self.lock();
        if !inner.live {
            return true;
        }
        let Some(inputs) = inner.ledger.typed(client, sequence, bytes) else { return false };
        for input in inputs {
            inner.node.handle(host::now_ns(), Event::Input(input));
        }
        self.carry_out(&mut inner);
        true
    }

    /// Frames came by the network of a card.
    pub fn arrived(&self, nic: u8, frames: Vec<Vec<u8>>) {
        let mut inner = self.lock();
        for bytes in frames {
            inner.node.handle(host::now_ns(), Event::Input(Input::Frame { nic, bytes }));
        }
        self.carry_out(&mut inner);
    }

    /// A card's network is gone for good.
    pub fn unplugged(&self, nic: u8) {
        let mut inner = self.lock();
        inner.sinks.cables.cut(nic);
        inner.node.handle(host::now_ns(), Event::Input(Input::Link { nic, up: false }));
        self.carry_out(&mut inner);
    }

    /// Console bytes that may be seen, from a position on.
    pub fn console(&self, from: u64) -> ftemu_lockstep::Piece {
        self.lock().node.console(CONSOLE_PORT, from)
    }

    /// How this side stands, and what of a client's typing has come as far as here, and as far as surviving it.
    pub fn standing(&self, client: u64) -> (Standing, Option<u64>, Option<u64>) {
        let inner = self.lock();
        let standing = Standing { live: inner.live, term: inner.node.status().term };
        (standing, inner.ledger.typed_by(client), inner.ledger.taken_from(client))
    }

    /// Changes whenever [`Edge::console`] or [`Edge::standing`] may say something new.
    pub fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Waits for the end of this life.
    pub async fn finished(&self) -> Finish {
        let mut finished = self.finished.subscribe();
        let found = finished.wait_for(Option::is_some).await.map(|finish| finish.clone());
        // The sender is `self`.
        found.ok().flatten().unwrap_or(Finish::Stopped)
    }

    /// Ends this life from outside, because of an error that the node does not know.
    pub fn fail(&self, why: String) {
        self.end(Finish::Failed(why));
        self.news.send_modify(|news| *news += 1);
        // Under the lock, so that the guest's thread is either before its look or asleep.
        let _inner = self.lock();
        self.nudge.notify_all();
    }

    /// Closes what this life has written to; everything is on its way out afterwards.
    pub fn close(&self) {
        let (screen, recorder) = {
            let mut inner = self.lock();
            (inner.sinks.screen.take(), inner.sinks.recorder.take())
        };
        drop(screen);
        drop(recorder);
    }

    /// How this life ended, if it has.
    pub fn finish(&self) -> Option<Finish> {
        self.finished.borrow().clone()
    }

    /// The links that stand, taken away: the node will not speak by them again.
    pub fn take_links(&self) -> Vec<Link> {
        std::mem::take(&mut self.lock().links).into_values().collect()
    }

    /// Both sides were whole at some time in this life.
    pub fn was_paired(&self) -> bool {
        self.lock().paired
    }

    /// Keeps the node's watch over the other server, and lets time pass when nothing else happens; never returns. To be
    /// run by whoever takes what the other server sends, and not before that.
    pub async fn keep_time(self: Arc<Self>) {
        loop {
            let (deadline, coarse) = {
                let mut inner = self.lock();
                inner.node.tick(host::now_ns());
                self.carry_out(&mut inner);
                (inner.node.deadline(), if inner.waiting { SHORTEST_LOOK } else { BUSY_LOOK })
            };
            let due =
                deadline.map_or(LOOK, |ns| host::instant(ns).saturating_duration_since(std::time::Instant::now()));
            tokio::time::sleep(due.clamp(coarse, LOOK)).await;
        }
    }

    /// The first end counts.
    fn end(&self, finish: Finish) {
        self.finished.send_if_modified(|slot| {
            let first = slot.is_none();
            slot.get_or_insert(finish);
            first
        });
        self.policy.set_ended(true);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries out all that the node wants done, and wakes whom it concerns.
    fn carry_out(&self, inner: &mut Inner) {
        let (mut news, mut over) = (false, false);
        while let Some(action) = inner.node.poll() {
            news |= matches!(action, Action::Release(_) | Action::Finished(_));
            over |= matches!(action, Action::Finished(_) | Action::Notice(_));
            match action {
                Action::Finished(finish) => self.end(finish),
                Action::Notice(notice) if inner.is_too_much(&notice) => {
                    self.end(Finish::Failed(crate::notices::sentence(&notice)));
                }
                action => inner.carry_out(action),
            }
        }
        // Of a guest that is off, either side may show the end, if it has all of it.
        let off = (inner.live || inner.paired) && matches!(*self.finished.borrow(), Some(Finish::PoweredOff));
        let status = inner.node.status();
        inner.sinks.policy.set_protected(status.protected);
        let live = status.live || off;
        let began = live && !inner.live;
        news |= live != std::mem::replace(&mut inner.live, live);
        if began {
            inner.ledger.go_live();
            inner.plug_in();
            // What follows from that; the news of this side's standing is still to be told.
            self.carry_out(inner);
        }
        let survives = inner.node.acknowledged();
        news |= inner.ledger.survives(survives);
        if news {
            self.news.send_modify(|news| *news += 1);
            self.flow.wake();
        }
        // Waking a thread is dear: only if it sleeps, and there is something for it.
        if inner.waiting && (inner.node.stirred() || over) {
            inner.waiting = false;
            self.nudge.notify_all();
        }
    }
}

impl Inner {
    fn is_too_much(&self, notice: &Notice) -> bool {
        match notice {
            Notice::Unlike(_) | Notice::Refused(_) => self.limits.must_pair && !self.paired,
            Notice::Dropped { .. } => self.limits.once,
            _ => false,
        }
    }

    /// The guest's cables are this server's from now on.
    fn plug_in(&mut self) {
        for (nic, up) in (0..).zip(self.sinks.cables.up()) {
            self.node.handle(host::now_ns(), Event::Input(Input::Link { nic, up }));
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send { link, class, bytes } => self.send(link, class, bytes),
            Action::Disconnect { link } => {
                if let Some(link) = self.links.remove(&link) {
                    self.sinks.dismiss(link);
                }
            }
            Action::Release(Release::Serial { port: CONSOLE_PORT, bytes, .. }) => self.sinks.show(bytes),
            Action::Release(release) => self.sinks.released(&release),
            Action::Announce { nic, bytes } => self.sinks.cables.send(nic, &bytes),
            Action::Claim { term } => self.sinks.claim(term),
            Action::Record(bytes) => self.sinks.record(bytes),
            Action::Notice(notice) => {
                self.paired |= matches!(notice, Notice::Protected { .. });
                self.sinks.notice(&notice);
            }
            Action::Finished(_) => {}
        }
    }

    fn send(&mut self, link: u64, class: Class, bytes: Vec<u8>) {
        let Some(link) = self.links.get(&link) else { return };
        let class = match class {
            Class::Log => ftemu_transport::Class::Log,
            Class::Control => ftemu_transport::Class::Control,
            Class::Bulk => ftemu_transport::Class::Bulk,
            Class::Heartbeat => ftemu_transport::Class::Heartbeat,
        };
        if class == ftemu_transport::Class::Log {
            self.log_bytes += bytes.len() as u64;
        }
        // A link that has ended says so itself.
        let _ = link.send(class, bytes);
    }
}

/// Asks the arbiter, in a task of its own because a disk may be slow.
pub async fn ask_arbiter(
    edge: Arc<Edge>,
    arbiter: Option<crate::arbiter::Arbiter>,
    mut terms: mpsc::UnboundedReceiver<u64>,
) {
    while let Some(term) = terms.recv().await {
        let verdict = match arbiter.clone() {
            Some(arbiter) => tokio::task::spawn_blocking(move || arbiter.claim(term)).await,
            None => Ok(Verdict::Unreachable("there is no arbiter".into())),
        };
        let verdict = verdict.unwrap_or_else(|error| Verdict::Unreachable(error.to_string()));
        edge.handle(Event::Claimed { term, verdict });
    }
}
