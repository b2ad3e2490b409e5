//! A protected Debian on its disks, started as users start it; the images judged by QEMU's and ext4's own tools.
//!
//! Each test takes minutes and is named in `FTEMU_PAIR_DEBIAN` (`all`, or names joined by commas), as `scripts/soak disks`
//! does; without it nothing is started here, and `pair_disk.rs` promises the same with tiny guests. The disk is built
//! once and stays in the catalogue's folder.

mod disks;
mod login;
#[path = "../processes/mod.rs"]
mod processes;

use std::path::PathBuf;

use disks::{Format, assert_sound, copy_of_debian};
use login::Login;
use processes::{Client, Folder, Side, side_arguments};

use Format::{Qcow2, Raw};

/// Whether the environment asks for this test.
fn asked(name: &str) -> bool {
    let names = std::env::var("FTEMU_PAIR_DEBIAN").unwrap_or_default();
    let asked = names.split(',').any(|one| one == name || one == "all");
    eprintln!("{name}: {}", if asked { "begins" } else { "not asked for by FTEMU_PAIR_DEBIAN" });
    asked
}

/// A protected Debian at its shell.
struct Pair {
    _folder: Folder,
    disks: [PathBuf; 2],
    sides: [Side; 2],
    login: Login,
}

fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|word| (*word).to_owned()).collect()
}

/// Starts a pair with an image of its own for each side.
fn pair(formats: [Format; 2], disk_options: &str) -> Pair {
    let folder = Folder::new();
    folder.identities();
    let disks = [copy_of_debian(&folder, "a", formats[0]), copy_of_debian(&folder, "b", formats[1])];
    let drive = |disk: &PathBuf| format!("{}{disk_options}", disk.display());
    let standby = words(&["standby", "--listen", "127.0.0.1:0", "--drive", &drive(&disks[1])]);
    let mut second = Side::start([standby, side_arguments(&folder, "b")].concat());
    let listens = second.address("listening");
    let second_console = second.address("console");
    let primary = words(&["run", "--no-stdio", "--memory", "512M", "--peer", &listens, "--drive", &drive(&disks[0])]);
    let mut first = Side::start([primary, side_arguments(&folder, "a")].concat());
    let first_console = first.address("console");
    first.wait_for("protected");
    let login = Login::new(Client::start(&[&first_console, &second_console]));
    Pair { _folder: folder, disks, sides: [first, second], login }
}

#[test]
fn a_pair_that_is_shut_down_has_equal_disks() {
    let cases =
        [("raw", [Raw, Raw]), ("qcow2", [Qcow2, Qcow2]), ("raw-qcow2", [Raw, Qcow2]), ("qcow2-raw", [Qcow2, Raw])];
    for (_, formats) in cases.into_iter().filter(|(name, _)| asked(name)) {
        let Pair { _folder, disks, sides, mut login } = pair(formats, "");
        login.run("tar cf /srv/etc.tar /etc && head -c 20M /dev/urandom > /srv/noise && sync && rm /srv/etc.tar");
        let sum = login.run("sha256sum /srv/noise");
        assert!(sum.contains("/srv/noise"), "{sum}");
        login.power_off();
        for side in sides {
            let outcome = side.finish();
            assert!(outcome.status.success(), "{}", outcome.complaints);
        }
        disks::assert_equal(&disks, formats);
        disks.iter().zip(formats).for_each(|(disk, format)| assert_sound(disk, format));
    }
}

#[test]
fn fsync_heavy_work_survives_the_primary_and_so_does_the_file_system() {
    let interfaces = [("fio-ide", ",if=ide"), ("fio-virtio", ",if=virtio")];
    for (_, options) in interfaces.into_iter().filter(|(name, _)| asked(name)) {
        let Pair { _folder, disks, sides: [mut first, mut second], mut login } = pair([Qcow2, Qcow2], options);
        login.begin(
            "fio --name=v --directory=/root --rw=randwrite --bs=4k --size=24M --fsync=8 --verify=crc32c --do_verify=1 \
             --verify_fatal=1 --status-interval=2 --output-format=terse > /srv/fio.out 2>&1 & \
             until [ -s /srv/fio.out ]; do sleep 1; done; echo 'fio at ''work'; wait $!",
        );
        login.wait_for("fio at work");
        first.kill();
        second.wait_for("live");
        login.end();
        login.power_off();
        let outcome = second.finish();
        assert!(outcome.status.success(), "{}", outcome.complaints);
        assert_sound(&disks[1], Qcow2);
    }
}

/// Sums that a lost or repeated transaction would make unequal.
const BALANCES: &str = "select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history) \
     and (select sum(tbalance) from pgbench_tellers) = (select sum(bbalance) from pgbench_branches) \
     and (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches)";

#[test]
fn postgresql_loses_no_transaction_with_the_primary() {
    if !asked("postgresql") {
        return;
    }
    let Pair { _folder, disks, sides: [mut first, mut second], mut login } = pair([Raw, Qcow2], ",if=virtio");
    login.run("systemctl start postgresql && cd / && su postgres -c 'createdb bench && pgbench -q -i -s 2 bench'");
    login.run("su postgres -c \"psql -qc 'create extension amcheck' bench\"");
    login.begin(
        "su postgres -c 'pgbench -n -P 1 -c 4 -t 2500 bench' 2>&1 | tee /tmp/bench.out | \
         while read line; do case \"$line\" in progress*) n=$((n+1)); echo \"progress line $n\";; esac; done; \
         grep 'actually processed' /tmp/bench.out",
    );
    login.wait_for("progress line 3");
    first.kill();
    second.wait_for("live");
    let said = login.end();
    assert!(said.contains("10000/10000"), "{said}");
    let count = login.run("su postgres -c \"psql -tAc 'select count(*) from pgbench_history' bench\"");
    assert!(count.contains("10000"), "transactions that were confirmed are not there: {count}");
    let balanced = login.run(&format!("su postgres -c \"psql -tAc '{BALANCES}' bench\""));
    assert!(balanced.lines().any(|line| line == "t"), "the sums differ: {balanced}");
    login.run("su postgres -c '/usr/lib/postgresql/*/bin/pg_amcheck --heapallindexed bench'");
    login.power_off();
    assert!(second.finish().status.success());
    assert_sound(&disks[1], Qcow2);
}
