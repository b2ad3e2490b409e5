//! The guest that all contenders share, made once and kept in the cache folder.
//!
//! The disk is Debian's, by `ftemu image build`, with the benchmark's files in `/bench`; a copy of its files lies beside it
//! for the native runs. The tiny guest is Debian's cloud kernel with busybox and those files in its initramfs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use ftemu_images::initramfs::Initramfs;
use ftemu_images::{Catalogue, debian};

use super::tree::{self, Entry};

/// What the disk has besides the usual.
const PACKAGES: &str = "busybox,7zip,openssl,python3-minimal,perl,sqlite3,gcc,libc6-dev,stress-ng,luajit";
/// What is installed from a local archive.
const INSTALLED: &str = "vim-runtime";
/// Where the only partition begins, as debugfs(8) wants it.
const PARTITION: &str = "offset=1048576";
/// Bytes of text: as many as the largest workload reads.
const TEXT_BYTES: usize = 24 << 20;
const TINY_TEXT_BYTES: usize = 256 << 10;

/// What contenders are started with.
pub struct Stage {
    /// The kernel.
    pub kernel: PathBuf,
    /// Its initial RAM disk.
    pub initrd: PathBuf,
    /// The kernel's command line.
    pub append: String,
    /// The disk; the tiny guest has none.
    pub disk: Option<PathBuf>,
    /// The disk's files, or the folder that is `/bench` in the tiny guest.
    pub native: PathBuf,
    /// Kernel and busybox, for the record.
    pub about: String,
}

impl Stage {
    /// The Debian disk, from the cache folder or made now.
    pub fn debian(ftemu: &Path) -> Result<Self> {
        let folder = Catalogue::user()?.folder().join("bench");
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let base = folder.join("base.img");
        let wanted = folder.join("packages");
        if !base.exists() || fs::read_to_string(&wanted).ok().as_deref() != Some(PACKAGES) {
            build_base(ftemu, &folder, &base)?;
            fs::write(&wanted, PACKAGES)?;
        }
        let files = folder.join("bench");
        let scratch = tempfile::Builder::new().prefix("ftemu-bench-").tempdir()?;
        let entries = tree::files(scratch.path(), TEXT_BYTES, true)?;
        let changed = write(&files, &entries)?;
        let disk = folder.join("bench.img");
        if changed || !disk.exists() {
            archive(&files.join("archive"))?;
            run(Command::new("cp").arg("--sparse=always").arg("--remove-destination").arg(&base).arg(&disk))?;
            debugfs(&disk, &insertions(&files)?)?;
            run(Command::new("cp").arg("-a").arg("--remove-destination").arg(&files).arg(folder.join("root/")))?;
        }
        let native = folder.join("root");
        let link = |name| -> Result<PathBuf> { Ok(native.join(fs::read_link(native.join(name))?)) };
        let kernel = link("vmlinuz")?;
        let about = kernel.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // Equal for all: without work-arounds for CPUs that none of them is, and with the TSC as the clock.
        let append = "root=/dev/vda1 ro console=ttyS0 mitigations=off tsc=reliable".to_owned();
        Ok(Self { kernel, initrd: link("initrd.img")?, append, disk: Some(disk), native, about })
    }

    /// The tiny guest, made in a folder.
    pub fn tiny(folder: &Path) -> Result<Self> {
        let catalogue = Catalogue::user()?;
        let guest = catalogue.debian(debian::Mode::Shell, &mut |_| {})?;
        let (busybox, _) = catalogue.busybox(&mut |_| {})?;
        let mut entries = tree::files(folder, TINY_TEXT_BYTES, false)?;
        let mut archive = Initramfs::new();
        archive.directory("bench");
        for entry in &entries {
            archive.program(&format!("bench/{}", entry.name), &entry.bytes);
        }
        for applet in ["true", "sed", "head", "dirname", "busybox"] {
            archive.link(&format!("bench/{applet}"), "/bin/busybox");
        }
        archive.link("bin/true", "busybox");
        let mut initrd = guest.initrd.clone().unwrap_or_default();
        initrd.extend(archive.finish());
        let append = format!("{} mitigations=off tsc=reliable", guest.command_line);
        let about = guest.name.clone();
        let files = ftemu_images::Guest { initrd: Some(initrd), ..guest }.write_to(folder)?;
        let native = folder.join("bench");
        entries.push(Entry { name: "busybox".to_owned(), bytes: busybox, program: true });
        write(&native, &entries)?;
        let initrd = files.initrd.context("the guest has an initramfs")?;
        Ok(Self { kernel: files.kernel, initrd, append, disk: None, native, about })
    }
}

fn build_base(ftemu: &Path, folder: &Path, base: &Path) -> Result<()> {
    eprintln!("building the guest's disk: some minutes, once");
    let root = folder.join("root");
    for old in [base, &folder.join("bench.img")] {
        let _ = fs::remove_file(old);
    }
    let _ = fs::remove_dir_all(&root);
    run(Command::new(ftemu).args(["image", "build", "debian", "--include", PACKAGES, "--output"]).arg(base))?;
    fs::create_dir_all(&root)?;
    let root = root.to_str().context("the cache folder's name is text")?.to_owned();
    debugfs(base, &format!("rdump / \"{root}\"\n"))
}

/// A package archive with one package.
fn archive(folder: &Path) -> Result<()> {
    let there = fs::read_to_string(folder.join("Packages")).unwrap_or_default();
    if there.starts_with(&format!("Package: {INSTALLED}\n")) {
        return Ok(());
    }
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder)?;
    run(Command::new("apt-get").args(["download", "-q", INSTALLED]).current_dir(folder))?;
    let package = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
    let package = package.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "deb"));
    let package = package.context("apt-get download left no package")?;
    let output = Command::new("dpkg-deb").arg("-f").arg(&package).output()?;
    let sum = Command::new("sha256sum").arg(&package).output()?;
    let sum = String::from_utf8_lossy(&sum.stdout).split(' ').next().unwrap_or_default().to_owned();
    let (size, name) = (fs::metadata(&package)?.len(), package.file_name().unwrap_or_default().to_string_lossy());
    let control = String::from_utf8_lossy(&output.stdout);
    let entry = format!("{}\nFilename: ./{name}\nSize: {size}\nSHA256: {sum}\n", control.trim_end());
    Ok(fs::write(folder.join("Packages"), entry)?)
}

/// Writes what differs from what is there; tells whether anything did.
fn write(folder: &Path, entries: &[Entry]) -> Result<bool> {
    fs::create_dir_all(folder)?;
    let mut changed = false;
    for entry in entries {
        let path = folder.join(&entry.name);
        if fs::read(&path).ok().as_deref() == Some(&entry.bytes) {
            continue;
        }
        changed = true;
        fs::write(&path, &entry.bytes)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(if entry.program { 0o755 } else { 0o644 }))?;
    }
    Ok(changed)
}

/// What debugfs shall do to put a folder in as `/bench`.
fn insertions(files: &Path) -> Result<String> {
    let mut commands = String::from("mkdir /bench\nmkdir /bench/archive\n");
    for (folder, inside) in [(files.to_owned(), "/bench"), (files.join("archive"), "/bench/archive")] {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                let (from, name) = (entry.path(), entry.file_name());
                let to = format!("{inside}/{}", name.to_string_lossy());
                let mode = entry.metadata()?.permissions().mode();
                commands +=
                    &format!("write \"{}\" \"{to}\"\nset_inode_field \"{to}\" mode 0{mode:o}\n", from.display());
                commands += &format!("set_inode_field \"{to}\" uid 0\nset_inode_field \"{to}\" gid 0\n");
            }
        }
    }
    Ok(commands)
}

fn debugfs(disk: &Path, commands: &str) -> Result<()> {
    let mut file = tempfile::NamedTempFile::new()?;
    std::io::Write::write_all(&mut file, commands.as_bytes())?;
    let disk = format!("{}?{PARTITION}", disk.display());
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    run(Command::new("debugfs").env("PATH", path).args(["-w", "-f"]).arg(file.path()).arg(disk))
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output =
        output.with_context(|| format!("starting {name} (scripts/setup --benches installs what is missing)"))?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
