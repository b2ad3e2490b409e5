//! Boots a kernel with a virtio disk, network card, source of entropy and console, with a tiny peer at the other end of
//! the cable that answers ARP and ping: `virtio KERNEL INITRD COMMAND-LINE DISK [SLICE]`. The disk is a file that is read
//! at the start and written back at the end; a run returns every `SLICE` instructions. If the kernel's name ends in
//! `.bin` it is a BIOS, which starts from the disk. A debugging aid; the product is the `ftemu` program.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use ftemu_devices::config::{Attachment, DriveConfig, DriveKind, NicConfig, NicModel};
use ftemu_devices::firmware::Firmware;
use ftemu_devices::storage::{MemoryStorage, Storage};
use ftemu_devices::{Config, Icount, Input, Machine, Output, Ran};
use std::io::Write;
use std::time::Instant;

const PEER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Answers ARP requests and pings, whoever is asked for.
fn answer(frame: &[u8]) -> Option<Vec<u8>> {
    let mut reply = frame.to_vec();
    reply.get_mut(..12)?.copy_from_slice(&[GUEST, PEER].concat());
    match frame.get(12..14)? {
        [8, 6] if frame.get(20..22)? == [0, 1] => {
            reply[21] = 2;
            reply[22..28].copy_from_slice(&PEER);
            reply[28..32].copy_from_slice(&frame[38..42]);
            reply[32..38].copy_from_slice(&GUEST);
            reply[38..42].copy_from_slice(&frame[28..32]);
        }
        [8, 0] if *frame.get(23)? == 1 && *frame.get(34)? == 8 => {
            reply[26..30].copy_from_slice(&frame[30..34]);
            reply[30..34].copy_from_slice(&frame[26..30]);
            reply[34] = 0;
            reply[36..38].fill(0);
            let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
            let sum = checksum(reply.get(34..14 + length)?);
            reply[36..38].copy_from_slice(&sum.to_be_bytes());
        }
        _ => return None,
    }
    Some(reply)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, initrd, line, disk, rest @ ..] = &arguments[..] else {
        return Err("usage: virtio KERNEL INITRD COMMAND-LINE DISK [SLICE]".into());
    };
    let slice: u64 = rest.first().map_or(Ok(1 << 24), |text| text.parse())?;
    let storage = MemoryStorage::of(&std::fs::read(disk)?);
    let sectors = storage.sectors();
    let config = Config {
        drives: vec![DriveConfig {
            attachment: Attachment::Virtio,
            kind: DriveKind::Disk,
            sectors,
            serial: "FT-0001".into(),
            read_only: false,
        }],
        nics: vec![NicConfig { model: NicModel::VirtioNet, mac: GUEST }],
        ..Config::default()
    };
    let mut machine = Machine::new(&config)?;
    machine.attach(0, Box::new(storage.share()))?;
    if kernel.ends_with(".bin") {
        machine.load_firmware(Firmware { bios: std::fs::read(kernel)?, video_bios: Vec::new() })?;
    } else {
        machine.load_linux(&std::fs::read(kernel)?, Some(&std::fs::read(initrd)?), line)?;
    }
    let start = Instant::now();
    let mut typed = false;
    loop {
        let ran = machine.run(Icount(machine.count().0 + slice));
        let mut inputs = Vec::new();
        for emitted in machine.drain() {
            match emitted.output {
                Output::Serial { port: 0, bytes } => std::io::stdout().write_all(&bytes)?,
                Output::Serial { port, bytes } => {
                    println!("[port {port}: {:?}]", String::from_utf8_lossy(&bytes));
                    if !typed {
                        inputs.push(Input::Serial { port, bytes: b"typed at the console\n".to_vec() });
                    }
                    typed = true;
                }
                Output::Frame { nic, bytes } => {
                    inputs.extend(answer(&bytes).map(|bytes| Input::Frame { nic, bytes }));
                }
                other => eprintln!("[{other:?} at {}]", emitted.count.0),
            }
        }
        std::io::stderr().write_all(&machine.take_debug())?;
        std::io::stdout().flush()?;
        inputs.iter().for_each(|input| machine.apply(input));
        match ran {
            Ran::Idle { deadline_ns: Some(_) } if inputs.is_empty() => machine.skip_idle(),
            Ran::Idle { deadline_ns: None } if inputs.is_empty() => break,
            Ran::PoweredOff | Ran::DriveFault { .. } => break,
            Ran::Idle { .. } | Ran::Count | Ran::Output => {}
        }
    }
    let (count, seconds) = (machine.count().0, start.elapsed().as_secs_f64());
    std::fs::write(disk, storage.bytes())?;
    eprintln!("[{count} instructions in {seconds:.1} s, {} ms of virtual time]", machine.now_ns() / 1_000_000);
    eprintln!("[machine {}]", blake3::Hash::from(machine.digest()).to_hex());
    Ok(())
}
