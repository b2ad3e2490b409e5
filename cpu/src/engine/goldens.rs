//! How many host instructions guest instructions come to, against the numbers in `tests/goldens/instructions.txt`, so
//! that a change of translated code shows in review.
//!
//! Counted is what runs when every lookup hits: from the start of the instruction's code to the next instruction, or out
//! of the block; jumps within a page count as linked. To accept new numbers: `FTEMU_BLESS=1 cargo test -p ftemu-cpu goldens`, and look at the difference.

use super::Engine;
use super::options::Optimisations;
use super::sites::Site;
use crate::memory::Memory;
use crate::state::{Segment, State, control, gpr, segment};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Formatter, Instruction, IntelFormatter};
use std::fmt::Write;
use std::path::Path;

const CODE: u64 = 0x10_0000;
const FILE: &str = "tests/goldens/instructions.txt";
const HEAD: &str = "\
# Host instructions that run for a guest instruction when every lookup hits, and the bytes from the first to the last
# of them. `+ Rust`: it ends in a call of a Rust function. `entry`: what each block begins with.
# Accept changes with FTEMU_BLESS=1 cargo test -p ftemu-cpu goldens
";

const LONG: &[&str] = &[
    "4889d8",
    "4c89d1",
    "4d89d3",
    "b801000000",
    "488b03",
    "488b442410",
    "4c8b1424",
    "65488b042508000000",
    "488903",
    "4889442410",
    "c60301",
    "488d0488",
    "4801d8",
    "480103",
    "488303ff",
    "480303",
    "31c0",
    "4839d8",
    "483b03",
    "8a23",
    "0fb603",
    "480fafc3",
    "48d3e0",
    "48c1e004",
    "480fc8",
    "f7f3",
    "f00fb10b",
    "480fc70b",
    "f0480fc10b",
    "480fb10b",
    "50",
    "4152",
    "58",
    "4158",
    "ff33",
    "6a01",
    "c9",
    "e810000000",
    "ffd0",
    "ff13",
    "c3",
    "c20800",
    "eb10",
    "e900200000",
    "ffe0",
    "ff23",
    "7410",
    "0f8400200000",
    "e210",
    "e310",
    "0f94c0",
    "480f44c3",
    "f30f6f03",
    "0f2803",
    "660f58c1",
    "f20f5803",
    "0f1103",
    "660fefc0",
    "dd03",
    "d8c1",
    "dd1b",
    "d9ee",
    "a4",
    "f3a4",
    "f348ab",
    "f2ae",
    "fc",
    "9c",
    "9d",
    "fa",
    "fb",
    "f4",
    "90",
    "0f31",
    "0fa2",
    "0f05",
    "480f07",
    "0f01f8",
    "48cf",
    "cd80",
    "cc",
    "0f32",
    "0f30",
    "0f20d8",
    "0f22d8",
    "0f20d0",
    "0f013b",
    "e460",
    "ee",
    "0f0b",
    "8ed8",
    "8cd8",
    "0fae03",
    "0fae0b",
    "9b",
    "0faee8",
];
const PROTECTED: &[&str] = &[
    "89d8",
    "8b03",
    "8903",
    "0103",
    "a100002000",
    "658b03",
    "50",
    "58",
    "e810000000",
    "c3",
    "ff23",
    "7410",
    "f3a5",
    "60",
    "61",
    "cf",
    "cd80",
    "1e",
    "1f",
    "fa",
    "e460",
    "0f34",
    "dd03",
];
const REAL: &[&str] = &[
    "89d8", "8b07", "8907", "268b07", "0107", "50", "58", "e81000", "c3", "7410", "f3a5", "cf", "cd10", "1e", "1f",
    "fb", "e460",
];

/// An engine whose CPU is in 64-bit, 32-bit or 16-bit code; the last is real mode.
fn engine(bits: u32) -> Box<Engine> {
    let mut engine = Engine::new(Memory::new(4 << 20).expect("memory")).expect("an engine");
    engine.set_optimisations(Optimisations::all());
    let flat = |attributes| Segment { base: 0, limit: u32::MAX, attributes, selector: 8 };
    let mut state = State { rip: CODE, rflags: 2, ..State::default() };
    state.cr4 = control::CR4_OSFXSR;
    state.gpr[gpr::RSP] = 0x8000;
    match bits {
        64 => {
            state.cr0 = control::CR0_PE | control::CR0_PG;
            state.efer = control::EFER_LMA | control::EFER_LME | control::EFER_SCE;
            state.cr4 |= control::CR4_PAE;
            state.segments[segment::CS] = flat(0xa9b);
        }
        32 => {
            state.cr0 = control::CR0_PE;
            state.segments = [flat(0xc93); 6];
            state.segments[segment::CS] = flat(0xc9b);
        }
        _ => {
            state.segments = [Segment { base: 0, limit: 0xffff, attributes: 0x93, selector: 0 }; 6];
            state.rip = 0x1000;
        }
    }
    *engine.state_mut() = state;
    engine.refresh_segments();
    engine
}

/// What runs.
#[derive(Default)]
struct Hot {
    instructions: u32,
    first: u64,
    end: u64,
    rust: bool,
}

/// Follows the code of a block from `start` to `stop`, or out of the block.
fn follow(engine: &Engine, start: u64, stop: u64, parts: &[std::ops::Range<u64>; 2]) -> Hot {
    let mut hot = Hot { first: start, end: start, ..Hot::default() };
    let mut at = start;
    while at != stop
        && let Some(part) = parts.iter().find(|part| part.contains(&at))
    {
        let bytes = engine.buffer.bytes(at, (part.end - at).min(15) as usize);
        let one = Decoder::with_ip(64, &bytes, at, DecoderOptions::NONE).decode();
        hot.instructions += 1;
        hot.end = hot.end.max(one.next_ip());
        if will_be_linked(engine, &one) && one.flow_control() == FlowControl::UnconditionalBranch {
            break;
        }
        at = match one.flow_control() {
            FlowControl::UnconditionalBranch => {
                hot.rust = one.near_branch_target() == engine.trampolines.service;
                one.near_branch_target()
            }
            FlowControl::IndirectBranch => break,
            _ => one.next_ip(),
        };
    }
    hot
}

/// A jump that leads to another block once it has been taken.
fn will_be_linked(engine: &Engine, one: &Instruction) -> bool {
    let sites = engine.blocks.sites(1);
    sites.into_iter().any(|site| matches!(site, Site::Link { jump, .. } if jump + 4 == one.next_ip()))
}

/// The lines of a mode: the entry, then each instruction.
fn lines(bits: u32, guests: &[&str], out: &mut String) {
    let mut engine = engine(bits);
    let mut formatter = IntelFormatter::new();
    for (number, guest) in guests.iter().enumerate() {
        let bytes: Vec<u8> =
            (0..guest.len()).step_by(2).map(|at| u8::from_str_radix(&guest[at..at + 2], 16).expect("hex")).collect();
        let rip = engine.state().rip + 32 * number as u64;
        engine.memory.store(rip, &[&bytes[..], &[0x90; 16]].concat());
        let mode = engine.mode();
        let block = engine.translate(rip, rip, mode, 2, false).expect("a block");
        let marks = engine.blocks.marks(block);
        let block = engine.block(block);
        let (start, end) = (block.parts.hot, block.parts.hot + u64::from(block.parts.length));
        let parts = [start..end, block.parts.cold()..engine.buffer.next(1).1];
        let mark = |index: usize| marks.get(index).map(|mark| block.parts.address(mark.position));
        let first = mark(1).expect("each instruction has a mark");
        let ends = block.count() == 1;
        // What lies out of line has marks, too, behind all that run.
        let stop = if ends { end } else { mark(2).expect("a mark") };
        if number == 0 {
            let entry = follow(&engine, start, first, &parts);
            writeln!(
                out,
                "\n{bits}-bit code\n{:40} {:3} {:4} bytes",
                "entry",
                entry.instructions,
                entry.end - entry.first
            )
            .expect("text");
        }
        let hot = follow(&engine, first, stop, &parts);
        let mut text = String::new();
        let guest = Decoder::with_ip(bits, &bytes, rip, DecoderOptions::AMD).decode();
        formatter.format(&guest, &mut text);
        let rust = if hot.rust { " + Rust" } else { "" };
        writeln!(out, "{text:40} {:3} {:4} bytes{rust}", hot.instructions, hot.end - hot.first).expect("text");
    }
}

#[test]
fn goldens_of_translated_code_are_as_they_were() {
    let mut found = HEAD.to_owned();
    for (bits, guests) in [(64, LONG), (32, PROTECTED), (16, REAL)] {
        lines(bits, guests, &mut found);
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("FTEMU_BLESS").is_some() {
        std::fs::write(&file, &found).expect("the file can be written");
    }
    let expected = std::fs::read_to_string(&file).expect("the goldens");
    let changes: Vec<_> = expected
        .lines()
        .zip(found.lines())
        .filter(|(old, new)| old != new)
        .map(|(old, new)| format!("was {old}\nis  {new}"))
        .collect();
    assert!(
        expected == found,
        "translated code has changed; FTEMU_BLESS=1 cargo test -p ftemu-cpu goldens accepts it:\n{}",
        changes.join("\n")
    );
}
