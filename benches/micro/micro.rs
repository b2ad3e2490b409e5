//! Times of the parts the whole is made of: `cargo bench -p ftemu-micro`. The tests run each once, so that none rots.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ftemu_cpu::Icount;
use ftemu_devices::{Config, Input, Machine};
use ftemu_lockstep::log::Log;
use ftemu_lockstep::record::{Entry, Position};
use ftemu_micro::{CODE, DATA, Program};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use std::hint::black_box;

/// Guest instructions that one measurement runs, about.
const STRETCH: u64 = 10_000;

/// Runs a loop whose round has so many instructions; the time is that of a round.
fn rounds(criterion: &mut Criterion, name: &str, round: u64, mut program: Program) {
    let count = STRETCH / round;
    let mut group = criterion.benchmark_group("guest");
    group.throughput(Throughput::Elements(count));
    group.bench_function(name, |bencher| bencher.iter(|| program.run(count * round)));
    group.finish();
}

/// `body` again and again.
fn endless(body: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Program {
    Program::new(|a| {
        let mut again = a.create_label();
        a.mov(rbx, DATA)?;
        a.set_label(&mut again)?;
        body(a)?;
        a.jmp(again)
    })
}

/// Straight code, translated anew each time.
fn translation(criterion: &mut Criterion) {
    const BLOCKS: u64 = 200;
    let mut program = Program::new(|a| {
        let mut start = a.create_label();
        a.set_label(&mut start)?;
        for number in 0..BLOCKS as u32 {
            a.mov(rax, qword_ptr(rbx + 8 * number))?;
            a.add(rax, rcx)?;
            a.mov(qword_ptr(rbx + 8 * number), rax)?;
            a.cmp(rax, 7)?;
            a.je(start)?;
        }
        a.xor(ebx, ebx)?;
        a.jmp(start)
    });
    program.cpu.state_mut().gpr[3] = DATA;
    let mut group = criterion.benchmark_group("translation");
    group.throughput(Throughput::Elements(5 * BLOCKS));
    group.bench_function("instructions", |bencher| {
        bencher.iter(|| {
            program.cpu.state_mut().rip = CODE;
            program.cpu.state_mut().gpr[3] = DATA;
            program.cpu.forget_derived();
            program.run(5 * BLOCKS);
        });
    });
    group.finish();
}

/// Loads and stores that hit, and those that do not.
fn memory(criterion: &mut Criterion) {
    let hits = endless(|a| {
        for page in 0..16 {
            a.mov(rax, qword_ptr(rbx + page * 0x1000))?;
        }
        Ok(())
    });
    rounds(criterion, "16 loads", 17, hits);
    let crossing = endless(|a| {
        for page in 0..16 {
            a.mov(rax, qword_ptr(rbx + page * 0x1000 + 0xffc))?;
        }
        Ok(())
    });
    rounds(criterion, "16 loads across pages", 17, crossing);
    let beside_code = endless(|a| {
        a.mov(rcx, CODE + 0x800)?;
        a.mov(qword_ptr(rcx), rax)
    });
    rounds(criterion, "a store beside code", 3, beside_code);
    let strings = endless(|a| {
        a.mov(rsi, DATA)?;
        a.mov(rdi, DATA + 0x4000)?;
        a.mov(ecx, 0x200u32)?;
        a.rep().movsq()
    });
    rounds(criterion, "4 KiB by REP MOVSQ", 4 + 0x200, strings);
}

/// What leaves the straight path.
fn transfers(criterion: &mut Criterion) {
    let calls = endless(|a| {
        let mut function = a.create_label();
        let mut over = a.create_label();
        a.call(function)?;
        a.jmp(over)?;
        a.set_label(&mut function)?;
        a.ret()?;
        a.set_label(&mut over)?;
        a.nop()
    });
    rounds(criterion, "a call and its return", 5, calls);
    let indirect = endless(|a| {
        let mut target = a.create_label();
        a.lea(rax, ptr(target))?;
        a.jmp(rax)?;
        a.set_label(&mut target)?;
        a.nop()
    });
    rounds(criterion, "an indirect jump", 4, indirect);
}

/// What the system side costs.
fn system(criterion: &mut Criterion) {
    let mut exceptions = endless(|a| a.ud2());
    let handler = CODE + 0x1000;
    // ADD QWORD [RSP],2; IRETQ
    exceptions.cpu.memory_mut().store(handler, &[0x48, 0x83, 0x04, 0x24, 2, 0x48, 0xcf]);
    exceptions.handle_invalid_opcodes(handler);
    rounds(criterion, "an exception and IRETQ", 3, exceptions);
    let interrupts = endless(|a| {
        a.pushfq()?;
        a.cli()?;
        a.popfq()
    });
    rounds(criterion, "PUSHFQ, CLI, POPFQ", 4, interrupts);
    let mut calls = Program::new(|a| {
        // The kernel: to CPL 3, whose code lies a page further.
        let mut kernel = a.create_label();
        a.mov(rcx, CODE + 0x1000)?;
        a.set_label(&mut kernel)?;
        a.sysretq()
    });
    let entry = CODE + 10;
    // SYSCALL; JMP to it.
    calls.cpu.memory_mut().store(CODE + 0x1000, &[0x0f, 0x05, 0xeb, 0xfc]);
    // MOV RCX, imm64 is ten bytes: the entry is the SYSRET behind it, or again the jump.
    calls.cpu.state_mut().lstar = entry;
    calls.run(4);
    rounds(criterion, "SYSCALL and SYSRET", 3, calls);
    let ports = endless(|a| {
        a.in_(al, 0x60)?;
        a.out(0x80, al)
    });
    rounds(criterion, "a port read and a port write", 3, ports);
}

/// What a pair does besides.
fn pair(criterion: &mut Criterion) {
    const PAGES: u64 = 64;
    let mut machine = Machine::new(&Config { memory_bytes: 64 << 20, ..Config::default() }).expect("a machine");
    let mut value = 0u64;
    let mut group = criterion.benchmark_group("pair");
    group.throughput(Throughput::Elements(PAGES));
    group.bench_function("a digest of 64 new pages", |bencher| {
        bencher.iter(|| {
            for page in 0..PAGES {
                value += 1;
                machine.cpu_mut().memory_mut().store(0x10_0000 + page * 0x1000, &value.to_le_bytes());
            }
            black_box(machine.digest())
        });
    });
    const RECORDS: u64 = 100;
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("100 records of the log", |bencher| {
        bencher.iter(|| {
            let mut log = Log::new(Position::start(Icount(0)));
            for number in 0..RECORDS {
                let input = Input::Serial { port: 0, bytes: vec![number as u8; 16] };
                log.append(Icount(number * 12_345), Entry::Input(input));
            }
            black_box(log.batch(0))
        });
    });
    group.finish();
}

criterion_group!(benches, translation, memory, transfers, system, pair);
criterion_main!(benches);
