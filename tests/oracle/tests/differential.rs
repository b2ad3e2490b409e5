//! The engine does what silicon does: random programs on the host's CPU and on the engine, whole and in slices.
//!
//! The soak (`cargo run --release -p ftemu-oracle --bin soak -- --cases 1000000 --seed 1`) is the same with more.

use ftemu_oracle::campaign::Campaign;

const CASES: u64 = 40_000;

#[test]
fn random_programs_end_as_on_the_hosts_cpu() {
    let mut campaign = Campaign::new(0x5eed).expect("an oracle");
    campaign.run(CASES).expect("the oracle lives");
    let statistics = &campaign.statistics;
    for (kind, (count, text)) in &statistics.failures {
        println!("{count} x {kind}\n{text}");
    }
    assert!(statistics.failures.is_empty(), "{statistics}");
    assert!(statistics.compared > CASES * 95 / 100, "{statistics}");
    assert!(statistics.instructions.len() > 480, "nearly all of the catalogue: {statistics}");
    for vector in [0, 1, 3, 6, 12, 13, 14, 16, 19] {
        assert!(statistics.vectors.contains_key(&vector), "some case ends with vector {vector}: {statistics}");
    }
}
