//! The engine does what Unicorn does in the modes before long mode, segments' limits and types aside.

use ftemu_oracle::legacy::Legacy;

const CASES: u64 = 12_000;

#[test]
fn random_instructions_of_16_and_32_bit_code_are_as_unicorns() {
    let mut legacy = Legacy::new().expect("both machines");
    legacy.run(0x5eed, CASES, 5);
    let tally = &legacy.tally;
    for (kind, (count, text)) in &tally.failures {
        println!("{count} x {kind}\n{text}");
    }
    assert!(tally.failures.is_empty(), "{tally}");
    assert!(tally.compared > CASES / 3, "{tally}");
    assert!(tally.mnemonics.len() > 100, "{tally}");
}
