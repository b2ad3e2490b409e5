//! Any bytes as a disk image: opened, checked, imported, read and written. Errors are fine; nothing else is.
#![no_main]

use std::io::Write;

use ftemu_images::{Disk, Format, Options, import, qcow2};
use libfuzzer_sys::fuzz_target;

/// Disks that a damaged header makes larger than this are not converted.
const LARGEST: u64 = 64 << 20;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("image");
    std::fs::File::create(&path).and_then(|mut file| file.write_all(bytes)).expect("a file");
    let _ = qcow2::check(&path, &mut |_, _| {});
    if import::summary(&path).is_ok_and(|summary| summary.bytes <= LARGEST) {
        let _ = import::convert(&path, &folder.path().join("raw"), Format::Raw, &mut |_, _| {});
    }
    if let Ok(mut disk) = Disk::open(&path, &Options::default()) {
        let mut piece = vec![0; disk.bytes().min(1 << 16) as usize];
        let last = disk.bytes() - piece.len() as u64;
        for offset in [0, last / 2, last] {
            let _ = disk.read_at(offset, &mut piece);
            let _ = disk.write_at(offset, &piece);
            let _ = disk.discard(offset, piece.len() as u64);
        }
        let _ = disk.flush();
    }
});
