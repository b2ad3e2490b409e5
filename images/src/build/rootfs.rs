//! The guest's files: mmdebstrap(1), and a script of ours that configures them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::tools::{self, Tools};
use super::{BuildError, Plan, Work, sources, step};
use crate::catalogue::Progress;
use crate::disk::ImageError;

const PREPARE: &str = include_str!("prepare.sh");
const CUSTOMIZE: &str = include_str!("customize.sh");

/// What mmdebstrap says when a part of its work begins, and what that is for people.
const PARTS: [(&str, &str); 5] = [
    ("running apt-get update", "fetching package lists"),
    ("downloading packages with apt", "downloading packages"),
    ("installing essential packages", "installing the essential packages"),
    ("installing remaining packages", "installing kernel and packages"),
    ("running --customize-hook", "configuring the guest"),
];

/// Files that no guest of ours needs: manuals and translations.
const LEFT_OUT: [&str; 4] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// Fills the work folder's `root`.
pub(super) fn make(
    plan: &Plan,
    tools: &Tools,
    work: &Work,
    lines: &[String],
    progress: &mut dyn FnMut(Progress),
) -> Result<(), BuildError> {
    words(plan, work)?;
    let (prepare, customize) = (work.file("prepare.sh"), work.file("customize.sh"));
    write(&prepare, PREPARE.as_bytes(), 0o755)?;
    write(&customize, CUSTOMIZE.as_bytes(), 0o755)?;
    let mut command = Tools::command("mmdebstrap");
    command.arg(if tools.is_root { "--mode=root" } else { "--mode=unshare" });
    command.args(["--variant=minbase", "--format=directory", "--skip=check/qemu"]);
    command.arg(format!("--architectures={}", plan.architecture));
    command.arg(format!("--include={}", plan.packages().join(",")));
    command.arg("--aptopt=APT::Install-Recommends \"false\"").arg("--aptopt=Acquire::Retries \"3\"");
    for proxy in sources::proxies() {
        command.arg(format!("--aptopt={proxy}"));
    }
    // A half-made disk is thrown away, so nothing is lost by not waiting for the host's.
    command.arg("--dpkgopt=force-unsafe-io");
    for pattern in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    command.arg("--dpkgopt=path-include=/usr/share/doc/*/copyright");
    command.arg(format!("--essential-hook={}", quoted(&prepare)));
    command.arg(format!("--customize-hook={}", quoted(&customize)));
    command.arg(&plan.release).arg(work.root()).args(lines);
    let mut seen = 0;
    tools::run(&mut command, "mmdebstrap", &mut |line| {
        // Steps come in order; hooks that are run several times count once.
        if let Some(at) = PARTS.iter().skip(seen).position(|(words, _)| line.contains(words)) {
            seen += at + 1;
            step(progress, PARTS[seen - 1].1);
        }
    })
}

/// The plan's words for the script, each in a file, so that none of them is ever read as shell.
fn words(plan: &Plan, work: &Work) -> Result<(), BuildError> {
    let folder = work.file("words");
    fs::create_dir_all(&folder).map_err(ImageError::io(&folder, "write in"))?;
    let words = [
        ("hostname", plan.hostname.as_str()),
        ("user", &plan.user),
        ("password", &plan.password),
        ("ssh-passwords", if plan.ssh_passwords { "yes" } else { "no" }),
        ("ssh-key", plan.ssh_key.as_deref().unwrap_or_default()),
        ("root-uuid", &plan.uuid("root")),
    ];
    for (name, text) in words {
        let text = if text.is_empty() { String::new() } else { format!("{text}\n") };
        write(&folder.join(name), text.as_bytes(), 0o644)?;
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), BuildError> {
    let written = fs::write(path, bytes).and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
    Ok(written.map_err(ImageError::io(path, "write"))?)
}

/// A path for a shell, followed by the tree's place.
fn quoted(path: &Path) -> String {
    format!("'{}' \"$1\"", path.to_string_lossy().replace('\'', r"'\''"))
}
