//! A PC from its reset vector on: SeaBIOS finds the disk, a boot sector of ours runs in real mode, reads with the BIOS's
//! help, resets the machine, and switches it off the second time. Twice the same, however the run is cut, and across a
//! checkpoint. Needs Debian's `seabios` (`scripts/setup`).
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use ftemu_cpu::Icount;
use ftemu_devices::config::{Attachment, DriveConfig, DriveKind};
use ftemu_devices::storage::MemoryStorage;
use ftemu_devices::{Config, Firmware, Machine, Output, Ran};

const BIOS: &str = "/usr/share/seabios/bios-256k.bin";
const VIDEO_BIOS: &str = "/usr/share/seabios/vgabios-stdvga.bin";
const SECTORS: u64 = 2048;
const MESSAGE: &[u8] = b"first light\n\0";
/// No start takes so many instructions.
const ENOUGH: u64 = 4_000_000_000;

/// Reads sector 2 with INT 13h and sends it to COM1 up to a zero byte. If CMOS byte 50h is 0: sets it and pulses the
/// reset line; otherwise S5.
const BOOT_SECTOR: &[u8] = &[
    0x31, 0xc0, // xor ax, ax
    0x8e, 0xd8, // mov ds, ax
    0x8e, 0xc0, // mov es, ax
    0xb8, 0x01, 0x02, // mov ax, 0201h
    0xb9, 0x02, 0x00, // mov cx, 2
    0xb6, 0x00, // mov dh, 0
    0xbb, 0x00, 0x7e, // mov bx, 7e00h
    0xcd, 0x13, // int 13h
    0x72, 0xfe, // jc $
    0xbe, 0x00, 0x7e, // mov si, 7e00h
    0xac, // lodsb
    0x84, 0xc0, // test al, al
    0x74, 0x06, // jz +6
    0xba, 0xf8, 0x03, // mov dx, 3f8h
    0xee, // out dx, al
    0xeb, 0xf5, // jmp lodsb
    0xb0, 0x50, // mov al, 50h
    0xe6, 0x70, // out 70h, al
    0xe4, 0x71, // in al, 71h
    0x84, 0xc0, // test al, al
    0x75, 0x0b, // jnz +11
    0xb0, 0x01, // mov al, 1
    0xe6, 0x71, // out 71h, al
    0xb0, 0xfe, // mov al, feh
    0xe6, 0x64, // out 64h, al
    0xf4, // hlt
    0xeb, 0xfd, // jmp hlt
    0xba, 0x04, 0x06, // mov dx, 604h
    0xb8, 0x00, 0x34, // mov ax, 3400h
    0xef, // out dx, ax
    0xf4, // hlt
];

fn config() -> Config {
    let disk = DriveConfig {
        attachment: Attachment::Ide { channel: 0, unit: 0 },
        kind: DriveKind::Disk,
        sectors: SECTORS,
        serial: "1".into(),
        read_only: false,
    };
    Config { memory_bytes: 32 << 20, video: true, drives: vec![disk], ..Config::default() }
}

fn disk() -> Box<MemoryStorage> {
    let mut image = vec![0; SECTORS as usize * 512];
    image[..BOOT_SECTOR.len()].copy_from_slice(BOOT_SECTOR);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    image[512..512 + MESSAGE.len()].copy_from_slice(MESSAGE);
    Box::new(MemoryStorage::of(&image))
}

fn machine() -> Machine {
    let mut machine = Machine::new(&config()).expect("a machine");
    machine.attach(0, disk()).expect("a disk of its size");
    machine.load_firmware(firmware()).expect("SeaBIOS fits");
    machine
}

fn firmware() -> Firmware {
    let read = |path| std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}: install seabios"));
    Firmware { bios: read(BIOS), video_bios: read(VIDEO_BIOS) }
}

/// What left the machine, serial bytes apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    console: Vec<u8>,
    others: Vec<Output>,
}

/// Runs in slices until the machine is off, or up to a count.
fn run(machine: &mut Machine, seen: &mut Seen, slice: u64, until: u64) {
    while machine.count().0 < until {
        let ran = machine.run(Icount(until.min(machine.count().0 + slice)));
        for emitted in machine.drain() {
            match emitted.output {
                Output::Serial { port: 0, bytes } => seen.console.extend(bytes),
                other => seen.others.push(other),
            }
        }
        match ran {
            Ran::Idle { deadline_ns: Some(_) } => machine.skip_idle(),
            Ran::PoweredOff => return,
            Ran::Count | Ran::Output => {}
            other => panic!("{other:?} at {:?}", machine.count()),
        }
    }
}

#[test]
fn seabios_starts_a_disk_resets_and_switches_off_the_same_twice() {
    let (mut first, mut first_seen) = (machine(), Seen::default());
    run(&mut first, &mut first_seen, 50_000_000, ENOUGH);
    assert_eq!(first_seen.others, [Output::Reset, Output::PowerOff]);
    let said = String::from_utf8_lossy(&first_seen.console).into_owned();
    assert_eq!(said.matches("first light\n").count(), 2, "{said}");

    let (mut second, mut second_seen) = (machine(), Seen::default());
    let middle = first.count().0 / 3;
    run(&mut second, &mut second_seen, 1_234_567, middle);
    let mut third = copy(&mut second);
    assert_eq!(third.digest(), second.digest());
    run(&mut third, &mut second_seen, 7_654_321, ENOUGH);
    assert_eq!((third.count(), third.digest()), (first.count(), first.digest()));
    assert_eq!(first_seen, second_seen);
}

/// The virtio disk is configured first, so firmware tries it first; the IDE disk has no boot sector.
#[test]
fn seabios_starts_the_first_drive_of_the_configuration() {
    let mut config = config();
    let ide = config.drives[0].clone();
    config.drives = vec![DriveConfig { attachment: Attachment::Virtio, ..ide.clone() }, ide];
    let mut machine = Machine::new(&config).expect("a machine");
    machine.attach(0, disk()).expect("a disk of its size");
    machine.attach(1, Box::new(MemoryStorage::new(SECTORS))).expect("a disk of its size");
    machine.load_firmware(firmware()).expect("SeaBIOS fits");
    let mut seen = Seen::default();
    run(&mut machine, &mut seen, 50_000_000, ENOUGH);
    let said = String::from_utf8_lossy(&seen.console).into_owned();
    assert_eq!(said.matches("first light\n").count(), 2, "{said}");
    assert_eq!(seen.others, [Output::Reset, Output::PowerOff]);
}

/// Another machine with the same state, by what a checkpoint holds.
fn copy(machine: &mut Machine) -> Machine {
    let mut state = Vec::new();
    machine.save(&mut state);
    let mut other = Machine::new(&config()).expect("a machine");
    other.attach(0, disk()).expect("a disk of its size");
    other.load(&state).expect("the state loads");
    for page in 0..machine.ram_pages() {
        other.set_ram_page(page, machine.ram_page(page));
    }
    other
}
