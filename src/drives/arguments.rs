//! Drives on the command line, the same for both sides of a pair.

use std::path::PathBuf;

use clap::Args;
use clap::builder::Resettable;

use super::spec::{Spec, parse};

/// Which drives the guest has.
#[derive(Debug, Args)]
pub struct DriveArguments {
    /// The guest's disk: a raw or qcow2 image. Short for a first --drive.
    #[arg(value_name = "DISK", help_heading = Resettable::Reset)]
    pub disk: Option<PathBuf>,
    /// A further disk. Both sides of a pair name their own copies, in the same order; the standby's are made equal to the
    /// primary's. A comma in a file's name is written twice. As in --drive data.qcow2,if=virtio.
    #[arg(
        long = "drive",
        value_name = "FILE[,if=ide|virtio][,readonly][,serial=TEXT][,format=raw|qcow2][,snapshot]",
        value_parser = parse
    )]
    pub drives: Vec<Spec>,
    /// A CD in a drive of its own; none: the drive is empty at first (see ftemu insert).
    #[arg(long = "cdrom", value_name = "ISO")]
    pub cdroms: Vec<PathBuf>,
    /// What the guest writes goes to temporary files that are gone at the end; the images stay as they are.
    #[arg(long)]
    pub snapshot: bool,
}

impl DriveArguments {
    /// The drives in the machine's order: the disk, the further ones, the CDs.
    pub fn specs(&self) -> Vec<Spec> {
        let disk = self.disk.iter().cloned().map(Spec::disk);
        let cdroms = self.cdroms.iter().cloned().map(Spec::cdrom);
        let all = disk.chain(self.drives.iter().cloned()).chain(cdroms);
        all.map(|spec| Spec { snapshot: spec.snapshot || self.snapshot, ..spec }).collect()
    }
}
