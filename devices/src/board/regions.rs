//! Memory besides RAM: the BIOS below 4 GiB, and what a VGA has. Made with the machine, before its CPU; their numbers
//! depend on the configuration alone.

use crate::config::Config;
use crate::vga::Vga;
use ftemu_cpu::Memory;
use ftemu_cpu::memory::{HIGH_START, Region};
use std::io;

/// Bytes of the largest BIOS image.
pub const BIOS_BYTES: u64 = 256 << 10;

/// The regions of a machine.
#[derive(Clone, Copy, Debug)]
pub struct Regions {
    /// The BIOS, up to 4 GiB.
    pub bios: Region,
    /// The VGA's, if there is one.
    pub video: Option<[Region; 2]>,
}

impl Regions {
    /// Adds what the configuration wants.
    ///
    /// # Errors
    /// What the host says when it has no memory.
    pub fn add(config: &Config, memory: &mut Memory) -> io::Result<Regions> {
        let bios = memory.add_region(BIOS_BYTES, false)?;
        memory.move_region(bios, Some(HIGH_START - BIOS_BYTES));
        let video = if config.video { Some(Vga::add_regions(memory)?) } else { None };
        Ok(Regions { bios, video })
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = Region> {
        std::iter::once(self.bios).chain(self.video.into_iter().flatten())
    }

    /// Fills all of them with zeroes, as after power-on.
    pub fn clear(&self, memory: &mut Memory) {
        const PAGE: [u8; 4096] = [0; 4096];
        for region in self.all() {
            for offset in (0..memory.region_bytes(region).len()).step_by(PAGE.len()) {
                if memory.region_bytes(region).get(offset..).is_some_and(|bytes| !bytes.starts_with(&PAGE)) {
                    memory.region_store(region, offset as u64, &PAGE);
                }
            }
        }
    }
}
