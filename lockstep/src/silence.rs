//! How long the peer has not been heard, as far as this side can tell.
//!
//! Only time in which this side attended to its network counts: a server too busy to run us, or one that stood still,
//! has not read yet what the peer said meanwhile, and that is no silence of the peer's. And a peer that was heard late
//! before, being busy itself, is given more patience, up to a bound.

/// Patience grows up to this many times the limit.
const MOST: u64 = 4;
/// How long it is remembered that the peer was late.
const MEMORY_NS: u64 = 10_000_000_000;

/// A watch over the peer's signs of life.
#[derive(Clone, Debug)]
pub struct Silence {
    limit_ns: u64,
    step_ns: u64,
    /// When this side last looked after its network.
    attended_ns: u64,
    /// Attended time since the peer was heard.
    quiet_ns: u64,
    /// The longest times without a sign of life that ended, of this stretch of memory and of the one before.
    widest: [u64; 2],
    turned_ns: u64,
    /// The longest time between two looks, for people.
    starved_ns: u64,
}

impl Silence {
    /// A peer silent for `limit_ns` counts as gone; this side looks after its network every `step_ns`.
    pub fn new(limit_ns: u64, step_ns: u64, now: u64) -> Self {
        Self { limit_ns, step_ns, attended_ns: now, quiet_ns: 0, widest: [0; 2], turned_ns: now, starved_ns: 0 }
    }

    /// The peer was heard.
    pub fn heard(&mut self, now: u64) {
        if now.saturating_sub(self.turned_ns) > MEMORY_NS {
            self.widest = [0, self.widest[0]];
            self.turned_ns = now;
        }
        let gap = self.quiet_ns.saturating_add(self.counted(now));
        self.widest[0] = self.widest[0].max(gap);
        self.quiet_ns = 0;
        self.attended_ns = self.attended_ns.max(now);
    }

    /// Watching begins anew: with another peer, or by another connection.
    pub fn restart(&mut self, now: u64) {
        self.heard(now);
        self.widest = [0; 2];
    }

    /// This side looks after its network now: all that arrives is taken.
    pub fn attend(&mut self, now: u64) {
        self.quiet_ns = self.quiet_ns.saturating_add(self.counted(now));
        self.starved_ns = self.starved_ns.max(now.saturating_sub(self.attended_ns));
        self.attended_ns = self.attended_ns.max(now);
    }

    /// What the time since the last look counts. Coming late is our own fault and counts little, but something: a side
    /// that is late every time shall find out in the end.
    fn counted(&self, now: u64) -> u64 {
        let passed = now.saturating_sub(self.attended_ns);
        if passed > self.step_ns.saturating_mul(2) { self.step_ns / 2 } else { passed }
    }

    /// The patience with this peer.
    pub fn limit_ns(&self) -> u64 {
        let usual = self.widest[0].max(self.widest[1]);
        self.limit_ns.max(usual.saturating_mul(2)).min(self.limit_ns.saturating_mul(MOST))
    }

    /// How long the peer has been silent, if that is longer than `times` the patience.
    pub fn exceeds(&self, times: u64) -> Option<u64> {
        (self.quiet_ns > self.limit_ns().saturating_mul(times)).then_some(self.quiet_ns)
    }

    /// When to look at the latest: after a step, or as soon as the peer has been silent for too long.
    pub fn look_at(&self) -> u64 {
        let rest_ns = self.limit_ns().checked_sub(self.quiet_ns).map_or(self.step_ns, |rest| rest.saturating_add(1));
        self.attended_ns.saturating_add(self.step_ns.min(rest_ns))
    }

    /// The longest time that passed between two looks.
    pub fn starved_ns(&self) -> u64 {
        self.starved_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn watch() -> Silence {
        Silence::new(250 * MS, 50 * MS, 0)
    }

    /// Looks every 50 ms from `from` on; when the limit was exceeded.
    fn exceeded(silence: &mut Silence, from: u64) -> u64 {
        (1..100)
            .map(|step| from + step * 50)
            .find(|&now| {
                silence.attend(now * MS);
                silence.exceeds(1).is_some()
            })
            .unwrap_or(u64::MAX)
    }

    #[test]
    fn a_silent_peer_is_noticed_in_time() {
        assert_eq!(exceeded(&mut watch(), 0), 300);
        let mut silence = watch();
        for now in (50..5000).step_by(50) {
            silence.attend(now * MS);
            silence.heard(now * MS);
        }
        assert_eq!(exceeded(&mut silence, 4950), 5250);
    }

    #[test]
    fn a_look_is_taken_as_soon_as_the_limit_is_exceeded() {
        let mut silence = watch();
        silence.heard(7 * MS);
        // The first look comes late, by a message heard in between as it were.
        silence.attend(70 * MS);
        let looks = std::iter::from_fn(|| {
            let now = silence.look_at();
            silence.attend(now);
            Some((now, silence.exceeds(1).is_some()))
        });
        let looks: Vec<_> = looks.take(5).collect();
        let ends = looks.iter().map(|&(now, exceeded)| (now / MS, exceeded));
        assert!(ends.eq([(120, false), (170, false), (220, false), (257, true), (307, true)]), "{looks:?}");
    }

    #[test]
    fn own_starvation_is_no_silence_of_the_peer() {
        let mut silence = watch();
        silence.attend(5000 * MS);
        assert_eq!((silence.exceeds(1), silence.starved_ns()), (None, 5000 * MS));
        silence.heard(5001 * MS);
        assert_eq!(exceeded(&mut silence, 5001), 5301, "and nothing of it is left afterwards");
    }

    #[test]
    fn a_side_that_is_always_late_finds_out_in_the_end() {
        let mut silence = watch();
        let looks = (1..100).take_while(|look| {
            silence.attend(look * 1000 * MS);
            silence.exceeds(1).is_none()
        });
        assert_eq!(looks.count(), 10);
    }

    #[test]
    fn a_peer_that_is_late_is_given_more_patience_for_a_while_and_within_bounds() {
        let mut silence = watch();
        (1..5).for_each(|step| silence.attend(step * 50 * MS));
        silence.heard(220 * MS);
        assert_eq!(silence.limit_ns(), 440 * MS);
        (0..40).for_each(|step| silence.attend((220 + step * 50) * MS));
        silence.heard(3000 * MS);
        assert_eq!(silence.limit_ns(), 1000 * MS, "the bound");
        silence.heard(10_100 * MS);
        assert_eq!(silence.limit_ns(), 1000 * MS, "not forgotten yet");
        silence.heard(20_200 * MS);
        assert_eq!(silence.limit_ns(), 250 * MS);
    }
}
