//! The guest from its files.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Error, Result, anyhow, ensure};
use ftemu_devices::config::BootFrom;
use ftemu_devices::{Config, Machine, MachineError};
use serde_json::json;

use crate::arguments::RunArguments;
use crate::drives::Drives;
use crate::journal::Journal;
use crate::units::show_bytes;
use crate::{firmware, host};

/// A machine with the drives given and what the user wants it to start, ready for its first instruction.
///
/// # Errors
/// When a file cannot be read or is not what it should be, or the memory cannot be had.
pub fn load(arguments: &RunArguments, drives: &Drives, journal: &Journal) -> Result<Machine> {
    let configs = drives.configs();
    let from_network = arguments.boot.0.first() == Some(&BootFrom::Network) && !arguments.side.network.net.is_empty();
    ensure!(
        arguments.kernel.is_some() || !configs.is_empty() || from_network,
        "there is nothing to start: name a disk image (ftemu run disk.img), a CD (--cdrom FILE), a kernel (--kernel FILE) or a \
         network (--boot n --net ...); \
         `ftemu image build debian --output debian.img` makes a disk to begin with"
    );
    let mut seed = [0; 32];
    for bytes in seed.chunks_exact_mut(8) {
        bytes.copy_from_slice(&host::random()?.to_le_bytes());
    }
    // Addresses made from this are the same at every start, and others for another guest.
    let name = format!("{} {:?} {:?}", host::name(), arguments.drives, arguments.kernel);
    let nics = arguments.cards.cards(&arguments.side.network, &name);
    let (option_roms, note) = match arguments.kernel {
        Some(_) => (Vec::new(), None),
        None => firmware::option_roms(&nics, &arguments.boot),
    };
    if let Some(note) = note {
        journal.say("no_network_boot", note, json!({}));
    }
    let config = Config {
        memory_bytes: arguments.memory,
        epoch_seconds: host::unix_ns() / 1_000_000_000,
        seed,
        drives: configs,
        video: arguments.kernel.is_none() || arguments.side.screen.vnc.is_some(),
        boot_order: arguments.boot.0.clone(),
        nics,
        option_roms,
        ..Config::default()
    };
    let mut machine = Machine::new(&config).map_err(|error| match error {
        MachineError::Host(error) if error.kind() == ErrorKind::OutOfMemory => anyhow!(
            "this host has not the memory for a guest with --memory {}: give less, or end other programs",
            show_bytes(config.memory_bytes)
        ),
        error => Error::new(error).context("cannot make the guest's machine"),
    })?;
    arguments.without.apply(machine.cpu_mut())?;
    for (drive, storage) in (0u8..).zip(drives.handles()) {
        machine.attach(drive, storage).context("cannot attach a drive")?;
    }
    match &arguments.kernel {
        Some(kernel) => load_kernel(&mut machine, kernel, arguments)?,
        None => {
            let firmware = firmware::load(arguments.firmware.as_deref())?;
            machine.load_firmware(firmware).context("cannot load the firmware")?;
        }
    }
    Ok(machine)
}

fn load_kernel(machine: &mut Machine, path: &Path, arguments: &RunArguments) -> Result<()> {
    let kernel = read(path, "kernel")?;
    let initrd = arguments.initrd.as_deref().map(|path| read(path, "initrd")).transpose()?;
    let loaded = machine.load_linux(&kernel, initrd.as_deref(), &arguments.append);
    loaded.with_context(|| format!("cannot load {}", path.display()))
}

fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read the {what} {}", path.display()))
}
