//! `ftemu image build debian`: a bootable Debian disk, made from Debian's packages without mounts or loop devices.
//!
//! mmdebstrap(1) unpacks and configures the packages in a folder, `mke2fs -d` makes the root file system of it right in the
//! disk's file, sfdisk(8) writes the partition table, and grub-mkimage(1) makes the boot loader, which goes to the sectors
//! before the first partition. Packages come from where this machine's own apt gets them.

mod error;
mod filesystem;
mod loader;
mod plan;
mod rootfs;
mod sources;
mod tools;

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

pub use error::BuildError;
pub use plan::{Architecture, Kernel, Plan};

use crate::catalogue::Progress;
use crate::disk::{Format, ImageError};

/// What the guest's owner must know.
#[derive(Clone, Debug)]
pub struct Built {
    /// The disk.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it takes on the host.
    pub used: u64,
    /// Things that went otherwise than planned, for people.
    pub notes: Vec<String>,
}

/// How many steps a build reports with [`Progress::Step`].
pub const STEPS: u64 = 9;

/// Builds a disk.
///
/// # Errors
/// See [`BuildError`]. Nothing half-made stays.
pub fn build(plan: &Plan, output: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Built, BuildError> {
    plan.check()?;
    if output.exists() {
        return Err(ImageError::Exists { path: output.to_owned() }.into());
    }
    let mut notes = Vec::new();
    step(progress, "checking tools");
    let tools = tools::Tools::find()?;
    let work = Work::beside(output)?;
    let found = sources::find(plan)?;
    if let Err(error) = rootfs::make(plan, &tools, &work, &found.all(), progress) {
        // A mirror that is just being updated: what is newest may come later, through apt in the guest.
        if !error.is_about_lists() || found.extra.is_empty() {
            return Err(error);
        }
        work.clear_root(&tools);
        rootfs::make(plan, &tools, &work, &found.main, progress)?;
        notes.push("the updates' package lists could not be had; run apt-get upgrade in the guest".to_owned());
    }
    step(progress, "making the file system");
    filesystem::make(plan, &tools, &work)?;
    work.clear_root(&tools);
    step(progress, "installing the boot loader");
    loader::install(&tools, &work)?;
    step(progress, "finishing");
    finish(&work, output, progress)?;
    let used = fs::metadata(output).map_err(ImageError::io(output, "look at"))?;
    let used = std::os::unix::fs::MetadataExt::blocks(&used) * 512;
    Ok(Built { path: output.to_owned(), bytes: plan.bytes, used, notes })
}

/// Moves the disk to its place, as qcow2 if that is the file's ending.
fn finish(work: &Work, output: &Path, progress: &mut dyn FnMut(Progress)) -> Result<(), BuildError> {
    let disk = work.disk();
    File::open(&disk).and_then(|file| file.sync_all()).map_err(ImageError::io(&disk, "write"))?;
    if output.extension().is_some_and(|ending| ending == "qcow2") {
        let mut percent = |done: u64, all: u64| progress(Progress::Percent((done * 100 / all.max(1)) as u8));
        crate::import::convert(&disk, output, Format::Qcow2, &mut percent)?;
        return Ok(());
    }
    fs::set_permissions(&disk, fs::Permissions::from_mode(0o644)).map_err(ImageError::io(&disk, "write"))?;
    Ok(fs::rename(&disk, output).map_err(ImageError::io(output, "write"))?)
}

fn step(progress: &mut dyn FnMut(Progress), name: &str) {
    progress(Progress::Step(name.to_owned()));
}

/// A folder beside the disk to be, gone when the build ends, however it ends.
#[derive(Debug)]
struct Work {
    folder: tempfile::TempDir,
}

impl Work {
    fn beside(output: &Path) -> Result<Self, BuildError> {
        let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let parent = fs::canonicalize(parent).map_err(ImageError::io(parent, "write in"))?;
        let folder = tempfile::Builder::new().prefix(".ftemu-build-").tempdir_in(&parent);
        let work = Self { folder: folder.map_err(ImageError::io(&parent, "write in"))? };
        // In a user namespace root is one of the user's subordinate users, who must get in here.
        let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        let path = work.folder.path();
        open(path, 0o777).map_err(ImageError::io(path, "write in"))?;
        let disk = work.disk();
        File::create(&disk).and_then(|_| open(&disk, 0o666)).map_err(ImageError::io(&disk, "write"))?;
        Ok(work)
    }

    /// The disk in the making.
    fn disk(&self) -> PathBuf {
        self.file("disk")
    }

    /// The guest's files.
    fn root(&self) -> PathBuf {
        self.file("root")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Removes the guest's files, which may belong to subordinate users.
    fn clear_root(&self, tools: &tools::Tools) {
        let _ = tools.inside().arg("rm").arg("-rf").arg(self.root()).status();
    }
}

#[cfg(test)]
mod tests;
