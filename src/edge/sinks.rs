//! Where the node's wishes go: queues that never block.

use ftemu_lockstep::{Notice, Release};
use ftemu_transport::Link;
use serde_json::json;
use tokio::sync::mpsc;

use crate::drives::Policy;
use crate::journal::Journal;
use crate::network::Cables;
use crate::recorder::Recorder;
use crate::stdio::Screen;

/// The queues of one life of a side.
pub struct Sinks {
    /// What the drives do when the host's disk is full or broken.
    pub policy: Policy,
    /// Tells the user.
    pub journal: Journal,
    /// Standard output, if the console is on it.
    pub screen: Option<Screen>,
    /// The record file, if there is one.
    pub recorder: Option<Recorder>,
    /// Terms to be claimed.
    pub claims: mpsc::UnboundedSender<u64>,
    /// Links to be ended when everything on them has arrived.
    pub dismissals: mpsc::UnboundedSender<Link>,
    /// Where the guest's frames go; these do not wait in a queue of ours if the host takes them.
    pub cables: Cables,
}

impl Sinks {
    pub(super) fn show(&mut self, bytes: Vec<u8>) {
        if let Some(screen) = &mut self.screen {
            screen.show(bytes);
        }
    }

    pub(super) fn released(&self, release: &Release) {
        match release {
            Release::Serial { .. } => {}
            Release::Frame { nic, bytes, .. } => self.cables.send(*nic, bytes),
            Release::PowerOff => self.journal.say("power_off", "the guest switched itself off", json!({})),
            Release::Reset => self.journal.say("reset", "the guest restarted itself", json!({})),
        }
    }

    pub(super) fn claim(&self, term: u64) {
        // A life that is over claims nothing.
        let _ = self.claims.send(term);
    }

    pub(super) fn dismiss(&self, link: Link) {
        let _ = self.dismissals.send(link);
    }

    pub(super) fn record(&mut self, bytes: Vec<u8>) {
        if let Some(recorder) = &mut self.recorder {
            recorder.append(bytes);
        }
    }

    pub(super) fn notice(&self, notice: &Notice) {
        self.journal.notice(notice);
    }
}
