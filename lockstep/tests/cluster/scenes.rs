//! Single scenes: a handshake that fails, a guest that switches itself off, a side that is stopped, a peer that talks
//! nonsense, a guest that sleeps.

use crate::checker::Checker;
use crate::process::{MILLISECOND, Process, identity, settings};
use crate::random::Random;
use crate::toy::{DISKLESS, DRIVES, SLEEPY, Toy};
use crate::world::{Happening, Plan, World};
use ftemu_devices::storage::MemoryStorage;
use ftemu_lockstep::event::Finish;
use ftemu_lockstep::{Action, Event, Identity, Input, Mismatch, Node, Notice, Place, State};

const SECOND: u64 = 1000 * MILLISECOND;

fn peaceful(seed: u64) -> World {
    World::new(Plan { seed, arbiter: true, chaos_ns: 0, calm_ns: 0, canary: None })
}

#[test]
fn unlike_servers_do_not_pair_and_both_say_why() {
    let other = Identity { cpu_family: 6, ..identity() };
    let mut nodes = [
        Node::primary(settings(true), identity(), 1, 0, Place::of(&Toy::new(1))),
        Node::standby(settings(true), other, 2, 0),
    ];
    let mut notices = [Vec::new(), Vec::new()];
    let mut disconnected = false;
    nodes.iter_mut().for_each(|node| node.handle(0, Event::LinkUp { link: 1 }));
    for _ in 0..10 {
        for side in [0, 1] {
            while let Some(action) = nodes[side].poll() {
                match action {
                    Action::Send { link, bytes, .. } => nodes[1 - side].handle(0, Event::Received { link, bytes }),
                    Action::Notice(notice) => notices[side].push(notice),
                    Action::Disconnect { link: 1 } => disconnected = true,
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    for notices in notices {
        assert!(notices.iter().any(|notice| matches!(notice, Notice::Unlike(Mismatch::Cpu { .. }))), "{notices:?}");
    }
    assert!(disconnected);
    assert_eq!(nodes[0].status().state, State::Alone);
    assert_eq!(nodes[1].status().state, State::Waiting);
}

#[test]
fn a_standby_that_cannot_hold_the_guest_says_so_and_the_guest_goes_on() {
    let toy = Toy::new(1).with(|toy| toy.misfit = true);
    let mut world = peaceful(1);
    world.processes[0] = Process::primary(0, 1, settings(true), 0, toy.on(&world.disks[0]));
    world.live_until(20 * MILLISECOND).ok();
    assert!(matches!(world.processes[1].finished, Some(Finish::Failed(_))), "{:#?}", world.trace);
    // Each standby that is started anew fails alike.
    while world.live_until(SECOND / 2).is_err() {}
    assert!(world.trace.iter().any(|line| line.contains("process 0: Refused(\"not a toy's configuration\")")));
    assert!(world.processes[0].driver.node.status().live && !world.checker.stream.is_empty());
}

#[test]
fn a_guest_that_switches_itself_off_ends_both_sides() {
    for seed in 0..20 {
        let mut world = peaceful(seed);
        world.live_until(SECOND).unwrap();
        world.at(SECOND, Happening::Tell(0, Event::Input(Input::PowerButton)));
        world.live_until(SECOND + 200 * MILLISECOND).unwrap();
        for process in &world.processes[..2] {
            assert_eq!(process.finished, Some(Finish::PoweredOff), "seed {seed}");
        }
        assert_eq!(world.checker.powered_off, 1);
        for process in &world.processes[..2] {
            // A client may ask either for the guest's last words.
            let shown = process.driver.node.console(0, 0).bytes;
            assert!(world.checker.stream.ends_with(&shown) && !shown.is_empty(), "seed {seed}");
        }
        let history = world.history(1);
        world.checker.reference(seed, &history, ftemu_cpu::Icount(0), false).unwrap();
        let [first, second] = &world.disks;
        assert!(Checker::same_disks(&world.processes[0], &history, seed, first).unwrap());
        assert!(Checker::same_disks(&world.processes[1], &history, seed, second).unwrap());
        assert!(
            first.iter().zip(second).all(|(first, second)| first.bytes() == second.bytes()),
            "seed {seed}: {:#?}",
            world.trace
        );
    }
}

#[test]
fn servers_that_are_too_busy_to_run_their_sides_do_not_give_each_other_up() {
    for seed in 0..20 {
        let mut world = peaceful(seed);
        world.live_until(SECOND).unwrap();
        assert!(world.processes[0].driver.node.status().protected);
        for turn in 1..10 {
            world.overload((200 + 150 * turn) * MILLISECOND);
            world.live_until((1 + 2 * turn) * SECOND).unwrap();
        }
        assert!(world.grants.is_empty(), "seed {seed}: {:#?}", world.trace);
        let status = world.processes[0].driver.node.status();
        assert!(status.protected && status.starved_ns > SECOND, "seed {seed}: {status:?}");
    }
}

#[test]
fn a_server_that_was_late_before_is_given_more_time_and_a_dead_one_no_more_than_that() {
    for seed in 0..20 {
        let mut world = peaceful(seed);
        world.live_until(SECOND).unwrap();
        for (second, pause) in [(1, 190), (2, 260), (3, 400), (4, 680)] {
            world.stand_still(0, pause * MILLISECOND);
            world.live_until((second + 1) * SECOND).unwrap();
        }
        assert!(world.grants.is_empty(), "seed {seed}: {:#?}", world.trace);
        world.processes[0].dead = true;
        world.cut_off(0, false);
        world.live_until(5 * SECOND + 1200 * MILLISECOND).unwrap();
        assert!(world.processes[1].driver.node.status().live, "seed {seed}: {:#?}", world.trace);
    }
}

/// Messages that went over a link, to be thrown at nodes again, altered.
fn messages(seed: u64) -> Vec<Vec<u8>> {
    let mut world = peaceful(seed);
    world.tapped = Some(Vec::new());
    world.live_until(300 * MILLISECOND).unwrap();
    world.tapped.unwrap_or_default()
}

#[test]
fn nonsense_from_a_peer_never_panics_and_never_stops_a_lone_guest() {
    let said = messages(11);
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let disks = DRIVES.map(MemoryStorage::new);
        let toy = Toy::new(seed).on(&disks.each_ref().map(|disk| disk.share()));
        let mut processes = [
            Process::primary(0, 1, settings(seed % 2 == 0), 0, toy),
            Process::standby(1, 2, settings(seed % 2 == 0), 0, &disks),
        ];
        for (side, process) in processes.iter_mut().enumerate() {
            let mut now = 0;
            for link in 1..8 {
                process.driver.handle(now, Event::LinkUp { link });
                for _ in 0..30 {
                    now += random.between(0, 3 * MILLISECOND);
                    let mut bytes = said[random.between(0, said.len() as u64) as usize].clone();
                    if random.percent(60) && !bytes.is_empty() {
                        let place = random.between(0, bytes.len() as u64) as usize;
                        bytes[place] ^= 1 << random.between(0, 8);
                        bytes.truncate(random.between(1, bytes.len() as u64 + 1) as usize);
                    }
                    process.driver.handle(now, Event::Received { link, bytes });
                    if let ftemu_lockstep::Step::Worked(done) = process.driver.step(now) {
                        process.driver.finish(now, done);
                    }
                    while process.driver.poll().is_some() {}
                }
            }
            let state = process.state();
            assert!(side == 1 || state != State::Waiting, "{state:?}");
        }
    }
}

#[test]
fn the_link_of_a_sleeping_guest_is_nearly_idle() {
    let mut world = peaceful(3 | SLEEPY | DISKLESS);
    world.live_until(SECOND).unwrap();
    assert!(world.processes[0].driver.node.status().protected);
    let before = (world.sent_messages, world.sent_bytes);
    world.live_until(11 * SECOND).unwrap();
    let (messages, bytes) = (world.sent_messages - before.0, world.sent_bytes - before.1);
    // What UDP, QUIC and TLS add to a message that travels alone.
    let bits_per_second = (bytes + messages * 75) * 8 / 10;
    println!("{messages} messages, {bytes} bytes: {bits_per_second} bit/s in both directions together");
    assert!(bits_per_second < 100_000, "{bits_per_second} bit/s");
}

#[test]
fn a_side_whose_disk_fails_gives_up_and_the_other_goes_on_with_no_error_seen() {
    for (seed, failing) in (0..12).flat_map(|seed| [(seed, 0), (seed, 1)]) {
        let mut world = peaceful(seed);
        world.live_until(SECOND).unwrap();
        assert!(world.processes[0].driver.node.status().protected);
        (0..DRIVES[0]).for_each(|sector| world.disks[failing][0].set_broken(sector, true));
        let failed = world.live_until(SECOND + 200 * MILLISECOND).unwrap_err();
        assert!(failed.contains(&format!("process {failing} failed: drive 0 failed here")), "seed {seed}: {failed}");
        (0..DRIVES[0]).for_each(|sector| world.disks[failing][0].set_broken(sector, false));
        // At some moments the newest records are not in the history yet: then the disks cannot be judged.
        let judged = (0..50).any(|moment| {
            world.live_until(SECOND + (400 + moment) * MILLISECOND).unwrap();
            let other = &world.processes[1 - failing];
            let status = other.driver.node.status();
            assert!(status.live, "seed {seed}: {status:?}");
            let history = world.history(1 - failing);
            world.checker.reference(seed, &history, status.at.count, status.holding).unwrap();
            Checker::same_disks(other, &history, seed, &world.disks[1 - failing]).unwrap()
        });
        assert!(judged, "seed {seed}: no moment to look at the disks");
    }
}

#[test]
fn an_error_of_a_lone_guests_disk_is_in_its_log() {
    let mut world = peaceful(4);
    world.live_until(SECOND).unwrap();
    world.processes[1].dead = true;
    world.cut_off(1, true);
    (0..DRIVES[1]).for_each(|sector| world.disks[0][1].set_broken(sector, true));
    world.live_until(2 * SECOND).unwrap();
    let status = world.processes[0].driver.node.status();
    let history = world.history(0);
    let fault = |record: &&ftemu_lockstep::Record| {
        matches!(record.entry, ftemu_lockstep::Entry::Input(Input::DriveFault { drive: 1, .. }))
    };
    assert!(history.iter().any(|record| fault(&record)));
    world.checker.reference(4, &history, status.at.count, status.holding).unwrap();
}
