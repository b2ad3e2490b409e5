//! One bit of the standby is flipped: it is noticed at the next digest, explained, and the guest goes on.

use crate::process::MILLISECOND;
use crate::toy::{DISKLESS, DRIVES, LEAKY, Toy};
use crate::world::{Plan, World};
use ftemu_lockstep::divergence::{Case, Cause, Report, Step, diagnose};
use ftemu_lockstep::{Entry, Guest, Image, Record, State};

const FLIP_AT: u64 = 1000 * MILLISECOND;

/// A pair without disks lives in peace until `damage` is done to the standby's guest.
fn report_of(seed: u64, damage: impl Fn(&mut Toy)) -> (World, Report) {
    let (world, report) = report_in(seed | DISKLESS, |world| damage(standbys_guest(world)));
    let report = report.unwrap_or_else(|| panic!("nothing was noticed: {:#?}", world.trace));
    (world, report)
}

fn standbys_guest(world: &mut World) -> &mut Toy {
    world.processes[1].driver.hands.guest_mut().expect("the standby has a guest")
}

/// A pair lives in peace until `damage` is done; the report, if it was noticed.
fn report_in(seed: u64, damage: impl Fn(&mut World)) -> (World, Option<Report>) {
    let plan = Plan { seed, arbiter: true, chaos_ns: 0, calm_ns: 0, canary: None };
    let mut world = World::new(plan);
    world.differing = true;
    world.live_until(FLIP_AT).unwrap();
    assert!(world.reports.is_empty());
    assert!(world.processes[0].driver.node.status().protected);
    damage(&mut world);
    world.live_until(FLIP_AT + 600 * MILLISECOND).unwrap();
    let report = world.reports.pop();
    (world, report)
}

/// The guest goes on, and all it lets out is what an undamaged guest makes.
fn assert_unharmed(mut world: World) {
    let seed = world.plan.seed;
    world.live_until(FLIP_AT + 1500 * MILLISECOND).unwrap();
    let node = &world.processes[0].driver.node;
    let status = node.status();
    assert!(status.live && matches!(status.state, State::Alone | State::Primary), "{status:?}");
    world.checker.reference(seed, &world.history(0), status.at.count, status.holding).unwrap();
}

#[test]
fn a_flipped_bit_of_memory_is_traced_to_the_instruction_that_read_it() {
    let mut exact = 0;
    for seed in 0..12 {
        let place = 64 + 31 * seed as usize;
        let (world, report) = report_of(seed, |toy| {
            let mut page = *toy.page(1);
            page[place] ^= 0x10;
            toy.set_page(1, &page);
        });
        assert_eq!(report.cause, Cause::StandbyDamaged, "{}", report.text);
        assert!(report.count > report.agreed && report.count.0 - report.agreed.0 <= 2048);
        let address = format!("RAM {:#x}", 4096 + place);
        if report.first.is_none() {
            // Nobody has read it: then it is all that differs.
            assert_eq!(report.differences.len(), 1, "{}", report.text);
            assert_eq!(report.differences[0].place, address);
        }
        if report.text.contains("were flipped") {
            exact += 1;
            assert!(report.text.contains(&format!("RAM byte {:#x}", 4096 + place)), "{}", report.text);
            let first = report.first.expect("the instruction");
            assert_eq!(first.before.0, first.after.0 + 1, "{}", report.text);
        }
        assert_unharmed(world);
    }
    assert!(exact > 0, "no seed's flipped byte was read");
}

#[test]
fn a_flipped_bit_of_a_register_is_traced_to_its_count() {
    for seed in 0..6 {
        let count = std::cell::Cell::new(0);
        let (world, report) = report_of(seed, |toy| {
            toy.registers[3] ^= 1 << 40;
            count.set(toy.count().0);
        });
        let at = count.get();
        assert_eq!(report.cause, Cause::StandbyDamaged, "{}", report.text);
        let first = report.first.expect("a place");
        assert!(first.after.0 == at && first.before.0 == at, "flipped at {at}: {}", report.text);
        assert!(report.differences.iter().any(|difference| difference.place == "D"), "{}", report.text);
        assert_unharmed(world);
    }
}

#[test]
fn a_flipped_bit_of_a_device_is_named() {
    let (world, report) = report_of(3, |toy| {
        let mut state = toy.save();
        state[0] ^= 4;
        toy.load(&state).unwrap();
    });
    assert_eq!(report.cause, Cause::StandbyDamaged, "{}", report.text);
    assert!(report.differences.iter().any(|difference| difference.place == "seed"));
    assert_eq!(report.first, None, "no instruction reads it: {}", report.text);
    assert_unharmed(world);
}

#[test]
fn a_guest_that_uses_its_disks_is_explained_as_well() {
    let (mut exact, mut registers) = (0, 0);
    for seed in 0..12 {
        let (world, report) = report_in(seed, |world| {
            let toy = standbys_guest(world);
            if seed % 2 == 0 {
                let mut page = *toy.page(1);
                page[64 + 31 * seed as usize] ^= 0x10;
                toy.set_page(1, &page);
            } else {
                toy.registers[3] ^= 1 << 40;
            }
        });
        // A byte that was written before anybody has read it differs no more.
        let Some(report) = report else { continue };
        assert_eq!(report.cause, Cause::StandbyDamaged, "seed {seed}: {}", report.text);
        exact += u32::from(report.text.contains("were flipped") && report.first.is_some());
        registers += u32::from(seed % 2 == 1 && report.first.is_some());
        assert_unharmed(world);
    }
    assert!(exact > 0 && registers == 6, "{exact} flipped bytes were traced, {registers} registers");
}

#[test]
fn a_disk_that_was_changed_behind_everybodys_back_comes_to_light_when_it_is_read() {
    let mut found = 0;
    for seed in 0..32 {
        let (world, report) = report_in(seed, |world| {
            (0..DRIVES[1]).for_each(|sector| world.disks[1][1].tamper(sector * 512 + 64, 0x5c));
        });
        let report = report.expect("it reads all of that drive, again and again");
        // What was read before, too, is known to have changed. What the guest had written itself makes the standby differ
        // from a replay, as damage does. Else a replay on that server ends as its guest has, which has read the same, or
        // like nobody: the report says which sectors it may be.
        let changed = report.text.contains("Drive 1: the standby's was changed, and not by the guest, in sectors ");
        let may_be = report.cause == Cause::StandbyDamaged || report.text.contains("the guest has read sectors ");
        assert!(changed || may_be, "seed {seed}: {}", report.text);
        found += u32::from(changed);
        assert_unharmed(world);
    }
    assert!(found > 0, "no sector was read before and after");
}

/// A case in which the guest itself, or the primary, is to blame: a log of one digest.
fn case_of(theirs: &mut Toy, ours: &mut Toy, base: &Toy) -> (Image, Case) {
    let until = ftemu_cpu::Icount(base.count().0 + 2000);
    for toy in [&mut *theirs, &mut *ours] {
        let mut replay = ftemu_lockstep::Replay::new(toy.with(|_| ()));
        replay.run_to(until).unwrap();
        *toy = replay.into_guest();
    }
    let record = Record { count: until, entry: Entry::Digest(theirs.digest()) };
    let trail =
        vec![Step { records: 0, from: base.count(), before: base.fingerprint(), to: until, after: ours.fingerprint() }];
    let case = Case {
        count: until,
        agreed: base.count(),
        theirs: Some(theirs.digest()),
        ours: ours.digest(),
        records: vec![record],
        trail,
    };
    (Image::of(base), case)
}

#[test]
fn a_primary_that_computes_otherwise_is_told_apart() {
    let base = Toy::new(5 | DISKLESS);
    let mut theirs = base.with(|toy| toy.faulty_at = Some(700));
    let mut ours = base.with(|_| ());
    let (image, case) = case_of(&mut theirs, &mut ours, &base);
    let report = diagnose(&mut ours, Some(&image), &[], case);
    assert_eq!(report.cause, Cause::PrimaryDiffers, "{}", report.text);
}

#[test]
fn without_a_copy_the_report_says_so() {
    let base = Toy::new(5 | DISKLESS);
    let (mut theirs, mut ours) = (base.with(|toy| toy.faulty_at = Some(700)), base.with(|_| ()));
    let (_, case) = case_of(&mut theirs, &mut ours, &base);
    assert_eq!(diagnose(&mut ours, None, &[], case).cause, Cause::NoCopy);
}

#[test]
fn an_instruction_that_leaks_a_cache_is_found() {
    let seed = 5 | LEAKY | DISKLESS;
    let base = Toy::new(seed);
    let (mut theirs, mut ours) = (base.with(|toy| toy.leaky = false), base.with(|_| ()));
    let (image, case) = case_of(&mut theirs, &mut ours, &base);
    let report = diagnose(&mut ours, Some(&image), &[], case);
    assert_eq!(report.cause, Cause::CacheLeaks, "{}", report.text);
    let first = report.first.expect("the instruction");
    assert_eq!((first.after.0, first.before.0), (1234, 1235), "{}", report.text);
}
