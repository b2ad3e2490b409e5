//! Guests that Debian packages as they are: CD images, kernels with their initramfs, firmware.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Catalogue, FetchError, Progress};

/// A guest, or firmware, of one package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packaged {
    /// What users call it.
    pub name: &'static str,
    /// What it is, in words.
    pub about: &'static str,
    package: &'static str,
    /// Where the files are in the package (without a leading `usr/`), and what they are called in the cache.
    files: &'static [(&'static str, &'static str)],
}

/// All of them.
pub const PACKAGED: [Packaged; 8] = [
    Packaged {
        name: "memtest",
        about: "memtest86+, a memory test (CD image; kernel)",
        package: "memtest86+",
        files: &[
            ("lib/memtest86+/memtest86+x64.iso", "memtest86+x64.iso"),
            ("lib/memtest86+/memtest86+ia32.iso", "memtest86+ia32.iso"),
            ("boot/memtest86+x64.bin", "memtest86+x64.bin"),
        ],
    },
    Packaged {
        name: "ipxe",
        about: "iPXE, a network boot loader (CD image; kernel)",
        package: "ipxe",
        files: &[("lib/ipxe/ipxe.iso", "ipxe.iso"), ("boot/ipxe.lkrn", "ipxe.lkrn")],
    },
    Packaged {
        name: "grub-rescue",
        about: "GRUB's rescue shell (CD image)",
        package: "grub-rescue-pc",
        files: &[("lib/grub-rescue/grub-rescue-cdrom.iso", "grub-rescue-cdrom.iso")],
    },
    Packaged {
        name: "installer-amd64",
        about: "Debian 12's installer in text mode, 64-bit (kernel, initrd)",
        package: "debian-installer-12-netboot-amd64",
        files: &[
            ("lib/debian-installer/images/12/amd64/text/debian-installer/amd64/linux", "installer-amd64.linux"),
            ("lib/debian-installer/images/12/amd64/text/debian-installer/amd64/initrd.gz", "installer-amd64.initrd.gz"),
        ],
    },
    Packaged {
        name: "installer-amd64-graphical",
        about: "the same with windows and a mouse",
        package: "debian-installer-12-netboot-amd64",
        files: &[
            (
                "lib/debian-installer/images/12/amd64/gtk/debian-installer/amd64/linux",
                "installer-amd64-graphical.linux",
            ),
            (
                "lib/debian-installer/images/12/amd64/gtk/debian-installer/amd64/initrd.gz",
                "installer-amd64-graphical.initrd.gz",
            ),
        ],
    },
    Packaged {
        name: "installer-i386",
        about: "Debian 12's installer in text mode, 32-bit (kernel, initrd)",
        package: "debian-installer-12-netboot-i386",
        files: &[
            ("lib/debian-installer/images/12/i386/text/debian-installer/i386/linux", "installer-i386.linux"),
            ("lib/debian-installer/images/12/i386/text/debian-installer/i386/initrd.gz", "installer-i386.initrd.gz"),
        ],
    },
    Packaged {
        name: "installer-i386-graphical",
        about: "the same with windows and a mouse",
        package: "debian-installer-12-netboot-i386",
        files: &[
            ("lib/debian-installer/images/12/i386/gtk/debian-installer/i386/linux", "installer-i386-graphical.linux"),
            (
                "lib/debian-installer/images/12/i386/gtk/debian-installer/i386/initrd.gz",
                "installer-i386-graphical.initrd.gz",
            ),
        ],
    },
    Packaged {
        name: "seabios",
        about: "SeaBIOS and its VGA BIOS (firmware)",
        package: "seabios",
        files: &[
            ("share/seabios/bios-256k.bin", "bios-256k.bin"),
            ("share/seabios/vgabios-stdvga.bin", "vgabios-stdvga.bin"),
        ],
    },
];

impl Catalogue {
    /// The files of a packaged guest, in the cache folder.
    ///
    /// # Errors
    /// As [`Catalogue::debian`].
    pub fn packaged(&self, guest: Packaged, progress: &mut dyn FnMut(Progress)) -> Result<Vec<PathBuf>, FetchError> {
        let mut paths = Vec::new();
        for (place, name) in guest.files {
            let fetch = |catalogue: &Self, progress: &mut dyn FnMut(Progress)| {
                catalogue.ensure_listed(guest.package, progress)?;
                catalogue.packaged_file(guest.package, place, progress)
            };
            self.part(name, progress, fetch)?;
            paths.push(self.store.path(name));
        }
        Ok(paths)
    }

    /// The first file of any package whose path starts with `place` (without a leading `usr/`).
    ///
    /// # Errors
    /// As [`Catalogue::debian`].
    pub fn file_of(
        &self,
        package: &str,
        place: &str,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<u8>, FetchError> {
        let name = format!("{package}.{}", place.rsplit('/').next().unwrap_or(place));
        let file = self.part(&name, progress, |catalogue, progress| {
            catalogue.ensure_listed(package, progress)?;
            catalogue.packaged_file(package, place, progress)
        })?;
        Ok(file.0)
    }
}

impl FromStr for Packaged {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names: Vec<&str> = PACKAGED.iter().map(|guest| guest.name).collect();
        let found = PACKAGED.into_iter().find(|guest| guest.name == text);
        found.ok_or_else(|| format!("there is no {text:?}; there are {}", names.join(", ")))
    }
}

impl fmt::Display for Packaged {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.name)
    }
}
