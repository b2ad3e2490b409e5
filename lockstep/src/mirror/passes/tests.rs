//! Two disks and a guest that writes meanwhile: equal in the end, with only what differed sent.

use super::super::mirroring::Mirroring;
use super::*;
use std::collections::BTreeMap;

type Disk = BTreeMap<BlockId, u8>;

const SECTORS: [u64; 2] = [10 * 2048, 2048 + 1];

fn content(disk: &Disk, id: BlockId) -> Vec<u8> {
    vec![disk.get(&id).copied().unwrap_or(0); 512]
}

/// Does a piece of work on a disk that stands for many.
fn perform(disk: &mut Disk, changes: &mut Vec<BlockId>, work: DiskWork) -> DiskDone {
    let blocks = |ids: Vec<BlockId>, disk: &Disk| ids.into_iter().map(|id| (id, content(disk, id))).collect();
    match work {
        DiskWork::Watch => {
            changes.clear();
            DiskDone::Finished
        }
        DiskWork::Changes => DiskDone::Changed(std::mem::take(changes)),
        DiskWork::Read(ids) => DiskDone::Blocks(blocks(ids, disk)),
        DiskWork::Compare(theirs) => {
            let differ = theirs.into_iter().filter(|(id, hash)| super::super::hash(&content(disk, *id)) != *hash);
            DiskDone::Blocks(blocks(differ.map(|(id, _)| id).collect(), disk))
        }
        DiskWork::Hash(ids) => DiskDone::Hashes(ids.iter().map(|id| super::super::hash(&content(disk, *id))).collect()),
        DiskWork::Write(id, bytes) => {
            disk.insert(id, bytes[0]);
            DiskDone::Finished
        }
    }
}

/// Runs the whole exchange; the guest writes `writes` blocks, a few between any two steps. Gives the blocks sent.
fn exchange(primary: &mut Disk, standby: &mut Disk, mut writes: Vec<(BlockId, u8)>) -> u64 {
    let (mut passes, mut mirroring, mut changes) = (Passes::new(&SECTORS), None::<Mirroring>, Vec::new());
    for _ in 0..10_000 {
        if let Some((id, value)) = writes.pop() {
            primary.insert(id, value);
            changes.push(id);
        }
        if passes.is_equal() {
            for id in passes.rest().into_iter().chain(std::mem::take(&mut changes)) {
                standby.insert(id, content(primary, id)[0]);
            }
            return passes.sent();
        }
        let messages = passes.work().map(|work| passes.done(perform(primary, &mut changes, work))).unwrap_or_default();
        for message in messages {
            match message {
                Message::Mirror { sectors } => mirroring = Some(Mirroring::new(&sectors)),
                Message::Block { id, bytes, .. } => mirroring.as_mut().unwrap().block(id, bytes),
                Message::Compared { next } => mirroring.as_mut().unwrap().compare(next),
                other => panic!("{other:?}"),
            }
        }
        while let Some(work) = mirroring.as_mut().and_then(Mirroring::work) {
            let done = perform(standby, &mut Vec::new(), work);
            if let Some(Message::Hashes { first, hashes }) = mirroring.as_mut().unwrap().done(done) {
                passes.hashes(first, hashes).unwrap();
            }
        }
    }
    panic!("it never ends");
}

#[test]
fn only_what_differs_is_sent_and_the_disks_are_equal_in_the_end() {
    let mut primary = Disk::from([((0, 3), 7), ((1, 1), 9)]);
    let mut standby = Disk::from([((0, 3), 7), ((0, 9), 1)]);
    assert_eq!(exchange(&mut primary, &mut standby, vec![]), 2);
    let writes: Vec<(BlockId, u8)> =
        (0..200u64).map(|n| (((n % 2) as u8, n * 7 % 10 % (10 - 8 * (n % 2))), n as u8)).collect();
    exchange(&mut primary, &mut standby, writes);
    for id in (0..10).map(|block| (0, block)).chain([(1, 0), (1, 1)]) {
        assert_eq!(content(&primary, id), content(&standby, id), "{id:?}");
    }
}

#[test]
fn a_side_without_drives_has_nothing_to_do() {
    assert!(Passes::new(&[]).is_equal() && Passes::new(&[0]).is_equal());
}

#[test]
fn hashes_that_nobody_asked_for_are_refused() {
    let mut passes = Passes::new(&SECTORS);
    assert!(passes.hashes(0, vec![[0; 32]; 4]).is_err(), "nothing was asked yet");
    assert_eq!(passes.work(), Some(DiskWork::Watch));
    passes.done(DiskDone::Finished);
    assert!(passes.hashes(4, vec![[0; 32]; 4]).is_err());
    assert!(passes.hashes(0, vec![[0; 32]; 3]).is_err());
    assert!(passes.hashes(0, vec![[0; 32]; 4]).is_ok());
}
