//! Disk images of every format: any bytes, and good images with bytes changed where it matters.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use ftemu_images::{Disk, Format, Options, import, qcow2};

/// Disks that a damaged header makes larger than this are not converted.
const LARGEST: u64 = 8 << 20;
/// Bytes of the good images' disks.
const DISK: usize = 256 << 10;
/// Changes of one input at most.
const CHANGES: usize = 64;

/// qemu-img's names and options.
const KINDS: [(&str, &str); 9] = [
    ("raw", ""),
    ("qcow2", "cluster_size=512"),
    ("qcow2", "compat=0.10,cluster_size=4096,refcount_bits=16"),
    ("vmdk", "subformat=monolithicSparse"),
    ("vmdk", "subformat=streamOptimized"),
    ("vpc", "subformat=dynamic,force_size=on"),
    ("vpc", "subformat=fixed,force_size=on"),
    ("vhdx", "block_size=1048576"),
    ("vdi", ""),
];

/// Extents in a descriptor.
const DESCRIBED: [&str; 3] = [
    "createType=\"monolithicFlat\"\nRW 128 FLAT \"flat\" 0\n",
    "createType=\"twoGbMaxExtentSparse\"\nRW 512 SPARSE \"sparse\"\nRW 512 SPARSE \"sparse\"\n",
    "createType=\"twoGbMaxExtentFlat\"\nRW 64 FLAT \"flat\" 64\nRW 8 ZERO\nRDONLY 8 FLAT \"flat\" 3\n",
];

/// A good image, and where its bytes are not zero.
struct Good {
    bytes: Vec<u8>,
    telling: Vec<usize>,
}

static GOOD: LazyLock<Vec<Good>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let raw = folder.path().join("raw");
    let mut disk = vec![0; DISK];
    for (place, byte) in disk.iter_mut().enumerate().filter(|(place, _)| place % 70_000 < 1500) {
        *byte = (place * 31) as u8;
    }
    fs::write(&raw, disk).expect("a file");
    KINDS.iter().map(|(kind, options)| good(&raw, &folder.path().join("good"), kind, options)).collect()
});

/// Has qemu-img (Debian's package qemu-utils) make an image.
fn good(raw: &Path, path: &Path, kind: &str, options: &str) -> Good {
    let mut command = Command::new("qemu-img");
    command.args(["convert", "-q", "-f", "raw", "-O", kind]);
    if !options.is_empty() {
        command.args(["-o", options]);
    }
    let status = command.arg(raw).arg(path).status().expect("qemu-img is here; scripts/setup installs it");
    assert!(status.success(), "qemu-img makes no {kind}");
    let bytes = fs::read(path).expect("what was made");
    let mut telling: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place] != 0).collect();
    // Of each sector's first words; the disk's own bytes are not interesting.
    telling.retain(|place| place % 512 < 64 || *place < 4096);
    Good { bytes, telling }
}

/// Any bytes as an image.
///
/// # Panics
/// When something is broken.
pub fn image(bytes: &[u8]) {
    let (folder, path) = place();
    fs::write(&path, bytes).expect("a file");
    handle(&path);
    drop(folder);
}

/// A good image with changes of four bytes each: one of the bytes that are not zero, how far from it, what it becomes. The
/// first byte says which image.
///
/// # Panics
/// When something is broken.
pub fn damaged(bytes: &[u8]) {
    let Some((first, changes)) = bytes.split_first() else { return };
    let good = &GOOD[usize::from(first & 15) % GOOD.len()];
    let mut image = good.bytes.clone();
    for [low, high, distance, value] in changes.as_chunks().0.iter().take(CHANGES) {
        let number = usize::from(u16::from_le_bytes([*low, *high]));
        let near = good.telling[number % good.telling.len()];
        let at = (near + usize::from(distance & 15)).saturating_sub(8);
        match image.get_mut(at) {
            Some(byte) if distance & 0xf0 != 0xf0 => *byte = *value,
            _ => image.truncate(at),
        }
    }
    let (folder, path) = place();
    fs::write(&path, image).expect("a file");
    handle(&path);
    drop(folder);
}

/// Descriptors of a VMDK in several files, with bytes changed or put in between: where, what, and how often. The first byte says
/// which one.
///
/// # Panics
/// When something is broken.
pub fn descriptor(bytes: &[u8]) {
    let Some((first, changes)) = bytes.split_first() else { return };
    let extents = DESCRIBED[usize::from(*first) % DESCRIBED.len()];
    let mut text =
        format!("# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n{extents}").into_bytes();
    for [at, value, count] in changes.as_chunks().0.iter().take(CHANGES) {
        // Behind what tells the format.
        let at = 22 + usize::from(*at) % (text.len() - 21);
        match count {
            0 => text.truncate(at),
            1..=127 => text.get_mut(at).into_iter().for_each(|byte| *byte = *value),
            _ => drop(text.splice(at..at, std::iter::repeat_n(*value, usize::from(count - 127)))),
        }
    }
    let (folder, path) = place();
    fs::write(folder.path().join("flat"), [7; 64 << 10]).expect("a file");
    fs::write(folder.path().join("sparse"), &GOOD[3].bytes).expect("a file");
    fs::write(&path, text).expect("a file");
    handle(&path);
    drop(folder);
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image");
    (folder, path)
}

/// All that the program does to an image. Errors are fine; nothing else is.
fn handle(path: &Path) {
    let _ = qcow2::header(path);
    let _ = qcow2::check(path, &mut |_, _| {});
    if import::summary(path).is_ok_and(|summary| summary.bytes <= LARGEST) {
        let to = path.with_extension("raw");
        let _ = import::convert(path, &to, Format::Raw, &mut |_, _| {});
    }
    if let Ok(mut disk) = Disk::open(path, &Options::default()) {
        exercise(&mut disk);
    }
    if let Ok(mut disk) = Disk::open(path, &Options { snapshot: true, ..Options::default() }) {
        exercise(&mut disk);
    }
}

/// Reads and writes; what a guest has written it reads again.
fn exercise(disk: &mut Disk) {
    let length = disk.bytes().min(1 << 13) as usize;
    let (mut piece, last) = (vec![0; length], disk.bytes() - length as u64);
    for offset in [0, last / 2, last] {
        let _ = disk.read_at(offset, &mut piece);
        let _ = disk.write_at(offset, &piece);
        let _ = disk.discard(offset, length as u64);
    }
    assert!(disk.read_at(last + 1, &mut piece).is_err(), "past its end");
    let _ = disk.flush();
}
