//! Frames come no faster than the guest takes them: whoever reads a network first asks how many. What is not read waits
//! where it came from, whose sender learns by that to send less; a frame lost in the guest's card would be sent again,
//! and with it, by some senders, all that came after it.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::Edge;

/// Frames that are read at once of a network whose frames nobody takes yet: a standby remembers them.
const NOT_LIVE: usize = 64;

/// How much the guest's network cards take.
#[derive(Default)]
pub struct Flow {
    /// Frames, when the guest's thread looked.
    room: AtomicUsize,
    changed: Notify,
}

impl Flow {
    /// The guest's thread has done something; afterwards its cards have this much room, and frames still wait or not.
    pub(super) fn worked(&self, room: usize, frames_wait: bool) {
        self.room.store(room, Ordering::Relaxed);
        if room > 0 && !frames_wait {
            self.wake();
        }
    }

    /// Somebody may go on.
    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }
}

impl Edge {
    /// Waits until the guest takes frames, and gives how many.
    pub async fn room(&self) -> usize {
        loop {
            let changed = self.flow.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(room) = self.room_now() {
                return room;
            }
            changed.await;
        }
    }

    fn room_now(&self) -> Option<usize> {
        let inner = self.lock();
        if !inner.live {
            return Some(NOT_LIVE);
        }
        // One frame may be on its way into the card.
        let room = self.flow.room.load(Ordering::Relaxed).saturating_sub(1);
        (room > 0 && !inner.node.frames_wait()).then_some(room)
    }
}
