//! What a node wants done with its guest, and how it is done.
//!
//! The node owns no guest: [`crate::Node::work`] hands out one piece of work, [`Hands::execute`] does it, and
//! [`crate::Node::done`] takes the result. Messages may be handled in between, so an acknowledgement need not wait for
//! the guest's slice to end.

use crate::divergence::{self, Case, Memory, Report};
use crate::guest::{Digest, Emitted, Guest, GuestError, Input, Page, Ran};
use crate::image::{Image, set_page};
use crate::kept::Kept;
use crate::mirror::hands::{Disks, of_guest};
use crate::mirror::{BlockId, DiskDone, DiskWork};
use ftemu_cpu::Icount;
use ftemu_devices::storage::Storage;

/// A piece of work for the guest.
#[derive(Debug)]
pub enum Work {
    /// Nothing until [`crate::Node::stirred`], or until the given time (ns), whichever is first.
    Wait {
        /// When to ask again at the latest.
        until_ns: Option<u64>,
    },
    /// Run, at most up to this count.
    Run {
        /// The count.
        until: Icount,
    },
    /// Jump to the next deadline.
    SkipIdle,
    /// Hand over an input.
    Apply(Input),
    /// Take a digest.
    Digest,
    /// Copy the guest, digest included.
    Copy {
        /// For another server: these blocks of its disks, and those that changed since the last [`DiskWork::Changes`], too.
        blocks: Option<Vec<BlockId>>,
    },
    /// Something with the disks.
    Disk(DiskWork),
    /// Keep a copy at hand as the point that a divergence is sought from.
    Keep,
    /// Make the guest anew (standby).
    Create {
        /// From [`Guest::config`].
        config: Vec<u8>,
    },
    /// Set pages of RAM (standby).
    SetPages(Vec<(u32, Box<Page>)>),
    /// Take the rest of the state, then a digest (standby).
    Load {
        /// From [`Guest::save`].
        state: Vec<u8>,
    },
    /// Find out where and how the guest went wrong (standby).
    Diagnose(Box<Case>),
}

/// What became of a piece of work.
#[derive(Debug)]
pub enum Done {
    /// Of [`Work::Run`] and [`Work::SkipIdle`].
    Ran {
        /// Why it ended.
        ran: Ran,
        /// What came out.
        outputs: Vec<Emitted>,
        /// The registers' hash when it began.
        before: u64,
        /// Where the guest is.
        at: Place,
    },
    /// Of [`Work::Apply`].
    Applied {
        /// What came out at once.
        outputs: Vec<Emitted>,
        /// Where the guest is; its clock may have moved.
        at: Place,
    },
    /// Of [`Work::Digest`].
    Digest(Digest),
    /// Of [`Work::Copy`].
    Copied {
        /// The copy.
        image: Box<Image>,
        /// Its digest.
        digest: Digest,
        /// Blocks of disks.
        blocks: Vec<(BlockId, Vec<u8>)>,
    },
    /// Of [`Work::Disk`]; also of [`Work::Copy`] if a disk cannot be read.
    Disk(DiskDone),
    /// Of [`Work::Keep`], [`Work::Create`] and [`Work::SetPages`].
    Finished,
    /// Of [`Work::Load`].
    Loaded {
        /// Where the guest is.
        at: Place,
        /// Its digest now.
        digest: Digest,
    },
    /// Of [`Work::Diagnose`].
    Diagnosed(Box<Report>),
    /// It could not be done.
    Failed(GuestError),
}

/// The kept copy, packed, may take so much: the standby as a whole stays within its guest's RAM and 256 MiB.
const KEPT_BYTES: usize = 112 << 20;

/// Where a guest is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Instructions completed.
    pub count: Icount,
    /// Virtual nanoseconds.
    pub now_ns: u64,
    /// [`Guest::fingerprint`], where one was taken.
    pub fingerprint: u64,
}

/// Holds the guest and does a node's work with it.
#[derive(Debug)]
pub struct Hands<G> {
    guest: Option<G>,
    /// A standby's, while it has no guest that has them.
    disks: Disks,
    kept: Option<Kept>,
    /// Fingerprints are taken: a standby's trail needs them.
    traced: bool,
}

impl<G: Guest> Hands<G> {
    /// For a primary, which has a guest.
    pub fn with(guest: G) -> Self {
        Self { guest: Some(guest), disks: Disks::default(), kept: None, traced: false }
    }

    /// For a standby, which gets one.
    pub fn empty() -> Self {
        Self::with_disks(Vec::new())
    }

    /// For a standby that has disks for the guest it gets, in the order of its drives.
    pub fn with_disks(storages: Vec<Box<dyn Storage>>) -> Self {
        Self { guest: None, disks: Disks::new(storages), kept: None, traced: true }
    }

    /// The guest, if there is one.
    pub fn guest(&self) -> Option<&G> {
        self.guest.as_ref()
    }

    /// The guest, to be tampered with: tests only.
    pub fn guest_mut(&mut self) -> Option<&mut G> {
        self.guest.as_mut()
    }

    /// Does a piece of work. [`Work::Wait`] is the caller's to wait; here it does nothing.
    pub fn execute(&mut self, work: Work) -> Done {
        self.attempt(work).unwrap_or_else(Done::Failed)
    }

    fn attempt(&mut self, work: Work) -> Result<Done, GuestError> {
        let work = match work {
            Work::Create { config } => {
                self.disks.recover(self.guest.take());
                self.kept = None;
                self.guest = Some(G::create(&config)?);
                return Ok(Done::Finished);
            }
            // A standby's guest is made after its disks are equal; one that is here is of no use any more.
            Work::Disk(work @ DiskWork::Hash(_)) => {
                self.disks.recover(self.guest.take());
                return Ok(Done::Disk(self.disks.execute(work)));
            }
            Work::Disk(work @ DiskWork::Write(..)) => return Ok(Done::Disk(self.disks.execute(work))),
            work => work,
        };
        let traced = self.traced;
        let guest = self.guest.as_mut().ok_or_else(|| GuestError("there is no guest here yet".into()))?;
        Ok(match work {
            Work::Create { .. } | Work::Wait { .. } => Done::Finished,
            Work::Run { until } => {
                let before = if traced { guest.fingerprint() } else { 0 };
                let ran = guest.run(until);
                Done::Ran { ran, outputs: guest.drain(), before, at: Place::traced(guest, traced) }
            }
            Work::SkipIdle => {
                let before = if traced { guest.fingerprint() } else { 0 };
                guest.skip_idle();
                Done::Ran { ran: Ran::Count, outputs: guest.drain(), before, at: Place::traced(guest, traced) }
            }
            Work::Apply(input) => {
                guest.apply(&input);
                Done::Applied { outputs: guest.drain(), at: Place::traced(guest, traced) }
            }
            Work::Digest => Done::Digest(guest.digest()),
            Work::Copy { blocks } => copy(guest, blocks),
            Work::Disk(work) => Done::Disk(of_guest(guest, work)),
            Work::Keep => {
                guest.drives().fetch();
                self.kept.get_or_insert_with(|| Kept::new(guest, KEPT_BYTES)).renew(guest);
                self.disks.memories().iter().for_each(Memory::begin);
                Done::Finished
            }
            Work::SetPages(pages) => {
                pages.iter().try_for_each(|(index, page)| set_page(guest, *index, page))?;
                Done::Finished
            }
            Work::Load { state } => {
                guest.load(&state)?;
                self.disks.give(guest)?;
                Done::Loaded { at: Place::of(guest), digest: guest.digest() }
            }
            Work::Diagnose(case) => {
                let kept = self.kept.take().map(|kept| kept.image()).transpose()?.flatten();
                Done::Diagnosed(Box::new(divergence::diagnose(guest, kept.as_ref(), self.disks.memories(), *case)))
            }
        })
    }
}

/// A copy of the guest as it is now. Blocks are read after all that was issued, as the copy's state has it.
fn copy<G: Guest>(guest: &mut G, blocks: Option<Vec<BlockId>>) -> Done {
    guest.drives().fetch();
    let mut copied = Vec::new();
    if let Some(mut wanted) = blocks {
        wanted.extend(guest.drives().take_changes());
        wanted.sort_unstable();
        wanted.dedup();
        guest.drives().ignore_changes();
        match of_guest(guest, DiskWork::Read(wanted)) {
            DiskDone::Blocks(blocks) => copied = blocks,
            failed => return Done::Disk(failed),
        }
    }
    Done::Copied { image: Box::new(Image::of(guest)), digest: guest.digest(), blocks: copied }
}

impl Place {
    /// Where `guest` is.
    pub fn of<G: Guest>(guest: &G) -> Place {
        Self::traced(guest, false)
    }

    fn traced<G: Guest>(guest: &G, traced: bool) -> Place {
        let fingerprint = if traced { guest.fingerprint() } else { 0 };
        Place { count: guest.count(), now_ns: guest.now_ns(), fingerprint }
    }
}
