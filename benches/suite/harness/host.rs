//! What the numbers were measured on.

use std::process::Command;

/// The date, as a file's name can carry it.
pub fn date() -> String {
    said("date", &["+%Y-%m-%d"])
}

/// The host CPU's name and how many of it there are.
pub fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("model name")).collect();
    let name = names.first().map_or("unknown", |line| line.trim_start_matches(['\t', ' ', ':']));
    format!("{name}, {} CPUs", names.len())
}

/// The host's kernel.
pub fn kernel() -> String {
    said("uname", &["-r"])
}

/// The commit that is being measured, marked if files differ from it.
pub fn commit() -> String {
    said("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty", "--exclude=*"])
}

/// QEMU's version.
pub fn qemu() -> String {
    said("qemu-system-x86_64", &["--version"]).lines().next().unwrap_or_default().to_owned()
}

/// Load of the last minute: numbers from a busy host are to be read with care.
pub fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or_default().to_owned()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Nanoseconds of Unix time.
pub fn unix_ns() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}
