//! The guest from its files.

use std::path::Path;

use anyhow::{Context, Result};
use ftemu_devices::{Config, Machine};

use crate::arguments::RunArguments;
use crate::host;

/// A machine with the kernel and initrd that the user names, ready for its first instruction.
///
/// # Errors
/// When a file cannot be read or is not what it should be, or the memory cannot be had.
pub fn load(arguments: &RunArguments) -> Result<Machine> {
    let kernel = read(&arguments.kernel, "kernel")?;
    let initrd = arguments.initrd.as_deref().map(|path| read(path, "initrd")).transpose()?;
    let mut seed = [0; 32];
    for bytes in seed.chunks_exact_mut(8) {
        bytes.copy_from_slice(&host::random()?.to_le_bytes());
    }
    let epoch_seconds = host::unix_ns() / 1_000_000_000;
    // Addresses made from this are the same at every start, and others for another guest.
    let name = format!("{} {}", host::name(), arguments.kernel.display());
    let nics = arguments.cards.cards(&arguments.side.network, &name);
    let config = Config { memory_bytes: arguments.memory, epoch_seconds, seed, nics, ..Config::default() };
    let mut machine = Machine::new(&config).context("cannot make the guest's machine")?;
    let loaded = machine.load_linux(&kernel, initrd.as_deref(), &arguments.append);
    loaded.with_context(|| format!("cannot load {}", arguments.kernel.display()))?;
    Ok(machine)
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the {what} {}", path.display()))
}
