//! A drive's thread on real files; where drives are plugged in.

use std::fs::{self, File};
use std::path::PathBuf;

use ftemu_devices::storage::Request;

use super::*;
use crate::journal::Journal;

fn image(folder: &tempfile::TempDir, bytes: u64) -> PathBuf {
    let path = folder.path().join("disk.img");
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

fn open(specs: &[Spec]) -> Result<Drives> {
    Drives::open(specs, &Policy::new(Journal::start(None).unwrap()), None)
}

#[test]
fn requests_take_effect_in_order_and_reach_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(&folder, 8 << 20);
    let drives = open(&[Spec::disk(path.clone())]).unwrap();
    assert_eq!(drives.sectors(), [16384]);
    let mut handle = drives.handles().pop().unwrap();
    for round in 0..100u64 {
        handle.submit(3 * round, &Request::Write { sector: round, bytes: vec![round as u8; 512] });
        handle.submit(3 * round + 1, &Request::Read { sector: round, count: 1 });
        handle.submit(3 * round + 2, &Request::Write { sector: round, bytes: vec![!(round as u8); 512] });
    }
    handle.submit(1000, &Request::Flush);
    assert_eq!(handle.finish(1000), Ok(vec![]));
    for round in (0..100u64).rev() {
        assert_eq!(handle.finish(3 * round + 1), Ok(vec![round as u8; 512]));
        assert_eq!(handle.finish(3 * round), Ok(vec![]));
        assert_eq!(handle.finish(3 * round + 2), Ok(vec![]));
    }
    assert!(handle.finish(5).is_err(), "answered before");
    drives.close().unwrap();
    let bytes = fs::read(path).unwrap();
    assert!((0..100).all(|round| bytes[round * 512..][..512] == [!(round as u8); 512]));
}

#[test]
fn the_next_machines_handle_makes_the_last_one_useless() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(&folder, 1 << 20);
    let drives = open(&[Spec::disk(path.clone())]).unwrap();
    let mut old = drives.handles().pop().unwrap();
    old.submit(7, &Request::Write { sector: 0, bytes: vec![1; 512] });
    let mut new = drives.handles().pop().unwrap();
    old.submit(8, &Request::Write { sector: 0, bytes: vec![2; 512] });
    assert!(old.finish(7).is_err() && old.finish(8).is_err());
    new.submit(7, &Request::Read { sector: 0, count: 1 });
    assert_eq!(new.finish(7), Ok(vec![1; 512]));
    drives.close().unwrap();
}

#[test]
fn a_broken_request_is_answered_and_the_drive_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = image(&folder, 1 << 20);
    let drives = open(&[Spec { read_only: true, ..Spec::disk(path) }]).unwrap();
    let mut handle = drives.handles().pop().unwrap();
    handle.submit(1, &Request::Write { sector: 0, bytes: vec![1; 512] });
    handle.submit(2, &Request::Read { sector: 2047, count: 1 });
    assert!(handle.finish(1).unwrap_err().to_string().contains("read-only"));
    assert_eq!(handle.finish(2), Ok(vec![0; 512]));
    drives.close().unwrap();
}

#[test]
fn places_follow_the_order_and_cds_keep_theirs() {
    let (disk, cd) = (Spec::disk("a".into()), Spec::cdrom("b".into()));
    let virtio = Spec { interface: Interface::Virtio, ..disk.clone() };
    let ide = |channel, unit| Attachment::Ide { channel, unit };
    let places = attach(&[disk.clone(), virtio, disk.clone(), cd.clone(), disk.clone()]).unwrap();
    assert_eq!(places, [ide(0, 0), Attachment::Virtio, ide(0, 1), ide(1, 0), ide(1, 1)]);
    assert!(attach(&vec![disk; 5]).unwrap_err().to_string().contains("if=virtio"));
    assert_eq!(attach(&[cd.clone(), cd]).unwrap(), [ide(1, 0), ide(1, 1)]);
}

#[test]
fn what_is_wrong_with_an_image_is_told_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let missing = open(&[Spec::cdrom(folder.path().join("none.iso"))]).err().unwrap();
    assert!(format!("{missing:#}").contains("CD image") && format!("{missing:#}").contains("none.iso"));
    let path = image(&folder, 1 << 20);
    let first = open(&[Spec::disk(path.clone())]).unwrap();
    let second = open(&[Spec::disk(path)]).err().unwrap();
    assert!(format!("{second:#}").contains("in use"), "{second:#}");
    drop(first);
}
