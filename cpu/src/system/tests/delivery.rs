//! Delivery of exceptions and interrupts: frames, stacks, promotion to double faults, shutdown.

use super::*;
use crate::state::rflags;
use crate::system::{Flow, Shutdown, deliver};

const INTERRUPT_GATE: u64 = 0x8e;
const TRAP_GATE: u64 = 0x8f;
const OPEN_GATE: u64 = 0xee;

fn raise(machine: &mut Machine, exception: Exception) -> Result<(), Shutdown> {
    machine.with(|x| deliver::exception(x, exception))
}

/// The frame at RSP: error code if any, RIP, CS, RFLAGS, RSP, SS.
fn frame(machine: &Machine, words: usize) -> Vec<u64> {
    (0..words as u64).map(|index| machine.load(machine.state.gpr[gpr::RSP] + 8 * index)).collect()
}

#[test]
fn a_fault_of_ring_3_enters_ring_0_on_the_stack_of_the_tss() {
    let mut machine = Machine::user();
    machine.gate(14, selector::CODE_0, HANDLER, INTERRUPT_GATE, 0);
    machine.state.rflags |= rflags::IF | rflags::TF | rflags::AC;
    let flags = machine.state.rflags;
    raise(&mut machine, Exception::page_fault(6, 0x1234)).expect("delivered");
    let expected = [6, CODE, 0x2b, flags | rflags::RF, STACK, 0x23];
    assert_eq!(frame(&machine, 6), expected);
    let state = &machine.state;
    assert_eq!((state.cpl, state.rip, state.gpr[gpr::RSP]), (0, HANDLER, RING_0_STACK - 48));
    assert_eq!(state.segments[segment::CS].selector, selector::CODE_0);
    assert_eq!(state.segments[segment::SS], Segment::default());
    assert_eq!(state.rflags, 0x2 | rflags::AC);
    assert_eq!(state.cr2, 0x1234);
}

#[test]
fn the_same_level_keeps_the_stack_and_aligns_it() {
    let mut machine = Machine::new();
    machine.gate(6, selector::CODE_0, HANDLER, TRAP_GATE, 0);
    machine.state.rflags |= rflags::IF;
    machine.state.gpr[gpr::RSP] = STACK - 3;
    raise(&mut machine, Exception::invalid_opcode()).expect("delivered");
    assert_eq!(machine.state.gpr[gpr::RSP], STACK - 16 - 40);
    assert_eq!(frame(&machine, 5), [CODE, 8, 0x1_0202, STACK - 3, 0x10]);
    assert_eq!(machine.state.segments[segment::SS].selector, selector::DATA_0);
    assert!(machine.state.rflags & rflags::IF != 0, "a trap gate leaves IF");
}

#[test]
fn an_interrupt_stack_is_taken_at_any_level() {
    for mut machine in [Machine::new(), Machine::user()] {
        machine.gate(32, selector::CODE_0, HANDLER, INTERRUPT_GATE, 1);
        machine.state.halted = true;
        machine.with(|x| deliver::interrupt(x, 32)).expect("delivered");
        assert_eq!(machine.state.gpr[gpr::RSP], IST_STACK - 40);
        assert!(!machine.state.halted);
        assert_eq!(frame(&machine, 1), [CODE]);
    }
}

#[test]
fn conforming_handlers_run_at_the_level_they_interrupt() {
    let mut machine = Machine::user();
    machine.gate(3, selector::CONFORMING, HANDLER, OPEN_GATE, 0);
    let executed = machine.run(|a| a.int3()).expect("delivered");
    assert_eq!(executed, Executed { count: 1, flow: Flow::Jump });
    assert_eq!((machine.state.cpl, machine.state.gpr[gpr::RSP]), (3, STACK - 40));
    assert_eq!(machine.state.segments[segment::CS].selector, selector::CONFORMING | 3);
    assert_eq!(frame(&machine, 1), [CODE + 1], "a trap returns behind the instruction");
}

#[test]
fn software_interrupts_need_the_gates_permission() {
    let mut machine = Machine::user();
    machine.gate(0x80, selector::CODE_0, HANDLER, INTERRUPT_GATE, 0);
    let refused = Err(Exception::general_protection(0x80 * 8 + 2));
    assert_eq!(machine.run(|a| a.int(0x80)), refused);
    assert_eq!((machine.state.rip, machine.state.cpl), (CODE, 3));
    machine.gate(0x80, selector::CODE_0, HANDLER, OPEN_GATE, 0);
    machine.run(|a| a.int(0x80)).expect("delivered");
    assert_eq!(frame(&machine, 2), [CODE + 2, 0x2b]);
    assert_eq!(machine.state.rip, HANDLER);
}

#[test]
fn faults_of_the_gate_name_it() {
    let beyond = 0xff;
    type Case<'a> = (u8, &'a dyn Fn(&mut Machine), Exception);
    let cases: [Case; 6] = [
        (beyond, &|m| m.state.idtr.limit = 0xfef, Exception::general_protection(0xff * 8 + 2)),
        (40, &|m| m.gate(40, 8, HANDLER, 0x0e, 0), Exception::segment_not_present(40 * 8 + 2)),
        (40, &|m| m.gate(40, 8, HANDLER, 0x8c, 0), Exception::general_protection(40 * 8 + 2)),
        (40, &|m| m.gate(40, selector::ABSENT_CODE, HANDLER, 0x8e, 0), Exception::segment_not_present(0x78)),
        (40, &|m| m.gate(40, selector::DATA_0, HANDLER, 0x8e, 0), Exception::general_protection(0x10)),
        (40, &|m| m.gate(40, 8, 1 << 60, 0x8e, 0), Exception::general_protection(0)),
    ];
    for (vector, prepare, expected) in cases {
        let mut machine = Machine::new();
        prepare(&mut machine);
        let state = machine.state.clone();
        let result = machine.with(|x| deliver::software(x, vector, true, CODE + 2));
        assert_eq!(result, Err(expected));
        assert!(machine.state == state, "nothing changed");
        // Not of the program's making: the EXT bit.
        let external = Exception { error: expected.error.map(|code| code | 1), ..expected };
        let result = machine.with(|x| deliver::software(x, vector, false, CODE));
        assert_eq!(result, Err(external));
    }
}

#[test]
fn a_fault_on_the_way_to_a_page_fault_handler_is_a_double_fault() {
    let mut machine = Machine::user();
    machine.gate(8, selector::CODE_0, HANDLER + 8, INTERRUPT_GATE, 1);
    machine.gate(14, selector::CODE_0, HANDLER, INTERRUPT_GATE, 0);
    machine.protect(RING_0_STACK - PAGE, 0);
    raise(&mut machine, Exception::page_fault(4, 0x5678)).expect("delivered");
    assert_eq!(machine.state.rip, HANDLER + 8);
    assert_eq!(frame(&machine, 3), [0, CODE, 0x2b]);
    assert_eq!(machine.state.cr2, RING_0_STACK - 48, "the second page fault was recognised too");
}

#[test]
fn what_combines_to_a_double_fault() {
    let page = Exception::page_fault(0, 0);
    let cases = [
        (Exception::general_protection(0), selector::ABSENT_CODE, 8),
        (page, selector::ABSENT_CODE, 8),
        (Exception::divide_error(), selector::ABSENT_CODE, 8),
        (Exception::invalid_opcode(), selector::ABSENT_CODE, 11),
        (Exception::debug(), selector::ABSENT_CODE, 11),
    ];
    for (first, handler, expected) in cases {
        let mut machine = Machine::new();
        machine.gate(8, selector::CODE_0, HANDLER + 8, INTERRUPT_GATE, 0);
        machine.gate(11, selector::CODE_0, HANDLER + 11, INTERRUPT_GATE, 0);
        machine.gate(first.vector, handler, HANDLER, INTERRUPT_GATE, 0);
        raise(&mut machine, first).expect("delivered");
        assert_eq!(machine.state.rip, HANDLER + expected, "{first:?}");
    }
}

#[test]
fn a_contributory_fault_followed_by_a_page_fault_is_served_as_the_page_fault() {
    let mut machine = Machine::user();
    machine.gate(13, selector::CODE_0, HANDLER, INTERRUPT_GATE, 0);
    machine.gate(14, selector::CODE_0, HANDLER + 14, INTERRUPT_GATE, 1);
    machine.gate(8, selector::CODE_0, HANDLER + 8, INTERRUPT_GATE, 1);
    machine.protect(RING_0_STACK - PAGE, 0);
    raise(&mut machine, Exception::general_protection(0)).expect("delivered");
    assert_eq!(machine.state.rip, HANDLER + 14);
    assert_eq!(frame(&machine, 2), [2, CODE]);
}

#[test]
fn without_a_double_fault_handler_the_machine_shuts_down() {
    let mut machine = Machine::new();
    machine.state.idtr.limit = 0;
    assert_eq!(raise(&mut machine, Exception::divide_error()), Err(Shutdown));
    assert_eq!(machine.with(|x| deliver::interrupt(x, 32)), Err(Shutdown));
}

#[test]
fn an_unreadable_tss_is_invalid() {
    let mut machine = Machine::user();
    machine.state.tr.limit = 0xa;
    machine.gate(32, selector::CODE_0, HANDLER, OPEN_GATE, 0);
    let result = machine.with(|x| deliver::software(x, 32, true, CODE));
    assert_eq!(result, Err(Exception::invalid_tss(u32::from(selector::TASK))));
    machine.state.tr.limit = 0x67;
    machine.store(TSS + 4, 1 << 50);
    let result = machine.with(|x| deliver::software(x, 32, true, CODE));
    assert_eq!(result, Err(Exception::stack(0)));
}

#[test]
fn an_nmi_blocks_others_until_iret() {
    let mut machine = Machine::new();
    machine.gate(2, selector::CODE_0, HANDLER, INTERRUPT_GATE, 0);
    machine.with(deliver::non_maskable).expect("delivered");
    assert!(machine.state.nmi_blocked);
    machine.run(|a| a.iretq()).expect("returned");
    assert!(!machine.state.nmi_blocked);
    assert_eq!(machine.state.rip, CODE);
}
