//! Registers as bytes, and under their names.

use super::*;
use crate::{Cpu, Memory};

/// Every number of it another one.
fn numbered_state() -> State {
    let mut state = State {
        gpr: std::array::from_fn(|number| 0x100 + number as u64),
        segments: [0x200, 0x210, 0x220, 0x230, 0x240, 0x250].map(numbered_segment),
        ldtr: numbered_segment(0x260),
        tr: numbered_segment(0x270),
        gdtr: TableRegister { base: 0x280, limit: 0x281 },
        idtr: TableRegister { base: 0x290, limit: 0x291 },
        mtrr_variable: std::array::from_fn(|number| 0x300 + number as u64),
        mtrr_fixed: std::array::from_fn(|number| 0x400 + number as u64),
        dr: std::array::from_fn(|number| 0x500 + number as u64),
        fx: FxArea(std::array::from_fn(|number| number as u8)),
        debug_pending: 0x600,
        smbase: 0x601,
        cpl: 3,
        ..State::default()
    };
    let State { rip, rflags, cr0, cr2, cr3, cr4, efer, star, lstar, cstar, .. } = &mut state;
    let words = [rip, rflags, cr0, cr2, cr3, cr4, efer, star, lstar, cstar];
    (0x700..).zip(words).for_each(|(number, word)| *word = number);
    let State { sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip, .. } = &mut state;
    let words = [sfmask, kernel_gs_base, sysenter_cs, sysenter_esp, sysenter_eip];
    (0x800..).zip(words).for_each(|(number, word)| *word = number);
    let State { tsc_aux, tsc_offset, pat, mtrr_def_type, .. } = &mut state;
    (0x900..).zip([tsc_aux, tsc_offset, pat, mtrr_def_type]).for_each(|(number, word)| *word = number);
    state
}

fn numbered_segment(first: u16) -> Segment {
    Segment { base: first.into(), limit: u32::from(first) + 1, attributes: first + 2, selector: first + 3 }
}

fn saved(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.save(&mut bytes);
    bytes
}

/// The numbered state, and one with each of the flags.
fn examples() -> [State; 6] {
    std::array::from_fn(|example| {
        let mut state = numbered_state();
        let State { interrupt_shadow, halted, nmi_blocked, debug_shadow, smm, .. } = &mut state;
        if let Some(flag) = [interrupt_shadow, halted, nmi_blocked, debug_shadow, smm].into_iter().nth(example) {
            *flag = true;
        }
        state
    })
}

#[test]
fn states_survive_the_round_trip() {
    for state in examples() {
        let mut bytes = saved(&state);
        bytes.push(0x55);
        let mut rest = &bytes[..];
        assert!(State::load(&mut rest).is_some_and(|loaded| loaded == state));
        assert_eq!(rest, [0x55]);
    }
}

/// Checkpoints, records and the other server hold states: whoever changes this form changes the number of the format.
#[test]
fn the_saved_form_is_that_of_earlier_builds() {
    let hash = |bytes: Vec<u8>| {
        let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold)
    };
    let expected = [
        0x739b_e93f_1ce3_5322,
        0xe050_2061_43fd_00f4,
        0x77a1_5169_954a_beda,
        0x8047_6669_9a2f_da5c,
        0x804a_cb69_9a32_bbd2,
        0x804a_cc69_9a32_bd85,
    ];
    assert_eq!(examples().map(|state| hash(saved(&state))), expected);
}

#[test]
fn reports_name_registers() {
    let state = numbered_state();
    let mut parts = Vec::new();
    state.parts("", &mut parts);
    let part = |name: &str| parts.iter().find(|(found, _)| found == name).map(|(_, bytes)| bytes.as_slice());
    assert_eq!(part("rdx"), Some(&0x102_u64.to_le_bytes()[..]));
    assert_eq!(part("cs.selector"), Some(&0x213_u16.to_le_bytes()[..]));
    assert_eq!(part("xmm1"), Some(&state.fx.0[176..192]));
    assert_eq!(part("cpl"), Some(&[3][..]));
    let bytes: Vec<u8> = parts.into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert_eq!(bytes, saved(&state));
}

#[test]
fn what_is_no_state_is_refused() {
    let mut cpu = Cpu::new(Memory::new(1 << 20).expect("memory")).expect("a CPU");
    let mut bytes = Vec::new();
    cpu.save(&mut bytes);
    assert!(cpu.load(&mut &bytes[..]));
    assert!((0..bytes.len()).all(|length| !cpu.load(&mut &bytes[..length])));
    for (from_end, value) in [(6, 4), (5, 2), (4, 255), (1, 2)] {
        let mut wrong = bytes.clone();
        let at = wrong.len() - from_end;
        wrong[at] = value;
        assert!(!cpu.load(&mut &wrong[..]), "{value} at {from_end} from the end");
    }
}
