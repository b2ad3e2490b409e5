//! The standby's state was damaged: since when, and which instruction first computed with the damage?
//!
//! The trail tells between which stops the registers came apart. Damage outside the registers (a byte of RAM, a field
//! of a chip) lies still until something reads it: each byte that differs now is put into a replay at the agreed point,
//! and if that leads to the state found, the replay is the standby's run, and the instruction can be found in it.

use super::narrow::{First, Run, narrow};
use super::origin::Origin;
use super::{Case, Report};
use crate::guest::{Guest, GuestError};

/// Guesses of each kind that are tried, each by a replay.
const GUESSES: usize = 24;

/// What may have been damaged: one byte.
struct Guess {
    place: Place,
    /// The bits that were flipped.
    bits: u8,
}

enum Place {
    /// A page of RAM, its address, the offset in it.
    Ram { page: u32, address: u64, offset: usize },
    /// The offset in the saved state.
    State(usize),
}

/// Adds to the report what the trail and guesses tell.
pub(super) fn find<G: Guest>(
    report: &mut Report,
    truth: &G,
    guest: &G,
    kept: &Origin<'_>,
    case: &Case,
) -> Result<(), GuestError> {
    let mut run = Run::new(kept.restore::<G>()?, &case.records, false);
    run.to(case.agreed)?;
    let agreed = run.origin();
    let Some((stretch, expected)) = follow_trail(&mut run, case)? else {
        report.say("The registers never differed: no instruction has computed with the damage yet.");
        return Ok(());
    };
    if stretch.after != stretch.before {
        for guess in guesses(truth, guest) {
            let Some(damaged) = guess.put_into(&agreed) else { continue };
            if leads_there::<G>(&damaged, &stretch, expected, case).unwrap_or(false) {
                report
                    .say(&format!("{guess} after count {}: a replay with that ends like the standby.", case.agreed.0));
                let start = |suspect| if suspect { damaged.restore::<G>() } else { agreed.restore::<G>() };
                report.point(narrow(start, case.records_from(agreed.image.count), stretch.before, false)?, case);
                return Ok(());
            }
        }
    }
    report.point(Some(stretch), case);
    Ok(())
}

/// Replays the standby's trail until the registers differ: that stretch, and the standby's hash at its end.
fn follow_trail<G: Guest>(run: &mut Run<'_, G>, case: &Case) -> Result<Option<(First, u64)>, GuestError> {
    for step in &case.trail {
        run.to(step.from)?;
        run.follow(step.records, case.records.len())?;
        let instruction_pointer = run.guest().instruction_pointer();
        let first = |before| First { after: step.from, before, instruction_pointer };
        if run.guest().fingerprint() != step.before {
            return Ok(Some((first(step.from), step.before)));
        }
        run.to(step.to)?;
        if run.guest().fingerprint() != step.after {
            return Ok(Some((first(step.to), step.after)));
        }
    }
    Ok(None)
}

/// The damaged guest behaves as the standby did.
fn leads_there<G: Guest>(
    damaged: &Origin<'_>,
    stretch: &First,
    expected: u64,
    case: &Case,
) -> Result<bool, GuestError> {
    let mut run = Run::new(damaged.restore::<G>()?, case.records_from(damaged.image.count), false);
    run.to(stretch.before)?;
    if run.guest().fingerprint() != expected {
        return Ok(false);
    }
    run.to(case.count)?;
    Ok(run.into_guest().digest() == case.ours)
}

/// Bytes that differ now, those with the fewest flipped bits first.
fn guesses<G: Guest>(truth: &G, guest: &G) -> Vec<Guess> {
    let mut ram = Vec::new();
    for index in 0..truth.pages().min(guest.pages()) {
        let (page, other) = (truth.page(index), guest.page(index));
        if page != other {
            let address = truth.page_address(index);
            let page_number = u32::try_from(index).unwrap_or(u32::MAX);
            ram.extend(flips(page, other).map(|(offset, bits)| {
                let address = address + offset as u64;
                Guess { place: Place::Ram { page: page_number, address, offset }, bits }
            }));
        }
    }
    let (saved, other) = (truth.save(), guest.save());
    let state = flips(&saved, &other).map(|(offset, bits)| Guess { place: Place::State(offset), bits });
    let mut state: Vec<Guess> = state.collect();
    for guesses in [&mut ram, &mut state] {
        guesses.sort_by_key(|guess| guess.bits.count_ones());
        guesses.truncate(GUESSES);
    }
    ram.append(&mut state);
    ram
}

fn flips<'a>(one: &'a [u8], other: &'a [u8]) -> impl Iterator<Item = (usize, u8)> + 'a {
    one.iter()
        .zip(other)
        .enumerate()
        .filter(|(_, (one, other))| one != other)
        .map(|(at, (one, other))| (at, one ^ other))
}

impl Guess {
    /// The guest with that damage.
    fn put_into(&self, origin: &Origin<'static>) -> Option<Origin<'static>> {
        let mut damaged = origin.clone();
        let image = damaged.image.to_mut();
        match self.place {
            Place::Ram { page, offset, .. } => {
                image.pages.entry(page).or_insert_with(|| Box::new([0; 4096]))[offset] ^= self.bits;
            }
            Place::State(offset) => *image.state.get_mut(offset)? ^= self.bits,
        }
        Some(damaged)
    }
}

impl std::fmt::Display for Guess {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bits = self.bits;
        match self.place {
            Place::Ram { address, .. } => write!(formatter, "Bits {bits:#04x} of RAM byte {address:#x} were flipped"),
            Place::State(offset) => {
                write!(formatter, "Bits {bits:#04x} of byte {offset:#x} of the saved state were flipped")
            }
        }
    }
}
