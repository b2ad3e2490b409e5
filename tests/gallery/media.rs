//! CDs that are changed while the machine runs: the guest starts from each, and the record of that is the same life again.

use crate::guests::packaged;
use crate::processes::{Folder, run};
use crate::running::Running;
use crate::{named, replay};

#[test]
fn a_machine_starts_from_cds_that_are_put_in_while_it_runs() {
    let arguments = ["--cdrom", "none", "--boot", "d", "--memory", "64M", "--net", "none"].map(str::to_owned);
    let mut running = Running::with(Folder::new(), &arguments);
    run(["insert", &running.console, "none.iso"]).failed_saying(&["none.iso", "no such file"]);
    run(["insert", &running.console, "none.iso", "--drive", "1"]).failed_saying(&["1 CD-ROM drive"]);
    for name in ["grub-rescue", "ipxe"] {
        running.command("insert", &packaged(name)[0]);
        running.command("press", "reset");
        running.side.wait_for("reset");
        running.wait_until_it_works(named(name));
    }
    assert!(run(["eject", &running.console]).status.success());
    let (_folder, record) = running.stop();
    replay(&record);
}
