//! The engine does what the host's CPU does in 16- and 32-bit segments of every kind.

use ftemu_oracle::legacy::silicon_campaign::Campaign;

const CASES: u64 = 12_000;

#[test]
fn segments_limits_and_flags_are_as_on_the_hosts_cpu() {
    let mut campaign = Campaign::new().expect("both machines");
    campaign.run(0x5eed, CASES, 5);
    let tally = &campaign.tally;
    for (kind, (count, text)) in &tally.failures {
        println!("{count} x {kind}\n{text}");
    }
    assert!(tally.failures.is_empty(), "{tally}");
    assert!(tally.compared > CASES * 3 / 4, "{tally}");
    assert!(tally.mnemonics.len() > 160, "{tally}");
    for vector in [0, 3, 4, 5, 6, 12, 13] {
        assert!(tally.vectors.contains_key(&vector), "some case ends with vector {vector}: {tally}");
    }
}
