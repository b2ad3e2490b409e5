//! The primary's regard for its backup: slower when that lags, standing still when it does not answer, never silently.

use super::common::Common;
use super::primary::Primary;
use crate::event::Notice;
use crate::lag::rest_ns;

/// The backup must have kept up for so long before the user is told that it does.
const NEWS_NS: u64 = 2_000_000_000;
/// A guest whose changes to its disks are waited for rests at most so long at a time.
const MOST_REST_NS: u64 = 1_000_000_000;

impl Primary {
    /// Slows the guest when the backup lags, or when its disks cannot be made equal otherwise.
    pub fn rest(&mut self, common: &mut Common, ran_ns: u64) {
        let lag_ns = self.lag.lag_ns(common.now);
        let limit_ns = common.settings.lag_limit_ns;
        let parts = 1u64 << self.peer.slowdown().min(16);
        let for_disks_ns = ran_ns.saturating_mul(parts - 1).min(MOST_REST_NS);
        self.rest_until = common.now.saturating_add(rest_ns(lag_ns, limit_ns, ran_ns).max(for_disks_ns));
        if lag_ns > limit_ns {
            self.lagged_at = common.now;
            if !self.slowed {
                self.slowed = true;
                common.notice(Notice::Slowed { lag_ns });
            }
        } else if self.slowed && common.now.saturating_sub(self.lagged_at) > NEWS_NS {
            self.slowed = false;
            common.notice(Notice::FullSpeed);
        }
    }

    /// Whether the guest must stand still until the backup answers; tells the user when that changes.
    pub fn stall(&mut self, common: &mut Common) -> bool {
        let stop_ns = if self.stalled { common.settings.lag_stop_ns / 2 } else { common.settings.lag_stop_ns };
        let why = if !self.peer.is_paired() {
            None
        } else if self.lag.unacknowledged_ns(common.now) > stop_ns {
            Some("the standby does not acknowledge the log")
        } else if self.lag.lag_ns(common.now) > stop_ns {
            Some("the standby is too far behind")
        } else if common.log.bytes() > common.settings.unacknowledged_bytes {
            Some("too much of the log is not acknowledged")
        } else {
            None
        };
        match why {
            Some(why) if !self.stalled => common.notice(Notice::Stalled { why }),
            None if self.stalled => common.notice(Notice::Unstalled),
            _ => (),
        }
        self.stalled = why.is_some();
        self.stalled
    }
}
