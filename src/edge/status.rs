//! The figures of a side, for the events file.

use ftemu_lockstep::State;
use serde_json::{Value, json};

use super::Edge;
use crate::host;

/// Makes the fields of a `status` line; remembers the last ones for rates.
#[derive(Debug, Default)]
pub struct Figures {
    last: Option<(u64, u64)>,
}

impl Figures {
    /// The figures now.
    pub fn take(&mut self, edge: &Edge) -> Value {
        let inner = edge.lock();
        let (now, status) = (host::now_ns(), inner.node.status());
        let count = status.at.count.0;
        let rate = self.last.replace((now, count)).map(|(then, before)| {
            let elapsed_us = (now.saturating_sub(then) / 1000).max(1);
            count.saturating_sub(before).saturating_mul(1_000_000) / elapsed_us
        });
        let link = inner.links.last_key_value().map(|(_, link)| (link.traffic(), link.round_trip(), link.tethered()));
        let traffic = link.map(|(traffic, ..)| traffic).unwrap_or_default();
        json!({
            "state": state(status.state),
            "live": status.live,
            "protected": status.protected,
            "term": status.term,
            "count": count,
            "guest_ns": status.at.now_ns,
            "lag_ns": status.lag_ns,
            "records": status.records,
            "agreed": status.agreed.0,
            "holding": status.holding,
            "outputs": status.waited.count,
            "output_wait_us": { "p50": us(status.waited.middle_ns), "p99": us(status.waited.late_ns), "max": us(status.waited.longest_ns) },
            "patience_ms": status.patience_ns / 1_000_000,
            "starved_ms": status.starved_ns / 1_000_000,
            "compared_mib": status.compared.map(|(compared, _)| compared),
            "to_compare_mib": status.compared.map(|(_, total)| total),
            "instructions_per_second": rate,
            "log_bytes": inner.log_bytes,
            "sent_bytes": traffic.sent_bytes,
            "received_bytes": traffic.received_bytes,
            "lost_packets": traffic.lost_packets,
            "round_trip_us": link.map(|(_, round_trip, _)| u64::try_from(round_trip.as_micros()).unwrap_or(u64::MAX)),
            "tethered": link.map(|(.., tethered)| tethered),
        })
    }
}

fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

impl Edge {
    /// While a standby's disks are being made equal: MiB compared, and in all. Also, whether the guest has begun to run.
    pub fn comparison(&self) -> (Option<(u64, u64)>, bool) {
        let status = self.lock().node.status();
        (status.compared, status.at.count.0 > 0)
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Alone => "alone",
        State::Sharing => "sharing",
        State::Primary => "primary",
        State::Claiming => "claiming",
        State::Waiting => "waiting",
        State::Joining => "joining",
        State::Backup => "backup",
        State::Following => "following",
        State::TakingOver => "taking_over",
        State::Diagnosing => "diagnosing",
        State::Finished => "finished",
    }
}
