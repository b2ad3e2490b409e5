//! The check agrees with `qemu-img check`; damaged images give errors and findings, never more.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::disk::{self, Disk, Options};
use crate::testing::{Random, contents, qemu_img, telling};

const MIB: usize = 1 << 20;

/// An image that qemu-img makes, with some contents.
fn made(folder: &Path, options: &[&str]) -> PathBuf {
    let (raw, image) = (folder.join("raw"), folder.join("image.qcow2"));
    fs::write(&raw, contents(5 * MIB)).unwrap();
    let _ = fs::remove_file(&image);
    let arguments = [&["convert", "-q", "-f", "raw", "-O", "qcow2"], options].concat();
    assert_eq!(qemu_img(&arguments, &[&raw, &image]), 0, "{options:?}");
    image
}

fn checked(path: &Path) -> Result<Report, ImageError> {
    check(path, &mut |_, _| {})
}

#[test]
fn sound_images_of_all_kinds_are_found_sound() {
    let folder = tempfile::tempdir().unwrap();
    let kinds: [&[&str]; 7] = [
        &["-o", "compat=1.1"],
        &["-o", "compat=0.10"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=2M"],
        &["-o", "refcount_bits=1"],
        &["-o", "refcount_bits=64"],
        &["-c"],
    ];
    for kind in kinds {
        let image = made(folder.path(), kind);
        let report = checked(&image).unwrap();
        assert!(report.clean() && report.allocated > 0, "{kind:?}: {report:?}");
        assert_eq!(report.compressed > 0, kind == ["-c"]);
    }
    let image = made(folder.path(), &[]);
    for name in ["one", "two"] {
        assert_eq!(qemu_img(&["snapshot", "-q", "-c", name], &[&image]), 0);
    }
    assert_eq!(checked(&image).unwrap(), Report { findings: Vec::new(), ..checked(&image).unwrap() });
    assert!(checked(&image).unwrap().clean());
}

#[test]
fn images_written_by_guests_are_sound_and_hold_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [&["-o", "cluster_size=4096"][..], &["-c"]] {
        let image = made(folder.path(), kind);
        let mut expected = contents(5 * MIB);
        let mut disk = Disk::open(&image, &Options::default()).unwrap();
        let mut random = Random(9);
        for round in 0..200 {
            let offset = random.below(5 * MIB as u64 / 512) * 512;
            let count = (random.below(40) * 512).min(5 * MIB as u64 - offset) as usize;
            let place = offset as usize..offset as usize + count;
            if round % 5 == 0 {
                disk.discard(offset, count as u64).unwrap();
                expected[place].fill(0);
            } else {
                disk.write_at(offset, &vec![round as u8; count]).unwrap();
                expected[place].fill(round as u8);
            }
        }
        disk.flush().unwrap();
        drop(disk);
        fs::write(folder.path().join("expected"), &expected).unwrap();
        assert_eq!(
            qemu_img(&["compare", "-q", "-f", "raw", "-F", "qcow2"], &[&folder.path().join("expected"), &image]),
            0
        );
        assert_eq!(qemu_img(&["check", "-q"], &[&image]), 0);
        assert!(checked(&image).unwrap().clean());
    }
}

#[test]
fn a_flush_leaves_a_whole_image_though_the_process_dies() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.qcow2");
    disk::create(&image, 64 << 20, Format::Qcow2, None).unwrap();
    let mut disk = Disk::open(&image, &Options::default()).unwrap();
    disk.write_at(5 << 20, &[5; 3 << 20]).unwrap();
    disk.flush().unwrap();
    let copy = folder.path().join("copy.qcow2");
    fs::copy(&image, &copy).unwrap();
    assert!(checked(&copy).unwrap().corruptions == 0);
    let disk = Disk::open(&copy, &Options::default()).unwrap();
    let mut bytes = vec![0; 3 << 20];
    disk.read_at(5 << 20, &mut bytes).unwrap();
    assert!(bytes.iter().all(|byte| *byte == 5));
}

#[test]
fn damage_is_found_where_qemu_img_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), &["-o", "cluster_size=4096"]);
    let whole = fs::read(&image).unwrap();
    let header = header(&image).unwrap();
    let places: Vec<usize> = [header.l1_offset, header.refcount_offset]
        .into_iter()
        .flat_map(|table| {
            let entry = u64::from_be_bytes(whole[table as usize..table as usize + 8].try_into().unwrap());
            let first = (entry & tables::OFFSET) as usize;
            (table as usize..table as usize + 8).chain(first..first + 64)
        })
        .collect();
    let mut random = Random(3);
    let (mut agreed, mut seen) = (0, [0; 4]);
    for _ in 0..60 {
        let mut bytes = whole.clone();
        let place = places[random.below(places.len() as u64) as usize];
        bytes[place] ^= 1 << random.below(8);
        fs::write(&image, &bytes).unwrap();
        let theirs = qemu_img(&["check", "-q", "-f", "qcow2"], &[&image]);
        let ours = match checked(&image) {
            Err(_) => 1,
            Ok(report) if report.corruptions > 0 => 2,
            Ok(report) => 3 * i32::from(report.leaks > 0),
        };
        seen[ours as usize] += 1;
        assert!((theirs == 0) == (ours == 0), "byte {place:#x}: qemu-img says {theirs}, this check {ours}");
        agreed += u32::from(theirs == ours);
    }
    // Both call a broken table an error or a corruption as they see fit.
    assert!(agreed >= 45 && seen[2] > 0 && seen[3] > 0, "{agreed} of 60, {seen:?}");
}

#[test]
fn damaged_images_give_errors_and_nothing_worse() {
    let folder = tempfile::tempdir().unwrap();
    for kind in [&["-o", "cluster_size=4096"][..], &["-c"], &["-o", "compat=0.10"]] {
        let image = made(folder.path(), kind);
        let whole = fs::read(&image).unwrap();
        let places = telling(&whole);
        let mut random = Random(0xf022);
        let mut refused = 0;
        for _ in 0..80 {
            let mut bytes = whole.clone();
            random.damage(&mut bytes, &places[..places.len().min(300)]);
            fs::write(&image, &bytes).unwrap();
            refused += u32::from(use_it(&image, &mut random).is_err());
            let _ = checked(&image);
        }
        assert!(refused > 0, "no damage was noticed");
    }
}

/// Opens, reads and writes as a guest does.
fn use_it(path: &Path, random: &mut Random) -> Result<(), ImageError> {
    let mut disk = Disk::open(path, &Options::default())?;
    let mut bytes = vec![0; 64 << 10];
    for _ in 0..20 {
        let offset = random.below(disk.bytes());
        let count = (disk.bytes() - offset).min(random.below(64 << 10)) as usize;
        match random.below(4) {
            0 => disk.write_at(offset, &bytes[..count])?,
            1 => disk.discard(offset, count as u64)?,
            _ => disk.read_at(offset, &mut bytes[..count])?,
        }
    }
    disk.flush()
}

/// Where the first L2 table, the first refcount block and the disk's first cluster are.
fn places(bytes: &[u8]) -> [usize; 4] {
    let entry = |at: usize| (u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap()) & tables::OFFSET) as usize;
    let [l1, refcounts] = [40, 48].map(entry);
    [l1, entry(l1), entry(refcounts), refcounts]
}

#[test]
fn a_guest_does_not_write_where_a_table_is() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), &[]);
    let whole = fs::read(&image).unwrap();
    let [l1, l2, counts, count_table] = places(&whole);
    let entry = |place: usize| (1 << 63 | place as u64).to_be_bytes();
    let cases = [
        ("contents over the L1 table", l2, entry(l1)),
        ("contents over the refcounts", l2, entry(counts)),
        ("contents over their own table", l2, entry(l2)),
        ("an L2 table over the refcounts", l1, entry(counts)),
        ("refcounts over the L1 table", count_table, (l1 as u64).to_be_bytes()),
        ("refcounts that are gone", count_table, [0; 8]),
        ("refcounts past the end", count_table, (1_u64 << 40).to_be_bytes()),
        ("counted as free", counts, [0; 8]),
    ];
    for (what, place, bytes) in cases {
        let mut broken = whole.clone();
        broken[place..place + 8].copy_from_slice(&bytes);
        fs::write(&image, &broken).unwrap();
        let error = Disk::open(&image, &Options::default()).expect_err(what).to_string();
        assert!(error.contains("image.qcow2"), "{what}: {error}");
        assert!(fs::read(&image).unwrap() == broken, "{what}: it was written");
    }
    // Who only reads gives no cluster away.
    let mut uncounted = whole;
    uncounted[counts..counts + 64].fill(0);
    fs::write(&image, &uncounted).unwrap();
    Disk::open(&image, &Options { snapshot: true, ..Options::default() }).unwrap();
}

#[test]
fn what_was_not_closed_cleanly_is_not_run_in_any_way() {
    let folder = tempfile::tempdir().unwrap();
    let image = made(folder.path(), &[]);
    let whole = fs::read(&image).unwrap();
    for (bit, snapshot) in [(1, false), (1, true), (2, false), (2, true)] {
        let mut bytes = whole.clone();
        bytes[79] = bit;
        fs::write(&image, &bytes).unwrap();
        assert!(header(&image).unwrap().obstacle().is_some());
        let error = Disk::open(&image, &Options { snapshot, ..Options::default() }).unwrap_err().to_string();
        assert!(error.contains("qemu-img check -r all"), "{error}");
    }
}
