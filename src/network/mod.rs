//! The guest's networks on this server: where the cable of each network card ends. A tap device behind a bridge, or
//! `passt`, which needs no privileges (`docs/NETWORK.md`).
//!
//! Frames that arrive are told to the node, whether this side is live or not: a standby remembers them for a while.
//! Frames that leave are handed to the host before the node's next wish is carried out, so that what the peer is told
//! to be out is out.

mod arguments;
mod cable;
mod passt;
mod tap;
mod tun;

pub use arguments::{CardArguments, Net, NetworkArguments};
pub use cable::{Cables, MOST_CARDS};

use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::edge::Edge;
use crate::journal::Journal;
use cable::{Cable, Outlet};
use passt::Passt;
use tap::Tap;

/// The networks of one server, from its start to its end.
pub struct Network {
    cables: Cables,
    ends: Vec<End>,
}

/// The host's side of a cable.
enum End {
    Nothing,
    Tap(Arc<Tap>),
    User(Box<Passt>),
}

impl Network {
    /// Opens what the arguments ask for.
    ///
    /// # Errors
    /// When a tap is not there or not ours, or `passt` is missing; says what to do about it.
    pub fn open(arguments: &NetworkArguments, journal: &Journal) -> Result<Self> {
        let users = arguments.net.iter().filter(|net| **net == Net::User).count();
        ensure!(arguments.net.len() <= MOST_CARDS, "at most {MOST_CARDS} network cards: --net is given too often");
        ensure!(users == 1 || arguments.forward.is_empty(), "--forward needs one --net user");
        let (mut cables, mut ends) = (Vec::new(), Vec::new());
        for net in &arguments.net {
            let (outlet, end) = match net {
                Net::None => (Outlet::Nowhere, End::Nothing),
                Net::Tap(name) => {
                    let tap = Arc::new(Tap::open(name)?);
                    (Outlet::Tap(Arc::clone(&tap)), End::Tap(tap))
                }
                Net::User => {
                    let (passt, queue) = Passt::start(&arguments.forward)?;
                    (Outlet::User(queue), End::User(Box::new(passt)))
                }
            };
            cables.push(Cable::new(outlet));
            ends.push(end);
        }
        Ok(Self { cables: Cables::new(cables, journal.clone()), ends })
    }

    /// The cables, for the edge to send by.
    pub fn cables(&self) -> Cables {
        self.cables.clone()
    }

    /// Brings what arrives to the node; never returns.
    pub async fn attend(&mut self, edge: &Arc<Edge>, journal: &Journal) {
        let mut tasks = Vec::new();
        for (nic, end) in (0..).zip(&mut self.ends) {
            tasks.push(async move {
                let why = match end {
                    End::Nothing => return,
                    End::Tap(tap) => tap.read_into(nic, edge).await,
                    End::User(passt) => passt.carry(nic, edge).await,
                };
                edge.unplugged(nic);
                let fields = serde_json::json!({ "nic": nic });
                journal.say("unplugged", &format!("{why}; the guest goes on without this network"), fields);
                *end = End::Nothing;
            });
        }
        for task in join_all(tasks).await {
            let () = task;
        }
        std::future::pending().await
    }
}

/// Runs all of them side by side to their ends.
async fn join_all<T>(tasks: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut tasks: Vec<_> = tasks.into_iter().map(|task| (Box::pin(task), None)).collect();
    std::future::poll_fn(|context| {
        for (task, result) in &mut tasks {
            if result.is_none()
                && let std::task::Poll::Ready(value) = task.as_mut().poll(context)
            {
                *result = Some(value);
            }
        }
        match tasks.iter().all(|(_, result)| result.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    tasks.into_iter().filter_map(|(_, result)| result).collect()
}
