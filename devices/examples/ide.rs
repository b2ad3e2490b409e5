//! Boots a kernel with an IDE disk and a CD-ROM drive, both in memory: `ide KERNEL INITRD COMMAND-LINE DISK DISC AFTER
//! [BROKEN]`; or a BIOS, if KERNEL is one (`*.bin`). What the guest left on the disk is written to the file AFTER; the
//! disk's sector BROKEN cannot be read or written. A debugging aid; the product is the `ftemu` program.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use ftemu_devices::config::{Attachment, DriveConfig, DriveKind};
use ftemu_devices::firmware::Firmware;
use ftemu_devices::storage::{MemoryStorage, Storage};
use ftemu_devices::{Config, Icount, Input, Machine, Output, Ran};
use std::io::Write;
use std::time::Instant;

const SLICE: u64 = 1 << 24;

fn read(path: &str) -> std::io::Result<MemoryStorage> {
    Ok(MemoryStorage::of(&std::fs::read(path)?))
}

fn drive(channel: u8, kind: DriveKind, image: &MemoryStorage) -> DriveConfig {
    let attachment = Attachment::Ide { channel, unit: 0 };
    let read_only = kind == DriveKind::Cdrom;
    DriveConfig { attachment, kind, sectors: image.sectors(), serial: format!("FT-{channel}"), read_only }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, initrd, line, disk, disc, after, rest @ ..] = &arguments[..] else {
        return Err("usage: ide KERNEL INITRD COMMAND-LINE DISK DISC AFTER [BROKEN]".into());
    };
    let (disk, disc) = (read(disk)?, read(disc)?);
    if let Some(sector) = rest.first() {
        disk.set_broken(sector.parse()?, true);
    }
    let drives = vec![drive(0, DriveKind::Disk, &disk), drive(1, DriveKind::Cdrom, &disc)];
    let mut machine = Machine::new(&Config { drives, ..Config::default() })?;
    machine.attach(0, Box::new(disk.share()))?;
    machine.attach(1, Box::new(disc))?;
    if kernel.ends_with(".bin") {
        machine.load_firmware(Firmware { bios: std::fs::read(kernel)?, video_bios: Vec::new() })?;
    } else {
        machine.load_linux(&std::fs::read(kernel)?, Some(&std::fs::read(initrd)?), line)?;
    }
    let start = Instant::now();
    loop {
        let ran = machine.run(Icount(machine.count().0 + SLICE));
        for emitted in machine.drain() {
            match emitted.output {
                Output::Serial { bytes, .. } => std::io::stdout().write_all(&bytes)?,
                other => eprintln!("[{other:?} at {}]", emitted.count.0),
            }
        }
        std::io::stderr().write_all(&machine.take_debug())?;
        std::io::stdout().flush()?;
        match ran {
            Ran::Idle { deadline_ns: Some(_) } => machine.skip_idle(),
            Ran::Idle { deadline_ns: None } | Ran::PoweredOff => break,
            Ran::DriveFault { drive, ticket } => machine.apply(&Input::DriveFault { drive, ticket }),
            Ran::Count | Ran::Output => {}
        }
    }
    let (count, seconds) = (machine.count().0, start.elapsed().as_secs_f64());
    eprintln!("[{count} instructions in {seconds:.1} s, {} ms of virtual time]", machine.now_ns() / 1_000_000);
    eprintln!("[machine {}]", machine.digest().map(|byte| format!("{byte:02x}")).concat());
    std::fs::write(after, disk.bytes())?;
    Ok(())
}
