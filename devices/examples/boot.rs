//! Boots a machine and prints what its first serial port sends:
//! `boot KERNEL [INITRD [COMMAND LINE]]` or `boot --firmware BIOS [--video-bios VGABIOS] [--disk IMAGE | --cdrom IMAGE]...`.
//! A debugging aid; the product is the `ftemu` program. Images are never written to: what the guest writes is kept in memory.
//!
//! `--debug` prints what firmware says to port 402h, `--trace` where the CPU is, `--seconds N` stops after so long,
//! `--picture FILE` writes the screen as PPM at the end; `--restart MS` presses Ctrl-Alt-Del at a virtual time,
//! `--power-button MS` the power button.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use ftemu_devices::config::{Attachment, BootFrom, DriveConfig, DriveKind, NicConfig, NicModel};
use ftemu_devices::storage::{Request, Storage, StorageFault};
use ftemu_devices::{Config, Firmware, Icount, Input, Machine, Output, Ran};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const SLICE: u64 = 1 << 24;

#[derive(Default)]
struct Arguments {
    config: Config,
    firmware: Option<String>,
    video_bios: Option<String>,
    images: Vec<Overlay>,
    plain: Vec<String>,
    debug: bool,
    trace: bool,
    seconds: Option<u64>,
    picture: Option<String>,
    restart_ms: Option<u64>,
    power_button_ms: Option<u64>,
}

/// Linux input event codes of Ctrl, Alt and Delete.
const CTRL_ALT_DELETE: [u16; 3] = [29, 56, 111];

fn main() -> Result<(), Failure> {
    let mut arguments = Arguments::parse()?;
    let mut machine = Machine::new(&arguments.config)?;
    for (drive, image) in (0..).zip(std::mem::take(&mut arguments.images)) {
        machine.attach(drive, Box::new(image))?;
    }
    match (&arguments.firmware, &arguments.plain[..]) {
        (Some(bios), _) => {
            let video_bios = arguments.video_bios.as_ref().map(std::fs::read).transpose()?.unwrap_or_default();
            machine.load_firmware(Firmware { bios: std::fs::read(bios)?, video_bios })?;
        }
        (None, [kernel, rest @ ..]) => {
            let initrd = rest.first().map(std::fs::read).transpose()?;
            let line = rest.get(1).map_or("console=ttyS0 earlyprintk=ttyS0 panic=-1", String::as_str);
            machine.load_linux(&std::fs::read(kernel)?, initrd.as_deref(), line)?;
        }
        (None, []) => return Err("give a kernel, or --firmware".into()),
    }
    let start = Instant::now();
    run(&mut machine, &mut arguments, start)?;
    let seconds = start.elapsed().as_secs_f64();
    let count = machine.count().0;
    eprintln!("[{count} instructions in {seconds:.1} s, {:.0} MIPS]", count as f64 / seconds / 1e6);
    if let (Some(path), Some(vga)) = (&arguments.picture, &machine.chips().vga) {
        let image = vga.render(machine.cpu().memory());
        let mut file = format!("P6 {} {} 255\n", image.width, image.height).into_bytes();
        file.extend(image.rgb);
        std::fs::write(path, file)?;
    }
    Ok(())
}

/// A file, and what was written since.
struct Overlay {
    file: File,
    sectors: BTreeMap<u64, Vec<u8>>,
    answers: BTreeMap<u64, Result<Vec<u8>, StorageFault>>,
}

impl Overlay {
    fn carry_out(&mut self, request: &Request) -> std::io::Result<Vec<u8>> {
        match request {
            Request::Read { sector, count } => {
                let mut bytes = vec![0; *count as usize * 512];
                self.file.read_exact_at(&mut bytes, sector * 512)?;
                for (place, written) in self.sectors.range(*sector..sector + u64::from(*count)) {
                    bytes[(place - sector) as usize * 512..][..512].copy_from_slice(written);
                }
                return Ok(bytes);
            }
            Request::Write { sector, bytes } => {
                self.sectors.extend((*sector..).zip(bytes.chunks(512).map(<[u8]>::to_vec)));
            }
            Request::Discard { sector, count } => {
                self.sectors.extend((*sector..sector + count).map(|sector| (sector, vec![0; 512])));
            }
            Request::Flush => {}
        }
        Ok(Vec::new())
    }
}

impl Storage for Overlay {
    fn sectors(&self) -> u64 {
        self.file.metadata().map_or(0, |metadata| metadata.len() / 2048 * 4)
    }

    fn submit(&mut self, ticket: u64, request: &Request) {
        let answer = self.carry_out(request).map_err(|error| StorageFault(error.to_string()));
        self.answers.insert(ticket, answer);
    }

    fn finish(&mut self, ticket: u64) -> Result<Vec<u8>, StorageFault> {
        self.answers.remove(&ticket).unwrap_or_else(|| Err(StorageFault("nothing was asked".into())))
    }
}

impl Arguments {
    fn parse() -> Result<Arguments, Failure> {
        let mut arguments = Arguments::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} wants a value"));
            match word.as_str() {
                "--firmware" => arguments.firmware = Some(value()?),
                "--video-bios" => {
                    arguments.video_bios = Some(value()?);
                    arguments.config.video = true;
                }
                "--disk" => arguments.add_drive(DriveKind::Disk, &value()?)?,
                "--cdrom" => arguments.add_drive(DriveKind::Cdrom, &value()?)?,
                "--memory" => arguments.config.memory_bytes = value()?.parse::<u64>()? << 20,
                "--nic" => {
                    let model = if value()? == "virtio" { NicModel::VirtioNet } else { NicModel::E1000 };
                    arguments.config.nics.push(NicConfig { model, mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56] });
                }
                "--boot" => {
                    let from = if value()? == "d" { BootFrom::Cdrom } else { BootFrom::Disk };
                    arguments.config.boot_order.push(from);
                }
                "--seconds" => arguments.seconds = Some(value()?.parse()?),
                "--restart" => arguments.restart_ms = Some(value()?.parse()?),
                "--power-button" => arguments.power_button_ms = Some(value()?.parse()?),
                "--picture" => arguments.picture = Some(value()?),
                "--debug" => arguments.debug = true,
                "--trace" => arguments.trace = true,
                _ => arguments.plain.push(word),
            }
        }
        Ok(arguments)
    }

    fn add_drive(&mut self, kind: DriveKind, path: &str) -> Result<(), Failure> {
        let image = Overlay { file: File::open(path)?, sectors: BTreeMap::new(), answers: BTreeMap::new() };
        let sectors = (image.file.metadata()?.len() / 2048) * 4;
        let place = self.config.drives.len() as u8;
        self.config.drives.push(DriveConfig {
            attachment: Attachment::Ide { channel: place / 2, unit: place % 2 },
            kind,
            sectors,
            serial: format!("FT{place:05}"),
            read_only: kind == DriveKind::Cdrom,
        });
        self.images.push(image);
        Ok(())
    }
}

/// Presses what is to be pressed by now, once.
fn press(machine: &mut Machine, arguments: &mut Arguments) {
    let now_ms = machine.now_ns() / 1_000_000;
    if arguments.restart_ms.take_if(|at| *at <= now_ms).is_some() {
        for pressed in [true, false] {
            CTRL_ALT_DELETE.iter().for_each(|code| machine.apply(&Input::Key { code: *code, pressed }));
        }
    }
    if arguments.power_button_ms.take_if(|at| *at <= now_ms).is_some() {
        machine.apply(&Input::PowerButton);
    }
}

fn run(machine: &mut Machine, arguments: &mut Arguments, start: Instant) -> Result<(), Failure> {
    let mut last = Instant::now();
    loop {
        let ran = machine.run(Icount(machine.count().0 + SLICE));
        for emitted in machine.drain() {
            match emitted.output {
                Output::Serial { port: 0, bytes } => std::io::stdout().write_all(&bytes)?,
                Output::Serial { .. } | Output::Frame { .. } => {}
                other => eprintln!("[{other:?} at {}]", emitted.count.0),
            }
        }
        std::io::stdout().flush()?;
        press(machine, arguments);
        if arguments.debug {
            let said: Vec<u8> = machine.take_debug();
            std::io::stderr().write_all(&said)?;
        }
        if arguments.seconds.is_some_and(|limit| start.elapsed().as_secs() >= limit) {
            return Ok(());
        }
        if arguments.trace && last.elapsed() > Duration::from_secs(1) {
            last = Instant::now();
            let state = machine.cpu().state();
            let (count, now_ms) = (machine.count().0 >> 20, machine.now_ns() / 1_000_000);
            let (cs, rip) = (state.segments[1].selector, state.rip);
            eprintln!("[{count} Mi instructions, {now_ms} ms, {cs:04x}:{rip:x}, cr0 {:x}]", state.cr0);
        }
        match ran {
            Ran::Idle { deadline_ns: Some(_) } => machine.skip_idle(),
            Ran::Idle { deadline_ns: None } | Ran::PoweredOff => return Ok(()),
            Ran::DriveFault { drive, .. } => return Err(format!("drive {drive} cannot be served").into()),
            Ran::Count | Ran::Output => {}
        }
    }
}
