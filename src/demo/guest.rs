//! The demonstration's guest: obtained, or if apt cannot serve, a tiny one of our own; written where both sides find it.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use ftemu_images::catalogue::Progress;
use ftemu_images::chain::Work;
use ftemu_images::{Catalogue, Chain, Guest, GuestFiles, debian, tiny};

use super::Choice;

/// Microseconds the Debian guest sleeps after a line; a line's work takes some tens of milliseconds.
const PAUSE_US: u32 = 5000;
/// Timer ticks of 1 ms that the tiny guest waits after a line.
const PAUSE_TICKS: u64 = 15;
/// About how many lines Debian's kernel prints before init does.
const KERNEL_LINES: u64 = 300;

/// A guest, written as files.
pub(super) struct Staged {
    pub(super) guest: Guest,
    pub(super) files: GuestFiles,
    folder: tempfile::TempDir,
    work: Work,
    seed: u64,
    lines: u64,
}

impl Staged {
    /// Obtains the guest and writes it into a folder of its own.
    pub(super) fn prepare(choice: Choice, lines: u64, seed: u64) -> Result<Self> {
        let (guest, work) = match choice {
            Choice::Tiny => (tiny_guest(lines, seed), Work::Tiny),
            Choice::Debian => match debian_guest(lines, seed) {
                Ok(guest) => (guest, Work::Debian),
                Err(error) => {
                    println!("Debian's kernel cannot be had: {error:#}");
                    println!("going on with a tiny guest of our own instead; the check is the same");
                    (tiny_guest(lines, seed), Work::Tiny)
                }
            },
        };
        let folder = tempfile::Builder::new().prefix("ftemu-demo-").tempdir().context("making a temporary folder")?;
        let files = guest.write_to(folder.path()).context("writing the guest's files")?;
        Ok(Self { guest, files, folder, work, seed, lines })
    }

    /// A folder for this round's files, gone when this is dropped.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A verifier for what it prints.
    pub(super) fn chain(&self) -> Chain {
        Chain::new(self.work, self.seed)
    }

    /// About how many lines its console shows.
    pub(super) fn console_lines(&self) -> u64 {
        match self.work {
            Work::Debian => self.lines + KERNEL_LINES,
            Work::Tiny => self.lines,
        }
    }
}

fn tiny_guest(lines: u64, seed: u64) -> Guest {
    tiny::lines(lines, seed, PAUSE_TICKS)
}

fn debian_guest(lines: u64, seed: u64) -> Result<Guest> {
    let mut bar = Bar::default();
    let mode = debian::Mode::Lines { lines, seed, pause_us: PAUSE_US };
    Ok(Catalogue::user()?.debian(mode, &mut |progress| bar.show(&progress))?)
}

/// Shows how a fetch goes on.
#[derive(Default)]
struct Bar {
    percent: Option<u8>,
}

impl Bar {
    fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::Step(text) => {
                self.percent = None;
                println!("{text}");
            }
            // One in ten is enough for a log.
            Progress::Percent(percent) if self.percent.is_none_or(|shown| *percent >= shown.saturating_add(10)) => {
                self.percent = Some(*percent);
                println!("  {percent} %");
            }
            Progress::Percent(_) => {}
        }
        let _ = std::io::stdout().flush();
    }
}
