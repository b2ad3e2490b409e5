//! Power: resets in every way, the power button, Ctrl-Alt-Del, a clean end. By default a tiny guest; with `FTEMU_GALLERY=all`
//! Debian does it too.

use ftemu_images::build::Kernel;
use ftemu_images::tiny::{self, ResetBy};

use crate::guests::disk;
use crate::processes::{Folder, Side, guest_arguments, run, side_arguments};
use crate::running::Running;

/// How often a guest starts again.
fn reboots(default: u32) -> u32 {
    std::env::var("FTEMU_REBOOTS").map_or(default, |text| text.parse().expect("FTEMU_REBOOTS is a number"))
}

fn replays(record: &std::path::Path) {
    let outcome = run(["replay".as_ref(), record.as_os_str(), "--quiet".as_ref()]);
    assert!(outcome.status.success(), "{}", outcome.complaints);
    outcome.said(&["bit for bit the same"]);
}

#[test]
fn a_guest_resets_itself_in_every_way_and_starts_again() {
    for by in [ResetBy::TripleFault, ResetBy::ResetControl, ResetBy::KeyboardController, ResetBy::Port92] {
        let folder = Folder::new();
        let record = folder.path("guest.ftlog");
        let own = ["run", "--no-stdio", "--record", &record.display().to_string()].map(str::to_owned);
        let guest = guest_arguments(&folder, &tiny::resets(by));
        let mut side = Side::start(own.into_iter().chain(side_arguments(&folder, "a")).chain(guest));
        for _ in 0..reboots(3) {
            side.wait_for("reset");
        }
        side.signal("-TERM");
        let outcome = side.finish();
        assert!(outcome.status.success(), "{by:?}: {}", outcome.complaints);
        replays(&record);
    }
}

/// A Debian at its login prompt, if whole systems are asked for.
fn debian() -> Option<Running> {
    std::env::var("FTEMU_GALLERY").is_ok_and(|names| names.split(',').any(|name| name == "all")).then(|| {
        let arguments = [disk(Kernel::Amd64), "--snapshot".to_owned()];
        let mut running = Running::with(&arguments);
        running.expect_serial("debian login: ");
        running.serial();
        running
    })
}

#[test]
fn the_power_button_makes_a_system_shut_down_cleanly() {
    let Some(mut running) = debian() else { return };
    running.expect_serial("Power down");
    running.command("press", "power");
    running.side.wait_for("power_off");
    let (_folder, record, outcome) = running.finish();
    assert!(outcome.status.success(), "{}", outcome.complaints);
    replays(&record);
}

#[test]
fn control_alt_delete_makes_a_system_start_again() {
    let Some(mut running) = debian() else { return };
    for _ in 0..reboots(1).div_ceil(25) {
        running.command("sendkey", "ctrl-alt-delete");
        running.side.wait_for("reset");
        running.expect_serial("GRUB");
        running.serial();
    }
    let (_folder, record) = running.stop();
    replays(&record);
}
