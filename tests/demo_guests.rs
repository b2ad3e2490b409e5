//! Our own tiny guests on the machine: what they print is right, interrupts reach them, and the one that torments the CPU
//! runs the same however its run is cut.

use ftemu_cpu::Icount;
use ftemu_devices::{Config, Input, Machine, Output, Ran};
use ftemu_images::chain::{Seen, Work};
use ftemu_images::{Chain, Guest, tiny};

const MEMORY_BYTES: u64 = 64 << 20;

/// A machine with a guest, and what it has said so far.
struct Running {
    machine: Machine,
    console: Vec<u8>,
    off: bool,
}

impl Running {
    fn new(guest: &Guest) -> Self {
        let config = Config { memory_bytes: MEMORY_BYTES, ..Config::default() };
        let mut machine = Machine::new(&config).expect("a machine");
        machine.load_linux(&guest.kernel, None, &guest.command_line).expect("the guest loads as Linux does");
        Self { machine, console: Vec::new(), off: false }
    }

    /// Runs to a count, or until the machine is off or has nothing to wait for.
    fn run(&mut self, until: u64) {
        while !self.off && self.machine.count() < Icount(until) {
            let ran = self.machine.run(Icount(until));
            for emitted in self.machine.drain() {
                match emitted.output {
                    Output::Serial { bytes, .. } => self.console.extend(bytes),
                    Output::PowerOff => self.off = true,
                    Output::Reset => panic!("the guest reset itself after: {}", self.text()),
                    Output::Frame { .. } => panic!("a guest without a network card sent a frame"),
                }
            }
            match ran {
                Ran::Idle { deadline_ns: Some(_) } => self.machine.skip_idle(),
                Ran::Idle { deadline_ns: None } => return,
                Ran::PoweredOff => self.off = true,
                Ran::Count | Ran::Output | Ran::DriveFault { .. } => {}
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.console).into_owned()
    }
}

#[test]
fn the_lines_guest_prints_its_chain_and_powers_off() {
    let mut running = Running::new(&tiny::lines(12, 3, 2));
    running.run(1_000_000_000);
    let mut chain = Chain::new(Work::Tiny, 3);
    let seen: Vec<Seen> = running.text().lines().map(|line| chain.feed(line).expect("a right line")).collect();
    assert_eq!(seen.last(), Some(&Seen::End(12)), "{}", running.text());
    assert!(running.off);
}

#[test]
fn the_echo_guest_sends_back_what_interrupts_bring() {
    let mut running = Running::new(&tiny::echo());
    running.run(100_000_000);
    assert_eq!(running.text(), "ftemu-mark echo\r\n");
    for piece in ["hello", ", ", "world"] {
        running.machine.apply(&Input::Serial { port: 0, bytes: piece.as_bytes().to_vec() });
        running.run(running.machine.count().0 + 10_000_000);
    }
    assert_eq!(running.text(), "ftemu-mark echo\r\nhello, world");
    assert!(!running.off);
    running.machine.apply(&Input::Serial { port: 0, bytes: vec![4] });
    running.run(running.machine.count().0 + 10_000_000);
    assert!(running.off);
}

#[test]
fn the_torture_guest_runs_the_same_however_it_is_cut() {
    let guest = tiny::torture(20, 5);
    let end = 2_000_000_000;
    let mut whole = Running::new(&guest);
    whole.run(end);
    assert!(whole.off, "{}", whole.text());
    assert_eq!(whole.text().matches("ftemu-line ").count(), 20);
    let mut cut = Running::new(&guest);
    let mut state = 88_172_645_463_325_252u64;
    while !cut.off {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        cut.run(cut.machine.count().0 + 1 + state % 50_000);
        if state.is_multiple_of(5) {
            cut.machine.forget_derived();
        }
    }
    assert_eq!(cut.text(), whole.text());
    assert_eq!(cut.machine.count(), whole.machine.count());
    assert_eq!(cut.machine.digest(), whole.machine.digest());
}
