//! The promise of `ftemu image`: images made, looked at, imported and checked by the command line; what is wrong with one is
//! said in words, and nothing that exists is lost.

mod processes;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use ftemu_images::{Disk, Options};
use processes::{Folder, Outcome, program, run};
use serde_json::Value;

fn image(words: &[&str]) -> Outcome {
    run(["image"].iter().chain(words))
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a name of a test's own")
}

#[test]
fn a_disk_is_made_looked_at_and_checked() {
    let folder = Folder::new();
    let disk = folder.path("disk.qcow2");
    let made = image(&["create", text(&disk), "--size", "10G"]);
    assert!(made.status.success(), "{}", made.complaints);
    assert!(fs::metadata(&disk).expect("a file").blocks() * 512 < 1 << 20, "an empty disk takes no space");
    let told: Value = serde_json::from_str(&image(&["info", "--json", text(&disk)]).output).expect("JSON");
    assert_eq!(told["format"], "qcow2");
    assert_eq!(told["bytes"], 10_u64 << 30);
    let over = folder.path("over.qcow2");
    assert!(image(&["create", text(&over), "--backing", text(&disk)]).status.success());
    let told = image(&["info", text(&over)]).output;
    assert!(told.contains("builds on disk.qcow2"), "{told}");
    assert!(image(&["check", text(&over)]).output.contains("no errors"));
}

#[test]
fn other_programs_images_are_imported() {
    let folder = Folder::new();
    let raw = folder.file("raw.img", &[7; 1 << 20]);
    let vmdk = folder.path("disk.vmdk");
    let status = Command::new("qemu-img").args(["convert", "-O", "vmdk"]).args([&raw, &vmdk]).status();
    assert!(status.expect("qemu-img is here; scripts/setup installs it").success());
    let told = image(&["info", text(&vmdk)]).output;
    assert!(told.contains("ftemu image import"), "{told}");
    let new = folder.path("new.img");
    assert!(image(&["import", text(&vmdk), text(&new)]).status.success());
    assert!(fs::read(&new).expect("a file") == fs::read(&raw).expect("a file"));
    image(&["import", text(&vmdk), text(&new)]).failed_saying(&["new.img", "exists already"]);
}

#[test]
fn a_check_tells_lost_space_from_damage() {
    let folder = Folder::new();
    let disk = folder.path("disk.qcow2");
    assert!(image(&["create", text(&disk), "--size", "16M"]).status.success());
    let mut open = Disk::open(&disk, &Options::default()).expect("a disk");
    open.write_at(0, &[1; 100_000]).expect("it is written");
    drop(open);
    assert_eq!(image(&["check", text(&disk)]).status.code(), Some(0));
    let mut bytes = fs::read(&disk).expect("a file");
    let place = |bytes: &[u8], at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("8 bytes")) as usize;
    let counts = place(&bytes, place(&bytes, 48));
    bytes[counts + 1] += 1;
    fs::write(&disk, &bytes).expect("a file");
    assert_ne!(image(&["check", text(&disk)]).status.code(), Some(0));
    bytes[counts + 1] = 0;
    fs::write(&disk, &bytes).expect("a file");
    let found = image(&["check", text(&disk)]);
    assert_eq!(found.status.code(), Some(2), "{} {}", found.output, found.complaints);
}

#[test]
fn an_image_in_use_is_left_alone() {
    let folder = Folder::new();
    let disk = folder.path("disk.qcow2");
    assert!(image(&["create", text(&disk), "--size", "16M"]).status.success());
    let open = Disk::open(&disk, &Options::default()).expect("a disk");
    image(&["check", text(&disk)]).failed_saying(&["disk.qcow2", "in use"]);
    image(&["import", text(&disk), text(&folder.path("new.img"))]).failed_saying(&["in use"]);
    assert!(image(&["info", text(&disk)]).output.contains("16 MiB"), "looking is allowed");
    // QEMU's programs keep the same locks.
    let theirs = Command::new("qemu-img").arg("check").arg(&disk).output().expect("qemu-img is here");
    assert!(!theirs.status.success() && String::from_utf8_lossy(&theirs.stderr).contains("lock"));
    drop(open);
    assert!(image(&["check", text(&disk)]).status.success());
}

#[test]
fn a_full_disk_is_said_and_nothing_half_made_stays() {
    let folder = Folder::new();
    folder.file("raw.img", &[7; 4 << 20]);
    fs::create_dir(folder.path("small")).expect("a folder");
    // A file system of 1 MiB, in a name space of its own, which goes away with the command.
    let script =
        "mount -t tmpfs -o size=1m none small && \"$0\" image import raw.img small/new.qcow2; echo $?; ls small";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]).arg(program().get_program());
    let output = command.current_dir(folder.path("")).output().expect("unshare is here");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.contains("full; make room"), "{complaints}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "1");
}

#[test]
fn help_teaches_and_mistakes_are_explained() {
    let help = image(&["build", "--help"]).output;
    assert!(help.contains("ftemu image build debian --output debian.img"), "{help}");
    let folder = Folder::new();
    let disk = folder.path("disk.img");
    image(&["create", text(&disk)]).failed_saying(&["--size"]);
    image(&["create", text(&disk), "--size", "5G", "--format", "vmdk"]).failed_saying(&["only read"]);
    image(&["info", text(&disk)]).failed_saying(&["disk.img", "no such file"]);
    folder.file("disk.img", b"");
    image(&["info", text(&disk)]).failed_saying(&["disk.img", "empty"]);
    image(&["build", "debian", "--output", text(&disk)]).failed_saying(&["exists already"]);
    image(&["build", "debian", "--output", "x.img", "--arch", "i386", "--kernel", "cloud"])
        .failed_saying(&["not for i386"]);
}

#[test]
fn what_cannot_be_a_disk_is_not_taken_for_one() {
    let folder = Folder::new();
    let lost = folder.file("lost.vmdk", &[7; 4096]);
    for words in [["info", text(&lost)], ["check", text(&lost)]] {
        image(&words).failed_saying(&["lost.vmdk", "its name says vmdk"]);
    }
    image(&["import", text(&lost), text(&folder.path("new.img"))]).failed_saying(&["its name says vmdk"]);
    image(&["create", text(&folder.path("new.vhdx")), "--size", "1M"]).failed_saying(&["only read"]);
    assert!(!folder.path("new.img").exists() && !folder.path("new.vhdx").exists());
    let pipe = folder.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is here").success());
    for command in ["info", "check"] {
        image(&[command, text(&pipe)]).failed_saying(&["not a file"]);
    }
}

#[test]
fn a_disk_that_was_not_closed_is_refused_with_what_repairs_it() {
    let folder = Folder::new();
    let disk = folder.path("disk.qcow2");
    assert!(image(&["create", text(&disk), "--size", "1M"]).status.success());
    let mut bytes = fs::read(&disk).expect("a file");
    // The header's incompatible features: dirty.
    bytes[79] |= 1;
    fs::write(&disk, &bytes).expect("a file");
    let refused = image(&["check", text(&disk)]);
    refused.failed_saying(&["disk.qcow2", "qemu-img check -r all"]);
    assert!(!refused.complaints.contains("`ftemu image check`"), "{}", refused.complaints);
    for more in [&[][..], &["--snapshot"]] {
        run(["run", "--no-stdio", text(&disk)].iter().chain(more)).failed_saying(&["qemu-img check -r all"]);
    }
    let told = image(&["info", text(&disk)]).output;
    assert!(told.contains("cannot") && told.contains("qemu-img check"), "{told}");
}
