//! The published table, and everything as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::contender::Contender;
use super::host;
use super::samples::{Clock, Samples};
use super::workloads::{Row, Workload};

/// Whom ftemu is compared with, in the order of the table's columns.
const OTHERS: [Contender; 3] = [Contender::Tcg, Contender::TcgIcount, Contender::Native];

/// What the numbers were measured on and how.
pub struct About {
    /// The command's arguments.
    pub arguments: Vec<String>,
    /// The guest's kernel.
    pub guest: String,
    /// ftemu's version and commit.
    pub build: String,
    /// Load of the host before the first run.
    pub load: String,
}

impl About {
    fn lines(&self) -> Vec<(&'static str, String)> {
        vec![
            ("date", host::date()),
            ("host", host::cpu()),
            ("host kernel", host::kernel()),
            ("load before", self.load.clone()),
            ("load after", host::load()),
            ("command", format!("scripts/bench {}", self.arguments.join(" ")).trim_end().to_owned()),
            ("ftemu", self.build.clone()),
            ("qemu", host::qemu()),
            ("guest", self.guest.clone()),
        ]
    }
}

/// Markdown: what it was measured on, the rows against their aims, and every member.
pub fn markdown(about: &About, samples: &Samples, members: &[&'static Workload], clock: Clock) -> String {
    let lines: Vec<String> = about.lines().into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let mut text =
        format!("\n{}\n\n{}\n{}", lines.join("; "), rows(samples, members, clock), workloads(samples, members, clock));
    let peaks: Vec<String> =
        samples.peak_kib.iter().map(|(who, kib)| format!("{} {} MiB", who.name(), kib >> 10)).collect();
    let _ = writeln!(text, "\nMost memory: {}", peaks.join(", "));
    text
}

fn rows(samples: &Samples, members: &[&'static Workload], clock: Clock) -> String {
    let mut text = String::from("| geometric means | times TCG | times `-icount` | of native |\n|---|---|---|---|\n");
    for row in Row::ALL.into_iter().filter(|row| members.iter().any(|workload| workload.row == *row)) {
        let _ = write!(text, "| {} |", row.name());
        for (other, aim) in OTHERS.into_iter().zip(row.aims()) {
            let mean = samples.mean(row, members, other, clock);
            let _ = match (mean, aim) {
                (Some(mean), Some(aim)) if mean >= aim => write!(text, " **{mean:.2}** (aim {aim}) |"),
                (Some(mean), Some(aim)) => write!(text, " {mean:.2} (aim {aim}) |"),
                (Some(mean), None) => write!(text, " {mean:.2} |"),
                (None, _) => write!(text, " |"),
            };
        }
        text.push('\n');
    }
    text
}

fn workloads(samples: &Samples, members: &[&'static Workload], clock: Clock) -> String {
    let mut text = String::from("| seconds (spread) |");
    for contender in Contender::ALL {
        let _ = write!(text, " {} |", contender.name());
    }
    text.push_str(" times TCG | times `-icount` | of native |\n|---|---|---|---|---|---|---|---|\n");
    for workload in members {
        let _ = write!(text, "| {} |", workload.name);
        for contender in Contender::ALL {
            let median = samples.median(workload.name, contender, clock);
            let spread = samples.spread(workload.name, contender, clock).unwrap_or_default() * 100.0;
            let _ = match median {
                Some(median) if spread > 0.0 => write!(text, " {median:.2} ({spread:.0} %) |"),
                Some(median) => write!(text, " {median:.2} |"),
                None => write!(text, " |"),
            };
        }
        for other in OTHERS {
            let _ = match samples.ratio(workload.name, other, clock) {
                Some(ratio) => write!(text, " {ratio:.2} |"),
                None => write!(text, " |"),
            };
        }
        text.push('\n');
    }
    text
}

/// Every sample.
pub fn json(about: &About, samples: &Samples, members: &[&'static Workload]) -> Value {
    let about: serde_json::Map<String, Value> =
        about.lines().into_iter().map(|(name, value)| (name.to_owned(), Value::String(value))).collect();
    let mut runs = Vec::new();
    for workload in members {
        for contender in Contender::ALL {
            let wall = samples.seconds(workload.name, contender, Clock::Wall);
            if !wall.is_empty() {
                let cpu = samples.seconds(workload.name, contender, Clock::Cpu);
                runs.push(json!({
                    "row": workload.row.name(), "what": workload.name, "how": workload.what, "who": contender.name(),
                    "seconds": wall, "cpu_seconds": cpu,
                }));
            }
        }
    }
    let means: Vec<Value> = Row::ALL.into_iter().map(|row| means(samples, row, members)).collect();
    let peaks: serde_json::Map<String, Value> =
        samples.peak_kib.iter().map(|(who, kib)| (who.name().to_owned(), json!(kib))).collect();
    json!({ "about": about, "means": means, "runs": runs, "peak_kib": peaks })
}

fn means(samples: &Samples, row: Row, members: &[&'static Workload]) -> Value {
    let of = |other| samples.mean(row, members, other, Clock::Wall);
    let [tcg, icount, native] = row.aims();
    json!({
        "row": row.name(), "times_tcg": of(Contender::Tcg), "times_icount": of(Contender::TcgIcount),
        "of_native": of(Contender::Native), "aims": [tcg, icount, native],
    })
}
