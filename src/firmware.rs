//! The firmware's files: SeaBIOS and its VGA BIOS, as Debian's package `seabios` installs them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftemu_devices::config::BootFrom;
use ftemu_devices::firmware::Firmware;

/// Where packages put the files (Debian, Fedora, Arch).
const FOLDERS: [&str; 3] = ["/usr/share/seabios", "/usr/share/seavgabios", "/usr/share/qemu"];
const BIOS: &str = "bios-256k.bin";
const VIDEO_BIOS: &str = "vgabios-stdvga.bin";
const HINT: &str = "SeaBIOS is not installed: apt install seabios (or name a BIOS image with --firmware FILE)";

/// Reads the firmware: the BIOS from `bios`, if that is given.
///
/// # Errors
/// When a file is missing.
pub fn load(bios: Option<&Path>) -> Result<Firmware> {
    let path = bios.map(PathBuf::from).or_else(|| find(BIOS)).context(HINT)?;
    let image = read(&path)?;
    let video = find(VIDEO_BIOS).context(HINT)?;
    Ok(Firmware { bios: image, video_bios: read(&video)? })
}

fn find(name: &str) -> Option<PathBuf> {
    FOLDERS.into_iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the firmware {}", path.display()))
}

/// What firmware tries to start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootOrder(pub Vec<BootFrom>);

/// A boot order from letters, as `c` or `dc`.
///
/// # Errors
/// In words for the user.
pub fn boot_order(text: &str) -> Result<BootOrder, String> {
    let place = |letter| match letter {
        'c' => Ok(BootFrom::Disk),
        'd' => Ok(BootFrom::Cdrom),
        'n' => Ok(BootFrom::Network),
        _ => Err(format!("{letter:?} is none of c (disk), d (CD), n (network)")),
    };
    let order: Vec<BootFrom> = text.chars().map(place).collect::<Result<_, _>>()?;
    let twice = order.iter().enumerate().any(|(at, place)| order[..at].contains(place));
    if order.is_empty() || twice {
        return Err("write each of c (disk), d (CD), n (network) at most once, as in dc".into());
    }
    Ok(BootOrder(order))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_letters() {
        assert_eq!(boot_order("dc"), Ok(BootOrder(vec![BootFrom::Cdrom, BootFrom::Disk])));
        assert_eq!(boot_order("n"), Ok(BootOrder(vec![BootFrom::Network])));
        assert!(boot_order("").is_err() && boot_order("cc").is_err() && boot_order("a").is_err());
    }
}
