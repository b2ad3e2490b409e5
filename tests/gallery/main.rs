//! The gallery: systems that we did not write, started as users start them, until their screen shows that they work.
//! Then the record of that is replayed, and every digest must agree.
//!
//! By default only the guests that take seconds. `scripts/soak guests` has all of them: `FTEMU_GALLERY=all`, or names from
//! the table in `guests.rs`, joined by commas; `FTEMU_GALLERY_PICTURES=FOLDER` keeps what they showed. CDs that change are in `media.rs`,
//! buttons, keys and resets in `power.rs`; `FTEMU_REBOOTS` says how often the tiny guests start again.

mod guests;
mod media;
mod power;
#[path = "../processes/mod.rs"]
mod processes;
mod running;
mod screen;

use std::path::Path;

use guests::{Entry, TABLE};
use processes::run;
use running::Running;

/// A guest of the table.
fn named(name: &str) -> &'static Entry {
    TABLE.iter().find(|entry| entry.name == name).unwrap_or_else(|| panic!("no guest is called {name}"))
}

/// The guests that the environment asks for, or those that take seconds.
fn chosen() -> Vec<&'static Entry> {
    let asked = std::env::var("FTEMU_GALLERY").unwrap_or_default();
    let names: Vec<&str> = asked.split(',').filter(|name| !name.is_empty()).collect();
    match names.as_slice() {
        [] => TABLE.iter().filter(|entry| entry.quick).collect(),
        ["all"] => TABLE.iter().collect(),
        names => names.iter().map(|name| named(name)).collect(),
    }
}

#[test]
fn every_guest_shows_that_it_works_and_replays_bit_for_bit() {
    for entry in chosen() {
        let mut running = Running::start(entry);
        running.wait_until_it_works(entry);
        if let Some(folder) = std::env::var_os("FTEMU_GALLERY_PICTURES") {
            running.keep_picture(Path::new(&folder), entry.name);
        }
        let (_folder, record) = running.stop();
        replay(&record);
        eprintln!("{}: works, and its record is the same life again", entry.name);
    }
}

/// Replays a record, compares every digest, and gives what the guest said on its console.
fn replay(record: &Path) -> String {
    let outcome = run(["replay".as_ref(), record.as_os_str()]);
    assert!(outcome.status.success(), "{}", outcome.complaints);
    outcome.said(&["bit for bit the same"]);
    outcome.output
}
