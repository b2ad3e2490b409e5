//! What a guest was told is on its disk is on its disk, whichever server dies when: a guest that writes, flushes and
//! reads back, and only then says so; images compared byte by byte.

mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ftemu_images::tiny;
use processes::{Client, Folder, Side, bytes_of, guest_arguments, run, side_arguments};

const SECTOR: usize = 512;
const IMAGE_BYTES: usize = 4 << 20;

/// A disk that holds something already, from `seed`.
fn image(folder: &Folder, name: &str, seed: u8) -> PathBuf {
    let bytes: Vec<u8> = (0..IMAGE_BYTES).map(|at| (at / 4096) as u8 ^ seed).collect();
    folder.file(name, &bytes)
}

/// Sector `number` as the guest writes it.
fn written(number: usize) -> Vec<u8> {
    (number as u64).wrapping_mul(tiny::DISK_FACTOR).to_le_bytes().repeat(SECTOR / 8)
}

#[track_caller]
fn assert_written(bytes: &[u8], sectors: usize) {
    for number in 1..=sectors {
        assert!(
            bytes[number * SECTOR..][..SECTOR] == written(number),
            "sector {number} of {sectors} is not on the disk"
        );
    }
}

fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|word| (*word).to_owned()).collect()
}

/// The arguments of a standby with this disk.
fn standby(folder: &Folder, disk: &Path) -> Vec<String> {
    [words(&["standby", disk.to_str().unwrap(), "--listen", "127.0.0.1:0"]), side_arguments(folder, "b")].concat()
}

/// The arguments of a primary with this disk, and its guest.
fn primary(folder: &Folder, disk: &Path, lines: u64) -> Vec<String> {
    let head = words(&["run", disk.to_str().unwrap(), "--no-stdio"]);
    [head, side_arguments(folder, "a"), guest_arguments(folder, &tiny::disk(lines, 2))].concat()
}

struct Pair {
    folder: Folder,
    disks: [PathBuf; 2],
    sides: [Side; 2],
    /// Where the standby waits for the other server.
    listens: String,
    consoles: [String; 2],
}

/// A protected pair whose disks differ at first.
fn pair(lines: u64) -> Pair {
    let folder = Folder::new();
    let disks = [image(&folder, "a.img", 0), image(&folder, "b.img", 0xff)];
    pair_of(folder, disks, lines)
}

/// A protected pair with these disks.
fn pair_of(folder: Folder, disks: [PathBuf; 2], lines: u64) -> Pair {
    folder.identities();
    let mut second = Side::start(standby(&folder, &disks[1]));
    let listens = second.address("listening");
    let second_console = second.address("console");
    let mut first = Side::start([primary(&folder, &disks[0], lines), words(&["--peer", &listens])].concat());
    let first_console = first.address("console");
    first.wait_for("protected");
    second.wait_for("protected");
    Pair { folder, disks, sides: [first, second], listens, consoles: [first_console, second_console] }
}

fn client(consoles: &[String; 2]) -> Client {
    Client::start(&[&consoles[0], &consoles[1]])
}

/// QEMU's tool for images, as the second opinion.
#[track_caller]
fn qemu_img(arguments: &[&str], paths: &[&Path]) -> String {
    let output = Command::new("qemu-img").args(arguments).args(paths).output();
    let output = output.expect("qemu-img is here; scripts/setup installs it");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "qemu-img {arguments:?}: {said}");
    said
}

/// The image as qcow2.
fn as_qcow2(raw: &Path) -> PathBuf {
    let qcow2 = raw.with_extension("qcow2");
    qemu_img(&["convert", "-f", "raw", "-O", "qcow2"], &[raw, &qcow2]);
    qcow2
}

/// What the guest had on a qcow2 image, of which all tables are sound.
fn content(qcow2: &Path) -> Vec<u8> {
    let said = qemu_img(&["check", "-f", "qcow2"], &[qcow2]);
    assert!(said.contains("No errors were found"), "{said}");
    let raw = qcow2.with_extension("raw");
    qemu_img(&["convert", "-f", "qcow2", "-O", "raw"], &[qcow2, &raw]);
    bytes_of(&raw)
}

/// No error was seen by the guest.
#[track_caller]
fn assert_no_error(shown: &str) {
    assert!(shown.contains("ftemu-end disk") && !shown.contains("error"), "{shown}");
}

#[test]
fn two_sides_that_end_together_have_equal_disks() {
    let pair = pair(60);
    let shown = client(&pair.consoles).finish();
    assert_no_error(&shown);
    for side in pair.sides {
        assert!(side.finish().status.success());
    }
    let [first, second] = pair.disks.map(|disk| bytes_of(&disk));
    assert_written(&first, 60);
    assert!(first == second, "the two images differ");
}

/// In which file of a qcow2 pair a cluster lies where may differ: that follows from what was copied when the standby
/// joined. What the guest finds there does not, nor does it matter which side has which format.
#[test]
fn two_sides_that_end_together_have_equal_contents_in_any_format() {
    for both in [true, false] {
        let folder = Folder::new();
        let [first, second] = [image(&folder, "a.img", 0), image(&folder, "b.img", 0xff)];
        let first = if both { as_qcow2(&first) } else { first };
        let pair = pair_of(folder, [first, as_qcow2(&second)], 60);
        assert_no_error(&client(&pair.consoles).finish());
        for side in pair.sides {
            assert!(side.finish().status.success());
        }
        let [first, second] = &pair.disks;
        let first = if both { content(first) } else { bytes_of(first) };
        assert_written(&first, 60);
        assert!(first == content(second), "the two images differ");
    }
}

#[test]
fn a_primary_that_is_killed_leaves_a_sound_qcow2_image() {
    let folder = Folder::new();
    // Empty, so that clusters are allocated while the guest writes.
    let disks = ["a.qcow2", "b.qcow2"].map(|name| folder.path(name));
    for disk in &disks {
        qemu_img(&["create", "-f", "qcow2", disk.to_str().unwrap(), &IMAGE_BYTES.to_string()], &[]);
    }
    let Pair { folder: _folder, disks, sides: [mut first, mut second], consoles, .. } = pair_of(folder, disks, 400);
    let mut client = client(&consoles);
    client.wait_for("ftemu-disk 90\r\n");
    first.kill();
    second.wait_for("live");
    assert_no_error(&client.finish());
    assert!(second.finish().status.success());
    assert_written(&content(&disks[1]), 400);
    // Its own image, too: clusters may be allocated and unused (3), nothing worse.
    let checked = Command::new("qemu-img").args(["check", "-f", "qcow2"]).arg(&disks[0]).output().expect("qemu-img");
    assert!(matches!(checked.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&checked.stdout));
}

#[test]
fn a_primary_that_is_killed_takes_no_write_with_it() {
    let Pair { folder: _folder, disks, sides: [mut first, mut second], consoles, .. } = pair(400);
    let mut client = client(&consoles);
    client.wait_for("ftemu-disk 90\r\n");
    first.kill();
    second.wait_for("live");
    assert_no_error(&client.finish());
    assert!(second.finish().status.success());
    assert_written(&bytes_of(&disks[1]), 400);
}

#[test]
fn a_server_that_returns_gets_its_disk_made_equal() {
    let Pair { folder, disks, sides: [mut first, mut second], listens, consoles } = pair(3000);
    let mut client = client(&consoles);
    client.wait_for("ftemu-disk 90\r\n");
    first.kill();
    second.wait_for("live");
    let mut again = Side::start(
        [words(&["standby", disks[0].to_str().unwrap(), "--peer", &listens]), side_arguments(&folder, "a")].concat(),
    );
    let equal = again.wait_for("mirroring");
    assert_eq!(equal["bytes"], IMAGE_BYTES as u64);
    again.wait_for("protected");
    assert_no_error(&client.finish());
    assert!(second.finish().status.success() && again.finish().status.success());
    let [first, second] = disks.map(|disk| bytes_of(&disk));
    assert_written(&first, 3000);
    assert!(first == second, "the two images differ");
}

#[test]
fn a_protected_guest_gets_a_cd_that_both_servers_have() {
    let folder = Folder::new();
    let with_tray = |arguments: Vec<String>| [arguments, words(&["--cdrom", "none"])].concat();
    let disks = [image(&folder, "a.img", 0), image(&folder, "b.img", 0)];
    let disc = folder.file("disc.iso", &[&[0; 0x8001][..], b"CD001", &[0x5a; 0x7ffa]].concat());
    let disc = disc.to_str().unwrap();
    folder.identities();
    let mut second = Side::start(with_tray(standby(&folder, &disks[1])));
    let (listens, second_console) = (second.address("listening"), second.address("console"));
    let peer = words(&["--peer", &listens]);
    let mut first = Side::start(with_tray([primary(&folder, &disks[0], 4000), peer].concat()));
    let first_console = first.address("console");
    first.wait_for("protected");
    second.wait_for("protected");
    let consoles = [first_console, second_console];
    let client = client(&consoles);
    let other = folder.file("other.img", &[0; 0x1_0000]);
    run(["insert", &consoles.join(","), other.to_str().unwrap()]).failed_saying(&["no CD or DVD"]);
    run(["insert", &consoles[0], disc]).failed_saying(&["both servers", "name the consoles of both"]);
    let inserted = run(["insert", &consoles.join(","), disc]);
    assert!(inserted.status.success(), "{}", inserted.complaints);
    first.kill();
    second.wait_for("live");
    // The survivor has the disc, and goes on without it.
    run(["insert", &consoles[1], disc, "--drive", "1"]).failed_saying(&["1 CD-ROM drive"]);
    let ejected = run(["eject", &consoles[1]]);
    assert!(ejected.status.success(), "{}", ejected.complaints);
    assert_no_error(&client.finish());
    assert!(second.finish().status.success());
    assert_written(&bytes_of(&disks[1]), 4000);
}

#[test]
fn a_replay_needs_no_disk() {
    let folder = Folder::new();
    let disk = image(&folder, "a.img", 0x5a);
    let record = folder.path("guest.ftlog");
    let arguments = [
        words(&["run", disk.to_str().unwrap(), "--record", record.to_str().unwrap()]),
        guest_arguments(&folder, &tiny::disk(80, 1)),
    ]
    .concat();
    let recorded = run(arguments);
    assert!(recorded.status.success(), "{}", recorded.complaints);
    assert!(recorded.output.contains("ftemu-sector-0 5a5a5a5a5a5a5a5a"), "{}", recorded.output);
    fs::remove_file(disk).unwrap();
    for more in [&[][..], &["--slices", "3", "--flush-randomly", "5"], &["--checkpoint-at", "300000"]] {
        let replayed = run([words(&["replay", record.to_str().unwrap()]), words(more)].concat());
        assert!(replayed.status.success(), "{}", replayed.complaints);
        assert_eq!(replayed.output, recorded.output);
    }
}

#[test]
fn disks_of_unequal_size_do_not_pair_and_both_sides_say_why() {
    let folder = Folder::new();
    folder.identities();
    let disks = [image(&folder, "a.img", 0), folder.file("b.img", &[0; 1 << 20])];
    let mut second = Side::start(standby(&folder, &disks[1]));
    let listens = second.address("listening");
    let first = run([primary(&folder, &disks[0], 10), words(&["--peer", &listens])].concat());
    first.failed_saying(&["4194304 bytes", "1048576 bytes", "same images"]);
    second.kill();
    second.finish().said(&["4194304 bytes", "1048576 bytes"]);
}

#[test]
fn what_is_wrong_with_a_disk_is_said_before_anything_starts() {
    let folder = Folder::new();
    folder.identities();
    let kernel = guest_arguments(&folder, &tiny::disk(1, 1));
    let start = |disk: &Path| run([words(&["run", disk.to_str().unwrap()]), kernel.clone()].concat());
    start(&folder.path("none.img")).failed_saying(&["none.img", "no such file"]);
    start(&folder.file("empty.img", &[])).failed_saying(&["empty.img", "empty"]);
    start(&folder.file("cut.img", &[0; 1000])).failed_saying(&["cut.img", "cut short"]);
    run(["run"]).failed_saying(&["nothing to start", "--cdrom", "--kernel"]);
    let disk = image(&folder, "a.img", 0);
    let mut user = Side::start(standby(&folder, &disk));
    user.address("listening");
    start(&disk).failed_saying(&["a.img", "in use"]);
}

#[test]
fn a_snapshot_leaves_the_image_alone() {
    let folder = Folder::new();
    let disk = image(&folder, "a.img", 1);
    let before = bytes_of(&disk);
    let arguments =
        [words(&["run", disk.to_str().unwrap(), "--snapshot"]), guest_arguments(&folder, &tiny::disk(20, 1))];
    let outcome = run(arguments.concat());
    assert!(outcome.status.success(), "{}", outcome.complaints);
    assert_no_error(&outcome.output);
    assert!(before == bytes_of(&disk));
}
