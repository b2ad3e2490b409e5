//! A machine written down: digests, checkpoints, and the pages that changed.

use crate::chips::Chips;
use crate::config::{Config, MachineError};
use crate::firmware::Firmware;
use crate::linux::{self, BootImage};
use crate::machine::Machine;
use crate::state::{Part, Saved};
use ftemu_cpu::Memory;
use std::sync::Arc;

/// Version of the saved form.
const FORMAT: u32 = 3;
/// A century of instructions; counts in a checkpoint are below, so that nothing overflows.
const MAXIMUM_COUNT: u64 = 1 << 62;

/// What a machine starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// A kernel, directly.
    Linux(BootImage),
    /// A BIOS.
    Firmware(Firmware),
}

impl Saved for Start {
    fn save(&self, out: &mut Vec<u8>) {
        match self {
            Start::Linux(image) => {
                out.push(0);
                image.save(out);
            }
            Start::Firmware(firmware) => {
                out.push(1);
                firmware.save(out);
            }
        }
    }
    fn load(bytes: &mut &[u8]) -> Option<Self> {
        match u8::load(bytes)? {
            0 => Some(Start::Linux(BootImage::load(bytes)?)),
            1 => Some(Start::Firmware(Firmware::load(bytes)?)),
            _ => None,
        }
    }
}

/// What a machine starts with and its hash, so that digests need not read it again.
#[derive(Clone, Debug)]
pub(crate) struct Boot {
    pub(crate) start: Start,
    hash: [u8; 32],
}

impl Boot {
    pub(crate) fn new(start: Start) -> Boot {
        let mut bytes = Vec::new();
        start.save(&mut bytes);
        Boot { hash: *blake3::hash(&bytes).as_bytes(), start }
    }

    /// Whether the machine that it belongs to could be started with it.
    fn fits(&self, memory: &Memory) -> bool {
        match &self.start {
            Start::Linux(image) => linux::check(memory, image).is_ok(),
            Start::Firmware(firmware) => firmware.check().is_ok(),
        }
    }
}

impl Machine {
    /// A hash of the whole state: configuration, CPU, chips, RAM. Outputs that wait are not part of it.
    pub fn digest(&mut self) -> [u8; 32] {
        self.absorb_dirty();
        let pages: Vec<u32> = marked(&self.stale);
        self.ram.update(self.cpu.memory(), &pages);
        pages.iter().for_each(|page| self.stale[*page as usize] = false);
        let mut state = Vec::new();
        self.config.save(&mut state);
        self.boot.as_ref().map(|boot| boot.hash).save(&mut state);
        self.save_running(&mut state);
        state.extend_from_slice(&self.ram.bytes());
        *blake3::hash(&state).as_bytes()
    }

    pub(crate) fn save_running(&self, out: &mut Vec<u8>) {
        self.cpu.save(out);
        self.board.chips.save(out);
        self.board.drives.save(out);
    }

    /// Registers, chips and drives, part by part with names: what a report tells of two machines that differ.
    pub fn parts(&self) -> Vec<Part> {
        let mut parts = Vec::new();
        self.cpu.state().parts("", &mut parts);
        // The manual has registers in capitals.
        parts.iter_mut().for_each(|(name, _)| name.make_ascii_uppercase());
        self.board.chips.parts("", &mut parts);
        let mut drives = Vec::new();
        self.board.drives.save(&mut drives);
        parts.push(("drives".into(), drives));
        parts
    }

    /// Appends everything but RAM and the outputs that wait: drain them first.
    pub fn save(&self, out: &mut Vec<u8>) {
        self.save_head(out);
        self.save_running(out);
        self.board.drives.save_answers(out);
    }

    fn save_head(&self, out: &mut Vec<u8>) {
        FORMAT.save(out);
        self.config.save(out);
        self.boot.is_some().save(out);
        if let Some(boot) = &self.boot {
            boot.start.save(out);
        }
    }

    /// Becomes the machine that was saved; RAM comes page by page through [`Machine::set_ram_page`].
    ///
    /// # Errors
    /// [`MachineError::Malformed`] or [`MachineError::OtherMemory`]; the machine must then not be run.
    pub fn load(&mut self, bytes: &[u8]) -> Result<(), MachineError> {
        let mut bytes = bytes;
        let (config, boot) = load_head(&mut bytes).ok_or(MachineError::Malformed)?;
        if config.memory_bytes != self.config.memory_bytes {
            let (saved, own) = (config.memory_bytes, self.config.memory_bytes);
            return Err(MachineError::OtherMemory { saved, own });
        }
        let shape = |config: &Config| (config.drives.clone(), config.nics.clone(), config.video);
        if shape(&config) != shape(&self.config) {
            return Err(MachineError::OtherDevices);
        }
        let boot = boot.map(Boot::new);
        if boot.as_ref().is_some_and(|boot| !boot.fits(self.cpu.memory())) {
            return Err(MachineError::Malformed);
        }
        if !self.cpu.load(&mut bytes) || self.cpu.count().0 > MAXIMUM_COUNT {
            return Err(MachineError::Malformed);
        }
        let chips = Chips::load(&mut bytes).filter(|chips| chips.rtc.is_plausible() && chips.fit(&config));
        let chips = chips.ok_or(MachineError::Malformed)?;
        self.board.drives.load(&mut bytes).filter(|()| bytes.is_empty()).ok_or(MachineError::Malformed)?;
        self.off = chips.power.is_off();
        self.board.outputs.drain();
        self.board.replace_chips(self.cpu.memory_mut(), chips);
        self.config = config;
        self.boot = boot.map(Arc::new);
        Ok(())
    }

    /// One page of RAM; `index` is below [`Machine::ram_pages`].
    pub fn ram_page(&self, index: usize) -> &[u8; 4096] {
        self.cpu.memory().page(index)
    }

    /// Replaces a page of RAM; `index` is below [`Machine::ram_pages`].
    pub fn set_ram_page(&mut self, index: usize, bytes: &[u8; 4096]) {
        let memory = self.cpu.memory_mut();
        if memory.page(index) != bytes {
            memory.set_page(index, bytes);
        }
    }

    /// Pages of RAM.
    pub fn ram_pages(&self) -> usize {
        self.cpu.memory().pages()
    }

    /// Pages of RAM written since the last call, ascending; all of them at first.
    pub fn take_dirty(&mut self) -> Vec<u32> {
        self.absorb_dirty();
        let pages = marked(&self.dirty);
        self.dirty.fill(false);
        pages
    }

    fn absorb_dirty(&mut self) {
        for page in self.cpu.take_dirty() {
            self.stale[page as usize] = true;
            self.dirty[page as usize] = true;
        }
    }
}

fn load_head(bytes: &mut &[u8]) -> Option<(Config, Option<Start>)> {
    if u32::load(bytes)? != FORMAT {
        return None;
    }
    Some((Config::load(bytes)?, Option::load(bytes)?))
}

fn marked(pages: &[bool]) -> Vec<u32> {
    (0u32..).zip(pages).filter(|(_, marked)| **marked).map(|(page, _)| page).collect()
}
