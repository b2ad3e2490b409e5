//! Boots a kernel with an IDE disk and a CD-ROM drive, both in memory: `ide KERNEL INITRD COMMAND-LINE DISK DISC AFTER
//! [BROKEN]`; or a BIOS, if KERNEL is one (`*.bin`). What the guest left on the disk is written to the file AFTER; the
//! disk's sector BROKEN cannot be read or written. A debugging aid; the product is the `ftemu` program.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use ftemu_devices::config::{Attachment, DriveConfig, DriveKind};
use ftemu_devices::firmware::Firmware;
use ftemu_devices::storage::{Request, SECTOR_BYTES, Storage, StorageFault};
use ftemu_devices::{Config, Icount, Input, Machine, Output, Ran};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Instant;

const SLICE: u64 = 1 << 24;

/// A drive in one row of bytes, which the end of the program can look at.
#[derive(Default)]
struct Image {
    bytes: Arc<Mutex<Vec<u8>>>,
    broken: Option<u64>,
    answers: BTreeMap<u64, Vec<u8>>,
}

impl Image {
    fn read(path: &str) -> std::io::Result<Image> {
        let mut bytes = std::fs::read(path)?;
        bytes.resize(bytes.len().next_multiple_of(SECTOR_BYTES as usize), 0);
        Ok(Image { bytes: Arc::new(Mutex::new(bytes)), ..Image::default() })
    }
}

impl Storage for Image {
    fn sectors(&self) -> u64 {
        self.bytes.lock().expect("one thread").len() as u64 / SECTOR_BYTES
    }

    fn submit(&mut self, ticket: u64, request: &Request) {
        let touched = request.sectors().map_or(0..0, |(sector, count)| sector..sector + count);
        if self.broken.is_some_and(|broken| touched.contains(&broken)) {
            return;
        }
        let mut image = self.bytes.lock().expect("one thread");
        let place = |sector: u64, length: usize| {
            let start = (sector * SECTOR_BYTES) as usize;
            start..start + length
        };
        let mut answer = Vec::new();
        match request {
            Request::Read { sector, count } => {
                answer = image[place(*sector, *count as usize * SECTOR_BYTES as usize)].to_vec();
            }
            Request::Write { sector, bytes } => image[place(*sector, bytes.len())].copy_from_slice(bytes),
            Request::Flush => {}
            Request::Discard { sector, count } => image[place(*sector, (*count * SECTOR_BYTES) as usize)].fill(0),
        }
        self.answers.insert(ticket, answer);
    }

    fn finish(&mut self, ticket: u64) -> Result<Vec<u8>, StorageFault> {
        self.answers.remove(&ticket).ok_or_else(|| StorageFault("the sector is broken".into()))
    }
}

fn drive(channel: u8, kind: DriveKind, image: &Image) -> DriveConfig {
    let attachment = Attachment::Ide { channel, unit: 0 };
    let read_only = kind == DriveKind::Cdrom;
    DriveConfig { attachment, kind, sectors: image.sectors(), serial: format!("FT-{channel}"), read_only }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, initrd, line, disk, disc, after, rest @ ..] = &arguments[..] else {
        return Err("usage: ide KERNEL INITRD COMMAND-LINE DISK DISC AFTER [BROKEN]".into());
    };
    let (mut disk, disc) = (Image::read(disk)?, Image::read(disc)?);
    disk.broken = rest.first().map(|sector| sector.parse()).transpose()?;
    let bytes = disk.bytes.clone();
    let drives = vec![drive(0, DriveKind::Disk, &disk), drive(1, DriveKind::Cdrom, &disc)];
    let mut machine = Machine::new(&Config { drives, ..Config::default() })?;
    machine.attach(0, Box::new(disk))?;
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
    std::fs::write(after, &*bytes.lock().expect("one thread"))?;
    Ok(())
}
