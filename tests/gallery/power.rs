//! Power: resets in every way, the power button, Ctrl-Alt-Del, a clean end. By default with guests that take seconds; with
//! `FTEMU_GALLERY=all` Debian obeys too, and `FTEMU_REBOOTS` says how often everything starts again.

use ftemu_images::tiny::{self, ResetBy};

use crate::guests::Entry;
use crate::processes::{Folder, guest_arguments};
use crate::running::Running;
use crate::{chosen, named, replay};

/// How often a guest starts again.
fn reboots() -> u32 {
    std::env::var("FTEMU_REBOOTS").map_or(3, |text| text.parse().expect("FTEMU_REBOOTS is a number"))
}

/// Debian, if it is among the guests that are asked for.
fn debian() -> Option<&'static Entry> {
    chosen().into_iter().find(|entry| entry.name == "debian-amd64")
}

#[test]
fn a_guest_resets_itself_in_every_way_and_starts_again() {
    for by in [ResetBy::TripleFault, ResetBy::ResetControl, ResetBy::KeyboardController, ResetBy::Port92] {
        let folder = Folder::new();
        let arguments = guest_arguments(&folder, &tiny::resets(by));
        let mut running = Running::with(folder, &arguments);
        for _ in 0..reboots() {
            running.side.wait_for("reset");
        }
        let (_folder, record) = running.stop();
        let starts = replay(&record).matches("ftemu-mark start").count();
        assert!(starts >= reboots() as usize, "{by:?}: {starts} starts");
    }
}

/// A tiny guest, or Debian, whose login manager shuts the system down.
#[test]
fn the_power_button_ends_a_guest_cleanly() {
    let (mut running, last) = if let Some(entry) = debian() {
        let mut running = Running::start(entry);
        running.wait_until_it_works(entry);
        (running, "reboot: Power down")
    } else {
        let folder = Folder::new();
        let arguments = guest_arguments(&folder, &tiny::screen());
        let mut running = Running::with(folder, &arguments);
        running.side.wait_for("status");
        (running, "ftemu-mark screen")
    };
    running.command("press", "power");
    running.side.wait_for("power_off");
    let (_folder, record) = running.finish();
    let said = replay(&record);
    assert!(said.trim_end().ends_with(last), "{said}");
}

/// SeaBIOS resets the machine while GRUB waits for a key; Debian shuts down before.
#[test]
fn control_alt_delete_starts_a_guest_again() {
    let entry = debian().unwrap_or_else(|| named("grub-rescue"));
    let mut running = Running::start(entry);
    running.wait_until_it_works(entry);
    for _ in 0..reboots() {
        running.command("sendkey", "ctrl-alt-delete");
        running.side.wait_for("reset");
        running.wait_until_it_works(entry);
    }
    let (_folder, record) = running.stop();
    replay(&record);
}
