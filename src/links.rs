//! Links for a side: dialling the other server, accepting it, and carrying messages to the node.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use ftemu_lockstep::Event;
use ftemu_transport::{Closed, Event as News, Events, Identity, Link, LinkError, Listener, Settings, Trust, dial};
use serde_json::json;
use tokio::net::lookup_host;
use tokio::runtime::Handle;

use crate::edge::Edge;
use crate::journal::Journal;

/// Between attempts to reach the other server.
const AGAIN: Duration = Duration::from_millis(200);

/// How the other server is reached.
pub struct Peer {
    /// As the user wrote it.
    pub name: String,
    /// Our key.
    pub identity: Arc<Identity>,
    /// Keys it may have.
    pub trust: Trust,
    /// Times of the link.
    pub settings: Settings,
    /// Where the link lives.
    pub thread: Handle,
}

impl Peer {
    /// Connects once.
    ///
    /// # Errors
    /// When none of its addresses answers as it should; says what to do.
    pub async fn dial(&self) -> Result<(Link, Events)> {
        let addresses: Vec<SocketAddr> = lookup_host(&self.name)
            .await
            .with_context(|| format!("cannot find {} (it is written HOST:PORT)", self.name))?
            .collect();
        let mut failure = anyhow!("{} has no address", self.name);
        for address in addresses {
            let (identity, trust, settings) = (Arc::clone(&self.identity), self.trust.clone(), self.settings.clone());
            // The link lives where it is made.
            let dialling = self.thread.spawn(async move { dial(address, &identity, &trust, &settings).await });
            match dialling.await.context("the link's thread ended")? {
                Ok(link) => return Ok(link),
                Err(error @ (LinkError::Unreachable { .. } | LinkError::Bind { .. })) => failure = error.into(),
                Err(error) => bail!(error),
            }
        }
        Err(failure)
    }
}

/// Keeps a link to the other server, from `first` on; never returns. With `must_pair`, losing it before the guest was
/// ever protected ends this life.
pub async fn keep_dialling(
    peer: &Peer,
    edge: &Arc<Edge>,
    first: Option<(Link, Events)>,
    must_pair: bool,
    journal: &Journal,
) {
    let mut told = None;
    if let Some((link, events)) = first {
        serve_there(&peer.thread, edge, link, events, journal).await;
    }
    loop {
        match peer.dial().await {
            Ok((link, events)) => {
                told = None;
                serve_there(&peer.thread, edge, link, events, journal).await;
            }
            Err(error) => {
                let why = format!("{error:#}");
                if must_pair && !edge.was_paired() {
                    edge.fail(format!("the standby was lost before it protected the guest: {why}"));
                }
                if told.as_ref() != Some(&why) {
                    journal.say("unreachable", &format!("{why}; trying on"), json!({ "why": why }));
                    told = Some(why);
                }
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Accepts the other server whenever it comes; never returns while the listener is open.
pub async fn keep_accepting(listener: &mut Listener, thread: &Handle, edge: &Arc<Edge>, journal: &Journal) {
    let mut told = String::new();
    loop {
        match listener.accept().await {
            Ok((link, events)) => {
                told.clear();
                let (edge, journal) = (Arc::clone(edge), journal.clone());
                thread.spawn(async move { serve(&edge, link, events, &journal).await });
            }
            Err(LinkError::ListenerClosed) => return,
            Err(error) => {
                // A stranger that tries again and again does not fill the user's terminal.
                let why = error.to_string();
                if told != why {
                    journal.say("turned_away", &format!("turned a server away: {why}"), json!({ "why": why }));
                    told = why;
                }
            }
        }
    }
}

/// Carries a link's messages to the node, on the link's thread, until it ends.
async fn serve_there(thread: &Handle, edge: &Arc<Edge>, link: Link, events: Events, journal: &Journal) {
    let (edge, journal) = (Arc::clone(edge), journal.clone());
    let served = thread.spawn(async move { serve(&edge, link, events, &journal).await });
    // It does not fail; a panic there has been told.
    let _ = served.await;
}

/// Carries a link's messages to the node until it ends.
async fn serve(edge: &Arc<Edge>, link: Link, mut events: Events, journal: &Journal) {
    let address = link.peer();
    let fields = json!({ "address": address.to_string(), "tethered": link.tethered() });
    journal.say("connected", &format!("connected with {address}"), fields);
    if !link.tethered() {
        untethered(journal, address);
    }
    let number = edge.link_up(link);
    while let Some(event) = events.recv().await {
        match event {
            News::Message(message) => edge.handle(Event::Received { link: number, bytes: message.bytes }),
            News::TetherLost => untethered(journal, address),
            News::Closed(reason) => {
                let fields = json!({ "address": address.to_string(), "died": reason == Closed::ProcessDied });
                journal.say("closed", &format!("the link with {address} ended: {reason}"), fields);
                edge.link_down(number, reason == Closed::ProcessDied);
            }
        }
    }
}

fn untethered(journal: &Journal, address: SocketAddr) {
    let sentence = format!(
        "no TCP connection to {address}: the death of the other server's process will be noticed only by its silence; let \
         TCP through on the same port as UDP"
    );
    journal.say("untethered", &sentence, json!({ "address": address.to_string() }));
}
