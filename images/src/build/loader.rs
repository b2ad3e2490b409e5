//! GRUB in the sectors before the first partition, as grub-install(8) puts it there: boot.img in the first sector's code
//! bytes, core.img right after it. The places that they look for each other in are the ones they are built with.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::filesystem::START;
use super::tools::{self, GRUB, Tools};
use super::{BuildError, Work};
use crate::disk::ImageError;

/// What the core needs to find its configuration and a kernel.
const MODULES: [&str; 14] = [
    "biosdisk",
    "part_msdos",
    "ext2",
    "normal",
    "configfile",
    "linux",
    "boot",
    "serial",
    "terminal",
    "echo",
    "test",
    "reboot",
    "halt",
    "ls",
];
/// Code bytes of the first sector: what follows are the disk's signature and its partitions.
const CODE: usize = 440;

/// Puts the boot loader on the disk.
pub(super) fn install(_tools: &Tools, work: &Work) -> Result<(), BuildError> {
    let core = work.file("core.img");
    let mut command = Tools::command("grub-mkimage");
    // No disk in the prefix: the one that the BIOS has booted from.
    command.args(["-O", "i386-pc", "-d", GRUB, "-p", "(,msdos1)/boot/grub", "-o"]).arg(&core).args(MODULES);
    tools::run(&mut command, "grub-mkimage", &mut |_| {})?;
    let boot = read(&Path::new(GRUB).join("boot.img"))?;
    let core = read(&core)?;
    let boot = boot.get(..CODE).ok_or_else(|| BuildError::Loader("boot.img is too short".to_owned()))?;
    if core.len() as u64 > START - 512 {
        return Err(BuildError::Loader(format!("{} bytes do not fit before the first partition", core.len())));
    }
    let disk = work.disk();
    let file = OpenOptions::new().write(true).open(&disk).map_err(ImageError::io(&disk, "write"))?;
    let written = file.write_all_at(boot, 0).and_then(|()| file.write_all_at(&core, 512));
    Ok(written.map_err(ImageError::io(&disk, "write"))?)
}

fn read(path: &Path) -> Result<Vec<u8>, BuildError> {
    Ok(fs::read(path).map_err(ImageError::io(path, "read"))?)
}
