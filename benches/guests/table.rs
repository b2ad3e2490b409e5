//! What was measured: medians, ratios, and the same as JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::contender::Contender;
use crate::host;
use crate::marks::{Marks, PROGRAMS};

/// Rows of the table besides the programs.
const BOOT: &str = "entry to /init";
const MIX: &str = "the mix";

/// Seconds by what and by whom.
pub struct Samples {
    guest: String,
    busybox: String,
    seconds: BTreeMap<(&'static str, Contender), Vec<f64>>,
    hashes: BTreeMap<&'static str, String>,
}

impl Samples {
    /// Nothing yet, about this kernel and this busybox.
    pub fn new(guest: &str, busybox: &str) -> Self {
        let (seconds, hashes) = (BTreeMap::new(), BTreeMap::new());
        Self { guest: guest.to_owned(), busybox: busybox.to_owned(), seconds, hashes }
    }

    /// Takes a run in, and checks that its results are everybody's results.
    pub fn add(&mut self, contender: Contender, marks: &Marks) -> Result<()> {
        if let Some(boot) = marks.boot() {
            self.push(BOOT, contender, boot);
        }
        let mut sum = Duration::ZERO;
        for name in PROGRAMS {
            let (time, hash) = marks.program(name)?;
            let known = self.hashes.entry(name).or_insert_with(|| hash.to_owned());
            ensure!(known == hash, "{} computed another result of {name}: {hash}, not {known}", contender.name());
            self.push(name, contender, time);
            sum += time;
        }
        self.push(MIX, contender, sum);
        Ok(())
    }

    fn push(&mut self, row: &'static str, contender: Contender, time: Duration) {
        self.seconds.entry((row, contender)).or_default().push(time.as_secs_f64());
    }

    fn rows() -> impl Iterator<Item = &'static str> {
        [BOOT].into_iter().chain(PROGRAMS).chain([MIX])
    }

    fn median(&self, row: &'static str, contender: Contender) -> Option<f64> {
        let mut sorted = self.seconds.get(&(row, contender))?.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied()
    }

    /// A Markdown table: medians in seconds, speed relative to native and to QEMU's two ways.
    pub fn table(&self) -> String {
        let mut text = format!("\n{}\n\n| seconds |", self.about().join("; "));
        for contender in Contender::ALL {
            let _ = write!(text, " {} |", contender.name());
        }
        text.push_str(" of native | times tcg | times tcg-icount |\n|---|---|---|---|---|---|---|---|\n");
        for row in Self::rows() {
            let _ = write!(text, "| {row} |");
            for contender in Contender::ALL {
                text.push_str(&cell(self.median(row, contender), 2));
            }
            for contender in [Contender::Native, Contender::Tcg, Contender::TcgIcount] {
                let ours = self.median(row, Contender::Ftemu);
                let ratio = self.median(row, contender).zip(ours).map(|(theirs, ours)| theirs / ours);
                text.push_str(&cell(ratio, 2));
            }
            text.push('\n');
        }
        text
    }

    fn about(&self) -> Vec<String> {
        vec![
            format!("date {}", host::date()),
            format!("host {}", host::cpu()),
            format!("load {}", host::load()),
            format!("ftemu {}", env!("CARGO_PKG_VERSION")),
            host::qemu(),
            self.guest.clone(),
            self.busybox.clone(),
        ]
    }

    /// Every sample.
    pub fn json(&self) -> String {
        let about: Vec<String> = self.about().iter().map(|item| format!("{item:?}")).collect();
        let mut samples = Vec::new();
        for ((row, contender), seconds) in &self.seconds {
            samples
                .push(format!("    {{\"what\": {row:?}, \"who\": {:?}, \"seconds\": {seconds:?}}}", contender.name()));
        }
        format!("{{\n  \"about\": [{}],\n  \"samples\": [\n{}\n  ]\n}}\n", about.join(", "), samples.join(",\n"))
    }
}

fn cell(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| " |".to_owned(), |value| format!(" {value:.digits$} |"))
}
