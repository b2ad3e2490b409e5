//! When the log goes to the backup and to the record file, and what of it is kept.

use super::common::Common;
use super::peer::Peer;
use super::primary::Primary;
use crate::message::Message;

impl Primary {
    /// Sends within `ns` at the latest.
    pub fn flush_within(&mut self, common: &Common, ns: u64) {
        let due = common.now.saturating_add(ns);
        self.flush_at = Some(self.flush_at.map_or(due, |at| at.min(due)));
    }

    /// The backup follows in steps that are worth a message; an idle guest's are not.
    pub fn flush_progress(&mut self, common: &mut Common) {
        let made = common.guest.at.count.0.saturating_sub(self.flushed.0);
        if made >= common.pacer.instructions(common.settings.progress_ns) {
            self.flush(common);
        } else {
            self.flush_within(common, common.settings.heartbeat_ns);
        }
    }

    /// Sends what the backup lacks and hands the record file what it lacks.
    pub fn flush(&mut self, common: &mut Common) {
        self.flush_at = None;
        self.flushed = common.guest.at.count;
        if self.watched(common) {
            common.cover();
        }
        let end = common.log.end();
        if self.peer.is_paired() && common.greeted() && self.sent < end.index {
            let released = common.outputs.released_to(common.guest.at.count);
            let records = common.log.batch(self.sent);
            common.send_regularly(&Message::Log { first: self.sent, released, records, chain: end.chain });
            self.sent = end.index;
            self.lag.mark(end.count, end.index, common.now);
        }
        common.record();
        self.forget(common);
    }

    /// Drops the records that nobody will ask for.
    pub fn forget(&self, common: &mut Common) {
        let needed = match &self.peer {
            Peer::None => common.log.end().index,
            Peer::Joining { sending, .. } => match sending {
                Some(sending) => sending.begin().position.index,
                None => common.log.end().index,
            },
            Peer::Paired { .. } => self.acknowledged,
        };
        common.forget(needed);
    }
}
