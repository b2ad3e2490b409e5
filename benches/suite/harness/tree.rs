//! What the benchmark adds to a guest, below `/bench`: scripts, programs of ours, and generated input.

use std::fmt::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A file below `/bench`.
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub bytes: Vec<u8>,
    /// Whether it is a program.
    pub program: bool,
}

const SCRIPTS: [(&str, &str); 5] = [
    ("run.sh", include_str!("guest/run.sh")),
    ("calls.py", include_str!("guest/calls.py")),
    ("texts.pl", include_str!("guest/texts.pl")),
    ("tables.sql", include_str!("guest/tables.sql")),
    ("traces.lua", include_str!("guest/traces.lua")),
];

const PROGRAMS: [(&str, &str); 4] = [
    ("nbody", include_str!("guest/nbody.c")),
    ("pipes", include_str!("guest/pipes.c")),
    ("faults", include_str!("guest/faults.c")),
    ("generated", include_str!("guest/generated.c")),
];

/// Scripts, programs and as much text as `text_bytes` says; with a large C file if `full`.
pub fn files(scratch: &Path, text_bytes: usize, full: bool) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>, program| entries.push(Entry { name: name.to_owned(), bytes, program });
    for (name, script) in SCRIPTS {
        add(name, script.into(), true);
    }
    for (name, source) in PROGRAMS {
        add(name, compile(scratch, name, source)?, true);
    }
    add("text", text(text_bytes).into_bytes(), false);
    if full {
        add("large.c", large_source(90).into_bytes(), false);
        add("sources.list", b"deb [trusted=yes] file:/bench/archive ./\n".to_vec(), false);
    }
    Ok(entries)
}

/// The base instruction set of x86-64 only, and no libraries of the host: the same program everywhere.
fn compile(scratch: &Path, name: &str, source: &str) -> Result<Vec<u8>> {
    let (from, to) = (scratch.join(format!("{name}.c")), scratch.join(name));
    std::fs::write(&from, source)?;
    let mut command = Command::new("cc");
    command.args(["-O2", "-static", "-march=x86-64", "-o"]).arg(&to).arg(&from).arg("-lm");
    let output = command.output().context("starting cc (Debian: build-essential)")?;
    ensure!(output.status.success(), "cc {name}.c: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(&to).context("reading what cc made")
}

/// Equal seeds give equal numbers: xorshift.
struct Random(u32);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 % limit
    }
}

/// Something like prose: few words are frequent, many are rare.
fn text(bytes: usize) -> String {
    const SYLLABLES: [&str; 24] = [
        "ba", "con", "de", "er", "fo", "ing", "ka", "lu", "men", "no", "or", "pre", "qui", "ra", "st", "tion", "u",
        "ver", "wi", "ex", "ye", "zo", "ed", "sh",
    ];
    let mut random = Random(7);
    let mut words = vec!["the".to_owned(), "of".to_owned(), "and".to_owned(), "to".to_owned()];
    for _ in 0..6000 {
        let syllables = 1 + random.below(4);
        words.push((0..syllables).map(|_| SYLLABLES[random.below(24) as usize]).collect());
    }
    let mut text = String::with_capacity(bytes + 128);
    while text.len() < bytes {
        for _ in 0..6 + random.below(8) {
            let limit = 1 + random.below(words.len() as u32);
            let limit = 1 + random.below(limit);
            text.push_str(&words[random.below(limit) as usize]);
            text.push(' ');
        }
        text.push_str(if random.below(5) == 0 { "1984.\n" } else { "so.\n" });
    }
    text.truncate(bytes);
    text
}

/// C for a compiler to chew: structures, loops, switches and calls.
fn large_source(functions: u32) -> String {
    let mut random = Random(11);
    let mut text = String::from(
        "struct item { int kind, size; unsigned flags; struct item *next; long sum[8]; };\n\
         extern int outside(const struct item *, int);\n",
    );
    for number in 0..functions {
        let (a, b, c) = (random.below(97) + 2, random.below(31) + 1, random.below(7) + 1);
        let callee = if number == 0 { "outside".to_owned() } else { format!("work{}", random.below(number)) };
        let _ = write!(
            text,
            "int work{number}(const struct item *first, int x)\n{{\n\
             \x20   int result = x % {a};\n    unsigned bits = first ? first->flags : {b}u;\n\
             \x20   for (const struct item *at = first; at; at = at->next) {{\n\
             \x20       switch ((at->kind + {c}) % 6) {{\n\
             \x20       case 0: result += at->size * {a}; break;\n        case 1: result ^= (int)(bits >> {c}); break;\n\
             \x20       case 2: for (int i = 0; i < 8; i++) result -= (int)at->sum[i] * {b}; break;\n\
             \x20       case 3: if (at->sum[{c}] > {a}) return {callee}(at->next, result); break;\n\
             \x20       case 4: bits = bits * {a}u + (unsigned)at->size / {b}u; break;\n\
             \x20       default: result += {callee}(at, x + {b});\n        }}\n    }}\n\
             \x20   return result + (int)bits;\n}}\n"
        );
    }
    text
}
