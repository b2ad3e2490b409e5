//! What differs between two guests that should be equal.

use crate::guest::Guest;
use std::fmt;

/// Differences that are listed one by one.
const MOST: usize = 64;

/// Bytes that differ: a register, a chip's field or a stretch of it, or of RAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name, or its address in RAM.
    pub place: String,
    /// For RAM: the guest-physical address, the page's number and the offset in it.
    pub ram: Option<(u64, usize, usize)>,
    /// As the replay has it.
    pub theirs: Vec<u8>,
    /// As the standby has it.
    pub ours: Vec<u8>,
}

/// All differences, the first ones in full.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// The first 64.
    pub list: Vec<Difference>,
    /// How many there are.
    pub total: usize,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {} -> {}", self.place, Hex(&self.theirs), Hex(&self.ours))
    }
}

/// Bytes as people read them: two, four or eight as one little-endian number, others in memory order.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if matches!(self.0.len(), 2 | 4 | 8) {
            return self.0.iter().rev().try_for_each(|byte| write!(formatter, "{byte:02x}"));
        }
        self.0.iter().take(16).try_for_each(|byte| write!(formatter, "{byte:02x}"))?;
        if self.0.len() > 16 { formatter.write_str("...") } else { Ok(()) }
    }
}

/// Compares two guests field by field and page by page.
pub fn differences<G: Guest>(theirs: &G, ours: &G) -> Differences {
    let mut found = Differences::default();
    for ((name, theirs), (_, ours)) in theirs.fields().into_iter().zip(ours.fields()) {
        if theirs.len() <= 16 || theirs.len() != ours.len() {
            if theirs != ours {
                found.add(Difference { place: name, ram: None, theirs, ours });
            }
            continue;
        }
        for (start, end) in stretches(&theirs, &ours) {
            let place = format!("{name}, byte {start:#x}");
            found.add(Difference {
                place,
                ram: None,
                theirs: theirs[start..end].into(),
                ours: ours[start..end].into(),
            });
        }
    }
    for index in 0..theirs.pages().min(ours.pages()) {
        let (page, other) = (theirs.page(index), ours.page(index));
        for (start, end) in stretches(page, other) {
            let address = theirs.page_address(index) + start as u64;
            found.add(Difference {
                place: format!("RAM {address:#x}"),
                ram: Some((address, index, start)),
                theirs: page[start..end].into(),
                ours: other[start..end].into(),
            });
        }
    }
    found
}

impl Differences {
    fn add(&mut self, difference: Difference) {
        self.total += 1;
        if self.list.len() < MOST {
            self.list.push(difference);
        }
    }
}

/// Where two byte strings of one length differ, as stretches.
fn stretches(one: &[u8], other: &[u8]) -> Vec<(usize, usize)> {
    let mut found: Vec<(usize, usize)> = Vec::new();
    if one == other {
        return found;
    }
    let differing = one.iter().zip(other).enumerate().filter(|(_, (one, other))| one != other);
    for (place, _) in differing {
        match found.last_mut() {
            Some((_, end)) if *end == place => *end += 1,
            _ => found.push((place, place + 1)),
        }
    }
    found
}
