//! What differs between the two, and what they left in memory.

use super::{Case, Outcome};
use iced_x86::{Formatter, Instruction, IntelFormatter, RflagsBits};
use std::collections::BTreeMap;

const PAGE: usize = 4096;

/// Offsets of the pages that differ.
pub fn changed_pages(image: &[u8], bytes: &[u8]) -> Vec<usize> {
    let pages = image.chunks_exact(PAGE).zip(bytes.chunks_exact(PAGE)).enumerate();
    pages.filter(|(_, (old, new))| old != new).map(|(number, _)| number * PAGE).collect()
}

/// Changed bytes of what is compared.
pub fn changes(image: &[u8], bytes: &[u8]) -> BTreeMap<u32, u8> {
    let pages = changed_pages(image, bytes).into_iter();
    let bytes_of = |page: usize| (page..page + PAGE).filter(|&at| image[at] != bytes[at]);
    pages.flat_map(bytes_of).map(|at| (at as u32, bytes[at])).collect()
}

/// Flags that some instruction leaves undefined.
pub fn undefined_flags(instructions: &[Instruction]) -> u32 {
    let bits = [
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 4),
        (RflagsBits::AF, 0x10),
        (RflagsBits::ZF, 0x40),
        (RflagsBits::SF, 0x80),
        (RflagsBits::OF, 0x800),
    ];
    let named = instructions.iter().fold(0, |named, one| named | one.rflags_undefined());
    bits.iter().filter(|(bit, _)| named & bit != 0).fold(0, |flags, (_, flag)| flags | flag)
}

/// Kind and text of a difference from Unicorn.
pub fn report(
    case: &Case,
    instructions: &[Instruction],
    engine: &Outcome,
    reference: &Outcome,
) -> Option<(String, String)> {
    // Where a fault interrupts a block, flags may be those of an earlier instruction.
    let ignored = if reference.vector == Some(3) { undefined_flags(instructions) } else { 0x8d5 };
    describe(case, instructions, &differences(ignored, engine, reference))
}

/// Kind and text of a difference from silicon.
pub fn report_exactly(
    case: &Case,
    instructions: &[Instruction],
    engine: &Outcome,
    host: &Outcome,
) -> Option<(String, String)> {
    describe(case, instructions, &differences(0, engine, host))
}

fn describe(case: &Case, instructions: &[Instruction], found: &[String]) -> Option<(String, String)> {
    let first = found.first()?.split(' ').next().unwrap_or_default();
    let codes: Vec<String> = instructions.iter().map(|one| format!("{:?}", one.code())).collect();
    let mut text = format!("{:?} {:x?}\n{:x?}\n{:02x?}\n", case.mode, case.parts, case.registers, case.bytes);
    let mut formatter = IntelFormatter::new();
    for one in instructions {
        text += &format!("  {:x} ", one.ip());
        formatter.format(one, &mut text);
        text += "\n";
    }
    for difference in found {
        text += &format!("  {difference}\n");
    }
    Some((format!("{:?} {}: {first}", case.mode, codes.join(" ")), text))
}

fn differences(ignored_flags: u32, engine: &Outcome, reference: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    let mut note = |what: &str, left: u32, right: u32| {
        if left != right {
            found.push(format!("{what} {left:x} {right:x}"));
        }
    };
    if let (Some(left), Some(right)) = (engine.vector, reference.vector) {
        note("vector", left.into(), right.into());
    }
    let (left, right) = (&engine.registers, &reference.registers);
    note("ip", left.ip, right.ip);
    // RF is a matter of how a fault is delivered.
    let ignored = ignored_flags | 1 << 16;
    note("flags", left.flags & !ignored, right.flags & !ignored);
    for (number, name) in ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"].into_iter().enumerate() {
        note(name, left.gpr[number], right.gpr[number]);
    }
    for (number, name) in ["es", "cs", "ss", "ds", "fs", "gs"].into_iter().enumerate() {
        note(name, left.selectors[number].into(), right.selectors[number].into());
    }
    if engine.changes != reference.changes {
        let keys = engine.changes.keys().chain(reference.changes.keys());
        for at in keys.filter(|at| engine.changes.get(at) != reference.changes.get(at)).take(4) {
            found.push(format!("[{at:x}] {:x?} {:x?}", engine.changes.get(at), reference.changes.get(at)));
        }
    }
    found
}
