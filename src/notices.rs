//! What the pair has to say, in sentences that say what to do, and in the fields of the events file.

use ftemu_lockstep::Notice;
use serde_json::{Value, json};

use crate::units::{show_bytes, show_ms};

/// The sentence for a notice.
pub fn sentence(notice: &Notice) -> String {
    match notice {
        Notice::NoArbiter => {
            "no arbiter: this pair survives the death of either process, but not a cut network or a stopped \
                              server (silence promotes nobody); --arbiter on both sides changes that"
                .into()
        }
        Notice::Unlike(mismatch) => format!("the servers cannot pair: {mismatch}"),
        Notice::Refused(reason) => format!("the other server refuses: {reason}"),
        Notice::Nonsense(what) => format!("the other server sent nonsense ({what}); the connection was ended"),
        Notice::Transferring { pages } => format!("transferring the guest's state: {pages} pages of memory"),
        Notice::Mirroring { bytes } => {
            format!("making the disks equal: comparing {} with the other server", show_bytes(*bytes))
        }
        Notice::Mirrored { sent_bytes } => format!("the disks are equal: {} differed", show_bytes(*sent_bytes)),
        Notice::Outwritten => {
            "the guest changes its disks faster than the other server gets them; it is slowed until they are equal"
                .into()
        }
        Notice::DriveFailed { drive } => format!("DISK FAILURE: drive {drive} cannot be used here; this side gives up"),
        Notice::Protected { term, count } => {
            format!("PROTECTED: both servers run the guest (term {term}, instruction {})", count.0)
        }
        Notice::Unprotected { why, .. } => {
            format!("UNPROTECTED: {why}. The guest goes on here alone; the next failure loses it. Start a new standby")
        }
        Notice::Silent { quiet_ns } => format!("nothing heard from the other server for {}", show_ms(*quiet_ns)),
        Notice::Heard => "the other server is heard again".into(),
        Notice::Disconnected => "the connection to the other server broke; waiting for a new one".into(),
        Notice::Dropped { why } => {
            format!("the guest is lost here: {why}. What this server had of it is dropped; waiting for a guest")
        }
        Notice::Resumed => "connected again; the pair goes on".into(),
        Notice::Slowed { lag_ns } => {
            format!("the standby lags by {}; the guest is slowed so that it can follow", show_ms(*lag_ns))
        }
        Notice::FullSpeed => "the standby follows closely again; the guest runs at full speed".into(),
        Notice::Stalled { why } => format!("THE GUEST STANDS STILL: {why}"),
        Notice::Unstalled => "the guest runs again".into(),
        Notice::ArbiterUnreachable(why) => format!("the arbiter cannot be asked: {why}; trying again"),
        Notice::Live { term, count, detection_ns, replay_ns, lag_ns } => format!(
            "LIVE: this server runs the guest now (term {term}, instruction {}): its primary was heard {} before, {} of the \
             guest's time were still to be executed and took {}",
            count.0,
            show_ms(*detection_ns),
            show_ms(*lag_ns),
            show_ms(*replay_ns)
        ),
        Notice::Diverged(report) => format!("THE GUESTS DIFFERED at instruction {}:\n{}", report.count.0, report.text),
        Notice::Findings(report) => format!("the standby reports about the difference:\n{report}"),
        Notice::Differs { count } => format!("the guests differ at instruction {}; looking for the cause", count.0),
    }
}

/// The name and the fields of a notice in the events file.
pub fn fields(notice: &Notice) -> (&'static str, Value) {
    match notice {
        Notice::NoArbiter => ("no_arbiter", json!({})),
        Notice::Unlike(mismatch) => ("unlike", json!({ "why": mismatch.to_string() })),
        Notice::Refused(why) => ("refused", json!({ "why": why })),
        Notice::Nonsense(why) => ("nonsense", json!({ "why": why })),
        Notice::Transferring { pages } => ("transferring", json!({ "pages": pages })),
        Notice::Mirroring { bytes } => ("mirroring", json!({ "bytes": bytes })),
        Notice::Mirrored { sent_bytes } => ("mirrored", json!({ "sent_bytes": sent_bytes })),
        Notice::Outwritten => ("outwritten", json!({})),
        Notice::DriveFailed { drive } => ("drive_failed", json!({ "drive": drive })),
        Notice::Protected { term, count } => ("protected", json!({ "term": term, "count": count.0 })),
        Notice::Unprotected { term, why } => ("unprotected", json!({ "term": term, "why": why })),
        Notice::Silent { quiet_ns } => ("silent", json!({ "quiet_ns": quiet_ns })),
        Notice::Heard => ("heard", json!({})),
        Notice::Disconnected => ("disconnected", json!({})),
        Notice::Dropped { why } => ("dropped", json!({ "why": why })),
        Notice::Resumed => ("resumed", json!({})),
        Notice::Slowed { lag_ns } => ("slowed", json!({ "lag_ns": lag_ns })),
        Notice::FullSpeed => ("full_speed", json!({})),
        Notice::Stalled { why } => ("stalled", json!({ "why": why })),
        Notice::Unstalled => ("unstalled", json!({})),
        Notice::ArbiterUnreachable(why) => ("arbiter_unreachable", json!({ "why": why })),
        Notice::Live { term, count, detection_ns, replay_ns, lag_ns } => (
            "live",
            json!({
                "term": term, "count": count.0, "detection_ns": detection_ns, "replay_ns": replay_ns, "lag_ns": lag_ns
            }),
        ),
        Notice::Diverged(report) => ("diverged", json!({ "count": report.count.0, "report": report.text })),
        Notice::Findings(report) => ("findings", json!({ "report": report })),
        Notice::Differs { count } => ("differs", json!({ "count": count.0 })),
    }
}
