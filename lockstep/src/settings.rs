//! How a node behaves. The defaults are what `ftemu run` and `ftemu standby` use.

/// A pause after something that costs the guest time, by what it cost.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// So many times as long as it took ...
    pub times: u32,
    /// ... but no more nanoseconds than this.
    pub most_ns: u64,
}

impl Rest {
    /// Nanoseconds of rest after something that took so many.
    pub fn after(self, took_ns: u64) -> u64 {
        took_ns.saturating_mul(self.times.into()).min(self.most_ns)
    }
}

/// Times are in nanoseconds, sizes in bytes, distances in instructions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Claims are decided by an arbiter; without one only the death of the peer's process lets a side go on alone.
    pub arbiter: bool,
    /// The guest does not start before a standby protects it.
    pub wait_for_standby: bool,
    /// Every record is also handed out as [`crate::Action::Record`], for a record file.
    pub record: bool,
    /// A sign of life at least this often.
    pub heartbeat_ns: u64,
    /// Without any for this long the peer counts as gone.
    pub silence_ns: u64,
    /// A claim that the arbiter did not answer is made again after this long.
    pub claim_again_ns: u64,
    /// Inputs from outside wait this long at most for company on their way to the backup; not at all when an output waits.
    pub flush_ns: u64,
    /// The guest's progress goes to the backup when it took the guest about this long; that of an idle guest, which has
    /// made less, with the next sign of life.
    pub progress_ns: u64,
    /// The guest runs about this long between looks at the outside.
    pub slice_ns: u64,
    /// The guest's clock may be this far from the host's before it is anchored anew.
    pub clock_tolerance_ns: u64,
    /// Above this lag of the backup the primary is slowed.
    pub lag_limit_ns: u64,
    /// At this lag, or after this long without an acknowledgement, the primary stops until the backup is back.
    pub lag_stop_ns: u64,
    /// Log that the peer has not acknowledged, at most; then the primary stops until it has.
    pub unacknowledged_bytes: usize,
    /// Digests are compared every so many instructions, or at a multiple of that.
    pub digest_interval: u64,
    /// At least this passes from one digest to the next. What follows one costs several times what it took itself: every
    /// page's next store has to mark the page anew.
    pub digest_rest: Rest,
    /// The standby keeps a copy of the guest every so many agreed digests, to find a divergence from; 0: never.
    /// The copy costs host memory ([`crate::kept`]).
    pub keep_every: u32,
    /// ... at least this long after the last one: the standby's guest stands still meanwhile, and the primary's waits for
    /// it where both are busy.
    pub keep_rest: Rest,
    /// ... and at the next one when the log since the last copy is longer than this.
    pub keep_log_bytes: usize,
    /// Console bytes kept for clients that attach again, per port.
    pub history_bytes: usize,
    /// Pages in one message of a state transfer.
    pub chunk_pages: usize,
    /// Such messages under way at most.
    pub chunk_window: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            arbiter: false,
            wait_for_standby: false,
            record: false,
            heartbeat_ns: 50_000_000,
            silence_ns: 250_000_000,
            claim_again_ns: 100_000_000,
            flush_ns: 2_000_000,
            progress_ns: 16_000_000,
            slice_ns: 1_000_000,
            clock_tolerance_ns: 1_000_000,
            lag_limit_ns: 100_000_000,
            lag_stop_ns: 2_000_000_000,
            unacknowledged_bytes: 16 << 20,
            digest_interval: 1 << 26,
            digest_rest: Rest { times: 1000, most_ns: 1_000_000_000 },
            keep_every: 16,
            keep_rest: Rest { times: 200, most_ns: 30_000_000_000 },
            keep_log_bytes: 8 << 20,
            history_bytes: 1 << 20,
            chunk_pages: 16,
            chunk_window: 32,
        }
    }
}
