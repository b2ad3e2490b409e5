//! IRET, far transfers, SYSCALL and SYSRET, counting branches.

use super::*;
use crate::state::rflags;
use crate::state::{gpr, segment};
use crate::system::{Flow, deliver};

fn push_frame(machine: &mut Machine, words: &[u64]) {
    for (index, word) in words.iter().enumerate() {
        machine.store(machine.state.gpr[gpr::RSP] + 8 * index as u64, *word);
    }
}

#[test]
fn iret_undoes_a_delivery() {
    for mut machine in [Machine::new(), Machine::user()] {
        machine.gate(32, selector::CODE_0, HANDLER, 0x8e, 0);
        machine.state.rflags |= rflags::IF | rflags::CF | rflags::DF;
        let before = machine.state.clone();
        machine.with(|x| deliver::interrupt(x, 32)).expect("delivered");
        machine.run(|a| a.iretq()).expect("returned");
        let mut after = machine.state.clone();
        // What an outer level may not use has been dropped.
        if before.cpl == 3 {
            assert_eq!(after.segments[segment::DS], Segment::default());
            for register in [segment::ES, segment::DS, segment::FS, segment::GS] {
                after.segments[register] = before.segments[register];
            }
        }
        assert!(after == before);
    }
}

#[test]
fn iret_to_compatibility_mode() {
    let mut machine = Machine::new();
    let flags = 0x202 | rflags::RF | rflags::VM;
    push_frame(&mut machine, &[0x1234, 0x1b, flags, 0x5678, 0x23]);
    machine.run(|a| a.iretq()).expect("returned");
    let state = &machine.state;
    assert_eq!((state.cpl, state.rip, state.gpr[gpr::RSP], state.rflags), (3, 0x1234, 0x5678, 0x202));
    assert_eq!(state.segments[segment::CS].attributes, 0xcfb);
    assert_eq!(state.segments[segment::SS].attributes, 0xcf3);
    assert!(!state.is_long());
}

#[test]
fn iret_faults_leave_everything_as_it_was() {
    let general = Exception::general_protection;
    let cases: [([u64; 5], Exception); 10] = [
        ([0, 0, 2, 0, 0], general(0)),
        ([0, 0x90, 2, 0, 0], general(0x90)),
        ([0, 0x10, 2, 0, 0x10], general(0x10)),
        ([0, 0x78, 2, 0, 0x10], Exception::segment_not_present(0x78)),
        ([1 << 47, 8, 2, 0, 0x10], general(0)),
        ([0, 0x2b, 2, 0, 0], general(0)),
        ([0, 0x2b, 2, 0, 0x10], general(0x10)),
        ([0, 0x2b, 2, 0, 0x2b], general(0x28)),
        ([0, 8, 2, 0, 0x40], Exception::stack(0x40)),
        ([0, 8, 2, 0, 3], general(0)),
    ];
    for (frame, expected) in cases {
        let mut machine = Machine::new();
        push_frame(&mut machine, &frame);
        let before = machine.state.clone();
        assert_eq!(machine.run(|a| a.iretq()), Err(expected), "{frame:x?}");
        assert!(machine.state == before, "{frame:x?}");
    }
    let mut machine = Machine::new();
    machine.state.rflags |= rflags::NT;
    assert_eq!(machine.run(|a| a.iretq()), Err(general(0)));
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RSP] = 1 << 50;
    assert_eq!(machine.run(|a| a.iretq()), Err(Exception::stack(0)));
}

#[test]
fn iret_may_return_to_ring_0_with_a_null_stack_segment() {
    let mut machine = Machine::new();
    push_frame(&mut machine, &[HANDLER, 8, 2, 0x1111, 0]);
    machine.run(|a| a.iretq()).expect("returned");
    assert_eq!(machine.state.gpr[gpr::RSP], 0x1111);
    assert_eq!(machine.state.segments[segment::SS], Segment::default());
}

#[test]
fn iret_in_ring_3_cannot_change_io_privilege_or_the_interrupt_flag() {
    let mut machine = Machine::user();
    push_frame(&mut machine, &[HANDLER, 0x2b, 0x3202, STACK, 0x23]);
    machine.run(|a| a.iretq()).expect("returned");
    assert_eq!(machine.state.rflags, 2);
}

#[test]
fn syscall_and_sysret() {
    let mut machine = Machine::user();
    machine.state.star = 0x0018 << 48 | 0x0008 << 32;
    machine.state.lstar = HANDLER;
    machine.state.sfmask = rflags::IF | rflags::DF | rflags::TF;
    machine.state.rflags = 0x2 | rflags::IF | rflags::DF | rflags::CF;
    let before = machine.state.clone();
    machine.run(|a| a.syscall()).expect("called");
    let state = &machine.state;
    assert_eq!((state.cpl, state.rip, state.rflags), (0, HANDLER, 0x3));
    assert_eq!((state.gpr[gpr::RCX], state.gpr[gpr::R11]), (CODE + 2, before.rflags));
    assert_eq!(state.segments[segment::CS], Segment { base: 0, limit: u32::MAX, attributes: 0xa9b, selector: 8 });
    assert_eq!(state.segments[segment::SS], Segment { base: 0, limit: u32::MAX, attributes: 0xc93, selector: 0x10 });
    machine.run(|a| a.sysretq()).expect("returned");
    let state = &machine.state;
    assert_eq!((state.cpl, state.rip, state.rflags), (3, CODE + 2, before.rflags));
    assert_eq!((state.segments[segment::CS].selector, state.segments[segment::CS].attributes), (0x2b, 0xafb));
    assert_eq!(state.segments[segment::SS].selector, 0x20);
}

#[test]
fn sysret_narrow_goes_to_compatibility_mode() {
    let mut machine = Machine::new();
    machine.state.star = 0x001b << 48;
    machine.state.gpr[gpr::RCX] = 0xffff_ffff_0000_1234;
    machine.state.gpr[gpr::R11] = 0xffff_ffff;
    machine.run(|a| a.sysret()).expect("returned");
    assert_eq!((machine.state.rip, machine.state.rflags), (0x1234, 0x3c_7fd7 & !rflags::RF));
    assert_eq!(machine.state.segments[segment::CS].attributes, 0xcfb);
}

#[test]
fn system_calls_need_efer_and_privilege() {
    let mut machine = Machine::user();
    assert_eq!(machine.run(|a| a.sysretq()), Err(Exception::general_protection(0)));
    assert_eq!(machine.run(|a| a.swapgs()), Err(Exception::general_protection(0)));
    machine.state.efer &= !control::EFER_SCE;
    assert_eq!(machine.run(|a| a.syscall()), Err(Exception::invalid_opcode()));
    assert_eq!(machine.run(|a| a.sysenter()), Err(Exception::invalid_opcode()));
}

#[test]
fn a_far_return_to_the_same_and_to_an_outer_level() {
    let mut machine = Machine::new();
    push_frame(&mut machine, &[HANDLER, 8]);
    machine.run_bytes(&[0x48, 0xca, 0x20, 0]).expect("returned");
    assert_eq!((machine.state.rip, machine.state.gpr[gpr::RSP]), (HANDLER, STACK + 0x30));
    let mut machine = Machine::new();
    push_frame(&mut machine, &[HANDLER, 0x2b, 0, DATA, 0x23]);
    machine.run_bytes(&[0x48, 0xca, 8, 0]).expect("returned");
    assert_eq!((machine.state.cpl, machine.state.gpr[gpr::RSP]), (3, DATA + 8));
    assert_eq!(machine.state.segments[segment::DS], Segment::default());
    assert_eq!(machine.run_bytes(&[0x48, 0xcb]), Err(Exception::general_protection(0)), "an inner level");
}

#[test]
fn a_far_jump_and_call_to_code() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RBX] = DATA;
    machine.store(DATA, HANDLER | 0x08 << 32);
    // jmp far [rbx], m16:32
    machine.run_bytes(&[0xff, 0x2b]).expect("jumped");
    assert_eq!(machine.state.rip, HANDLER);
    // call far [rbx], m16:32
    machine.run_bytes(&[0xff, 0x1b]).expect("called");
    assert_eq!(machine.state.gpr[gpr::RSP], STACK - 8);
    assert_eq!(machine.load(STACK - 8), (HANDLER + 2) | (8 << 32));
    machine.store(DATA, HANDLER | 0x10 << 32);
    assert_eq!(machine.run_bytes(&[0xff, 0x2b]), Err(Exception::general_protection(0x10)));
}

#[test]
fn a_call_gate_raises_privilege() {
    let mut machine = Machine::user();
    machine.state.gpr[gpr::RBX] = DATA;
    machine.store(DATA, u64::from(selector::GATE) << 32);
    machine.run_bytes(&[0xff, 0x1b]).expect("called");
    let state = &machine.state;
    assert_eq!((state.cpl, state.rip, state.gpr[gpr::RSP]), (0, HANDLER, RING_0_STACK - 32));
    let frame: Vec<u64> = (0..4).map(|index| machine.load(RING_0_STACK - 32 + 8 * index)).collect();
    assert_eq!(frame, [CODE + 2, 0x2b, STACK, 0x23]);
    let mut machine = Machine::user();
    machine.state.gpr[gpr::RBX] = DATA;
    machine.store(DATA, u64::from(selector::GATE) << 32);
    assert_eq!(machine.run_bytes(&[0xff, 0x2b]), Err(Exception::general_protection(8)), "JMP cannot");
}

#[test]
fn counting_branches() {
    let target = 0xfe; // To itself.
    let cases: [(u8, u64, u64, bool, u64); 8] = [
        (0xe2, 2, 0, true, 1),
        (0xe2, 1, 0, false, 0),
        (0xe2, 0, 0, true, u64::MAX),
        (0xe1, 2, 0, false, 1),
        (0xe1, 2, rflags::ZF, true, 1),
        (0xe0, 2, rflags::ZF, false, 1),
        (0xe3, 0, 0, true, 0),
        (0xe3, 1, 0, false, 1),
    ];
    for (opcode, count, flags, taken, left) in cases {
        let mut machine = Machine::new();
        machine.state.gpr[gpr::RCX] = count;
        machine.state.rflags |= flags;
        let executed = machine.run_bytes(&[opcode, target]).expect("branched");
        assert_eq!(executed.flow, if taken { Flow::Jump } else { Flow::Next });
        assert_eq!(machine.state.rip, if taken { CODE } else { CODE + 2 });
        assert_eq!(machine.state.gpr[gpr::RCX], left);
    }
    // With a 32-bit counter, the upper half is ignored and cleared.
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RCX] = 7 << 32 | 1;
    let executed = machine.run_bytes(&[0x67, 0xe2, 0xfd]).expect("branched");
    assert_eq!((executed.flow, machine.state.gpr[gpr::RCX]), (Flow::Next, 0));
}

#[test]
fn rip_relative_operands_are_absolute() {
    let mut machine = Machine::new();
    machine.store(DATA, HANDLER | 8 << 32);
    // jmp far [rip + ...], m16:32
    let distance = u32::try_from(DATA - CODE - 6).expect("near").to_le_bytes();
    let mut bytes = vec![0xff, 0x2d];
    bytes.extend_from_slice(&distance);
    machine.run_bytes(&bytes).expect("jumped");
    assert_eq!(machine.state.rip, HANDLER);
}
