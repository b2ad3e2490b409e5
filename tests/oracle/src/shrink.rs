//! Makes a failing case smaller: drops instructions, then registers' and memory's special values, while it fails.

use crate::case::{Case, Item};

/// The smallest case found for which `fails` still holds.
pub fn shrink(case: &Case, mut fails: impl FnMut(&Case) -> bool) -> Case {
    let mut best = case.clone();
    let mut progress = true;
    while progress {
        progress = false;
        for dropped in (0..best.items.len()).rev() {
            if matches!(best.items.get(dropped), Some(Item::End)) {
                continue;
            }
            let smaller = best.without(dropped);
            if smaller.assemble().is_some() && fails(&smaller) {
                best = smaller;
                progress = true;
            }
        }
        for candidate in simpler(&best) {
            if fails(&candidate) {
                best = candidate;
                progress = true;
                break;
            }
        }
    }
    best
}

/// The same program from plainer states.
fn simpler(case: &Case) -> Vec<Case> {
    let mut candidates = Vec::new();
    let mut add = |change: &dyn Fn(&mut Case)| {
        let mut candidate = case.clone();
        change(&mut candidate);
        if candidate.registers != case.registers || candidate.patches.len() != case.patches.len() {
            candidates.push(candidate);
        }
    };
    for patch in 0..case.patches.len() {
        add(&|case| {
            case.patches.remove(patch);
        });
    }
    for register in (0..16).filter(|&register| register != 4) {
        add(&|case| case.registers.gpr[register] = 0);
    }
    for bit in [0x1, 0x4, 0x10, 0x40, 0x80, 0x400, 0x800] {
        add(&|case| case.registers.rflags &= !bit);
    }
    add(&|case| case.registers.fx[24..28].copy_from_slice(&0x1f80u32.to_le_bytes()));
    add(&|case| case.registers.fx[..5].copy_from_slice(&[0x7f, 3, 0, 0, 0xff]));
    candidates
}
