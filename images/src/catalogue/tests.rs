//! The catalogue against programs that play apt: what works, what fails, and what is said then.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use super::*;

/// A folder of programs that play apt, and a catalogue that uses them.
struct Stage {
    folder: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(stage.programs()).unwrap();
        stage
    }

    fn programs(&self) -> PathBuf {
        self.folder.path().join("programs")
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.programs().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// An apt that serves a kernel and a busybox, and says in `calls` what it was asked.
    fn serve(&self) {
        let packages = self.folder.path().join("packages");
        package(&packages, "linux-image-6.1.0-56-cloud-amd64", "boot/vmlinuz-6.1.0-56-cloud-amd64", b"kernel bytes");
        package(&packages, "busybox-static", "bin/busybox", b"busybox bytes");
        let calls = self.folder.path().join("calls");
        self.program(
            "apt-cache",
            "for last; do :; done; echo Package: $last; echo Filename: pool/x.deb\necho 'Depends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.0)'",
        );
        self.program(
            "apt-get",
            &format!(
                "echo \"$@\" >> {}\necho dlstatus:1:42.5:Retrieving\ncase \" $* \" in *\" download \"*) cp {}/\"$2\"_*.deb . ;; esac",
                calls.display(),
                packages.display()
            ),
        );
        self.program("dpkg-deb", "exec dpkg-deb \"$@\"");
    }

    fn catalogue(&self) -> Catalogue {
        let mut catalogue = Catalogue::at(self.cache());
        catalogue.apt.programs = Some(self.programs());
        catalogue
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.folder.path().join("calls")).map_or(0, |text| text.lines().count())
    }
}

/// Builds a package of one file with the real dpkg-deb.
fn package(into: &Path, name: &str, file: &str, bytes: &[u8]) {
    let tree = into.join(format!("{name}.tree"));
    let path = tree.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::create_dir_all(tree.join("DEBIAN")).unwrap();
    fs::write(path, bytes).unwrap();
    let control =
        format!("Package: {name}\nVersion: 1\nArchitecture: amd64\nMaintainer: a <a@example.org>\nDescription: d\n");
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let built = Command::new("dpkg-deb").args(["--root-owner-group", "-b"]).arg(&tree).arg(into).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}

const MODE: debian::Mode = debian::Mode::Shell;

#[test]
fn a_guest_is_fetched_once_and_then_served_from_the_cache() {
    let stage = Stage::new();
    stage.serve();
    let mut steps = Vec::new();
    let guest = stage.catalogue().debian(MODE, &mut |progress| steps.push(progress)).unwrap();
    assert_eq!(guest.kernel, b"kernel bytes");
    assert_eq!(guest.name, "linux-image-6.1.0-56-cloud-amd64_1_amd64");
    assert!(steps.contains(&Progress::Percent(42)));
    assert!(steps.contains(&Progress::Step("downloading linux-image-6.1.0-56-cloud-amd64".to_owned())));
    let calls = stage.calls();
    let again = stage.catalogue().debian(MODE, &mut |_| panic!("nothing is left to do")).unwrap();
    assert_eq!((again.kernel, again.initrd, stage.calls()), (guest.kernel, guest.initrd, calls));
    let left: Vec<_> = fs::read_dir(stage.cache().join("apt")).unwrap().collect();
    assert!(left.is_empty(), "downloads are removed: {left:?}");
}

#[test]
fn a_damaged_cache_is_noticed_and_fetched_again() {
    let stage = Stage::new();
    stage.serve();
    stage.catalogue().debian(MODE, &mut |_| {}).unwrap();
    for damage in [&b"kernel bytez"[..], b"kernel"] {
        fs::write(stage.cache().join("vmlinuz"), damage).unwrap();
        let mut steps = Vec::new();
        let guest = stage.catalogue().debian(MODE, &mut |progress| steps.push(progress)).unwrap();
        assert_eq!(guest.kernel, b"kernel bytes");
        assert_eq!(steps[0], Progress::Step("the cached vmlinuz is damaged; fetching it again".to_owned()));
    }
}

#[test]
fn without_apt_the_error_says_so() {
    let stage = Stage::new();
    let error = stage.catalogue().debian(MODE, &mut |_| {}).unwrap_err();
    assert!(matches!(error, FetchError::NoApt { .. }), "{error}");
}

#[test]
fn offline_the_error_carries_what_apt_said() {
    let stage = Stage::new();
    stage.serve();
    stage.program("apt-get", "echo 'E: Could not resolve the mirror' >&2; exit 100");
    let error = stage.catalogue().debian(MODE, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("Could not resolve the mirror"), "{error}");
    assert!(!stage.cache().join("vmlinuz").exists());
}

#[test]
fn unlisted_packages_are_an_error_when_no_update_is_allowed() {
    let stage = Stage::new();
    stage.serve();
    stage.program("apt-cache", "echo 'N: Unable to locate package' >&2; exit 100");
    let error = stage.catalogue().allow_update(false).debian(MODE, &mut |_| {}).unwrap_err();
    assert!(matches!(error, FetchError::NotListed { .. }), "{error}");
    assert_eq!(stage.calls(), 0);
}

#[test]
fn unlisted_packages_lead_to_lists_of_our_own() {
    let stage = Stage::new();
    stage.serve();
    // Knows packages only when asked with our own lists.
    stage.program(
        "apt-cache",
        "case \"$*\" in *Dir::State=*) echo Filename: x; echo 'Depends: linux-image-6.1.0-56-cloud-amd64' ;; *) exit 100 ;; esac",
    );
    let packages = stage.folder.path().join("packages");
    stage.program(
        "apt-get",
        &format!(
            "package=; for word; do case $previous in download) package=$word ;; esac; previous=$word; done\n[ -z \"$package\" ] || cp {}/\"$package\"_*.deb .",
            packages.display()
        ),
    );
    let mut steps = Vec::new();
    let guest = stage.catalogue().debian(MODE, &mut |progress| steps.push(progress)).unwrap();
    assert_eq!(guest.kernel, b"kernel bytes");
    assert!(matches!(&steps[0], Progress::Step(text) if text.starts_with("updating package lists")));
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let stage = Stage::new();
    stage.serve();
    fs::write(stage.cache(), b"a file where a folder should be").unwrap();
    let error = stage.catalogue().debian(MODE, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("XDG_CACHE_HOME"), "{error}");
}

#[test]
fn packaged_guests_come_as_files_in_the_cache() {
    let stage = Stage::new();
    stage.serve();
    package(
        &stage.folder.path().join("packages"),
        "grub-rescue-pc",
        "usr/lib/grub-rescue/grub-rescue-cdrom.iso",
        b"iso",
    );
    let guest: Packaged = "grub-rescue".parse().unwrap();
    let paths = stage.catalogue().packaged(guest, &mut |_| {}).unwrap();
    assert_eq!(paths, [stage.cache().join("grub-rescue-cdrom.iso")]);
    assert_eq!(fs::read(&paths[0]).unwrap(), b"iso");
    stage.catalogue().packaged(guest, &mut |_| panic!("nothing is left to do")).unwrap();
    assert!("gurb".parse::<Packaged>().unwrap_err().contains("grub-rescue"));
}

#[test]
fn who_fetches_at_the_same_time_takes_turns() {
    let stage = Stage::new();
    stage.serve();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| stage.catalogue().debian(MODE, &mut |_| {}).unwrap());
        }
    });
    let calls = fs::read_to_string(stage.folder.path().join("calls")).unwrap();
    let downloads = calls.lines().filter(|line| line.contains("download")).count();
    assert_eq!(downloads, 2, "the kernel and busybox, once each:\n{calls}");
}
