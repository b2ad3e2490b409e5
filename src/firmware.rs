//! The firmware's files: SeaBIOS and its VGA BIOS, as Debian's package `seabios` installs them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ftemu_devices::config::{BootFrom, NicConfig, NicModel, OptionRom};
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

/// Where packages put network boot ROMs (Debian's `ipxe-qemu`, Fedora, Arch).
const ROM_FOLDERS: [&str; 3] = ["/usr/lib/ipxe/qemu", "/usr/share/ipxe/qemu", "/usr/share/qemu"];
const NO_ROM: &str = "the guest cannot start from its network: iPXE's ROMs are not installed (apt install ipxe-qemu)";

/// iPXE for each model among the cards; and what to tell the user if network boot was asked for before all else and a
/// ROM is missing.
pub fn option_roms(cards: &[NicConfig], order: &BootOrder) -> (Vec<OptionRom>, Option<&'static str>) {
    let mut models: Vec<NicModel> = Vec::new();
    if order.0.contains(&BootFrom::Network) {
        models.extend(cards.iter().map(|card| card.model));
        models.sort_by_key(|model| model.pci_identity());
        models.dedup();
    }
    let rom = |model: &NicModel| {
        let name = match model {
            NicModel::E1000 => "pxe-e1000.rom",
            NicModel::VirtioNet => "pxe-virtio.rom",
        };
        let path = ROM_FOLDERS.into_iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
        let (vendor, device) = model.pci_identity();
        Some(OptionRom { vendor, device, image: std::fs::read(path?).ok()? })
    };
    let roms: Vec<OptionRom> = models.iter().filter_map(rom).collect();
    let missed = order.0.first() == Some(&BootFrom::Network) && roms.len() < models.len();
    (roms, missed.then_some(NO_ROM))
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
    fn no_card_and_no_wish_no_rom() {
        let card = NicConfig { model: NicModel::E1000, mac: [2; 6] };
        assert_eq!(option_roms(&[], &BootOrder(vec![BootFrom::Network])), (Vec::new(), None));
        assert_eq!(option_roms(&[card], &BootOrder(vec![BootFrom::Disk])), (Vec::new(), None));
        let (roms, note) = option_roms(&[card, card], &BootOrder(vec![BootFrom::Network]));
        assert_eq!(roms.len(), usize::from(note.is_none()));
    }

    #[test]
    fn orders_are_letters() {
        assert_eq!(boot_order("dc"), Ok(BootOrder(vec![BootFrom::Cdrom, BootFrom::Disk])));
        assert_eq!(boot_order("n"), Ok(BootOrder(vec![BootFrom::Network])));
        assert!(boot_order("").is_err() && boot_order("cc").is_err() && boot_order("a").is_err());
    }
}
