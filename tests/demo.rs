//! The promise of the first page: kill either server at any moment, or let it fall silent, and each line of the guest's
//! console comes once and is right. Played by the demonstration itself, as a user runs it; its exit status is the verdict.

use std::process::{Command, Stdio};

/// Plays some rounds and returns what was said.
fn demo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_ftemu"))
        .args(["demo", "--quiet"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {}\n{said}\n{complaints}", output.status);
    said
}

#[test]
fn a_killed_primary_loses_no_line() {
    let said = demo(&["--guest", "tiny", "--rounds", "3", "--lines", "60", "--seed", "11"]);
    assert!(said.contains("all 3 rounds held: 180 lines"), "{said}");
    assert!(said.contains("gets SIGKILL"), "{said}");
}

#[test]
fn a_killed_standby_is_not_noticed_by_the_guest() {
    let said = demo(&["--guest", "tiny", "--kill", "standby", "--lines", "60", "--seed", "12"]);
    assert!(said.contains("the standby gets SIGKILL"), "{said}");
}

#[test]
fn a_silent_primary_is_replaced_and_halts_itself_when_it_wakes() {
    let said = demo(&["--guest", "tiny", "--silence", "--rounds", "2", "--lines", "60", "--seed", "13"]);
    assert!(said.contains("gets SIGSTOP"), "{said}");
}

#[test]
fn a_silent_standby_does_not_stop_the_guest() {
    let said = demo(&["--guest", "tiny", "--silence", "--kill", "standby", "--lines", "60", "--seed", "14"]);
    assert!(said.contains("the standby gets SIGSTOP"), "{said}");
}

/// The real kernel, where apt serves it; the demonstration falls back to a tiny guest and says so where it does not.
#[test]
fn a_linux_guest_survives_its_primary() {
    let said = demo(&["--seed", "15", "--lines", "80"]);
    assert!(said.contains("80 lines checked outside the guest"), "{said}");
}
