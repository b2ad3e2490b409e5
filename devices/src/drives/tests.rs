//! Requests from issue to completion, faults of the host, copies of the state, and random traffic.

use super::*;
use crate::state::Random;
use crate::storage::MemoryStorage;

const SECTORS: u64 = 5000;

fn drives() -> (Drives, MemoryStorage) {
    let storage = MemoryStorage::new(SECTORS);
    let mut drives = Drives::new([(SECTORS, false)]);
    drives.attach(0, Box::new(storage.share())).unwrap();
    (drives, storage)
}

fn saved(drives: &Drives) -> Vec<u8> {
    let mut out = Vec::new();
    drives.save(&mut out);
    out
}

/// A copy of the state with a disk of the same content.
fn copy(drives: &mut Drives, storage: &MemoryStorage) -> (Drives, MemoryStorage) {
    drives.fetch();
    let mut bytes = saved(drives);
    drives.save_answers(&mut bytes);
    let twin_storage = MemoryStorage::of(&storage.bytes());
    let mut twin = Drives::new([(SECTORS, false)]);
    twin.attach(0, Box::new(twin_storage.share())).unwrap();
    let mut rest = &bytes[..];
    twin.load(&mut rest).expect("what was saved loads");
    assert!(rest.is_empty());
    assert_eq!(saved(&twin), saved(drives));
    for cut in (0..bytes.len()).step_by(bytes.len() / 50 + 1) {
        assert!(Drives::new([(SECTORS, false)]).load(&mut &bytes[..cut]).is_none());
    }
    (twin, twin_storage)
}

#[test]
fn a_result_is_there_when_it_is_due_and_released_and_not_before() {
    let (mut drives, _) = drives();
    let write = drives.issue(0, 1000, Request::Write { sector: 3, bytes: vec![7; 512] });
    let read = drives.issue(0, 1000, Request::Read { sector: 2, count: 3 });
    assert_eq!((write.due_ns, read.due_ns), (1000 + 60_000 + 512, 1000 + 60_000 + 1536));
    assert_eq!(drives.deadline(), Some(write.due_ns));
    drives.release(write.due_ns - 1).unwrap();
    assert_eq!(drives.complete(0, write.ticket), None);
    assert!(drives.is_due(write.due_ns));
    assert_eq!(drives.complete(0, write.ticket), None, "due, but the machine has not gone on");
    drives.release(write.due_ns).unwrap();
    assert_eq!(drives.complete(0, write.ticket), Some(Ok(vec![])));
    assert_eq!(drives.complete(0, read.ticket), None);
    drives.release(read.due_ns).unwrap();
    let bytes = [[0; 512], [7; 512], [0; 512]].concat();
    assert_eq!(drives.complete(0, read.ticket), Some(Ok(bytes)));
    assert_eq!(drives.deadline(), None);
    assert_eq!(drives.complete(0, read.ticket), Some(Err(DriveError::Medium)), "given once");
}

#[test]
fn nonsense_is_complete_in_time_with_an_error() {
    let (mut drives, storage) = drives();
    let mut fails = |request: Request| {
        let issued = drives.issue(0, 0, request);
        drives.release(issued.due_ns).unwrap();
        drives.complete(0, issued.ticket).unwrap().unwrap_err()
    };
    assert_eq!(fails(Request::Read { sector: SECTORS, count: 1 }), DriveError::OutOfRange);
    assert_eq!(fails(Request::Read { sector: u64::MAX, count: u32::MAX }), DriveError::OutOfRange);
    assert_eq!(fails(Request::Discard { sector: 1, count: u64::MAX }), DriveError::OutOfRange);
    assert_eq!(fails(Request::Write { sector: 0, bytes: vec![0; 513] }), DriveError::Length);
    assert_eq!(fails(Request::Write { sector: SECTORS - 1, bytes: vec![1; 1024] }), DriveError::OutOfRange);
    assert_eq!(storage.bytes(), vec![0; 512 * SECTORS as usize]);
    assert_eq!(drives.issue(1, 0, Request::Flush).ticket, u64::MAX);
    assert_eq!(drives.complete(1, u64::MAX), Some(Err(DriveError::NoDrive)));
    let mut fixed = Drives::new([(8, true)]);
    fixed.attach(0, Box::new(MemoryStorage::new(8))).unwrap();
    let issued = fixed.issue(0, 0, Request::Write { sector: 0, bytes: vec![1; 512] });
    fixed.release(issued.due_ns).unwrap();
    assert_eq!(fixed.complete(0, issued.ticket), Some(Err(DriveError::ReadOnly)));
}

#[test]
fn a_fault_of_the_host_is_nobodys_business_until_an_input_makes_it_the_guests() {
    let (mut drives, storage) = drives();
    storage.set_broken(4, true);
    let good = drives.issue(0, 0, Request::Read { sector: 0, count: 1 });
    let bad = drives.issue(0, 0, Request::Read { sector: 4, count: 1 });
    let before = saved(&drives);
    let fault = drives.release(bad.due_ns).unwrap_err();
    assert_eq!((fault.drive, fault.ticket), (0, bad.ticket));
    assert!(fault.fault.to_string().contains("sector 4"));
    assert_eq!(drives.fault(), Some(&fault));
    assert_eq!(saved(&drives), before);
    assert_eq!(drives.complete(0, good.ticket), None, "nothing is seen of this count");
    let (mut healthy, _) = {
        storage.set_broken(4, false);
        copy(&mut drives, &storage)
    };
    for drives in [&mut drives, &mut healthy] {
        drives.fail(0, bad.ticket);
        drives.release(bad.due_ns).unwrap();
        assert_eq!(drives.complete(0, bad.ticket), Some(Err(DriveError::Medium)));
        assert_eq!(drives.complete(0, good.ticket), Some(Ok(vec![0; 512])));
    }
    assert_eq!(saved(&drives), saved(&healthy));
}

#[test]
fn a_copy_reads_what_was_there_when_the_request_was_made() {
    let (mut drives, storage) = drives();
    let read = drives.issue(0, 0, Request::Read { sector: 1, count: 1 });
    let write = drives.issue(0, 0, Request::Write { sector: 1, bytes: vec![5; 512] });
    let (mut twin, _) = copy(&mut drives, &storage);
    for drives in [&mut drives, &mut twin] {
        drives.release(1 << 40).unwrap();
        assert_eq!(drives.complete(0, read.ticket), Some(Ok(vec![0; 512])));
        assert_eq!(drives.complete(0, write.ticket), Some(Ok(vec![])));
    }
}

#[test]
fn a_write_over_another_in_flight_is_not_done_before_it() {
    let (mut drives, storage) = drives();
    let long = drives.issue(0, 0, Request::Write { sector: 0, bytes: vec![1; 8 * 512] });
    let short = drives.issue(0, 1, Request::Write { sector: 7, bytes: vec![2; 512] });
    let beside = drives.issue(0, 1, Request::Write { sector: 8, bytes: vec![3; 512] });
    assert!(beside.due_ns < long.due_ns && short.due_ns >= long.due_ns);
    let (mut twin, twin_storage) = copy(&mut drives, &storage);
    for drives in [&mut drives, &mut twin] {
        drives.release(1 << 40).unwrap();
        assert_eq!(drives.complete(0, short.ticket), Some(Ok(vec![])));
    }
    assert_eq!(storage.bytes()[7 * 512], 2);
    assert_eq!(twin_storage.bytes(), storage.bytes());
}

#[test]
fn abandoned_requests_take_effect_and_leave_nothing_behind() {
    let (mut drives, storage) = drives();
    drives.issue(0, 0, Request::Write { sector: 1, bytes: vec![5; 512] });
    let read = drives.issue(0, 0, Request::Read { sector: 1, count: 1 });
    drives.abandon(0, read.ticket);
    drives.abandon_all();
    drives.release(1 << 40).unwrap();
    assert_eq!(storage.bytes()[512..1024], [5; 512]);
    let state = &drives.drives[0];
    assert!(state.state.in_flight.is_empty() && state.answers.is_empty());
}

#[test]
fn changed_blocks_are_told_and_blocks_are_read() {
    let mut drives = Drives::new([(SECTORS, false), (10, false)]);
    for (drive, sectors) in [(0, SECTORS), (1, 10)] {
        drives.attach(drive, Box::new(MemoryStorage::new(sectors))).unwrap();
    }
    drives.issue(0, 0, Request::Write { sector: 0, bytes: vec![1; 512] });
    assert_eq!(drives.take_changes(), []);
    drives.watch_changes();
    drives.issue(0, 0, Request::Write { sector: 2047, bytes: vec![2; 1024] });
    drives.issue(1, 0, Request::Discard { sector: 0, count: 10 });
    drives.issue(0, 0, Request::Read { sector: 4999, count: 1 });
    assert_eq!(drives.take_changes(), [(0, 0), (0, 1), (1, 0)]);
    assert_eq!(drives.take_changes(), []);
    assert_eq!(drives.block(0, 0).unwrap()[2047 * 512..], [2; 512]);
    assert_eq!(drives.block(0, 2).unwrap().len() as u64, (SECTORS - 4096) * 512);
    assert!(drives.block(0, 3).is_err() && drives.block(2, 0).is_err() && drives.block(0, u64::MAX).is_err());
}

#[test]
fn storages_must_fit() {
    let mut drives = Drives::new([(10, false)]);
    let size = AttachError::Size { drive: 0, expected: 10, found: 11 };
    assert_eq!(drives.attach(0, Box::new(MemoryStorage::new(11))), Err(size));
    assert_eq!(drives.attach(1, Box::new(MemoryStorage::new(10))), Err(AttachError::NoDrive { drive: 1 }));
    let issued = drives.issue(0, 0, Request::Flush);
    assert!(drives.release(issued.due_ns).unwrap_err().fault.to_string().contains("no storage"));
    drives.attach(0, Box::new(MemoryStorage::new(10))).unwrap();
    drives.release(issued.due_ns).unwrap();
}

#[test]
fn states_that_make_no_sense_are_refused() {
    let (mut drives, _) = drives();
    drives.issue(0, 0, Request::Read { sector: 1, count: 1 });
    drives.issue(0, 0, Request::Write { sector: 1, bytes: vec![1; 512] });
    drives.fetch();
    let mut good = saved(&drives);
    drives.save_answers(&mut good);
    let mut random = Random(0xbad);
    for _ in 0..2000 {
        let mut bytes = good.clone();
        let place = random.below(bytes.len() as u64) as usize;
        bytes[place] ^= 1 << random.below(8);
        let mut twin = Drives::new([(SECTORS, false)]);
        twin.attach(0, Box::new(MemoryStorage::new(SECTORS))).unwrap();
        if twin.load(&mut &bytes[..]).is_some() {
            twin.release(u64::MAX).unwrap();
        }
    }
}

#[test]
fn random_traffic_is_the_same_on_copies() {
    let mut random = Random(0x5eed_d15c);
    let (mut drives, storage) = drives();
    let mut twin = copy(&mut drives, &storage);
    let (mut now_ns, mut open) = (0, Vec::new());
    for round in 0..3000 {
        now_ns += random.below(30_000);
        let sector = random.below(SECTORS + 8);
        let request = match random.below(8) {
            0..3 => Request::Read { sector, count: random.step(6) as u32 },
            3..6 => Request::Write { sector, bytes: vec![random.next() as u8; 512 * random.step(4) as usize] },
            6 => Request::Flush,
            _ => Request::Discard { sector, count: random.step(8) },
        };
        let issued = drives.issue(0, now_ns, request.clone());
        assert_eq!(twin.0.issue(0, now_ns, request), issued);
        open.push(issued.ticket);
        if random.below(40) == 0 {
            twin = copy(&mut drives, &storage);
        }
        if random.below(50) == 0 {
            drives.abandon_all();
            twin.0.abandon_all();
        }
        for drives in [&mut drives, &mut twin.0] {
            drives.release(now_ns).unwrap();
        }
        open.retain(|ticket| {
            let result = drives.complete(0, *ticket);
            assert_eq!(result, twin.0.complete(0, *ticket), "round {round}");
            result.is_none()
        });
        assert_eq!(saved(&drives), saved(&twin.0));
    }
    assert!(storage.bytes() == twin.1.bytes());
}
