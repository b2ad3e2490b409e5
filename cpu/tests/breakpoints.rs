//! Breakpoints of the debug registers (SDM vol. 3 §17.2, §17.3), in translated code and in what is executed in Rust.

mod bare;
mod long;

use ftemu_cpu::Cpu;
use ftemu_cpu::state::{gpr, rflags};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use long::{CODE, DATA, Record, STACK, arm, assemble, machine, records, run_all_ways, run_to_halt};

const EXECUTE: u64 = 0;
const WRITE: u64 = 1;
const PORT: u64 = 2;
const ANY: u64 = 3;

/// Where each instruction of a program begins.
fn starts(program: &[u8]) -> Vec<u64> {
    let mut decoder = iced_x86::Decoder::with_ip(64, program, CODE, 0);
    std::iter::from_fn(|| decoder.can_decode().then(|| decoder.decode().ip())).collect()
}

/// Runs a program with what `prepare` arms; gives vector, DR6 and the number of the instruction returned to.
fn traps(
    build: impl Fn(&mut CodeAssembler) -> Result<(), IcedError>,
    prepare: impl Fn(&mut Cpu, &[u64]),
) -> Vec<(u64, u64, usize)> {
    let program = assemble(&build);
    let starts = starts(&program);
    let found = run_all_ways(|| {
        let mut cpu = machine(&program);
        cpu.state_mut().gpr[gpr::RDI] = DATA;
        cpu.state_mut().gpr[gpr::RSI] = DATA + 0x100;
        prepare(&mut cpu, &starts);
        cpu
    });
    let number = |rip| starts.iter().position(|&start| start == rip).expect("an instruction");
    found.iter().map(|record| (record.vector, record.dr6, number(record.rip))).collect()
}

#[test]
fn an_execution_breakpoint_is_a_fault_that_rf_lets_pass_once() {
    let program = |a: &mut CodeAssembler| {
        let mut again = a.create_label();
        a.mov(ecx, 3)?;
        a.set_label(&mut again)?;
        a.add(rax, rcx)?; // 1: the breakpoint, in the middle of a loop
        a.dec(ecx)?;
        a.jne(again)?;
        a.hlt()
    };
    let found = traps(program, |cpu, starts| arm(cpu, 2, starts[1], EXECUTE, 1));
    assert_eq!(found, [(1, 4, 1); 3]);
}

#[test]
fn code_in_other_pages_meets_the_breakpoint_through_every_kind_of_jump() {
    let program = |a: &mut CodeAssembler| {
        let mut far = a.create_label();
        let mut near = a.create_label();
        let mut done = a.create_label();
        let mut twice = a.create_label();
        a.mov(ecx, 2)?;
        a.set_label(&mut twice)?;
        a.call(far)?;
        a.lea(rax, ptr(far))?;
        a.call(rax)?;
        a.dec(ecx)?;
        a.jne(twice)?;
        a.jmp(near)?;
        for _ in 0..0x1000 {
            a.nop()?;
        }
        a.set_label(&mut far)?;
        a.inc(rbx)?;
        a.ret()?;
        a.set_label(&mut near)?;
        a.jmp(done)?;
        a.set_label(&mut done)?;
        a.hlt()
    };
    let starts = starts(&assemble(program));
    let far = starts.len() - 4;
    let found = traps(program, |cpu, starts| {
        arm(cpu, 0, starts[far], EXECUTE, 1);
        arm(cpu, 3, starts[far], EXECUTE, 1);
        arm(cpu, 1, starts[far + 1], EXECUTE, 1);
    });
    assert_eq!(found, [(1, 9, far), (1, 2, far + 1)].repeat(4));
}

#[test]
fn data_breakpoints_trap_behind_the_access_they_match() {
    let program = |a: &mut CodeAssembler| {
        a.mov(rax, qword_ptr(rdi))?;
        a.mov(byte_ptr(rdi + 3), al)?; // 1: the last byte of breakpoint 0
        a.mov(byte_ptr(rdi + 4), al)?;
        a.mov(eax, dword_ptr(rdi + 1))?;
        a.add(qword_ptr(rdi - 7), rax)?; // 4: its first byte
        a.mov(ax, word_ptr(rdi + 8))?; // 5: a load that breakpoint 1 matches
        a.movdqu(xmm0, xmmword_ptr(rdi + 9))?; // 6
        a.movdqu(xmmword_ptr(rdi - 15), xmm0)?; // 7: crosses a page into breakpoint 0
        a.hlt()
    };
    let found = traps(program, |cpu, _| {
        arm(cpu, 0, DATA + 3, WRITE, 4);
        arm(cpu, 1, DATA + 8, ANY, 8);
    });
    assert_eq!(found, [(1, 1, 2), (1, 1, 5), (1, 2, 6), (1, 2, 7), (1, 1, 8)]);
}

#[test]
fn stacks_and_instructions_in_rust_match_as_well() {
    let program = |a: &mut CodeAssembler| {
        a.push(rax)?;
        a.pushfq()?; // 1
        a.pop(rbx)?; // 2: a load
        a.mov(rsp, STACK - 8)?;
        a.sub(rsp, 8)?;
        a.fxsave(ptr(rdi))?; // 5
        a.lock().bts(dword_ptr(rdi), eax)?;
        a.xchg(dword_ptr(rdi + 0x40), eax)?; // 7
        a.hlt()
    };
    let found = traps(program, |cpu, _| {
        arm(cpu, 0, STACK - 16, ANY, 8);
        arm(cpu, 1, DATA + 0x40, ANY, 4);
    });
    assert_eq!(found, [(1, 1, 2), (1, 1, 3), (1, 2, 6), (1, 2, 8)]);
}

#[test]
fn a_repetition_traps_after_the_iteration_and_goes_on() {
    let program = |a: &mut CodeAssembler| {
        a.mov(ecx, 8)?;
        a.rep().movsd()?;
        a.mov(ecx, 4)?;
        a.rep().stosb()?;
        a.hlt()
    };
    let found = traps(program, |cpu, starts| {
        arm(cpu, 0, DATA + 8, WRITE, 4);
        arm(cpu, 1, DATA + 0x104, ANY, 2);
        arm(cpu, 2, starts[1], EXECUTE, 1);
        arm(cpu, 3, DATA + 0x20 + 3, WRITE, 1);
    });
    // Before it, inside twice, and behind the last iteration of the other one.
    assert_eq!(found, [(1, 4, 1), (1, 2, 1), (1, 1, 1), (1, 8, 4)]);
}

#[test]
fn ports_match_with_debug_extensions_only() {
    let program = |a: &mut CodeAssembler| {
        a.mov(edx, 0x82)?;
        a.out(dx, al)?;
        a.in_(eax, 0x80)?; // 2: four ports
        a.outsb()?; // 3
        a.mov(edx, 0x84)?;
        a.in_(al, dx)?;
        a.hlt()
    };
    let found = traps(program, |cpu, _| arm(cpu, 1, 0x82, PORT, 2));
    assert_eq!(found, [(1, 2, 2), (1, 2, 3), (1, 2, 4)]);
    let none = traps(program, |cpu, _| {
        arm(cpu, 1, 0x82, PORT, 2);
        cpu.state_mut().cr4 &= !8;
    });
    assert_eq!(none, []);
}

#[test]
fn general_detect_faults_and_is_cleared_for_the_handler() {
    let program = |a: &mut CodeAssembler| {
        a.mov(rax, dr7)?;
        a.hlt()
    };
    let found = traps(program, |cpu, _| cpu.state_mut().dr[7] |= 1 << 13);
    assert_eq!(found, [(1, 1 << 13, 0)]);
}

#[test]
fn a_single_step_and_a_data_breakpoint_are_one_trap() {
    let program = |a: &mut CodeAssembler| {
        a.mov(qword_ptr(rdi), rax)?;
        a.popfq()?;
        a.nop()?;
        a.hlt()
    };
    let found = traps(program, |cpu, _| {
        arm(cpu, 0, DATA, WRITE, 8);
        cpu.state_mut().rflags |= rflags::TF;
        cpu.state_mut().gpr[gpr::RSP] = DATA + 0x800;
        cpu.memory_mut().store(DATA + 0x800, &2_u64.to_le_bytes());
    });
    // POPF that clears TF is still traced.
    assert_eq!(found, [(1, 0x4001, 1), (1, 0x4000, 2)]);
}

#[test]
fn a_load_of_ss_holds_its_own_trap_off_for_one_instruction() {
    let program = |a: &mut CodeAssembler| {
        a.mov(ss, word_ptr(rdi))?;
        a.nop()?; // Its breakpoint is held off, too.
        a.nop()?;
        a.hlt()
    };
    let found = traps(program, |cpu, starts| {
        arm(cpu, 0, DATA, ANY, 2);
        arm(cpu, 1, starts[1], EXECUTE, 1);
        cpu.memory_mut().store(DATA, &[16]);
    });
    assert_eq!(found, [(1, 1, 2)]);
}

#[test]
fn what_faults_traps_nothing() {
    let program = |a: &mut CodeAssembler| {
        a.push(qword_ptr(rdi))?; // Nothing is mapped at the stack.
        a.hlt()
    };
    let program = assemble(program);
    let mut cpu = machine(&program);
    cpu.state_mut().gpr[gpr::RDI] = DATA;
    cpu.state_mut().gpr[gpr::RSP] = 0x7000_0000;
    arm(&mut cpu, 0, DATA, ANY, 8);
    // The handler of #PF runs on a stack that is there; it mends nothing, so only the first record counts.
    cpu.memory_mut().store(0x9000 + 14 * 16 + 4, &[1]);
    cpu.memory_mut().store(0xa000 + 0x24, &(STACK - 0x1000).to_le_bytes());
    while records(&cpu).is_empty() {
        cpu.run(&mut bare::Bare, ftemu_cpu::Icount(cpu.count().0 + 1), false);
    }
    let first: Record = records(&cpu)[0];
    assert_eq!((first.vector, first.dr6), (14, 0));
}

#[test]
fn arming_from_within_counts_at_once_and_so_does_disarming() {
    let program = |a: &mut CodeAssembler| {
        let mut again = a.create_label();
        a.mov(ecx, 4)?;
        a.set_label(&mut again)?;
        a.mov(qword_ptr(rdi), rcx)?; // 1
        a.inc(rdx)?; // 2
        a.mov(eax, 0x9_0403)?; // DR7: breakpoint 0, 8 bytes, stores
        a.cmp(ecx, 3)?;
        a.mov(ebx, 0x400)?;
        a.cmovne(eax, ebx)?;
        a.mov(dr7, rax)?;
        a.dec(ecx)?;
        a.jne(again)?;
        a.hlt()
    };
    let found = traps(program, |cpu, _| {
        cpu.state_mut().dr[0] = DATA;
    });
    // Armed by the second round, so it matches in the third only.
    assert_eq!(found, [(1, 1, 2)]);
}

#[test]
fn breakpoints_cost_nothing_in_counts() {
    let program = assemble(|a: &mut CodeAssembler| {
        let mut again = a.create_label();
        a.mov(ecx, 1000)?;
        a.set_label(&mut again)?;
        a.add(qword_ptr(rdi), rcx)?;
        a.dec(ecx)?;
        a.jne(again)?;
        a.hlt()
    });
    let count = |armed: bool| {
        let mut cpu = machine(&program);
        cpu.state_mut().gpr[gpr::RDI] = DATA;
        if armed {
            arm(&mut cpu, 0, DATA + 0x20, WRITE, 8);
            arm(&mut cpu, 1, CODE + 0x800, EXECUTE, 1);
        }
        run_to_halt(&mut cpu);
        assert_eq!(records(&cpu), []);
        cpu.count()
    };
    assert_eq!(count(true), count(false));
}
