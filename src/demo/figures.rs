//! What a round measured, and what all of them did.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use ftemu_images::Chain;
use serde_json::{Value, json};

use super::Victim;
use super::journal::{Event, Journal};

/// How many lines after the death the gap is looked for: what was released just before may still be on its way.
const LINES_AFTER: usize = 8;

/// The figures of one round. Times are in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Figures {
    lines: u64,
    detection: Option<f64>,
    lag: Option<f64>,
    failover: f64,
    usual_gap: f64,
    primary_rate: Option<f64>,
    standby_rate: Option<f64>,
    link_mbits: Option<f64>,
    log_bytes: Option<f64>,
}

/// A round as it was seen from outside.
pub(super) struct Observed<'a> {
    pub(super) victim: Victim,
    pub(super) chain: &'a Chain,
    pub(super) times: &'a [Instant],
    pub(super) struck: Instant,
    pub(super) primary: &'a Journal,
    pub(super) standby: &'a Journal,
}

impl Figures {
    /// Takes them from what was seen.
    pub(super) fn of(observed: &Observed) -> Result<Self> {
        let struck_ns = unix_ns(observed.struck);
        let survivor = if observed.victim == Victim::Primary { observed.standby } else { observed.primary };
        let taken = match observed.victim {
            Victim::Primary => Some(survivor.first("live").context("the standby should have told that it went live")?),
            // The guest stays where it is; the primary says loudly that nobody follows it any more.
            Victim::Standby => survivor
                .events()
                .into_iter()
                .find(|event| event.name() == "unprotected" && event.time_ns() >= struck_ns),
        };
        let taken = taken.context("the survivor should have told that its peer is gone")?;
        let lag = match observed.victim {
            Victim::Primary => taken.number("lag_ns"),
            Victim::Standby => statuses(observed.primary, struck_ns).last().and_then(|last| last.number("lag_ns")),
        };
        let replay_ns = taken.number("replay_ns").unwrap_or(0);
        let primary = Stretch::of(observed.primary, struck_ns);
        let standby = Stretch::of(observed.standby, struck_ns);
        Ok(Self {
            lines: observed.chain.number(),
            detection: Some(ms(taken.time_ns().saturating_sub(struck_ns + replay_ns))),
            lag: lag.map(ms),
            failover: gap_after(observed.times, observed.struck),
            usual_gap: usual_gap(observed.times),
            primary_rate: primary.as_ref().and_then(|stretch| stretch.per_second("count")),
            standby_rate: standby.as_ref().and_then(|stretch| stretch.per_second("count")),
            link_mbits: primary.as_ref().and_then(Stretch::link_mbits),
            log_bytes: primary.as_ref().and_then(Stretch::log_bytes_per_1000),
        })
    }
}

impl Figures {
    /// The same for programs.
    pub(super) fn json(&self) -> Value {
        let Self { lines, detection, lag, failover, usual_gap, primary_rate, standby_rate, link_mbits, log_bytes } =
            self;
        json!({
            "lines": lines, "detection_ms": detection, "lag_ms": lag, "failover_ms": failover, "usual_pause_ms": usual_gap,
            "primary_instructions_per_second": primary_rate, "standby_instructions_per_second": standby_rate,
            "link_mbits": link_mbits, "log_bytes_per_1000_instructions": log_bytes,
        })
    }
}

/// The status lines that a side wrote while the pair protected the guest, before the strike.
fn statuses(journal: &Journal, struck_ns: u64) -> Vec<Event> {
    let events = journal.events();
    let protected = events.iter().find(|event| event.name() == "protected").map_or(0, Event::time_ns);
    let within = |event: &Event| event.name() == "status" && (protected..struck_ns).contains(&event.time_ns());
    events.into_iter().filter(within).collect()
}

/// From one status line of a side to another.
struct Stretch {
    first: Event,
    last: Event,
}

impl Stretch {
    /// The longest there is; none if the strike came too soon.
    fn of(journal: &Journal, struck_ns: u64) -> Option<Self> {
        let statuses = statuses(journal, struck_ns);
        let (first, last) = (statuses.first()?.clone(), statuses.last()?.clone());
        (last.time_ns() > first.time_ns()).then_some(Self { first, last })
    }

    fn grown(&self, field: &str) -> Option<f64> {
        Some(self.last.number(field)?.saturating_sub(self.first.number(field)?) as f64)
    }

    fn per_second(&self, field: &str) -> Option<f64> {
        Some(self.grown(field)? / (self.last.time_ns() - self.first.time_ns()) as f64 * 1e9)
    }

    fn link_mbits(&self) -> Option<f64> {
        Some((self.per_second("sent_bytes")? + self.per_second("received_bytes")?) * 8.0 / 1e6)
    }

    fn log_bytes_per_1000(&self) -> Option<f64> {
        Some(self.grown("log_bytes")? / self.grown("count").filter(|count| *count > 0.0)? * 1000.0)
    }
}

fn unix_ns(at: Instant) -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.saturating_sub(at.elapsed()).as_nanos()).unwrap_or(u64::MAX)
}

fn ms(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}

fn gaps(times: &[Instant]) -> impl Iterator<Item = (Instant, Duration)> {
    times.windows(2).map(|pair| (pair[1], pair[1] - pair[0]))
}

/// The longest pause between two lines, of those that ended soon after the strike: from the last line that the old
/// side printed to the first of the new.
fn gap_after(times: &[Instant], struck: Instant) -> f64 {
    let after = gaps(times).filter(|(end, _)| *end >= struck).take(LINES_AFTER);
    after.map(|(_, gap)| gap).max().unwrap_or_default().as_secs_f64() * 1e3
}

/// The median pause between two lines.
fn usual_gap(times: &[Instant]) -> f64 {
    let gaps = gaps(times).map(|(_, gap)| gap.as_secs_f64() * 1e3).collect();
    median(gaps).unwrap_or(0.0)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        writeln!(f, "  {} lines checked outside the guest: none lost, none repeated, none altered", self.lines)?;
        writeln!(f, "  detection              {:>10} ms", or_dash(self.detection, 1))?;
        writeln!(f, "  lag at death           {:>10} ms", or_dash(self.lag, 1))?;
        writeln!(
            f,
            "  failover               {:>10.1} ms  (last line before to first line after; usual pause {:.1} ms)",
            self.failover, self.usual_gap
        )?;
        let mips = |rate: Option<f64>| or_dash(rate.map(|rate| rate / 1e6), 0);
        writeln!(
            f,
            "  million instructions/s {:>10} primary, {} standby",
            mips(self.primary_rate),
            mips(self.standby_rate)
        )?;
        writeln!(f, "  link                   {:>10} Mbit/s", or_dash(self.link_mbits, 3))?;
        writeln!(f, "  log                    {:>10} bytes per 1000 instructions", or_dash(self.log_bytes, 4))
    }
}

/// All rounds.
#[derive(Debug, Default)]
pub(super) struct Summary(Vec<Figures>);

impl Summary {
    pub(super) fn add(&mut self, figures: Figures) {
        self.0.push(figures);
    }

    fn row(&self, of: impl Fn(&Figures) -> Option<f64>) -> String {
        let values: Vec<f64> = self.0.iter().filter_map(of).collect();
        let worst = values.iter().copied().fold(0.0, f64::max);
        median(values).map_or("-".to_owned(), |middle| format!("median {middle:.1} ms, worst {worst:.1} ms"))
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: u64 = self.0.iter().map(|figures| figures.lines).sum();
        writeln!(f, "\nall {} rounds held: {lines} lines, each of them once and right", self.0.len())?;
        writeln!(f, "  detection: {}", self.row(|figures| figures.detection))?;
        writeln!(f, "  lag:       {}", self.row(|figures| figures.lag))?;
        writeln!(f, "  failover:  {}", self.row(|figures| Some(figures.failover)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(milliseconds: &[u64]) -> (Instant, Vec<Instant>) {
        let start = Instant::now();
        (start, milliseconds.iter().map(|ms| start + Duration::from_millis(*ms)).collect())
    }

    #[test]
    fn the_failover_is_the_longest_pause_that_ended_after_the_strike() {
        // A pause before the strike does not count; a line that was on its way does not hide the failover.
        let (start, times) = times(&[0, 10, 90, 100, 111, 141, 151]);
        assert!((gap_after(&times, start + Duration::from_millis(105)) - 30.0).abs() < 0.001);
        assert!((usual_gap(&times) - 11.0).abs() < 0.001);
    }

    #[test]
    fn no_lines_no_pause() {
        let (start, times) = times(&[0]);
        assert_eq!(gap_after(&times, start), 0.0);
        assert_eq!(usual_gap(&[]), 0.0);
    }
}
