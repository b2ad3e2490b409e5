//! Cables: where frames that the guest sends go, and whether they go anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use super::passt::Queue;
use super::tap::Tap;
use crate::journal::Journal;

/// Network cards that a guest can have.
pub const MOST_CARDS: usize = 4;

/// Where a cable ends.
pub(super) enum Outlet {
    Nowhere,
    Tap(Arc<Tap>),
    User(Queue),
}

/// One cable.
pub(super) struct Cable {
    outlet: Outlet,
    up: AtomicBool,
    /// The user was told that frames cannot be sent.
    told: AtomicBool,
}

impl Cable {
    pub(super) fn new(outlet: Outlet) -> Self {
        let up = AtomicBool::new(!matches!(outlet, Outlet::Nowhere));
        Self { outlet, up, told: AtomicBool::new(false) }
    }
}

/// The cables of all cards.
#[derive(Clone)]
pub struct Cables {
    cables: Arc<Vec<Cable>>,
    journal: Journal,
}

impl Cables {
    pub(super) fn new(cables: Vec<Cable>, journal: Journal) -> Self {
        Self { cables: Arc::new(cables), journal }
    }

    /// Sends a frame. One that the host does not take is lost, as on any network.
    pub fn send(&self, nic: u8, frame: &[u8]) {
        let Some(cable) = self.cables.get(usize::from(nic)) else { return };
        let problem = match &cable.outlet {
            Outlet::Nowhere => None,
            Outlet::Tap(tap) => tap.send(frame),
            Outlet::User(queue) => {
                queue.send(frame);
                None
            }
        };
        match problem {
            Some(why) if !cable.told.swap(true, Ordering::Relaxed) => {
                self.journal.say("not_sent", &why, json!({ "nic": nic }));
            }
            Some(_) => {}
            None => cable.told.store(false, Ordering::Relaxed),
        }
    }

    /// The cable of a card has come off for good.
    pub fn cut(&self, nic: u8) {
        if let Some(cable) = self.cables.get(usize::from(nic)) {
            cable.up.store(false, Ordering::Relaxed);
        }
    }

    /// Which cards have a cable that leads somewhere.
    pub fn up(&self) -> [bool; MOST_CARDS] {
        std::array::from_fn(|nic| self.cables.get(nic).is_some_and(|cable| cable.up.load(Ordering::Relaxed)))
    }
}
