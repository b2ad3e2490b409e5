//! What differs between two outcomes. Against the host nothing that an instruction leaves undefined is excused:
//! the engine runs the host's own instructions. What is excused is here, with the reason.

use crate::case::{Case, Line, Outcome, SystemState};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::ops::Range;

/// RF in the pushed flags: a matter of how the exception is delivered; debuggers use it, programs do not see it.
const RESUME: u64 = 1 << 16;

/// Parts of the FXSAVE image that hold state. FOP, FIP and FDP are zero in the guest and host addresses outside;
/// MXCSR_MASK is not a register; the rest is reserved.
const FX_STATE: [(Range<usize>, &str); 5] =
    [(0..2, "fcw"), (2..4, "fsw"), (4..6, "ftw"), (24..28, "mxcsr"), (160..416, "xmm")];

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub what: String,
    /// In the first outcome.
    pub left: String,
    /// In the second.
    pub right: String,
}

impl Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:<10} {}  {}", self.what, self.left, self.right)
    }
}

/// What may differ in one comparison, beyond [`Case::ignored`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Excused {
    /// RFLAGS bits.
    pub flags: u64,
    /// Error codes.
    pub error: bool,
    /// The user bit of a page fault's error code.
    pub user: bool,
    /// CR2.
    pub address: bool,
    /// MXCSR and the x87 status word.
    pub floating_status: bool,
    /// All of the x87.
    pub x87: bool,
    /// The x87 tag word and TOP.
    pub tags: bool,
    /// Memory.
    pub memory: bool,
    /// A different exception of the same instruction.
    pub vector: bool,
}

/// All differences between two outcomes of a case, the exception first.
pub fn differences(case: &Case, left: &Outcome, right: &Outcome, excused: Excused) -> Vec<Difference> {
    let mut found = Vec::new();
    let ended_well = left.vector == 3 && right.vector == 3;
    let mut note = |what: String, left: u64, right: u64| {
        if left != right {
            found.push(Difference { what, left: format!("{left:016x}"), right: format!("{right:016x}") });
        }
    };
    if !excused.vector {
        note("vector".into(), left.vector.into(), right.vector.into());
    }
    note("rip".into(), left.registers.rip, right.registers.rip);
    if !excused.address && left.vector == right.vector {
        note("cr2".into(), left.cr2, right.cr2);
    }
    if !excused.error && left.vector == right.vector {
        let mask = error_mask(left) & if excused.user && left.vector == 14 { !4 } else { !0 };
        note("error".into(), left.error as u64 & mask, right.error as u64 & mask);
    }
    let flags = !(RESUME | excused.flags);
    note("rflags".into(), left.registers.rflags & flags, right.registers.rflags & flags);
    for number in 0..16 {
        note(register_name(number), left.registers.gpr[number], right.registers.gpr[number]);
    }
    if right.system.is_some() {
        note("fs base".into(), left.registers.fs_base, right.registers.fs_base);
        note("gs base".into(), left.registers.gs_base, right.registers.gs_base);
    }
    if let (Some(left), Some(right)) = (left.count, right.count) {
        note("count".into(), left, right);
    }
    floating_point(&left.registers.fx, &right.registers.fx, excused, &mut found);
    if let (Some(left), Some(right)) = (&left.system, &right.system) {
        system(left, right, ended_well, &mut found);
    }
    if !excused.memory {
        memory(case, &left.lines, &right.lines, &mut found);
    }
    found
}

/// A page fault beyond user addresses always says "present" on Linux, which hides its own mappings.
fn error_mask(outcome: &Outcome) -> u64 {
    if outcome.vector == 14 && outcome.cr2 >= 0x7fff_ffff_f000 { !1 } else { !0 }
}

fn register_name(number: usize) -> String {
    format!("{:?}", iced_x86::Register::RAX + number as u32).to_lowercase()
}

fn floating_point(left: &[u8; 512], right: &[u8; 512], excused: Excused, found: &mut Vec<Difference>) {
    let mut note = |what: String, range: Range<usize>| {
        if left[range.clone()] != right[range.clone()] {
            found.push(Difference { what, left: hex(&left[range.clone()]), right: hex(&right[range]) });
        }
    };
    for (range, name) in FX_STATE {
        if name == "xmm" {
            for register in 0..16 {
                note(format!("xmm{register}"), range.start + 16 * register..range.start + 16 * register + 16);
            }
        } else if !(excused.floating_status && matches!(name, "mxcsr" | "fsw")
            || excused.tags && matches!(name, "ftw" | "fsw")
            || excused.x87 && matches!(name, "fcw" | "ftw" | "fsw"))
        {
            note(name.into(), range);
        }
    }
    for register in (0..8).filter(|_| !excused.tags && !excused.x87) {
        note(format!("st{register}"), 32 + 16 * register..42 + 16 * register);
    }
}

/// Selectors, descriptors and table entries. Where the case ended in a fault, accessed and dirty bits are left out: it is
/// open whether a walk that fails sets them in the levels above, and in the first of two pages. Unicorn's RETF and IRET
/// leave accessed bits of descriptors alone.
fn system(left: &SystemState, right: &SystemState, ended_well: bool, found: &mut Vec<Difference>) {
    for (number, name) in ["es", "cs", "ss", "ds", "fs", "gs"].into_iter().enumerate() {
        let (left, right) = (left.selectors[number], right.selectors[number]);
        if left != right {
            found.push(Difference { what: name.into(), left: format!("{left:04x}"), right: format!("{right:04x}") });
        }
    }
    let mut words: BTreeMap<u64, [Option<u64>; 2]> = BTreeMap::new();
    for (side, state) in [left, right].into_iter().enumerate() {
        for (address, value) in &state.words {
            words.entry(*address).or_default()[side] = Some(*value);
        }
    }
    for (address, sides) in words {
        let mask = match address {
            crate::guest::GDT.. if address < crate::guest::GDT + 0x1000 => !(1 << 40),
            _ if ended_well => !0,
            _ => !0x60,
        };
        let [left, right] = sides.map(|value| value.unwrap_or_else(|| crate::guest::initial_word(address)) & mask);
        if left != right {
            let what = format!("[{address:x}]");
            found.push(Difference { what, left: format!("{left:016x}"), right: format!("{right:016x}") });
        }
    }
}

/// Bytes, the most significant first.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().rev().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares changed lines; a line missing on one side is one that still has its initial bytes there.
fn memory(case: &Case, left: &[Line], right: &[Line], found: &mut Vec<Difference>) {
    let mut lines: BTreeMap<u32, [Option<&Line>; 2]> = BTreeMap::new();
    for line in left {
        lines.entry(line.offset).or_default()[0] = Some(line);
    }
    for line in right {
        lines.entry(line.offset).or_default()[1] = Some(line);
    }
    for (offset, sides) in lines {
        for byte in 0..64 {
            let at = offset as usize + byte;
            let value = |side: usize| sides[side].map(|line| line.bytes[byte]);
            let (first, second) = (value(0), value(1));
            let initial = || initial(case, at);
            let (first, second) = (first.unwrap_or_else(initial), second.unwrap_or_else(initial));
            if first != second && !case.ignored.iter().any(|range| range.contains(&at)) {
                let what = format!("frame+{at:x}");
                found.push(Difference { what, left: format!("{first:02x}"), right: format!("{second:02x}") });
            }
        }
    }
}

/// The byte a frame is filled with before the case's patches and code. Lines are reported against this.
fn initial(case: &Case, offset: usize) -> u8 {
    if offset < crate::layout::DATA_BYTES { IMAGES[case.image][offset] } else { 0xcc }
}

/// All initial data.
pub static IMAGES: std::sync::LazyLock<Vec<Vec<u8>>> =
    std::sync::LazyLock::new(|| (0..crate::layout::IMAGES).map(crate::layout::image).collect());

/// The case and what differs, for people.
pub fn report(case: &Case, names: [&str; 2], differences: &[Difference]) -> String {
    let mut text = format!("seed {:#x}, initial data {}\n{}", case.seed, case.image, case.listing());
    let registers = &case.registers;
    for (number, value) in registers.gpr.iter().enumerate() {
        text += &format!("  {:>3} {value:016x}{}", register_name(number), if number % 4 == 3 { "\n" } else { "" });
    }
    text += &format!(
        "  rflags {:x}  fs {:x}  gs {:x}  mxcsr {}  fcw {}  fsw {}  ftw {:02x}\n",
        registers.rflags,
        registers.fs_base,
        registers.gs_base,
        hex(&registers.fx[24..28]),
        hex(&registers.fx[0..2]),
        hex(&registers.fx[2..4]),
        registers.fx[4],
    );
    if let Some(system) = &case.system {
        text +=
            &format!("  {:?}, WP {}, NXE {}\n", system.privilege, system.write_protect as u8, system.no_execute as u8);
        for (address, value) in &system.stores {
            text += &format!("  [{address:x}] holds {value:016x}\n");
        }
    }
    for patch in &case.patches {
        text += &format!("  frame+{:x} holds {}\n", patch.offset, hex(&patch.bytes));
    }
    text += &format!("  what       {}  {}\n", names[0], names[1]);
    for difference in differences.iter().take(24) {
        text += &format!("  {difference}\n");
    }
    text
}
