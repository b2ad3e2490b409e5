//! A guest on a network: a Debian kernel, busybox, and the kernel's modules for a network card.

use super::{Catalogue, FetchError, KERNEL, Progress};
use crate::{Guest, debian};

/// Debian's kernel with drivers for real hardware; a package that depends on the current version's package.
const FULL_KERNEL: &str = "linux-image-amd64";

/// A network card for which the guest has a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// Virtio; Debian's cloud kernel.
    Virtio,
    /// Intel's 82540EM; Debian's kernel for all machines.
    E1000,
}

/// A part and the name of the package it is from.
type Part = (Vec<u8>, String);

impl Card {
    /// The kernel's package, and the names that kernel and modules have in the cache.
    fn parts(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Card::Virtio => (KERNEL, "vmlinuz", "modules-virtio"),
            Card::E1000 => (FULL_KERNEL, "vmlinuz-full", "modules-e1000"),
        }
    }

    /// The modules, below the kernel's folder.
    fn modules(self) -> &'static [&'static str] {
        match self {
            Card::Virtio => &[
                "drivers/virtio/virtio_ring",
                "drivers/virtio/virtio",
                "drivers/virtio/virtio_pci_modern_dev",
                "drivers/virtio/virtio_pci_legacy_dev",
                "drivers/virtio/virtio_pci",
                "net/core/failover",
                "drivers/net/net_failover",
                "drivers/net/virtio_net",
            ],
            Card::E1000 => &["drivers/net/ethernet/intel/e1000/e1000"],
        }
    }
}

impl Catalogue {
    /// A guest with a driver for `card`, doing what `mode` says.
    ///
    /// # Errors
    /// As [`Catalogue::debian`].
    pub fn debian_with(
        &self,
        card: Card,
        mode: debian::Mode,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Guest, FetchError> {
        let (_, kernel_part, modules_part) = card.parts();
        let mut kernel = self.part(kernel_part, progress, |catalogue, progress| catalogue.kernel(card, progress))?;
        let mut modules = self.part(modules_part, progress, |catalogue, progress| catalogue.modules(card, progress))?;
        if kernel.1 != modules.1 {
            // They are of two versions: only those of one go together.
            let _turn = self.store.turn(progress)?;
            kernel = self.kernel(card, progress)?;
            modules = self.modules(card, progress)?;
            self.store.put(kernel_part, &kernel.0, &kernel.1)?;
            self.store.put(modules_part, &modules.0, &modules.1)?;
        }
        let (busybox, _) = self.busybox(progress)?;
        let initrd = Some([debian::initramfs(&busybox), modules.0].concat());
        Ok(Guest { name: kernel.1, kernel: kernel.0, initrd, command_line: debian::command_line(mode) })
    }

    fn kernel(&self, card: Card, progress: &mut dyn FnMut(Progress)) -> Result<Part, FetchError> {
        let package = self.versioned_kernel(card.parts().0, progress)?;
        self.packaged_file(&package, "boot/vmlinuz-", progress)
    }

    /// The modules for a card, as an archive.
    fn modules(&self, card: Card, progress: &mut dyn FnMut(Progress)) -> Result<Part, FetchError> {
        let package = self.versioned_kernel(card.parts().0, progress)?;
        let downloaded = self.download(&package, progress)?;
        progress(Progress::Step(format!("unpacking {}", downloaded.name)));
        let version = package.trim_start_matches("linux-image-");
        let mut files = Vec::new();
        for module in card.modules() {
            let place = format!("lib/modules/{version}/kernel/{module}.ko");
            let bytes = self.apt.extract(&downloaded, &place)?;
            let missing = || FetchError::NoSuchFile { package: package.clone(), pattern: place.clone() };
            files.push((module.rsplit('/').next().unwrap_or(module), bytes.ok_or_else(missing)?));
        }
        Ok((debian::modules(&files), downloaded.name.clone()))
    }
}
