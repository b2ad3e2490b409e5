//! What makes the CPU fast does not show: a guest that torments it runs bit for bit the same without any of it, and with
//! hardly any room for translated code.

use ftemu_cpu::{Icount, Optimisation, Optimisations};
use ftemu_devices::{Config, Machine, Output, Ran};
use ftemu_images::tiny;

const MEMORY_BYTES: u64 = 64 << 20;
const ROUNDS: u64 = 2;
/// Instructions between two digests.
const INTERVAL: u64 = 1_000_000;
const CODE_CACHE: usize = 64 << 20;

/// Digests on the way, and what the guest has said.
fn run(optimisations: Optimisations, code_cache: usize) -> (Vec<(Icount, [u8; 32])>, String) {
    let guest = tiny::torture(ROUNDS, 11);
    let config = Config { memory_bytes: MEMORY_BYTES, ..Config::default() };
    let mut machine = Machine::new(&config).expect("a machine");
    machine.cpu_mut().set_optimisations(optimisations);
    machine.cpu_mut().set_code_cache(code_cache).expect("memory");
    machine.load_linux(&guest.kernel, None, &guest.command_line).expect("the guest loads as Linux does");
    let (mut digests, mut console) = (Vec::new(), Vec::new());
    loop {
        let until = (machine.count().0 / INTERVAL + 1) * INTERVAL;
        let ran = machine.run(Icount(until));
        for emitted in machine.drain() {
            if let Output::Serial { bytes, .. } = emitted.output {
                console.extend(bytes);
            }
        }
        match ran {
            Ran::Count => digests.push((machine.count(), machine.digest())),
            Ran::Idle { deadline_ns: Some(_) } => machine.skip_idle(),
            Ran::PoweredOff => break,
            Ran::Idle { deadline_ns: None } => panic!("the guest sleeps for ever"),
            Ran::Output | Ran::DriveFault { .. } => {}
        }
    }
    digests.push((machine.count(), machine.digest()));
    (digests, String::from_utf8_lossy(&console).into_owned())
}

#[test]
fn a_guest_runs_the_same_without_any_optimisation() {
    let expected = run(Optimisations::all(), CODE_CACHE);
    assert_eq!(expected.1.matches("ftemu-line ").count() as u64, ROUNDS, "{}", expected.1);
    println!("{} digests up to {:?}", expected.0.len(), expected.0.last());
    for &one in Optimisation::ALL {
        assert!(run(Optimisations::all().without(one), CODE_CACHE) == expected, "it differs without {}", one.name());
    }
    assert!(run(Optimisations::none(), CODE_CACHE) == expected, "it differs with none");
    assert!(run(Optimisations::all(), 1) == expected, "it differs with a tiny code cache");
}
