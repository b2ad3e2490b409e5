//! House rules that a program can check (`ARCHITECTURE.md` gives the reasons): what each file opens with, who imports whom,
//! where `unsafe` may stand, how long files grow, what tests never do, and what keeps out of the guest's world.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of our crates each crate may use. The program, in `src/`, may use them all.
const IMPORTS: [(&str, &[&str]); 6] = [
    ("cpu", &[]),
    ("devices", &["cpu"]),
    ("lockstep", &["cpu", "devices"]),
    ("transport", &[]),
    ("images", &[]),
    ("tests/oracle", &["cpu"]),
];

/// Files that may hold `unsafe` code: translated code and its memory, guest RAM, signals, and the oracle's host process.
const UNSAFE: &[&str] = &[
    "cpu/src/engine/accesses.rs",
    "cpu/src/engine/buffer.rs",
    "cpu/src/engine/dispatch.rs",
    "cpu/src/engine/follow_up.rs",
    "cpu/src/engine/frame.rs",
    "cpu/src/engine/mod.rs",
    "cpu/src/engine/quick_strings.rs",
    "cpu/src/engine/service.rs",
    "cpu/src/engine/signals.rs",
    "cpu/src/engine/tlb.rs",
    "cpu/src/memory.rs",
    "src/attribution/sampler.rs",
    "src/edge/urgency.rs",
    "src/network/tun.rs",
    "tests/oracle/src/host/child.rs",
    "tests/oracle/src/host/entry.rs",
    "tests/oracle/src/host/mod.rs",
    "tests/oracle/src/legacy/silicon.rs",
];

/// No file is longer than this, in lines...
const LINES: usize = 400;
/// ...but for these, which may only get shorter.
const LONGER: &[(&str, usize)] = &[];

/// Pictures of guests' screens, which `ftemu screenshot` made: the only files that are no text, and none larger than this.
const PICTURES: &str = "docs/screens/";
const PICTURE_BYTES: usize = 100 << 10;

/// Folders that are not ours, or not source.
const SKIPPED: [&str; 2] = ["target", ".git"];

/// A file of the repository: its path from the root, with slashes, and its text.
struct File {
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// The text before the unit tests.
    fn code(&self) -> &str {
        self.text.split("#[cfg(test)]").next().unwrap_or_default()
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/") || self.path.ends_with("tests.rs")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file of the repository; one that is no text is a broken rule.
fn files() -> Vec<File> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let path: PathBuf = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if !name.ends_with(".ftlog") {
                let relative = path.strip_prefix(root()).expect("below the root").to_string_lossy().replace('\\', "/");
                let bytes = fs::read(&path).expect("a file of the repository");
                if relative.starts_with(PICTURES) && relative.ends_with(".png") {
                    let small = bytes.starts_with(b"\x89PNG\r\n") && bytes.len() <= PICTURE_BYTES;
                    assert!(small, "{relative} is no picture of at most {PICTURE_BYTES} bytes");
                    continue;
                }
                let text = String::from_utf8(bytes);
                let text = text.unwrap_or_else(|_| panic!("{relative} is no text: binaries are built or fetched"));
                found.push(File { path: relative, text });
            }
        }
    }
    assert!(found.len() > 50, "this looks like no repository of ours: {} files", found.len());
    found
}

fn rust_files() -> Vec<File> {
    files().into_iter().filter(File::is_rust).collect()
}

/// Fails with every broken rule at once.
fn none(broken: Vec<String>) {
    assert!(broken.is_empty(), "\n  {}\n", broken.join("\n  "));
}

#[test]
fn every_file_says_first_what_it_is() {
    none(rust_files().into_iter().filter(|file| !file.text.starts_with("//! ")).map(|file| file.path).collect());
}

#[test]
fn imports_point_one_way() {
    let mut broken = Vec::new();
    for (folder, allowed) in IMPORTS {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let own = folder.rsplit('/').next().unwrap_or_default();
        let permitted = |name: &str| name == own || allowed.contains(&name);
        for name in after(&manifest, "ftemu-").into_iter().filter(|name| !permitted(name)) {
            broken.push(format!("{folder}/Cargo.toml depends on ftemu-{name}"));
        }
        for file in rust_files().iter().filter(|file| file.path.starts_with(&format!("{folder}/"))) {
            for name in after(&file.text, "ftemu_").into_iter().filter(|name| !permitted(name)) {
                if IMPORTS.iter().any(|(folder, _)| *folder == name) {
                    broken.push(format!("{} uses ftemu_{name}", file.path));
                }
            }
        }
    }
    none(broken);
}

/// The words that follow a prefix in a text.
fn after<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    let word = |rest: &'a str| rest.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    text.split(prefix).skip(1).map(word).collect()
}

#[test]
fn unsafe_code_stands_in_the_files_named_here_with_its_reason() {
    let allow = concat!("allow(", "unsafe_code)");
    let mut broken = Vec::new();
    for file in rust_files().iter().filter(|file| file.path != "tests/tidy.rs") {
        let listed = UNSAFE.contains(&file.path.as_str());
        match (file.text.contains(allow), listed) {
            (true, false) => broken.push(format!("{} allows unsafe code and is not listed", file.path)),
            (false, true) => broken.push(format!("{} is listed for unsafe code and has none", file.path)),
            _ => {}
        }
        let lines: Vec<&str> = file.text.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let opens =
                line.contains(concat!("unsafe", " {")) || line.trim_start().starts_with(concat!("unsafe", " impl"));
            let near = &lines[index.saturating_sub(8)..=index];
            if opens && !near.iter().any(|line| line.contains("SAFETY:") || line.contains("# Safety")) {
                broken.push(format!("{}:{} has no SAFETY: comment", file.path, index + 1));
            }
        }
    }
    none(broken);
}

#[test]
fn files_stay_short() {
    let longer: BTreeMap<&str, usize> = LONGER.iter().copied().collect();
    let mut broken = Vec::new();
    for file in rust_files() {
        let lines = file.text.lines().count();
        let limit = longer.get(file.path.as_str()).copied().unwrap_or(LINES);
        if lines > limit {
            broken.push(format!("{} has {lines} lines, {limit} are allowed", file.path));
        }
        if longer.contains_key(file.path.as_str()) && lines <= LINES {
            broken.push(format!("{} has {lines} lines: it needs no exception any more", file.path));
        }
    }
    none(broken);
}

#[test]
fn nothing_is_left_for_later_and_tests_neither_wait_nor_are_skipped() {
    let unfinished = [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];
    let waiting = [concat!("thread::", "sleep("), concat!("time::", "sleep(")];
    let mut broken = Vec::new();
    for file in rust_files() {
        let tests = if file.is_test() { file.text.as_str() } else { &file.text[file.code().len()..] };
        let found = unfinished.iter().filter(|word| file.text.contains(**word));
        for word in found.chain(waiting.iter().filter(|word| tests.contains(**word))) {
            broken.push(format!("{} has {word}", file.path));
        }
    }
    none(broken);
}

#[test]
fn no_file_is_large_or_speaks_of_one_machine() {
    let places = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/tmp/", "target")];
    let mut broken = Vec::new();
    for file in files() {
        if file.text.len() > 1 << 20 {
            broken.push(format!("{} has {} bytes", file.path, file.text.len()));
        }
        for place in places.iter().filter(|place| file.text.contains(**place)) {
            broken.push(format!("{} speaks of {place}", file.path));
        }
    }
    none(broken);
}

/// What would let the host show inside the guest's world. `clippy.toml` in both folders says the same to clippy, with
/// reasons; this also sees what clippy cannot: floating point, and words in macros.
#[test]
fn devices_and_lockstep_know_no_host() {
    let host = ["std::time", "std::fs", "std::net", "std::thread", "std::process", "std::env", "SystemTime"];
    let order = ["HashMap", "HashSet", "RandomState", ": f32", ": f64", "as f32", "as f64"];
    let mut broken = Vec::new();
    for file in rust_files() {
        let inside = ["devices/src/", "lockstep/src/"].iter().any(|folder| file.path.starts_with(folder));
        if inside && !file.is_test() {
            let found = host.iter().chain(&order).filter(|word| file.code().contains(**word));
            broken.extend(found.map(|word| format!("{} has {word}", file.path)));
        }
    }
    none(broken);
}

#[test]
fn devices_and_lockstep_bring_in_no_crate_that_does() {
    let unwanted = ["tokio", "quinn", "socket2", "mio", "rand", "getrandom", "time", "chrono", "uuid"];
    let mut broken = Vec::new();
    for package in ["ftemu-devices", "ftemu-lockstep"] {
        let output = Command::new(env!("CARGO"))
            .args(["tree", "--locked", "--edges", "normal", "--prefix", "none", "--package", package])
            .current_dir(root())
            .output()
            .expect("cargo tree");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let tree = String::from_utf8_lossy(&output.stdout).into_owned();
        let names = tree.lines().filter_map(|line| line.split(' ').next());
        broken.extend(names.filter(|name| unwanted.contains(name)).map(|name| format!("{package} brings in {name}")));
    }
    none(broken);
}

#[test]
fn promises_name_tests_that_exist() {
    let files: BTreeMap<String, String> = files().into_iter().map(|file| (file.path, file.text)).collect();
    let mut broken = Vec::new();
    let mut named = 0;
    for document in ["docs/PROMISES.md", "docs/DETERMINISM.md"] {
        let text = files.get(document).expect("the document is there");
        for quoted in
            text.split('`').skip(1).step_by(2).filter(|quoted| quoted.contains(".rs") || quoted.ends_with('/'))
        {
            let (path, test) = quoted.split_once("::").map_or((quoted, None), |(path, test)| (path, Some(test)));
            let there = match (files.get(path), test) {
                (Some(text), Some(test)) => text.contains(&format!("fn {test}()")),
                (Some(_), None) => true,
                (None, _) => path.ends_with('/') && files.keys().any(|name| name.starts_with(path)),
            };
            named += 1;
            if !there {
                broken.push(format!("{document} names {quoted}, which is not there"));
            }
        }
    }
    assert!(named > 30, "{named} tests are named");
    none(broken);
}
