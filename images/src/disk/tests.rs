//! Disks opened, written, shared, cut short, and put under overlays.

use std::fs;
use std::path::{Path, PathBuf};

use imago::file::File as Storage;
use imago::qcow2::Qcow2;
use imago::{FormatCreateBuilder, Storage as _, StorageCreateOptions};

use super::*;

const MIB: u64 = 1 << 20;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn raw(folder: &Path, bytes: u64) -> PathBuf {
    let path = folder.join("disk.img");
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

/// A qcow2 image, on a backing file or not.
fn qcow2(path: &Path, bytes: u64, backing: Option<(&str, &str)>) {
    let storage = Storage::create_open(StorageCreateOptions::new().filename(path)).unwrap();
    let mut create = Qcow2::<Storage>::create_builder(storage).size(bytes);
    if let Some((name, format)) = backing {
        create = create.backing(name.to_owned(), format.to_owned());
    }
    create.create().unwrap();
}

fn open(path: &Path) -> Result<Disk, ImageError> {
    Disk::open(path, &Options::default())
}

fn read(disk: &Disk, offset: u64, count: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; count];
    disk.read_at(offset, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_disk_may_go_to_another_thread() {
    fn is_send<T: Send>() {}
    is_send::<Disk>();
}

#[test]
fn bytes_are_where_they_were_written() {
    let folder = folder();
    let image = folder.path().join("disk.qcow2");
    qcow2(&image, 10 * MIB, None);
    for path in [raw(folder.path(), 10 * MIB), image] {
        let mut disk = open(&path).unwrap();
        assert_eq!(disk.bytes(), 10 * MIB);
        disk.write_at(3 * MIB - 100, &[7; 1000]).unwrap();
        disk.write_at(10 * MIB - 512, &[9; 512]).unwrap();
        disk.flush().unwrap();
        drop(disk);
        let mut disk = open(&path).unwrap();
        assert_eq!(read(&disk, 3 * MIB - 101, 3), [0, 7, 7]);
        assert_eq!(read(&disk, 10 * MIB - 512, 512), [9; 512]);
        disk.discard(0, 10 * MIB).unwrap();
        assert_eq!(read(&disk, 3 * MIB - 100, 1000), [0; 1000]);
    }
}

#[test]
fn a_discard_ends_where_it_was_asked_to() {
    let folder = folder();
    // A disk smaller than a cluster, and one whose last cluster is not whole.
    for (name, bytes) in [("small.qcow2", 32 << 10), ("odd.qcow2", 2 * MIB + (80 << 10))] {
        let path = folder.path().join(name);
        qcow2(&path, bytes, None);
        let mut disk = open(&path).unwrap();
        for (offset, count) in [(bytes - (16 << 10), 512), (0, bytes - 512), (512, bytes - 512)] {
            disk.write_at(0, &vec![7; bytes as usize]).unwrap();
            disk.discard(offset, count).unwrap();
            let expected: Vec<u8> =
                (0..bytes).map(|at| if (offset..offset + count).contains(&at) { 0 } else { 7 }).collect();
            assert!(read(&disk, 0, bytes as usize) == expected, "{name}: {count} from {offset}");
        }
    }
}

#[test]
fn nothing_is_reached_past_the_end() {
    let folder = folder();
    let mut disk = open(&raw(folder.path(), MIB)).unwrap();
    for (offset, count) in [(MIB, 1), (MIB - 1, 2), (u64::MAX, 1), (u64::MAX - 5, 512), (0, MIB as usize + 1)] {
        let mut bytes = vec![0; count];
        assert!(matches!(disk.read_at(offset, &mut bytes), Err(ImageError::OutOfRange { .. })));
        assert!(matches!(disk.write_at(offset, &bytes), Err(ImageError::OutOfRange { .. })));
        assert!(matches!(disk.discard(offset, count as u64), Err(ImageError::OutOfRange { .. })));
    }
    assert_eq!(fs::metadata(folder.path().join("disk.img")).unwrap().len(), MIB);
}

#[test]
fn one_image_is_not_run_twice_but_may_be_read_by_many() {
    let folder = folder();
    let path = raw(folder.path(), MIB);
    let reader = Options { read_only: true, ..Options::default() };
    let first = open(&path).unwrap();
    assert!(matches!(open(&path), Err(ImageError::InUse { .. })));
    assert!(matches!(Disk::open(&path, &reader), Err(ImageError::InUse { .. })));
    drop(first);
    let readers = [Disk::open(&path, &reader).unwrap(), Disk::open(&path, &reader).unwrap()];
    assert!(matches!(open(&path), Err(ImageError::InUse { .. })));
    drop(readers);
    open(&path).unwrap();
}

#[test]
fn a_closed_image_is_free_though_a_child_still_has_the_descriptor() {
    let folder = folder();
    let path = raw(folder.path(), MIB);
    let disk = open(&path).unwrap();
    // What a child between fork and exec has: every descriptor once more.
    let inherited = disk.written.try_clone().unwrap();
    drop(disk);
    open(&path).unwrap();
    drop(inherited);
}

#[test]
fn a_snapshot_and_a_backing_file_are_never_written() {
    let folder = folder();
    let base = raw(folder.path(), 2 * MIB);
    let mut disk = open(&base).unwrap();
    disk.write_at(0, &[1; 4096]).unwrap();
    drop(disk);
    let before = fs::read(&base).unwrap();
    let image = folder.path().join("over.qcow2");
    qcow2(&image, 2 * MIB, Some(("disk.img", "raw")));
    let snapshot = Options { snapshot: true, scratch: Some(folder.path().to_owned()), ..Options::default() };
    for (path, options) in [(&base, &snapshot), (&image, &Options::default()), (&image, &snapshot)] {
        let mut disk = Disk::open(path, options).unwrap();
        assert!(!disk.read_only());
        disk.write_at(1024, &[2; 1024]).unwrap();
        disk.discard(2048, 1024).unwrap();
        disk.flush().unwrap();
        assert_eq!(read(&disk, 1023, 2), [1, 2]);
        assert_eq!(read(&disk, 2047, 2), [2, 0]);
        assert_eq!(read(&disk, 3072, 1024), [1; 1024]);
        assert!(matches!(open(&base), Err(ImageError::InUse { .. })));
        drop(disk);
        assert_eq!(fs::read(&base).unwrap(), before);
    }
    // Nothing but the two images is left.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn a_read_only_disk_is_not_written() {
    let folder = folder();
    let path = raw(folder.path(), MIB);
    let mut disk = Disk::open(&path, &Options { read_only: true, ..Options::default() }).unwrap();
    assert!(matches!(disk.write_at(0, &[0; 512]), Err(ImageError::ReadOnly)));
    assert!(matches!(disk.discard(0, 512), Err(ImageError::ReadOnly)));
    disk.flush().unwrap();
}

#[test]
fn a_raw_disk_cannot_be_made_to_look_like_another_image() {
    let folder = folder();
    let path = raw(folder.path(), MIB);
    let mut disk = open(&path).unwrap();
    disk.write_at(1, b"FI\xfb").unwrap();
    assert!(matches!(disk.write_at(0, b"Q"), Err(ImageError::Disguise { format: Format::Qcow2 })));
    assert!(matches!(disk.write_at(0, b"QFI\xfb...."), Err(ImageError::Disguise { .. })));
    drop(disk);
    let mut disk = Disk::open(&path, &Options { format: Some(Format::Raw), ..Options::default() }).unwrap();
    disk.write_at(0, b"QFI\xfb").unwrap();
}

#[test]
fn what_cannot_be_opened_says_why() {
    let folder = folder();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    assert!(matches!(open(&folder.path().join("none")), Err(ImageError::Missing { .. })));
    assert!(matches!(open(folder.path()), Err(ImageError::NotAFile { .. })));
    assert!(matches!(open(&file("empty", b"")), Err(ImageError::Empty { .. })));
    assert!(matches!(open(&file("odd", &[0; 700])), Err(ImageError::Truncated { .. })));
    assert!(matches!(open(&file("short", b"QFI\xfb\0\0\0\x03")), Err(ImageError::Truncated { .. })));
    let vmdk = open(&file("x.vmdk", b"KDMV....")).unwrap_err();
    assert!(vmdk.to_string().contains("ftemu image import"), "{vmdk}");
}

#[test]
fn a_cut_or_broken_qcow2_image_is_refused() {
    let folder = folder();
    let path = folder.path().join("disk.qcow2");
    qcow2(&path, 64 * MIB, None);
    let mut disk = open(&path).unwrap();
    disk.write_at(0, &[1; 300_000]).unwrap();
    drop(disk);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 131_072]).unwrap();
    assert!(matches!(open(&path), Err(ImageError::Truncated { .. })));
    let l1 = usize::from_be_bytes(whole[40..48].try_into().unwrap());
    let mut broken = whole.clone();
    broken[l1 + 6] = 0x77;
    fs::write(&path, &broken).unwrap();
    assert!(matches!(open(&path), Err(ImageError::Damaged { .. } | ImageError::Truncated { .. })));
    fs::write(&path, &whole).unwrap();
    open(&path).unwrap();
}

#[test]
fn a_backing_file_that_is_gone_or_a_circle_is_named() {
    let folder = folder();
    let path = folder.path().join("over.qcow2");
    qcow2(&path, MIB, Some(("gone.img", "raw")));
    let error = open(&path).unwrap_err();
    assert!(matches!(error, ImageError::Backing { .. }) && error.to_string().contains("gone.img"), "{error}");
    qcow2(&folder.path().join("a.qcow2"), MIB, Some(("b.qcow2", "qcow2")));
    qcow2(&folder.path().join("b.qcow2"), MIB, Some(("a.qcow2", "qcow2")));
    qcow2(&folder.path().join("self.qcow2"), MIB, Some(("self.qcow2", "qcow2")));
    for (name, read_only) in [("a.qcow2", true), ("a.qcow2", false), ("self.qcow2", true), ("self.qcow2", false)] {
        let options = Options { read_only, ..Options::default() };
        let error = Disk::open(&folder.path().join(name), &options).unwrap_err().to_string();
        assert!(error.contains("circle") && error.len() < 500, "{error}");
    }
}

#[test]
fn what_lost_its_header_is_not_taken_for_raw() {
    let folder = folder();
    for (name, words) in [("x.qcow2", "qcow2"), ("x.VMDK", "vmdk"), ("x.vpc", "vhd"), ("x.vdi", "vdi")] {
        let path = folder.path().join(name);
        fs::write(&path, [0; 4096]).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, ImageError::Misnamed { .. }) && error.to_string().contains(words), "{error}");
        assert!(crate::import::summary(&path).is_err());
        Disk::open(&path, &Options { format: Some(Format::Raw), ..Options::default() }).unwrap();
    }
}
