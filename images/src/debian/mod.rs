//! The Debian guest: Debian's own kernel, unmodified, and an initramfs of busybox-static with a script of ours as PID 1.

use crate::initramfs::Initramfs;

/// PID 1.
const INIT: &str = include_str!("init.sh");

/// The integer mix that `benches/` times: the same text runs in the guest and on the host.
pub const BENCH: &str = include_str!("bench.sh");

/// What busybox is called by in the scripts; each becomes a link in `/bin`.
const APPLETS: [&str; 35] = [
    "awk",
    "bzip2",
    "cat",
    "cttyhack",
    "date",
    "dd",
    "dmesg",
    "echo",
    "free",
    "gunzip",
    "gzip",
    "hexdump",
    "insmod",
    "ip",
    "kill",
    "ls",
    "mkdir",
    "mount",
    "nc",
    "ping",
    "poweroff",
    "printf",
    "ps",
    "reboot",
    "rm",
    "setsid",
    "sh",
    "sha256sum",
    "sleep",
    "sort",
    "tail",
    "top",
    "uname",
    "usleep",
    "wc",
];

/// What the guest does once the kernel is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Prints `lines` chained lines and powers off.
    Lines {
        /// How many.
        lines: u64,
        /// Where the chain starts.
        seed: u64,
        /// Microseconds of sleep after each line.
        pause_us: u32,
    },
    /// Runs [`BENCH`] and powers off.
    Bench,
    /// A shell on the console.
    Shell,
    /// Answers pings and, on TCP port 7, sends back what it is sent.
    Echo {
        /// Its IPv4 address.
        address: std::net::Ipv4Addr,
    },
}

/// The kernel command line for a mode, with the console on COM1.
pub fn command_line(mode: Mode) -> String {
    // panic=-1: a kernel panic resets at once instead of hanging, so that a test sees it.
    let base = "console=ttyS0 panic=-1";
    match mode {
        Mode::Lines { lines, seed, pause_us } => {
            format!("{base} ftemu.mode=lines ftemu.lines={lines} ftemu.seed={seed} ftemu.pause_us={pause_us}")
        }
        Mode::Bench => format!("{base} ftemu.mode=bench"),
        Mode::Shell => format!("{base} ftemu.mode=shell"),
        Mode::Echo { address } => format!("{base} ftemu.mode=echo ftemu.address={address}/24"),
    }
}

/// The initramfs around a static busybox. Not compressed: the kernel unpacks a plain archive much faster than it inflates
/// one, and the guest's first seconds are what a demonstration waits for.
pub fn initramfs(busybox: &[u8]) -> Vec<u8> {
    let mut archive = Initramfs::new();
    for folder in ["bin", "dev", "proc", "sys", "tmp"] {
        archive.directory(folder);
    }
    archive.character_device("dev/console", 5, 1);
    archive.program("bin/busybox", busybox);
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.program("init", INIT.as_bytes());
    archive.program("bench.sh", BENCH.as_bytes());
    archive.finish()
}

/// An archive of kernel modules, to be put behind an initramfs: the kernel unpacks both.
pub fn modules(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = Initramfs::new();
    archive.directory("lib");
    for (name, bytes) in files {
        archive.program(&format!("lib/{name}.ko"), bytes);
    }
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::NUMBERS_PER_LINE;

    #[test]
    fn script_and_verifier_agree_on_the_amount_of_work() {
        assert!(INIT.contains(&format!("i < {NUMBERS_PER_LINE};")));
    }

    #[test]
    fn every_mode_reaches_the_command_line() {
        let lines = command_line(Mode::Lines { lines: 5, seed: 9, pause_us: 0 });
        assert!(lines.ends_with("ftemu.mode=lines ftemu.lines=5 ftemu.seed=9 ftemu.pause_us=0"));
        assert!(command_line(Mode::Bench).starts_with("console=ttyS0"));
        assert!(command_line(Mode::Shell).ends_with("shell"));
        let address = std::net::Ipv4Addr::new(10, 0, 0, 2);
        assert!(command_line(Mode::Echo { address }).ends_with("ftemu.mode=echo ftemu.address=10.0.0.2/24"));
    }
}
