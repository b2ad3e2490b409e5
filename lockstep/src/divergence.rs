//! Explaining a divergence: the standby's guest differs from the primary's. Which of them is wrong, since when, where?
//!
//! The standby keeps a copy of the guest from a point at which both agreed, and the log since. A fresh replay from
//! there is a third opinion:
//!
//! * It ends like the primary: the standby's own state was damaged (memory, a register). What differs now is listed, the
//!   trail of register hashes says between which two counts, and if the damage put into a replay at the agreed point
//!   leads to the very state found, then [`narrow`] finds the first instruction that computed something else by it.
//! * It ends like the standby: this server computes so every time. A replay without any cached translation shows
//!   whether a cache leaks; [`narrow`] finds the instruction then. Otherwise it is the primary that differs.
//! * It ends like neither: this server does not compute the same twice.
//!
//! Replays have disks too: as they were when the copy was kept ([`Memory`]), under what the replay writes.

mod compare;
mod damage;
mod memory;
mod narrow;
mod origin;
mod ranges;

pub use compare::{Difference, Differences, differences};
pub use memory::Memory;
pub use narrow::First;

use crate::guest::{Digest, Guest, GuestError};
use crate::image::Image;
use crate::record::{Entry, Record};
use ftemu_cpu::Icount;
use narrow::{Run, narrow};
use origin::Origin;

/// Ranges of sectors that are listed, at most.
const RANGES: usize = 16;

/// A divergence to be explained.
#[derive(Clone, Debug)]
pub struct Case {
    /// The digests differed here; the standby's guest stands here still.
    pub count: Icount,
    /// The last count at which they agreed.
    pub agreed: Icount,
    /// The primary's digest. `None`: it has gone on along the log where the standby's guest could not.
    pub theirs: Option<Digest>,
    /// The standby's; [`diagnose`] takes it anew.
    pub ours: Digest,
    /// The log since the kept copy, up to the digest that differed.
    pub records: Vec<Record>,
    /// The standby's own run since the last agreed digest.
    pub trail: Vec<Step>,
}

/// A stretch of the standby's run, with the registers' hashes at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// After so many of the case's records
    pub records: usize,
    /// and from this count
    pub from: Icount,
    /// with these registers
    pub before: u64,
    /// to this count
    pub to: Icount,
    /// with those.
    pub after: u64,
}

/// Who is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The standby's state was damaged: a replay agrees with the primary.
    StandbyDamaged,
    /// A replay on the standby's server agrees with the standby: the primary was damaged or computes otherwise.
    PrimaryDiffers,
    /// With translations forgotten, a replay agrees with the primary: something cached can be noticed by the guest.
    CacheLeaks,
    /// Replays on the standby's server agree with neither side.
    Unrepeatable,
    /// There is no copy to replay from.
    NoCopy,
}

/// What a divergence was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where the digests differed.
    pub count: Icount,
    /// Where they agreed last.
    pub agreed: Icount,
    /// Who is wrong.
    pub cause: Cause,
    /// The first instruction that computed something else, if it was found.
    pub first: Option<First>,
    /// What differs at `count`: the replay's against the standby's.
    pub differences: Vec<Difference>,
    /// All of it in words.
    pub text: String,
}

/// Explains a divergence of `guest`, which stands at the case's count, by replays from `kept`, on what is remembered of
/// its disks since.
pub fn diagnose<G: Guest>(guest: &mut G, kept: Option<&Image>, disks: &[Memory], mut case: Case) -> Report {
    case.ours = guest.digest();
    let case = &case;
    let Some(kept) = kept.filter(|_| !case.records.is_empty()) else {
        return Report::new(case, Cause::NoCopy, "No copy of the guest was kept to replay from.");
    };
    let mut report = explain(guest, &Origin::kept(kept, disks), disks, case).unwrap_or_else(|error| {
        let text = format!("The replay from count {} failed: {error}.", kept.count.0);
        Report::new(case, Cause::Unrepeatable, &text)
    });
    report.list_sectors(disks, Memory::changed, "the standby's was changed, and not by the guest, in");
    report
}

fn explain<G: Guest>(guest: &mut G, kept: &Origin<'_>, disks: &[Memory], case: &Case) -> Result<Report, GuestError> {
    let (truth, digest) = replayed::<G>(kept, case, false)?;
    if case.theirs.map_or(digest != case.ours, |theirs| digest == theirs) {
        let mut report = Report::new(
            case,
            Cause::StandbyDamaged,
            "A replay from the last kept copy agrees with the primary: the standby's state was damaged.",
        );
        report.list(differences(&truth, guest));
        damage::find(&mut report, &truth, guest, kept, case)?;
        return Ok(report);
    }
    if digest != case.ours {
        let text = "A replay on the standby's server agrees with neither side: it does not compute the same twice.";
        let mut report = Report::new(case, Cause::Unrepeatable, text);
        report.list_reads(kept.image.count, disks);
        return Ok(report);
    }
    let (cold, digest) = replayed::<G>(kept, case, true)?;
    if case.theirs.is_none_or(|theirs| digest != theirs) {
        let text = "A replay on the standby's server agrees with the standby: the primary's state was damaged, or its \
                    processor computes otherwise.";
        let mut report = Report::new(case, Cause::PrimaryDiffers, text);
        report.list_reads(kept.image.count, disks);
        return Ok(report);
    }
    let text = "A replay agrees with the standby, but one without cached translations agrees with the primary: \
                something cached can be noticed by the guest.";
    let mut report = Report::new(case, Cause::CacheLeaks, text);
    report.list(differences(&cold, guest));
    let first = narrow(|_| kept.restore::<G>(), &case.records, case.count, true)?;
    report.point(first, case);
    Ok(report)
}

/// A guest from the kept copy at the case's count, and its digest.
fn replayed<G: Guest>(kept: &Origin<'_>, case: &Case, cold: bool) -> Result<(G, Digest), GuestError> {
    let mut run = Run::new(kept.restore::<G>()?, &case.records, cold);
    run.to(case.count)?;
    let mut guest = run.into_guest();
    let digest = guest.digest();
    Ok((guest, digest))
}

impl Case {
    /// The records that a guest at `count` has still to follow.
    fn records_from(&self, count: Icount) -> &[Record] {
        &self.records[self.records.partition_point(|record| record.count < count)..]
    }
}

impl Report {
    fn new(case: &Case, cause: Cause, text: &str) -> Self {
        let (count, agreed) = (case.count, case.agreed);
        let text =
            format!("The guests' digests agreed at count {} and differed at count {}. {text}\n", agreed.0, count.0);
        Self { count, agreed, cause, first: None, differences: Vec::new(), text }
    }

    fn say(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn list(&mut self, differences: Differences) {
        let Differences { list, total } = differences;
        self.say(&format!("{total} places differ at count {} (a replay's content, the standby's):", self.count.0));
        for difference in &list {
            self.say(&format!("  {difference}"));
        }
        self.differences = list;
    }

    /// What the standby's guest has read since a count.
    fn list_reads(&mut self, since: Icount, disks: &[Memory]) {
        let what = format!(
            "if the servers' disks were not equal there, that was it; since count {} the guest has read",
            since.0
        );
        self.list_sectors(disks, Memory::asked, &what);
    }

    /// Names sectors, of all disks that have some to be named.
    fn list_sectors(&mut self, disks: &[Memory], which: impl Fn(&Memory) -> Vec<(u64, u64)>, what: &str) {
        for (drive, disk) in disks.iter().enumerate() {
            let ranges = which(disk);
            if !ranges.is_empty() {
                let shown: Vec<String> =
                    ranges.iter().take(RANGES).map(|(first, last)| format!("{first}-{last}")).collect();
                let more = if ranges.len() > RANGES { ", ..." } else { "" };
                self.say(&format!("Drive {drive}: {what} sectors {}{more}.", shown.join(", ")));
            }
        }
    }

    fn point(&mut self, first: Option<First>, case: &Case) {
        match &first {
            None => self.say("No instruction was found that computed something else."),
            Some(first) => self.say(&format!("{first}\n{}", nearest(first, case))),
        }
        self.first = first;
    }
}

/// The record before an instruction, in words.
fn nearest(first: &First, case: &Case) -> String {
    let input = |record: &&Record| record.count <= first.after && matches!(record.entry, Entry::Input(_));
    match case.records.iter().rev().find(input) {
        Some(record) => format!("The last input before it: {:?} at count {}.", record.entry, record.count.0),
        None => "No input came before it since the kept copy.".into(),
    }
}
