//! A host's disk that is full while the guest writes: alone the guest stands still until there is room, and loses
//! nothing; a protected guest goes on where there is room.

mod processes;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ftemu_images::tiny;
use processes::{Client, Folder, Side, bytes_of, guest_arguments, side_arguments};

const LINES: u64 = 150;

/// Starts `arguments` where the folder `small` is a disk of 96 KiB, full but for some pages, with a sparse image on it;
/// in a user and mount namespace of its own. `None`: this host lets nobody make one.
fn start_on_a_small_disk(small: &Path, arguments: &[String]) -> Option<Side> {
    let script = format!(
        "mount -t tmpfs -o size=96k tmpfs '{0}' && truncate -s 1M '{0}/disk.img' && head -c 60K /dev/zero > '{0}/filler' && exec \"$@\"",
        small.display()
    );
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command
    };
    let possible = unshare(&format!("mount -t tmpfs tmpfs '{}'", small.display())).output();
    if !possible.is_ok_and(|output| output.status.success()) {
        eprintln!("this host allows no mount namespaces: not tested");
        return None;
    }
    let mut command = unshare(&script);
    command.arg(env!("CARGO_BIN_EXE_ftemu")).args(arguments);
    command.stdin(std::process::Stdio::null());
    Some(Side::spawn(command))
}

fn small_disk(folder: &Folder) -> PathBuf {
    let small = folder.path("small");
    fs::create_dir(&small).unwrap();
    small
}

fn run_arguments(folder: &Folder, disk: &Path, more: &[&str]) -> Vec<String> {
    let head = ["run", disk.to_str().unwrap(), "--no-stdio"].into_iter().chain(more.iter().copied());
    let head: Vec<String> = head.map(str::to_owned).collect();
    [head, side_arguments(folder, "a"), guest_arguments(folder, &tiny::disk(LINES, 1))].concat()
}

#[test]
fn a_lone_guest_waits_for_room_and_loses_nothing() {
    let folder = Folder::new();
    folder.identities();
    let small = small_disk(&folder);
    let arguments = run_arguments(&folder, &small.join("disk.img"), &[]);
    let Some(mut side) = start_on_a_small_disk(&small, &arguments) else { return };
    let console = side.address("console");
    let client = Client::start(&[&console]);
    side.wait_for("disk_full");
    // As the guest's host sees it.
    let inside = PathBuf::from(format!("/proc/{}/root", side.process()));
    let inside = inside.join(small.strip_prefix("/").unwrap());
    let image = fs::File::open(inside.join("disk.img")).unwrap();
    fs::remove_file(inside.join("filler")).unwrap();
    side.wait_for("disk_has_room");
    let shown = client.finish();
    assert!(shown.contains("ftemu-end disk") && !shown.contains("error"), "{shown}");
    let outcome = side.finish();
    assert!(outcome.status.success(), "{}", outcome.complaints);
    outcome.said(&["no space left", "the guest goes on"]);
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut &image, &mut bytes).unwrap();
    let last = LINES.wrapping_mul(tiny::DISK_FACTOR).to_le_bytes();
    assert!(bytes[LINES as usize * 512..][..512] == last.repeat(64));
}

#[test]
fn a_protected_guest_goes_on_where_there_is_room() {
    let folder = Folder::new();
    folder.identities();
    let small = small_disk(&folder);
    let disk = folder.file("b.img", &[0; 1 << 20]);
    let standby = ["standby", disk.to_str().unwrap(), "--listen", "127.0.0.1:0"].map(str::to_owned).to_vec();
    let mut second = Side::start([standby, side_arguments(&folder, "b")].concat());
    let listens = second.address("listening");
    let second_console = second.address("console");
    let arguments = run_arguments(&folder, &small.join("disk.img"), &["--peer", &listens]);
    let Some(mut first) = start_on_a_small_disk(&small, &arguments) else { return };
    let first_console = first.address("console");
    let client = Client::start(&[&first_console, &second_console]);
    second.wait_for("live");
    let outcome = first.finish();
    assert!(!outcome.status.success());
    outcome.said(&["is full", "DISK FAILURE", "the other server goes on"]);
    let shown = client.finish();
    assert!(shown.contains("ftemu-end disk") && !shown.contains("error"), "{shown}");
    assert!(second.finish().status.success());
    let last = LINES.wrapping_mul(tiny::DISK_FACTOR).to_le_bytes();
    assert!(bytes_of(&disk)[LINES as usize * 512..][..512] == last.repeat(64));
}
