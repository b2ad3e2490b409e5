//! The engine does what Unicorn does in the modes before long mode, segments' limits and types aside.

use ftemu_oracle::legacy::Legacy;

const CASES: u64 = 12_000;

#[test]
fn random_instructions_of_16_and_32_bit_code_are_as_unicorns() {
    let mut legacy = Legacy::new().expect("both machines");
    legacy.run(0x5eed, CASES, 5);
    for (kind, (count, text)) in &legacy.failures {
        println!("{count} x {kind}\n{text}");
    }
    assert!(legacy.failures.is_empty(), "{legacy}");
    assert!(legacy.compared > CASES / 3, "{legacy}");
    assert!(legacy.mnemonics.len() > 100, "{legacy}");
}
