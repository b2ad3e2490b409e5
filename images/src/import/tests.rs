//! Images that qemu-img makes are read as what they were made from; damaged ones give errors, never more.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::testing::{Random, contents, qemu_img, telling};

const MIB: usize = 1 << 20;

/// qemu-img's options for each kind of image.
const KINDS: [(&str, &str, Format); 9] = [
    ("vmdk", "subformat=monolithicSparse", Format::Vmdk),
    ("vmdk", "subformat=streamOptimized", Format::Vmdk),
    ("vmdk", "subformat=monolithicFlat", Format::Vmdk),
    ("vmdk", "subformat=twoGbMaxExtentSparse", Format::Vmdk),
    ("vpc", "subformat=dynamic,force_size=on", Format::Vhd),
    ("vpc", "subformat=fixed,force_size=on", Format::Vhd),
    ("vhdx", "subformat=dynamic,block_size=1M", Format::Vhdx),
    ("vdi", "static=off", Format::Vdi),
    ("vdi", "static=on", Format::Vdi),
];

struct Made {
    folder: tempfile::TempDir,
    disk: Vec<u8>,
}

impl Made {
    /// Makes `image` of some contents.
    fn new(bytes: usize, kind: &str, options: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = Self { folder, disk: contents(bytes) };
        let raw = made.path("raw");
        fs::write(&raw, &made.disk).unwrap();
        let arguments = ["convert", "-q", "-f", "raw", "-O", kind, "-o", options];
        assert_eq!(qemu_img(&arguments, &[&raw, &made.path("image")]), 0, "{kind} {options}");
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn what_qemu_img_makes_is_read_byte_for_byte() {
    for (kind, options, format) in KINDS {
        let made = Made::new(5 * MIB + 512, kind, options);
        let found = summary(&made.path("image")).unwrap();
        assert_eq!((found.format, found.bytes), (format, made.disk.len() as u64), "{kind} {options}");
        convert(&made.path("image"), &made.path("new"), Format::Raw, &mut |_, _| {}).unwrap();
        assert!(fs::read(made.path("new")).unwrap() == made.disk, "{kind} {options} gives another disk");
    }
}

#[test]
fn a_converted_qcow2_image_is_whole_and_takes_no_space_for_zeros() {
    let made = Made::new(64 * MIB, "vhdx", "subformat=dynamic,block_size=1M");
    let new = made.path("new.qcow2");
    let mut seen = Vec::new();
    convert(&made.path("image"), &new, Format::Qcow2, &mut |done, all| seen.push((done, all))).unwrap();
    assert_eq!(seen.last(), Some(&(64 << 20, 64 << 20)));
    assert_eq!(qemu_img(&["compare", "-q", "-f", "raw", "-F", "qcow2"], &[&made.path("raw"), &new]), 0);
    assert_eq!(qemu_img(&["check", "-q", "-f", "qcow2"], &[&new]), 0);
    assert!(fs::metadata(&new).unwrap().len() < 2 << 20);
}

#[test]
fn nothing_is_overwritten_and_nothing_half_made_stays() {
    let made = Made::new(MIB, "vdi", "static=off");
    fs::write(made.path("mine"), "mine").unwrap();
    let error = convert(&made.path("image"), &made.path("mine"), Format::Raw, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, ImageError::Exists { .. }), "{error}");
    assert_eq!(fs::read(made.path("mine")).unwrap(), b"mine");
    let whole = fs::read(made.path("image")).unwrap();
    fs::write(made.path("cut"), &whole[..whole.len() - MIB / 2]).unwrap();
    let error = convert(&made.path("cut"), &made.path("new"), Format::Raw, &mut |_, _| {}).unwrap_err();
    assert!(matches!(error, ImageError::Truncated { .. }), "{error}");
    assert!(!made.path("new").exists());
}

#[test]
fn a_vmdk_reaches_no_file_outside_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(folder.path().join("secret"), vec![7; 4096]).unwrap();
    std::os::unix::fs::symlink("../secret", inner.join("link")).unwrap();
    for name in ["../secret", "/etc/passwd", "link", ".hidden", ""] {
        let text = format!("# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\nRW 8 FLAT \"{name}\" 0\n");
        fs::write(inner.join("disk.vmdk"), text).unwrap();
        assert!(summary(&inner.join("disk.vmdk")).is_err(), "{name}");
    }
}

#[test]
fn a_vhdx_with_a_log_is_not_read() {
    let made = Made::new(MIB, "vhdx", "subformat=dynamic");
    let mut bytes = fs::read(made.path("image")).unwrap();
    for header in [64 << 10, 128 << 10] {
        bytes[header + 48] = 1;
        vhdx::seal(&mut bytes[header..header + 4096]);
    }
    fs::write(made.path("image"), bytes).unwrap();
    let error = summary(&made.path("image")).unwrap_err();
    assert!(error.to_string().contains("log"), "{error}");
}

/// Reads all of an image, but no more of it than a damaged size may say.
fn read_all(path: &Path) -> Result<(), ImageError> {
    let opened = open(path)?;
    let bytes = opened.source.bytes();
    let mut piece = vec![0; 96 << 10];
    let mut at = 0;
    for _ in 0..64 {
        at += opened.source.zeroes(at).min(bytes.saturating_sub(at));
        let count = bytes.saturating_sub(at).min(piece.len() as u64) as usize;
        opened.read_at(at, &mut piece[..count])?;
        at += count as u64;
    }
    Ok(())
}

#[test]
fn damaged_images_give_errors_and_nothing_worse() {
    for (kind, options, format) in KINDS {
        let made = Made::new(2 * MIB, kind, options);
        let whole = fs::read(made.path("image")).unwrap();
        let places = telling(&whole);
        let mut random = Random(0xda_4a6e);
        let mut refused = 0;
        for _ in 0..40 {
            let mut bytes = whole.clone();
            random.damage(&mut bytes, &places);
            // Damage behind a right checksum goes further.
            match format {
                Format::Vhd if random.below(4) > 0 => vhd::seal(&mut bytes),
                Format::Vhdx if random.below(4) > 0 => vhdx::seal_all(&mut bytes),
                _ => {}
            }
            fs::write(made.path("image"), &bytes).unwrap();
            refused += u32::from(read_all(&made.path("image")).is_err());
        }
        assert!(refused > 0, "{kind} {options}: no damage was noticed");
    }
}
