//! The promise: a bit that flips in the standby's machine is noticed at the next digest and explained, and the guest
//! goes on on the primary as if nothing had happened.
//!
//! Two real machines follow the pair protocol in one thread; time is counted, not measured. Which instruction first
//! computed with the damage, and what a leaking cache or a wrong primary looks like, is in `lockstep/tests/cluster`.

use ftemu_devices::{Config, Machine};
use ftemu_images::tiny;
use ftemu_lockstep::divergence::{Cause, Report};
use ftemu_lockstep::event::Finish;
use ftemu_lockstep::{
    Action, Driver, Event, Hands, Icount, Identity, Node, Notice, Output, PROTOCOL, Place, Release, Settings, Step,
};

const INTERVAL: u64 = 1 << 18;
const ROUNDS: u64 = 60;

/// A machine with a guest that torments its CPU.
fn machine() -> Machine {
    let guest = tiny::torture(ROUNDS, 7);
    let mut machine = Machine::new(&Config { memory_bytes: 16 << 20, ..Config::default() }).expect("a machine");
    machine.load_linux(&guest.kernel, None, &guest.command_line).expect("a guest");
    machine
}

struct Pair {
    sides: [Driver<Machine>; 2],
    now: u64,
    console: Vec<u8>,
    differed: Option<Icount>,
    report: Option<Report>,
    finished: [Option<Finish>; 2],
}

impl Pair {
    fn new() -> Self {
        let identity = Identity {
            protocol: PROTOCOL,
            build: "test".into(),
            cpu_vendor: "test".into(),
            cpu_family: 0,
            cpu_model: 0,
            drives: Vec::new(),
        };
        let settings = Settings { wait_for_standby: true, digest_interval: INTERVAL, ..Settings::default() };
        let machine = machine();
        let primary = Node::primary(settings.clone(), identity.clone(), 1, 0, Place::of(&machine));
        let standby = Node::standby(settings, identity, 2, 0);
        let mut sides = [Driver::new(primary, Hands::with(machine)), Driver::new(standby, Hands::empty())];
        sides.iter_mut().for_each(|side| side.handle(0, Event::LinkUp { link: 1 }));
        Self { sides, now: 0, console: Vec::new(), differed: None, report: None, finished: [None, None] }
    }

    /// Lives until `end` says so; a guest that gets nowhere is a failure.
    fn live_until(&mut self, end: impl Fn(&Pair) -> bool) {
        for _ in 0..2_000_000 {
            if end(self) {
                return;
            }
            self.now += 20_000;
            for side in [0, 1] {
                if self.finished[side].is_none()
                    && let Step::Worked(done) = self.sides[side].step(self.now)
                {
                    self.sides[side].finish(self.now, done);
                }
                self.carry_out(side);
            }
        }
        panic!("the pair got nowhere: {:?}", self.sides[0].node.status());
    }

    fn carry_out(&mut self, side: usize) {
        while let Some(action) = self.sides[side].poll() {
            match action {
                Action::Send { link, bytes, .. } => {
                    self.sides[1 - side].handle(self.now, Event::Received { link, bytes });
                }
                Action::Release(Release::Serial { port: 0, position, bytes }) => {
                    assert_eq!((side, position), (0, self.console.len() as u64));
                    self.console.extend(bytes);
                }
                Action::Notice(Notice::Differs { count }) => self.differed = Some(count),
                Action::Notice(Notice::Diverged(report)) => self.report = Some(*report),
                Action::Finished(finish) => self.finished[side] = Some(finish),
                _ => (),
            }
        }
    }

    fn count(&self, side: usize) -> u64 {
        self.sides[side].node.status().at.count.0
    }
}

/// A pair lives, the damage is done to the standby's machine, and the guest must end as it would have anyway.
fn damaged(damage: impl Fn(&mut Machine)) -> Report {
    let mut pair = Pair::new();
    pair.live_until(|pair| pair.count(1) > INTERVAL + INTERVAL / 2);
    let at = pair.count(1);
    damage(pair.sides[1].hands.guest_mut().expect("the standby's machine"));
    pair.live_until(|pair| pair.report.is_some());
    let report = pair.report.take().expect("a report");
    assert_eq!(pair.differed, Some(Icount((at / INTERVAL + 1) * INTERVAL)), "noticed at the next digest");
    assert_eq!(pair.finished[1], Some(Finish::Diverged));
    assert_eq!(report.cause, Cause::StandbyDamaged, "{}", report.text);
    assert!(report.agreed.0 <= at && at <= report.count.0);
    assert!(!report.differences.is_empty(), "{}", report.text);
    if let Some(first) = report.first {
        assert!(first.after.0 >= at && first.after.0 < report.count.0, "damaged at {at}: {}", report.text);
    }
    pair.live_until(|pair| pair.finished[0].is_some());
    assert_eq!(pair.finished[0], Some(Finish::PoweredOff));
    assert!(pair.console == undamaged(), "the guest on the primary noticed");
    report
}

/// What the guest prints when nothing happens to it.
fn undamaged() -> Vec<u8> {
    let (mut machine, mut console) = (machine(), Vec::new());
    loop {
        let ran = machine.run(Icount(u64::MAX));
        for emitted in machine.drain() {
            if let Output::Serial { port: 0, bytes } = emitted.output {
                console.extend(bytes);
            }
        }
        match ran {
            ftemu_lockstep::Ran::PoweredOff => return console,
            ftemu_lockstep::Ran::Idle { .. } => machine.skip_idle(),
            _ => (),
        }
    }
}

#[test]
fn a_bit_of_memory() {
    // The last page: nobody reads it, so it lies there until the digest finds it, and is all that differs.
    let report = damaged(|machine| {
        let last = machine.ram_pages() - 1;
        let mut page = *machine.ram_page(last);
        page[1234] ^= 1 << 3;
        machine.set_ram_page(last, &page);
    });
    assert_eq!(report.first, None, "{}", report.text);
    assert_eq!(report.differences.len(), 1, "{}", report.text);
    assert_eq!(report.differences[0].ram.map(|(_, _, offset)| offset), Some(1234));
    assert!(report.text.contains("00 -> 08"), "{}", report.text);
}

#[test]
fn a_bit_of_a_register() {
    let report = damaged(|machine| machine.cpu_mut().state_mut().kernel_gs_base ^= 1 << 20);
    assert!(report.text.contains("KERNEL_GS_BASE: 0000000000000000 -> 0000000000100000"), "{}", report.text);
}

#[test]
fn a_bit_of_a_device() {
    let report = damaged(|machine| machine.chips_mut().diagnostic ^= 1);
    assert!(report.text.contains("port 80h: 00 -> 01"), "{}", report.text);
}

#[test]
fn a_bit_that_changes_the_course_of_things() {
    let report = damaged(|machine| machine.cpu_mut().state_mut().gpr[4] ^= 1 << 4);
    let first = report.first.expect("where it began");
    assert_eq!(first.after, first.before, "between two instructions: {}", report.text);
}
