//! What was measured: medians, spread, ratios, geometric means.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};

use super::contender::{Contender, Measured};
use super::workloads::{Row, Workload};

/// Which time is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The host's clock.
    Wall,
    /// CPU time of the contender's process: says more on a busy host.
    Cpu,
}

/// Seconds by what and by whom.
#[derive(Default)]
pub struct Samples {
    times: BTreeMap<(&'static str, Contender), Vec<(f64, f64)>>,
    results: BTreeMap<&'static str, String>,
    /// The most memory each has had, in KiB.
    pub peak_kib: BTreeMap<Contender, u64>,
}

impl Samples {
    /// Takes a run in, and checks that its result is everybody's result.
    pub fn add(&mut self, workload: &Workload, contender: Contender, measured: Measured) -> Result<()> {
        let known = self.results.entry(workload.name).or_insert_with(|| measured.result.clone());
        let (name, who) = (workload.name, contender.name());
        ensure!(*known == measured.result, "{who} computed another result of {name}: {}, not {known}", measured.result);
        self.times.entry((name, contender)).or_default().push((measured.seconds, measured.cpu));
        Ok(())
    }

    /// All seconds, in the order of the runs.
    pub fn seconds(&self, name: &'static str, contender: Contender, clock: Clock) -> Vec<f64> {
        let times = self.times.get(&(name, contender)).map(Vec::as_slice).unwrap_or_default();
        times.iter().map(|(wall, cpu)| if clock == Clock::Wall { *wall } else { *cpu }).collect()
    }

    /// The middle one.
    pub fn median(&self, name: &'static str, contender: Contender, clock: Clock) -> Option<f64> {
        let mut sorted = self.seconds(name, contender, clock);
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
        Some((sorted.get(low)? + sorted.get(high)?) / 2.0)
    }

    /// The distance from the fastest to the slowest run, as a part of the median.
    pub fn spread(&self, name: &'static str, contender: Contender, clock: Clock) -> Option<f64> {
        let seconds = self.seconds(name, contender, clock);
        let (low, high) = (seconds.iter().copied().reduce(f64::min)?, seconds.iter().copied().reduce(f64::max)?);
        Some((high - low) / self.median(name, contender, clock)?)
    }

    /// How many times faster ftemu is than another.
    pub fn ratio(&self, name: &'static str, other: Contender, clock: Clock) -> Option<f64> {
        Some(self.median(name, other, clock)? / self.median(name, Contender::Ftemu, clock)?)
    }

    /// The geometric mean of the ratios of a row's members, if all of those selected have one.
    pub fn mean(&self, row: Row, members: &[&'static Workload], other: Contender, clock: Clock) -> Option<f64> {
        let members = members.iter().filter(|workload| workload.row == row);
        let members = members.filter(|workload| !(other == Contender::Native && workload.is_boot()));
        let ratios: Option<Vec<f64>> = members.map(|workload| self.ratio(workload.name, other, clock)).collect();
        let ratios = ratios.filter(|ratios| !ratios.is_empty())?;
        Some((ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp())
    }
}
