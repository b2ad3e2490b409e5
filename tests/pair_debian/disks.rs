//! Debian's disk, copies of it, and what others think of them.

use std::path::{Path, PathBuf};
use std::process::Command;

use ftemu_images::Catalogue;
use ftemu_images::build::{Architecture, Plan, build};

use crate::processes::{Folder, run};

/// Where the only partition begins, in bytes.
const PARTITION: u64 = 1 << 20;

/// An image's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Raw,
    Qcow2,
}

fn succeed(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; scripts/setup --images installs it"));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    said
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain name")
}

/// The disk with what the tests run on it, built when it is wanted for the first time.
fn debian() -> PathBuf {
    let path = Catalogue::user().expect("a cache folder").folder().join("debian-databases.img");
    if !path.exists() {
        let mut plan = Plan::new(Architecture::Amd64);
        plan.include = ["fio", "postgresql"].map(str::to_owned).to_vec();
        build(&plan, &path, &mut |_| ()).expect("Debian's packages; scripts/setup --images installs what builds them");
    }
    path
}

/// A copy of one's own in some format.
pub fn copy_of_debian(folder: &Folder, name: &str, format: Format) -> PathBuf {
    let source = debian();
    let copy = folder.path(&format!("{name}.{}", if format == Format::Raw { "img" } else { "qcow2" }));
    match format {
        Format::Raw => succeed("cp", &["--sparse=always", text(&source), text(&copy)]),
        Format::Qcow2 => succeed("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", text(&source), text(&copy)]),
    };
    copy
}

/// The guest would find the same on both. Raw images are the same byte for byte; where in a qcow2 file a cluster lies may
/// depend on what was copied when, so there the contents are compared.
pub fn assert_equal(disks: &[PathBuf; 2], formats: [Format; 2]) {
    let [first, second] = [text(&disks[0]), text(&disks[1])];
    if formats == [Format::Raw; 2] {
        succeed("cmp", &[first, second]);
    }
    let said =
        succeed("qemu-img", &["compare", "-f", word(formats[0]), "-F", word(formats[1]), first, second]).to_lowercase();
    assert!(said.contains("identical"), "{said}");
}

fn word(format: Format) -> &'static str {
    if format == Format::Raw { "raw" } else { "qcow2" }
}

/// The image has no fault, and neither has the file system in it.
pub fn assert_sound(disk: &Path, format: Format) {
    let checked = run(["image", "check", text(disk)]);
    assert!(checked.status.success(), "{}{}", checked.output, checked.complaints);
    let mut raw = disk.to_owned();
    if format == Format::Qcow2 {
        let said = succeed("qemu-img", &["check", "-f", "qcow2", text(disk)]);
        assert!(said.contains("No errors were found"), "{said}");
        raw = disk.with_extension("converted");
        succeed("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", text(disk), text(&raw)]);
    }
    let path = std::env::var("PATH").unwrap_or_default();
    let mut checker =
        ["/usr/sbin", "/sbin"].iter().copied().chain(path.split(':')).map(|folder| Path::new(folder).join("e2fsck"));
    let checker = checker.find(|program| program.exists()).expect("e2fsck of the package e2fsprogs");
    succeed(text(&checker), &["-fn", &format!("{}?offset={PARTITION}", text(&raw))]);
}
