//! Two disks and a guest that writes meanwhile: equal in the end, with only what differed sent.

use super::super::mirroring::Mirroring;
use super::*;
use std::collections::{BTreeMap, BTreeSet};

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

/// What became of disks between which blocks go one at a time, while the guest changes `rate` of them meanwhile when it
/// runs at full speed: the slowdown at the end, and how many blocks were left for the image; `None`: given up.
fn outwritten(rate: u64) -> Option<(u32, usize)> {
    const BLOCKS: u64 = 600;
    let mut passes = Passes::new(&[BLOCKS * 2048]);
    let (mut changed, mut next, mut owed, mut slowest) = (BTreeSet::new(), 0u64, 0u64, 0);
    for _ in 0..200_000 {
        slowest = passes.slowdown().max(slowest);
        let carried = match passes.work() {
            Some(DiskWork::Watch) => (DiskDone::Finished, 0),
            Some(DiskWork::Changes) => (DiskDone::Changed(std::mem::take(&mut changed).into_iter().collect()), 0),
            Some(DiskWork::Read(ids)) => (DiskDone::Blocks(ids.iter().map(|id| (*id, vec![])).collect()), ids.len()),
            Some(DiskWork::Compare(theirs)) => (DiskDone::Blocks(Vec::new()), theirs.len()),
            None if passes.is_equal() => return Some((slowest, passes.rest().len())),
            None if passes.is_hopeless() => return None,
            other => panic!("{other:?}"),
        };
        owed += (carried.1 as u64 * rate * 1024) >> passes.slowdown();
        for _ in 0..(owed / 1024).min(BLOCKS) {
            next = (next + 1) % BLOCKS;
            changed.insert((0, next));
        }
        owed %= 1024;
        passes.done(carried.0);
        if passes.step == Step::Await {
            let first = passes.compared;
            passes.hashes(first, vec![[0; 32]; passes.layout.batch(first).len()]).unwrap();
        }
    }
    panic!("it never ends");
}

#[test]
fn a_guest_that_outwrites_the_link_is_slowed_until_little_is_left() {
    assert_eq!(outwritten(0), Some((0, 0)));
    for (rate, slowest) in [(1, 1), (2, 2), (8, 4), (100, 8)] {
        let (slowed, rest) = outwritten(rate).expect("the disks became equal");
        assert!(slowed >= slowest && rest <= FEW, "{rate}: slowed by {slowed}, {rest} left");
    }
}

#[test]
fn a_guest_that_cannot_be_slowed_enough_is_left_without_that_standby() {
    assert_eq!(outwritten(4000), None);
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
