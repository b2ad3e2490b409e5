//! What is measured: the rows of the published table and their members.
//!
//! Sizes are such that a program takes about a second natively, so that the slowest contender needs less than a minute.

use anyhow::{Result, bail};

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// Compression, digests, sorting, searching.
    Integer,
    /// Interpreters, a database, a compiler.
    Branches,
    /// Double precision and vectors.
    Floating,
    /// The kernel at work.
    System,
    /// Code that runs once or changes.
    Once,
}

impl Row {
    /// In the order of the table.
    pub const ALL: [Self; 5] = [Self::Integer, Self::Branches, Self::Floating, Self::System, Self::Once];

    /// As the table calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer => "integer mix",
            Self::Branches => "call- and branch-heavy",
            Self::Floating => "floating point and SSE",
            Self::System => "system-heavy",
            Self::Once => "translation: code executed once",
        }
    }

    /// What is aimed at: times QEMU's TCG, times TCG with `-icount shift=0`, and the part of native speed.
    pub fn aims(self) -> [Option<f64>; 3] {
        match self {
            Self::Integer => [Some(2.5), Some(6.0), Some(0.40)],
            Self::Branches => [Some(2.5), Some(5.0), Some(0.30)],
            Self::Floating => [Some(6.0), Some(8.0), Some(0.60)],
            Self::System => [Some(1.5), Some(4.0), None],
            Self::Once => [Some(1.2), Some(3.0), None],
        }
    }
}

/// How a workload comes about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A fixed amount of work by `run.sh`; only busybox and our own programs, so that the tiny guest has it too.
    Everywhere,
    /// A fixed amount of work by `run.sh`, with programs of the Debian disk.
    Debian,
    /// Runs for a time, and tells how much was done; the table says what this much takes.
    Rate(f64),
    /// A mark of the boot.
    Boot,
}

/// One member of a row.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// As `run.sh`, `--only` and the table call it.
    pub name: &'static str,
    /// Where it belongs.
    pub row: Row,
    /// How it comes about.
    pub kind: Kind,
    /// How much.
    pub size: u32,
    /// How much in the tiny guest.
    pub tiny: u32,
    /// For people.
    pub what: &'static str,
}

impl Workload {
    /// The tiny guest can do it.
    pub fn is_everywhere(&self) -> bool {
        matches!(self.kind, Kind::Everywhere | Kind::Boot) && self.name != LOGIN
    }

    /// It is measured while the guest starts.
    pub fn is_boot(&self) -> bool {
        self.kind == Kind::Boot
    }
}

/// From the kernel's entry to the login prompt.
pub const LOGIN: &str = "login";
/// From the kernel's entry to the first process.
pub const INIT: &str = "init";

const fn workload(
    (name, row): (&'static str, Row),
    kind: Kind,
    (size, tiny): (u32, u32),
    what: &'static str,
) -> Workload {
    Workload { name, row, kind, size, tiny, what }
}

/// All of them, in the order of the table.
pub const WORKLOADS: &[Workload] = &[
    workload(("sha256sum", Row::Integer), Kind::Everywhere, (384, 2), "busybox, 8 times"),
    workload(("gzip", Row::Integer), Kind::Everywhere, (128, 1), "busybox gzip -9"),
    workload(("bzip2", Row::Integer), Kind::Everywhere, (128, 1), "busybox"),
    workload(("sort", Row::Integer), Kind::Everywhere, (384, 1), "busybox, lines of text"),
    workload(("awk", Row::Integer), Kind::Everywhere, (96, 1), "busybox, counting words"),
    workload(("grep", Row::Integer), Kind::Everywhere, (384, 1), "busybox, an extended expression"),
    workload(("7z", Row::Integer), Kind::Rate(6_000.0), (1, 1), "7zz b 1 -mmt1 -md18 -mtime=1"),
    workload(("aes", Row::Integer), Kind::Rate(12_000.0), (2, 1), "openssl speed: AES-128-CBC without AES-NI, 16 KiB"),
    workload(("sha256", Row::Integer), Kind::Rate(25_000.0), (2, 1), "openssl speed: SHA-256, 16 KiB"),
    workload(("rsa2048", Row::Integer), Kind::Rate(700.0), (2, 1), "openssl speed: signatures"),
    workload(("python", Row::Branches), Kind::Debian, (100, 1), "objects, dictionaries, recursion, generators"),
    workload(("perl", Row::Branches), Kind::Debian, (6, 1), "regular expressions, hashes, sorting"),
    workload(("sqlite", Row::Branches), Kind::Debian, (250_000, 1000), "inserts, indexes, joins, updates, aggregates"),
    workload(("gcc", Row::Branches), Kind::Debian, (1, 1), "gcc -O2 -S of a large file"),
    workload(("chacha", Row::Floating), Kind::Rate(60_000.0), (2, 1), "openssl speed: ChaCha20, 16 KiB"),
    workload(("nbody", Row::Floating), Kind::Everywhere, (6_000_000, 2000), "double precision"),
    workload(("matrix", Row::Floating), Kind::Debian, (5000, 10), "stress-ng --matrix 1"),
    workload((LOGIN, Row::System), Kind::Boot, (0, 0), "kernel entry to the login prompt"),
    workload(("forks", Row::System), Kind::Everywhere, (10_000, 10), "a shell runs /bin/true that often"),
    workload(("pipes", Row::System), Kind::Everywhere, (200_000, 100), "two processes wake each other"),
    workload(("faults", Row::System), Kind::Everywhere, (120, 1), "rounds of 4096 page faults"),
    workload(("apt", Row::System), Kind::Debian, (1, 1), "apt-get install vim-runtime from a local archive"),
    workload((INIT, Row::Once), Kind::Boot, (0, 0), "kernel entry to the first process"),
    workload(("traces", Row::Once), Kind::Debian, (40_000, 10), "LuaJIT: functions compiled and soon forgotten"),
    workload(("once", Row::Once), Kind::Everywhere, (1_000_000, 640), "generated functions, each called twice"),
    workload(("patch", Row::Once), Kind::Everywhere, (2_000_000, 500), "an operand rewritten before each call"),
];

/// The workloads of these names; all if there are none.
pub fn select(names: &[String]) -> Result<Vec<&'static Workload>> {
    if let Some(unknown) = names.iter().find(|name| WORKLOADS.iter().all(|workload| workload.name != name.as_str())) {
        let known: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        bail!("there is no workload {unknown}; known are {}", known.join(", "));
    }
    let wanted = |workload: &&Workload| names.is_empty() || names.iter().any(|name| name == workload.name);
    Ok(WORKLOADS.iter().filter(wanted).collect())
}
