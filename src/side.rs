//! What `run` and `standby` have in common: a side of a pair with its sockets, signals and files, and its lives.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use ftemu_devices::Machine;
use ftemu_lockstep::{Event, Finish, Hands, Node, Settings};
use ftemu_transport::{Events, Link, Listener};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::arbiter::Arbiter;
use crate::arguments::SideArguments;
use crate::drives::Policy;
use crate::edge::{self, Edge, Figures, Limits, LinkThread, Sinks};
use crate::journal::Journal;
use crate::links::{self, Peer};
use crate::network::Network;
use crate::recorder::{Recorder, Tap};
use crate::stdio::{Keyboard, Screen};
use crate::{console, host, identity, screen};

/// How long the ends of links and consoles may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long console clients may take to read the end of a guest that is off: there is nobody else to ask.
const LAST_READING: Duration = Duration::from_secs(5);

/// How often a bar is drawn anew.
const REDRAW: Duration = Duration::from_millis(200);

/// How long the guest's last piece of work may take.
const LAST_WORK: Duration = Duration::from_secs(5);

/// A side, open to the world.
pub struct Side {
    arguments: SideArguments,
    /// Tells the user.
    pub journal: Journal,
    /// How the other server is reached, if by us.
    pub peer: Option<Peer>,
    listener: Option<Listener>,
    console: Option<TcpListener>,
    viewers: Option<TcpListener>,
    policy: Policy,
    tap: Tap,
    network: Network,
    signals: [Signal; 3],
    lives: u32,
    /// After the listener and the links, which live there.
    thread: LinkThread,
}

/// What begins a life.
pub struct Birth {
    /// The node of that life.
    pub node: Node,
    /// Its guest, or room for one.
    pub hands: Hands<Machine>,
    /// A link that stands already.
    pub link: Option<(Link, Events)>,
    /// The guest is not to run unless it is protected.
    pub must_pair: bool,
    /// A standby that has lost its guest is not to wait for another.
    pub once: bool,
    /// Under this name it claims at the arbiter.
    pub claimant: String,
}

impl Side {
    /// Opens the sockets that the arguments ask for.
    ///
    /// # Errors
    /// When one of them cannot be had, or there is no identity.
    pub async fn open(arguments: SideArguments, policy: Policy, tap: Tap, journal: Journal) -> Result<Self> {
        let thread = LinkThread::start(&journal)?;
        let settings = ftemu_transport::Settings::default();
        let mut listener = None;
        if let Some(address) = arguments.listen {
            let (identity, trust) = identity::of_side(&arguments)?;
            let _there = thread.handle().enter();
            let bound = Listener::bind(address, identity, trust, settings.clone())?;
            journal.listening(bound.local_address()?);
            listener = Some(bound);
        }
        let mut peer = None;
        if let Some(name) = arguments.peer.clone() {
            let (identity, trust) = identity::of_side(&arguments)?;
            peer = Some(Peer { name, identity: Arc::new(identity), trust, settings, thread: thread.handle().clone() });
        }
        let mut console = None;
        if let Some(address) = arguments.console_listen {
            let bound = bind_console(address).await?;
            journal.console(bound.local_addr()?);
            console = Some(bound);
        }
        let viewers = screen::vnc::bind(&arguments.screen).await?;
        if let Some(bound) = &viewers {
            journal.vnc(bound.local_addr()?);
        }
        let network = Network::open(&arguments.network, &journal)?;
        let signals = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        let [interrupt, terminate, hangup] = signals;
        let signals = [interrupt?, terminate?, hangup?];
        Ok(Self {
            arguments,
            policy,
            tap,
            journal,
            peer,
            listener,
            console,
            viewers,
            network,
            signals,
            lives: 0,
            thread,
        })
    }

    /// How the node is to behave.
    pub fn settings(&self) -> Settings {
        let silence_ns = u64::try_from(self.arguments.silence_limit.as_nanos()).unwrap_or(u64::MAX);
        Settings {
            arbiter: self.arguments.arbiter.is_some(),
            record: self.arguments.record.is_some(),
            silence_ns,
            heartbeat_ns: silence_ns / 5,
            ..Settings::default()
        }
    }

    /// Lives one life to its end.
    ///
    /// # Errors
    /// When it cannot begin.
    pub async fn live(
        &mut self,
        birth: Birth,
        screen: Option<Screen>,
        keyboard: Option<&mut Keyboard>,
    ) -> Result<Finish> {
        let Birth { node, hands, link, must_pair, once, claimant } = birth;
        self.lives += 1;
        let (claims, terms) = mpsc::unbounded_channel();
        let (dismissals, dismissed) = mpsc::unbounded_channel();
        let recorder = self.recorder()?;
        let cables = self.network.cables();
        let sinks = Sinks {
            policy: self.policy.clone(),
            journal: self.journal.clone(),
            screen,
            recorder,
            claims,
            dismissals,
            cables,
        };
        let edge = Edge::new(node, sinks, Limits { must_pair, once });
        let guest = edge.start(hands)?;
        let time = self.thread.spawn(Arc::clone(&edge).keep_time());
        let arbiter = self.arguments.arbiter.clone().map(|path| Arbiter::new(path, claimant));
        let asking = tokio::spawn(edge::ask_arbiter(Arc::clone(&edge), arbiter, terms));
        let mut clients = console::server::Clients::new();
        let finish = tokio::select! {
            finish = edge.finished() => finish,
            never = self.attend(&edge, link, must_pair, dismissed, &mut clients, keyboard) => match never {},
        };
        clients.finish(if finish == Finish::PoweredOff { LAST_READING } else { LAST_WORDS }).await;
        for link in edge.take_links() {
            link.finish(LAST_WORDS, 0, "this side is done").await;
        }
        asking.abort();
        time.abort();
        let sound = guest.finish(LAST_WORK).await;
        edge.close();
        self.journal.flush();
        anyhow::ensure!(sound, "the guest's thread ended in a panic; this is a defect of ftemu, please report it");
        Ok(finish)
    }

    /// Everything that goes on while a life lasts.
    async fn attend(
        &mut self,
        edge: &Arc<Edge>,
        link: Option<(Link, Events)>,
        must_pair: bool,
        dismissed: mpsc::UnboundedReceiver<Link>,
        clients: &mut console::server::Clients,
        keyboard: Option<&mut Keyboard>,
    ) -> std::convert::Infallible {
        let shares_terminal = keyboard.is_some();
        let Self { peer, listener, console, viewers, network, signals, journal, arguments, thread, .. } = self;
        let dialling = async {
            match peer {
                Some(peer) => links::keep_dialling(peer, edge, link, must_pair, journal).await,
                None => std::future::pending().await,
            }
        };
        let accepting = async {
            match listener {
                Some(listener) => links::keep_accepting(listener, thread.handle(), edge, journal).await,
                None => std::future::pending().await,
            }
        };
        let serving = async {
            match console {
                Some(console) => clients.accept(console, edge).await,
                None => std::future::pending().await,
            }
        };
        let showing = async {
            match viewers {
                Some(viewers) => screen::vnc::serve(viewers, edge).await,
                None => std::future::pending().await,
            }
        };
        tokio::join!(
            dialling,
            accepting,
            serving,
            showing,
            network.attend(edge, journal),
            dismiss(dismissed),
            stop(signals, keyboard, edge),
            report(edge, arguments, journal),
            show_comparisons(edge, journal, shares_terminal)
        );
        std::future::pending().await
    }

    /// The record file of this life. Later lives have another one, with a number.
    fn recorder(&self) -> Result<Option<Recorder>> {
        let Some(path) = &self.arguments.record else { return Ok(None) };
        let mut path = path.clone().into_os_string();
        if self.lives > 1 {
            path.push(format!(".{}", self.lives));
        }
        Recorder::create(&PathBuf::from(path), self.tap.clone(), self.journal.clone()).map(Some)
    }
}

async fn bind_console(address: SocketAddr) -> Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.with_context(|| format!("cannot serve the console on {address}; choose another port or address"))
}

/// Ends links on which the node has said its last word.
async fn dismiss(mut dismissed: mpsc::UnboundedReceiver<Link>) {
    while let Some(link) = dismissed.recv().await {
        tokio::spawn(async move { link.finish(LAST_WORDS, 0, "this side is done with the other").await });
    }
}

/// Passes on what is typed, and stops this side on a signal or when the user leaves.
async fn stop(signals: &mut [Signal; 3], keyboard: Option<&mut Keyboard>, edge: &Arc<Edge>) {
    let [interrupt, terminate, hangup] = signals;
    let leaving = async {
        match keyboard {
            Some(keyboard) => keyboard.type_into(edge).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        () = leaving => {}
    }
    edge.handle(Event::Stop);
}

/// Writes the figures into the events file.
async fn report(edge: &Arc<Edge>, arguments: &SideArguments, journal: &Journal) {
    if arguments.events.is_none() {
        return;
    }
    let mut figures = Figures::default();
    loop {
        journal.note("status", figures.take(edge));
        tokio::time::sleep(arguments.status_interval).await;
    }
}

/// A bar while disks are compared, unless the guest itself uses the terminal.
async fn show_comparisons(edge: &Arc<Edge>, journal: &Journal, shares_terminal: bool) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let mut shown = None;
    loop {
        let (compared, ran) = edge.comparison();
        let compared = compared.filter(|_| !(ran && shares_terminal));
        if shown != compared {
            journal.progress(compared);
            shown = compared;
        }
        tokio::time::sleep(REDRAW).await;
    }
}

/// Names a process for the arbiter and for messages.
pub fn claimant(incarnation: u64) -> String {
    format!("{} (process {}, {incarnation:016x})", host::name(), std::process::id())
}
