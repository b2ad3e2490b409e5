//! The engine does what Unicorn does where user mode cannot ask the host: paging, privilege and segments; and once more
//! the host's programs. Unicorn's known errors are listed in `known.rs`.

use ftemu_oracle::second::{Second, Subjects};

fn compare(subjects: Subjects, cases: u64, least: u64, vectors: &[u8]) {
    let mut second = Second::new().expect("both machines");
    second.run(subjects, 0x5eed, cases, 5);
    for (kind, (count, text)) in &second.failures {
        println!("{count} x {kind}\n{text}");
    }
    assert!(second.failures.is_empty(), "{second}");
    assert!(second.compared >= least, "{second}");
    for vector in vectors {
        assert!(second.vectors.contains_key(vector), "some case ends with vector {vector}: {second}");
    }
}

#[test]
fn paging_and_segments_are_as_unicorns() {
    compare(Subjects::System, 20_000, 10_000, &[3, 11, 13, 14]);
}

#[test]
fn user_programs_end_as_on_unicorn() {
    compare(Subjects::User, 30_000, 5_000, &[0, 3, 6, 13, 14]);
}
