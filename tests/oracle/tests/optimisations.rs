//! No optimisation shows: random programs end the same with each of them off, and with all off.

use ftemu_cpu::{Optimisation, Optimisations};
use ftemu_oracle::case::{Case, Outcome, Subject};
use ftemu_oracle::compare::{Excused, differences, report};
use ftemu_oracle::engine::{Engine, Slicing};
use ftemu_oracle::generate;

const CASES: u64 = 1_500;

/// One machine with all of them, one for each that is off, one with none.
fn machines() -> Vec<(String, Engine)> {
    let with = |name: &str, optimisations| {
        let mut engine = Engine::new().expect("a machine");
        engine.set_optimisations(optimisations);
        (name.to_owned(), engine)
    };
    let all = [with("all", Optimisations::all()), with("none", Optimisations::none())];
    let each = Optimisation::ALL
        .iter()
        .map(|&one| with(&format!("without {}", one.name()), Optimisations::all().without(one)));
    all.into_iter().chain(each).collect()
}

fn run(engine: &mut Engine, case: &Case) -> Option<Outcome> {
    let program = case.assemble()?;
    engine.run(case, &program)
}

fn same_everywhere(case: impl Fn(u64) -> Case) {
    let mut machines = machines();
    let mut ended = 0;
    for seed in 0..CASES {
        let case = case(seed);
        let (first, others) = machines.split_first_mut().expect("a machine");
        let expected = run(&mut first.1, &case);
        ended += u64::from(expected.is_some());
        for (name, engine) in others {
            engine.slicing = if seed % 4 == 0 { Slicing::Random(seed) } else { Slicing::Whole };
            let found = run(engine, &case);
            if found != expected {
                let details = match (&expected, &found) {
                    (Some(expected), Some(found)) => differences(&case, expected, found, Excused::default()),
                    _ => Vec::new(),
                };
                panic!("seed {seed}: {}", report(&case, ["all", name], &details));
            }
        }
    }
    assert!(ended > CASES / 2, "{ended} of {CASES} programs end");
}

#[test]
fn user_programs_end_the_same_without_any_optimisation() {
    same_everywhere(|seed| generate::case(seed, (seed / 256) as usize, None));
}

#[test]
fn system_programs_end_the_same_without_any_optimisation() {
    same_everywhere(|seed| {
        let mut case = generate::system::case(seed);
        // A bit of the control word that always reads as 1.
        case.registers.fx[0] |= 1 << 6;
        case
    });
}
