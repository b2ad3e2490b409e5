//! `ftemu replay`: runs a recorded guest again and compares every digest on the way.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use ftemu_cpu::Icount;
use ftemu_devices::Machine;
use ftemu_lockstep::{Entry, FileError, Head, Identity, Image, Output, Record, RecordReader, Replay, ReplayError};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::arguments::ReplayArguments;
use crate::console::ledger::CONSOLE_PORT;
use crate::drives::replayed::RecordedDisks;
use crate::host;

/// Bytes read from the record at a time, after decompression.
const PIECE_BYTES: usize = 256 << 10;
/// What a zstd frame begins with (RFC 8878 section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
/// Instructions between two things that happen at random, at most.
const RANDOM_STRETCH: u64 = 20_000_000;
/// Instructions in a random slice, at most.
const RANDOM_SLICE: u64 = 50_000;

/// Replays a record.
///
/// # Errors
/// When the record is damaged, or this guest is not the recorded one.
pub fn replay(arguments: &ReplayArguments) -> Result<ExitCode> {
    host::check_cpu()?;
    let path = arguments.record.display();
    let mut records = Records::open(arguments).with_context(|| format!("cannot replay {path}"))?;
    let head = records.head().with_context(|| format!("cannot replay {path}"))?;
    let progress = records.progress.clone();
    warn_of_other_host(&head, &progress)?;
    let mut player = Player::new(arguments, &head, &records.disks, progress)?;
    let outcome = player.play(&mut records);
    player.progress.finish_and_clear();
    player.show()?;
    let good = format!(
        "{} digests verified, {} records, up to instruction {}",
        player.digests,
        player.records,
        player.replay.guest().count().0
    );
    match outcome {
        Ok(()) => {
            let speed = player.speed();
            eprintln!("ftemu: bit for bit the same: {good}{speed}");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error.context(format!("{path} is good only so far: {good}"))),
    }
}

/// The record as it is read from its file.
struct Records {
    source: Box<dyn Read>,
    reader: RecordReader,
    /// What the guest read from its disks.
    disks: RecordedDisks,
    /// What the decompression came to at the end.
    trouble: Option<io::Error>,
    ended: bool,
    progress: ProgressBar,
}

impl Records {
    fn open(arguments: &ReplayArguments) -> Result<Self> {
        let mut file = File::open(&arguments.record)?;
        let mut magic = Vec::new();
        (&file).take(4).read_to_end(&mut magic)?;
        if magic != ZSTD_MAGIC {
            return Err(FileError::NotARecord.into());
        }
        file.rewind()?;
        let progress = progress(file.metadata()?.len());
        let source = Box::new(zstd::Decoder::new(progress.wrap_read(file))?);
        Ok(Self {
            source,
            reader: RecordReader::new(),
            disks: RecordedDisks::default(),
            trouble: None,
            ended: false,
            progress,
        })
    }

    fn head(&mut self) -> Result<Head> {
        loop {
            if let Some(head) = self.reader.head()? {
                return Ok(head);
            }
            if self.ended {
                return Err(self.end("before the guest's first state"));
            }
            self.read();
        }
    }

    /// The next record; `None` at the end of a whole file.
    fn next(&mut self) -> Result<Option<Record>> {
        loop {
            let record = self.reader.next_record()?;
            self.disks.add(self.reader.take_sectors());
            if let Some(record) = record {
                return Ok(Some(record));
            }
            if self.ended {
                return match self.trouble {
                    None if self.reader.finish().is_ok() => Ok(None),
                    _ => Err(self.end("after that")),
                };
            }
            self.read();
        }
    }

    /// Why the file ends where it ends.
    fn end(&self, place: &str) -> anyhow::Error {
        match (&self.trouble, self.reader.finish()) {
            (Some(trouble), _) if trouble.kind() == io::ErrorKind::UnexpectedEof => anyhow::anyhow!(
                "the file is cut short {place} (the recording process was killed, or the file was not copied whole)"
            ),
            (Some(trouble), _) => anyhow::anyhow!("the file is damaged {place}: {trouble}"),
            (None, Err(error)) => error.into(),
            (None, Ok(())) => anyhow::anyhow!("the file ends {place}"),
        }
    }

    fn read(&mut self) {
        let mut piece = vec![0; PIECE_BYTES];
        match self.source.read(&mut piece) {
            Ok(0) => self.ended = true,
            Ok(count) => self.reader.feed(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                self.ended = true;
                self.trouble = Some(error);
            }
        }
    }
}

/// A bar on standard error, if that is a terminal.
fn progress(bytes: u64) -> ProgressBar {
    let progress = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{wide_bar} {percent} % of the record, {msg}");
    style.map_or(progress.clone(), |style| progress.with_style(style))
}

fn warn_of_other_host(head: &Head, progress: &ProgressBar) -> Result<()> {
    let ours = Identity { drives: head.identity.drives.clone(), ..host::identity()? };
    if let Err(difference) = ours.check(&head.identity) {
        progress.suspend(|| {
            eprintln!(
                "ftemu: warning: recorded by ftemu {} on {}; the digests will show whether this matters ({difference})",
                head.identity.build,
                head.identity.cpu()
            );
        });
    }
    Ok(())
}

/// Runs the guest along the records.
struct Player<'a> {
    arguments: &'a ReplayArguments,
    replay: Replay<Machine>,
    slices: Option<Random>,
    flushes: Option<Random>,
    checkpoint_at: Option<u64>,
    digests: u64,
    records: u64,
    first: u64,
    began: Instant,
    progress: ProgressBar,
}

impl<'a> Player<'a> {
    fn new(arguments: &'a ReplayArguments, head: &Head, disks: &RecordedDisks, progress: ProgressBar) -> Result<Self> {
        let mut machine: Machine = head.image.restore().context("the record's first state cannot be loaded")?;
        arguments.without.apply(machine.cpu_mut())?;
        for drive in 0..machine.drives().count() {
            let storage = disks.storage(drive, machine.drives().sectors(drive));
            machine.attach(drive, Box::new(storage)).context("cannot attach a drive")?;
        }
        let replay = Replay::new(machine);
        Ok(Self {
            arguments,
            first: replay.guest().count().0,
            replay,
            slices: arguments.slices.map(Random),
            flushes: arguments.flush_randomly.map(Random),
            checkpoint_at: arguments.checkpoint_at,
            digests: 0,
            records: 0,
            began: Instant::now(),
            progress,
        })
    }

    fn play(&mut self, records: &mut Records) -> Result<()> {
        while let Some(record) = records.next()? {
            if let Some(until) = self.arguments.until.filter(|until| record.count.0 > *until) {
                return self.run_to(Icount(until));
            }
            self.follow(&record)?;
            self.show()?;
        }
        if let Some(until) = self.arguments.until {
            bail!("the record ends before instruction {until}");
        }
        Ok(())
    }

    fn follow(&mut self, record: &Record) -> Result<()> {
        self.run_to(record.count)?;
        self.replay.follow(record)?;
        self.records += 1;
        if let Entry::Digest(digest) = &record.entry {
            self.digests += 1;
            if self.arguments.digests {
                let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                self.progress.suspend(|| eprintln!("digest {} {digest}", record.count.0));
            }
            self.progress.set_message(format!("instruction {}", record.count.0));
        }
        Ok(())
    }

    /// Runs up to a count, with what the user wants to happen on the way.
    fn run_to(&mut self, until: Icount) -> Result<()> {
        while self.replay.guest().count() < until {
            let count = self.replay.guest().count().0;
            let stretch = self.flushes.as_mut().map_or(u64::MAX, |random| 1 + random.below(RANDOM_STRETCH));
            let mut next = until.0.min(count.saturating_add(stretch));
            if let Some(checkpoint) = self.checkpoint_at.filter(|at| *at >= count) {
                next = next.min(checkpoint);
            }
            if let Some(random) = &mut self.slices {
                self.replay.set_slice(1 + random.below(RANDOM_SLICE));
            }
            self.replay.run_to(Icount(next)).map_err(explain)?;
            if self.flushes.is_some() {
                self.replay.guest_mut().forget_derived();
            }
            if self.checkpoint_at == Some(self.replay.guest().count().0) {
                self.checkpoint()?;
            }
        }
        Ok(())
    }

    /// Goes on with another machine that has the state of this one.
    fn checkpoint(&mut self) -> Result<()> {
        self.checkpoint_at = None;
        let drives = self.replay.guest_mut().drives_mut();
        drives.fetch();
        let image = Image::of(self.replay.guest());
        let storages = self.replay.guest_mut().drives_mut().detach();
        let mut machine: Machine = image.restore().context("the checkpoint cannot be loaded")?;
        self.arguments.without.apply(machine.cpu_mut())?;
        for (drive, storage) in (0u8..).zip(storages) {
            machine.attach(drive, storage).context("cannot attach a drive")?;
        }
        self.show()?;
        self.replay = Replay::new(machine);
        self.progress.suspend(|| eprintln!("ftemu: resumed from a checkpoint at instruction {}", image.count.0));
        Ok(())
    }

    /// Prints what the guest wrote.
    fn show(&mut self) -> Result<()> {
        let written: Vec<u8> = self
            .replay
            .drain()
            .into_iter()
            .filter_map(|emitted| match emitted.output {
                Output::Serial { port: CONSOLE_PORT, bytes } => Some(bytes),
                _ => None,
            })
            .flatten()
            .collect();
        if written.is_empty() || self.arguments.quiet {
            return Ok(());
        }
        let mut output = io::stdout().lock();
        output.write_all(&written).and_then(|()| output.flush()).context("cannot write to standard output")
    }

    fn speed(&self) -> String {
        let instructions = self.replay.guest().count().0.saturating_sub(self.first);
        let elapsed = self.began.elapsed().as_micros().max(1);
        format!(", {} million instructions per second", u128::from(instructions) / elapsed)
    }
}

fn explain(error: ReplayError) -> anyhow::Error {
    anyhow::Error::from(error).context("this guest is not the recorded one")
}

/// Numbers from a seed: Knuth's linear congruential generator, the upper bits.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
