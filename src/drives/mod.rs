//! The guest's drives on this host: which files they are, and the threads that read and write them.
//!
//! Each drive has a thread of its own that works its requests off in order (`worker`); the guest's thread has a handle
//! to it (`handle`) and waits only when a request is due and not yet answered. What to do when the host's disk is
//! full or broken is decided in one place (`policy`).

mod arguments;
mod capture;
mod discs;
mod handle;
mod policy;
pub mod replayed;
mod sparse;
mod spec;
#[cfg(test)]
mod tests;
mod worker;

use anyhow::{Context, Result, ensure};
use ftemu_devices::config::{Attachment, DriveConfig, DriveKind};
use ftemu_devices::storage::{SECTOR_BYTES, Storage};
use ftemu_images::{Disk, Options};

pub use arguments::DriveArguments;
use capture::Capture;
pub use discs::Discs;
pub use policy::Policy;
pub use spec::{Interface, Spec};
use worker::Worker;

use crate::recorder::Tap;

/// What the guest knows of a drive without a serial number given.
const SERIAL: &str = "ftemu";

/// All drives of this side, open.
pub struct Drives {
    open: Vec<(DriveConfig, Worker)>,
    tap: Option<Tap>,
}

impl Drives {
    /// Opens the images, in the order given. What is read from them also goes to the tap.
    ///
    /// # Errors
    /// An image cannot be used, or there are more drives than places for them.
    pub fn open(specs: &[Spec], policy: &Policy, tap: Option<&Tap>) -> Result<Self> {
        let attachments = attach(specs)?;
        let mut open = Vec::new();
        for (number, (spec, attachment)) in specs.iter().zip(attachments).enumerate() {
            let disk = if spec.is_empty() { None } else { Some(open_image(spec)?) };
            let config = DriveConfig {
                attachment,
                kind: spec.kind,
                sectors: disk.as_ref().map_or(0, |disk| disk.bytes() / SECTOR_BYTES),
                serial: spec.serial.clone().unwrap_or_else(|| format!("{SERIAL}{number}")),
                read_only: spec.is_read_only(),
            };
            open.push((config, Worker::start(disk, &spec.path, policy.clone())?));
        }
        let cdroms = (0u8..).zip(specs).filter(|(_, spec)| spec.kind == DriveKind::Cdrom);
        policy.discs().set_drives(cdroms.map(|(drive, _)| drive).collect());
        Ok(Self { open, tap: tap.cloned() })
    }

    /// What the machine is told of them.
    pub fn configs(&self) -> Vec<DriveConfig> {
        self.open.iter().map(|(config, _)| config.clone()).collect()
    }

    /// Their sizes in sectors of 512 bytes, with the discs that are in them now.
    pub fn sectors(&self) -> Vec<u64> {
        self.open.iter().map(|(_, worker)| worker.sectors()).collect()
    }

    /// New handles for a machine. Those given out before are of no use any more.
    pub fn handles(&self) -> Vec<Box<dyn Storage>> {
        let handle = |(drive, (_, worker)): (u8, &(DriveConfig, Worker))| -> Box<dyn Storage> {
            match &self.tap {
                Some(tap) => Box::new(Capture::new(worker.handle(), drive, tap.clone())),
                None => Box::new(worker.handle()),
            }
        };
        (0u8..).zip(&self.open).map(handle).collect()
    }

    /// Writes out everything and closes the images.
    ///
    /// # Errors
    /// Something could not be written.
    pub fn close(self) -> Result<()> {
        let closed: Vec<Result<()>> = self.open.into_iter().map(|(_, worker)| worker.close()).collect();
        closed.into_iter().collect()
    }
}

fn open_image(spec: &Spec) -> Result<Disk> {
    let options = Options {
        read_only: spec.is_read_only(),
        snapshot: spec.snapshot && !spec.is_read_only(),
        format: spec.format,
        ..Options::default()
    };
    let what = if spec.kind == DriveKind::Cdrom { "CD image" } else { "disk image" };
    Disk::open(&spec.path, &options).with_context(|| format!("cannot use the {what}"))
}

/// Places on the IDE channels: disks as hda, hdb, ...; CD-ROM drives from hdc on.
fn attach(specs: &[Spec]) -> Result<Vec<Attachment>> {
    const PLACES: [(u8, u8); 4] = [(0, 0), (0, 1), (1, 0), (1, 1)];
    const CDROMS: [(u8, u8); 4] = [(1, 0), (1, 1), (0, 1), (0, 0)];
    let on_ide = |spec: &Spec| spec.interface == Interface::Ide;
    ensure!(
        specs.iter().filter(|spec| on_ide(spec)).count() <= PLACES.len(),
        "there are four places for IDE disks and CD-ROMs together: give further disks as --drive FILE,if=virtio"
    );
    let mut taken: Vec<(u8, u8)> = Vec::new();
    let mut places = vec![Attachment::Virtio; specs.len()];
    // CD-ROM drives first, so that a second disk does not depend on them.
    for kind in [DriveKind::Cdrom, DriveKind::Disk] {
        let order = if kind == DriveKind::Cdrom { CDROMS } else { PLACES };
        for (place, _) in places.iter_mut().zip(specs).filter(|(_, spec)| spec.kind == kind && on_ide(spec)) {
            let free = order.into_iter().find(|place| !taken.contains(place)).context("no IDE place is left")?;
            taken.push(free);
            *place = Attachment::Ide { channel: free.0, unit: free.1 };
        }
    }
    Ok(places)
}
