//! Lives of clusters: chaos, then calm, then everything must be well.

use crate::checker::Checker;
use crate::process::MILLISECOND;
use crate::world::{Canary, Outcome, Plan, World};
use ftemu_lockstep::{Entry, State};

/// Lives through a plan.
fn live(plan: Plan) -> Result<Outcome, (String, Vec<String>)> {
    let mut world = World::new(plan);
    match through(&mut world) {
        Ok(()) => Ok(world.outcome),
        Err(error) => Err((error, world.trace)),
    }
}

fn through(world: &mut World) -> Result<(), String> {
    let plan = world.plan;
    world.live_until(plan.chaos_ns)?;
    world.live_until(plan.chaos_ns + plan.calm_ns - 500 * MILLISECOND)?;
    let (bytes, seen) = (world.checker.stream.len(), world.client.seen.len());
    world.live_until(plan.chaos_ns + plan.calm_ns)?;
    world.outcome.bytes = world.checker.stream.len() as u64;
    world.outcome.repeated = world.checker.repeated;
    world.outcome.frames = world.checker.frames.len() as u64;
    world.outcome.frames_repeated = world.checker.repeated_frames;
    let holders: Vec<usize> = world.sides.into_iter().filter(|&side| world.processes[side].holds_the_guest()).collect();
    if holders.is_empty() {
        world.outcome.lost = true;
        return if world.excused { Ok(()) } else { Err("the guest is lost and no double fault excuses it".into()) };
    }
    let live: Vec<usize> =
        holders.iter().copied().filter(|&side| world.processes[side].driver.node.status().live).collect();
    let [live] = live[..] else { return Err(format!("{} sides are live", live.len())) };
    let status = world.processes[live].driver.node.status();
    let history = world.history(live);
    world.outcome.digests = history.iter().filter(|record| matches!(record.entry, Entry::Digest(_))).count() as u64;
    world.checker.reference(plan.seed, &history, status.at.count, status.holding)?;
    for side in holders {
        let process = &world.processes[side];
        let same = Checker::same_disks(process, &history, plan.seed, &world.disks[process.side])?;
        world.outcome.disks += u64::from(same);
    }
    world.outcome.frames_in = world.all_arrived(&history)?;
    if world.checker.stream.len() <= bytes || world.client.seen.len() <= seen {
        return Err("nothing more comes out".into());
    }
    if !status.protected || status.state != State::Primary {
        return Err(format!("the pair has not come together again: {status:?}"));
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a test's own settings")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

fn plan(seed: u64) -> Plan {
    Plan {
        seed,
        arbiter: !seed.is_multiple_of(3),
        chaos_ns: 3000 * MILLISECOND,
        calm_ns: 3500 * MILLISECOND,
        canary: None,
    }
}

#[test]
fn every_seed_keeps_the_output_rule_and_comes_back() {
    if let Some(seed) = number("FTEMU_SEED") {
        let mut world = World::new(plan(seed));
        let result = through(&mut world);
        world.trace.iter().for_each(|line| println!("{line}"));
        result.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        println!("{:?}", world.outcome);
        return;
    }
    let seeds = number("FTEMU_SEEDS").unwrap_or(300);
    let mut total = Outcome::default();
    let mut lost = 0;
    for seed in 0..seeds {
        match live(plan(seed)) {
            Ok(outcome) => {
                lost += u64::from(outcome.lost);
                total.bytes += outcome.bytes;
                total.repeated += outcome.repeated;
                total.frames += outcome.frames;
                total.frames_repeated += outcome.frames_repeated;
                total.frames_in += outcome.frames_in;
                total.failovers += outcome.failovers;
                total.crashes += outcome.crashes;
                total.digests += outcome.digests;
                total.disks += outcome.disks;
            }
            Err((error, trace)) => {
                trace.iter().rev().take(40).rev().for_each(|line| println!("{line}"));
                panic!("FTEMU_SEED={seed}: {error}");
            }
        }
    }
    println!(
        "{seeds} seeds: {} crashes, {} failovers, {} bytes released, {} of them twice, {} digests agreed, {} disks compared, {lost} guests lost to double faults",
        total.crashes, total.failovers, total.bytes, total.repeated, total.digests, total.disks
    );
    println!(
        "{} frames released, {} of them twice; {} frames that came while protected all reached the guest",
        total.frames, total.frames_repeated, total.frames_in
    );
    assert!(total.disks > seeds, "too few disks compared to learn from");
    assert!(lost * 5 < seeds, "too many double faults to learn from");
    assert!(total.failovers > seeds / 3, "too few failovers to learn from");
}

/// Whether some seed makes the checkers speak up.
fn noticed(canary: Canary) -> bool {
    (0..60).any(|seed| live(Plan { canary: Some(canary), arbiter: true, ..plan(seed) }).is_err())
}

#[test]
fn outputs_that_leave_before_the_acknowledgement_are_noticed() {
    assert!(noticed(Canary::ForgedAcknowledgements));
}

#[test]
fn frames_that_reach_only_the_side_that_dies_are_missed() {
    assert!(noticed(Canary::LearningSwitch));
}

#[test]
fn an_arbiter_that_lets_both_win_is_noticed() {
    assert!(noticed(Canary::GenerousArbiter));
}
