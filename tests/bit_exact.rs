//! The promise: the same inputs at the same counts give the same guest, bit for bit, whatever happens around it.
//!
//! A real kernel boots to its init and works there, with keys and clock anchors on the way. Then it does so again with
//! the translation cache thrown away at random, cut into random slices, and resumed from a checkpoint taken at a random
//! count on a machine that is cold; every digest along the way must be the same. Another process, at other addresses
//! and under load, is `tests/replay.rs`.

use ftemu_cpu::Icount;
use ftemu_devices::{Config, Input, Machine, Output, Ran};
use ftemu_images::{Catalogue, Guest, debian};

/// A digest is compared at each multiple of this count.
const INTERVAL: u64 = 1 << 26;
/// The script's inputs, by count.
const INPUTS: u64 = 40;
const MEMORY_BYTES: u64 = 192 << 20;

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

/// Inputs at fixed counts: keys, and a clock that now runs ahead and now stands.
fn script() -> Vec<(u64, Input)> {
    (1..=INPUTS)
        .map(|number| {
            let count = number * 77_777_777 + number % 3;
            let input = match number % 3 {
                0 => Input::Serial { port: 0, bytes: format!("key {number}\n").into_bytes() },
                _ => Input::Clock { ns: count + number * 1_000_003, rate: 700 + number as u32 * 20 },
            };
            (count, input)
        })
        .collect()
}

fn guest() -> Guest {
    let mode = debian::Mode::Lines { lines: 12, seed: 7, pause_us: 1000 };
    Catalogue::user().and_then(|catalogue| catalogue.debian(mode, &mut |_| ())).expect("Debian's kernel through apt")
}

fn fresh(guest: &Guest) -> Machine {
    let config = Config { memory_bytes: MEMORY_BYTES, ..Config::default() };
    let mut machine = Machine::new(&config).expect("a machine");
    machine.load_linux(&guest.kernel, guest.initrd.as_deref(), &guest.command_line).expect("a kernel that loads");
    machine
}

/// What happens around a run.
struct Around {
    random: Random,
    slices: bool,
    flushes: bool,
    /// Replace the machine by a cold one with the same state at this digest.
    resume_at: Option<usize>,
}

/// What a run leaves behind.
#[derive(PartialEq, Eq)]
struct Outcome {
    digests: Vec<(u64, [u8; 32])>,
    console: Vec<u8>,
    end: Icount,
}

/// Runs to the end of the guest, comparing nothing: a deterministic machine needs only its inputs.
fn run(guest: &Guest, mut around: Around) -> Outcome {
    let mut machine = fresh(guest);
    let mut outcome = Outcome { digests: Vec::new(), console: Vec::new(), end: Icount(0) };
    let mut inputs = script().into_iter().peekable();
    loop {
        let count = machine.count().0;
        while let Some((_, input)) = inputs.next_if(|(at, _)| *at == count) {
            machine.apply(&input);
        }
        let mut until = (count / INTERVAL + 1) * INTERVAL;
        if let Some((at, _)) = inputs.peek() {
            until = until.min(*at);
        }
        if around.slices {
            until = until.min(count + 1 + around.slice());
        }
        let ran = machine.run(Icount(until));
        for emitted in machine.drain() {
            if let Output::Serial { bytes, .. } = emitted.output {
                outcome.console.extend(bytes);
            }
        }
        match ran {
            Ran::PoweredOff => break,
            Ran::Idle { .. } => machine.skip_idle(),
            Ran::Count | Ran::Output | Ran::DriveFault { .. } => {}
        }
        if around.flushes && around.random.below(8) == 0 {
            machine.forget_derived();
        }
        if machine.count().0.is_multiple_of(INTERVAL)
            && outcome.digests.last().is_none_or(|last| last.0 != machine.count().0)
        {
            if around.resume_at == Some(outcome.digests.len()) {
                machine = thaw(&machine, guest);
            }
            outcome.digests.push((machine.count().0, machine.digest()));
        }
    }
    outcome.end = machine.count();
    outcome
}

impl Around {
    fn quiet() -> Around {
        Around { random: Random(1), slices: false, flushes: false, resume_at: None }
    }

    /// Mostly long slices, some of a few instructions.
    fn slice(&mut self) -> u64 {
        match self.random.below(16) {
            0 => self.random.below(20),
            1..4 => self.random.below(3000),
            _ => self.random.below(3_000_000),
        }
    }
}

/// The same machine from its checkpoint, with nothing cached.
fn thaw(machine: &Machine, guest: &Guest) -> Machine {
    let mut saved = Vec::new();
    machine.save(&mut saved);
    let mut cold = fresh(guest);
    for page in 0..machine.ram_pages() {
        cold.set_ram_page(page, machine.ram_page(page));
    }
    cold.load(&saved).expect("a checkpoint of our own");
    cold
}

#[test]
fn a_kernel_boots_bit_for_bit_the_same() {
    let guest = guest();
    let expected = run(&guest, Around::quiet());
    let text = String::from_utf8_lossy(&expected.console);
    assert!(text.contains("ftemu-end 12 "), "the guest did its work: {text}");
    assert!(expected.digests.len() > 20);
    let seed = std::env::var("FTEMU_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20261122);
    println!("FTEMU_SEED={seed}, {} instructions, {} digests", expected.end.0, expected.digests.len());
    let mut random = Random(seed);
    let resume = random.below(expected.digests.len() as u64) as usize;
    let rounds = [
        ("flushes", Around { random: Random(seed + 1), slices: true, flushes: true, resume_at: None }),
        ("slices", Around { random: Random(seed + 2), slices: true, ..Around::quiet() }),
        ("a cold resume", Around { resume_at: Some(resume), ..Around::quiet() }),
    ];
    for (name, around) in rounds {
        let outcome = run(&guest, around);
        let differs = outcome.digests.iter().zip(&expected.digests).find(|(one, other)| one != other);
        assert!(differs.is_none(), "{name}: the digest at count {} differs", differs.map_or(0, |(one, _)| one.0));
        assert!(outcome == expected, "{name}: the end differs");
    }
}
