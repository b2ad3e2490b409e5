//! The guest's screen and keyboard, for whoever shows and uses them.
//!
//! The guest belongs to its thread. Who wants to see the screen leaves a wish; that thread makes a picture between two
//! pieces of work, and all who wait get it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ftemu_lockstep::guest::Image;
use ftemu_lockstep::{Event, Input};
use tokio::sync::watch;

use super::Edge;
use crate::drives::Discs;
use crate::host;

/// Where pictures go from the guest's thread to those who want them.
#[derive(Debug, Default)]
pub struct View {
    wanted: AtomicBool,
    shown: watch::Sender<Option<Arc<Image>>>,
}

impl View {
    /// Whether somebody waits for a picture.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// Hands out a picture.
    pub fn show(&self, image: Option<Image>) {
        self.wanted.store(false, Ordering::Relaxed);
        self.shown.send_replace(image.map(Arc::new));
    }
}

impl Edge {
    /// The guest's screen as it is now; on either side of a pair. `None`: it has none, or there is no guest.
    pub async fn screen(&self) -> Option<Arc<Image>> {
        let mut shown = self.view.shown.subscribe();
        {
            // Under the lock, so that the guest's thread is either before its look or asleep.
            let _inner = self.lock();
            self.view.wanted.store(true, Ordering::Relaxed);
            self.nudge.notify_all();
        }
        tokio::select! {
            _ = shown.changed() => shown.borrow().clone(),
            _ = self.finished() => None,
        }
    }

    /// The discs that the guest may be given.
    pub fn discs(&self) -> &Discs {
        self.policy.discs()
    }

    /// Whether both servers have the guest.
    pub fn is_protected(&self) -> bool {
        self.lock().node.status().protected
    }

    /// A key, a button or the mouse. `false`: nothing happens, because this side is not live.
    pub fn press(&self, input: Input) -> bool {
        let mut inner = self.lock();
        if !inner.live {
            return false;
        }
        inner.node.handle(host::now_ns(), Event::Input(input));
        self.carry_out(&mut inner);
        true
    }
}
