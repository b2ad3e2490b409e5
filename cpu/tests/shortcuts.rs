//! Grouped look-ups, inlined string instructions, far links, movable blocks and tables changed in place: nobody can tell a
//! CPU with them from one without, wherever runs are cut, pages end, mappings change, and whatever address code is mapped at.

mod bare;

use bare::Bare;
use ftemu_cpu::state::{Segment, State, control, gpr, segment};
use ftemu_cpu::{Cpu, Icount, Memory, Optimisation, Optimisations, Stop};
use iced_x86::code_asm::*;

/// Linear addresses: the same code twice, far above 4 GiB, and the data.
const CODE: [u64; 2] = [0x55_0000_0000, 0x55_0040_0000];
const DATA: u64 = 0x7f_0000_0000;
/// Where the program sees the table that maps its data.
const WINDOW: u64 = 0x7e_0000_0000;
/// Physical addresses.
const CODE_AT: u64 = 0x20_0000;
const DATA_AT: u64 = 0x40_0000;
const PAGES: u64 = 16;
const TABLES: u64 = 0x1000;
const ROUNDS: usize = 200;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Code that walks pointers over the data: RSP, RBP and RBX near page ends, accesses around them, strings between them.
fn program(random: &mut Random) -> Vec<u8> {
    let mut a = CodeAssembler::new(64).expect("an assembler");
    let mut build = || {
        let (mut again, mut function) = (a.create_label(), a.create_label());
        a.set_label(&mut again)?;
        for _ in 0..60 {
            step(&mut a, random, function)?;
        }
        a.jmp(again)?;
        // The function lies in another page.
        for _ in 0..1200 {
            a.nop_1(eax)?;
        }
        a.set_label(&mut function)?;
        a.push(rbx)?;
        a.mov(rax, qword_ptr(rsp + 8))?;
        a.lea(rax, ptr(function))?;
        a.pop(rbx)?;
        a.ret()
    };
    build().expect("a program");
    a.assemble(CODE[0]).expect("a program that assembles")
}

fn step(a: &mut CodeAssembler, random: &mut Random, function: CodeLabel) -> Result<(), iced_x86::IcedError> {
    // At most 100 bytes before or after a page's end, away from the first and the last page.
    let place = DATA + 0x1000 * (3 + random.below(PAGES - 6)) + random.below(200) - 100;
    let near = random.below(64) as i32 - 32;
    match random.below(16) {
        0 => a.mov(rsp, place),
        1 => a.mov(rbx, place),
        2 => a.mov(rbp, place),
        3 => a.push(rax).and_then(|()| a.push(rbx)).and_then(|()| a.pop(rdx)),
        4 => a.add(qword_ptr(rsp + near), rdx).and_then(|()| a.mov(rax, qword_ptr(rsp + 16))),
        5 => a.mov(eax, dword_ptr(rbx + near)).and_then(|()| a.xor(dword_ptr(rbx + near + 7), edx)),
        6 => a.mov(qword_ptr(rbp - 8), rax).and_then(|()| a.adc(rdx, qword_ptr(rbp + 4))),
        7 => a.call(function),
        8 => a.add(rbx, near).and_then(|()| a.mov(byte_ptr(rbx), ah)).and_then(|()| a.movzx(ecx, byte_ptr(rbx + 1))),
        9 => a.mov(r13, qword_ptr(rbx)).and_then(|()| a.mov(qword_ptr(rbx + 8), r13)),
        10 => a.movups(xmm1, xmmword_ptr(rbx)).and_then(|()| a.movups(xmmword_ptr(rsp - 40), xmm1)),
        11 | 12 => {
            a.mov(rdi, place)?;
            a.mov(ecx, random.below(220) as u32)?;
            if random.below(2) == 0 { a.rep().stosb() } else { a.rep().stosq() }
        }
        13 | 14 => {
            // Between accesses of one group two pages are exchanged, one of them perhaps theirs.
            let entry = |number: u64| WINDOW + 8 * number;
            let page = if random.below(2) == 0 { (place - DATA) / 0x1000 } else { random.below(PAGES) };
            a.mov(rbx, place)?;
            a.mov(rsi, entry(page))?;
            a.mov(rdi, entry(random.below(PAGES)))?;
            a.mov(rax, qword_ptr(rbx + near))?;
            a.push(rax)?;
            a.mov(rdx, qword_ptr(rsi))?;
            a.mov(rcx, qword_ptr(rdi))?;
            // A store to a page of tables is never found: a group with it would end all of them.
            a.mov(r8, rsi)?;
            a.mov(r9, rdi)?;
            a.mov(qword_ptr(r8), rcx)?;
            a.add(rax, qword_ptr(rbx + near + 8))?;
            a.mov(qword_ptr(r9), rdx)?;
            a.xor(qword_ptr(rbx + near), rax)?;
            a.pop(rdx)
        }
        _ => {
            a.mov(rdi, place)?;
            a.lea(rsi, ptr(rdi + near))?;
            a.mov(ecx, random.below(100) as u32)?;
            if random.below(4) == 0 {
                a.std().and_then(|()| a.rep().movsb()).and_then(|()| a.cld())
            } else {
                a.rep().movsb()
            }
        }
    }
}

/// Maps `count` pages from a linear address on through tables of their own.
fn map(memory: &mut Memory, free: &mut u64, linear: u64, count: u64, physical: impl Fn(u64) -> u64) {
    for number in 0..count {
        let address = linear + 0x1000 * number;
        let mut table = TABLES;
        for shift in [39, 30, 21] {
            let at = table + 8 * (address >> shift & 511);
            let mut entry = [0; 8];
            memory.read(at, &mut entry);
            if entry == [0; 8] {
                *free += 0x1000;
                entry = (*free | 7).to_le_bytes();
                memory.store(at, &entry);
            }
            table = u64::from_le_bytes(entry) & !0xfff;
        }
        memory.store(table + 8 * (address >> 12 & 511), &(physical(number) | 7).to_le_bytes());
    }
}

/// Data pages are mapped in an order of their own.
fn scattered(number: u64) -> u64 {
    DATA_AT + 0x1000 * (number * 7 % PAGES)
}

fn machine(program: &[u8], optimisations: Optimisations, entry: u64) -> Cpu {
    let mut memory = Memory::new(8 << 20).expect("memory");
    let mut free = TABLES;
    for code in CODE {
        map(&mut memory, &mut free, code, 4, |number| CODE_AT + 0x1000 * number);
    }
    map(&mut memory, &mut free, DATA, PAGES, scattered);
    let table = entry_of(&memory, 0);
    map(&mut memory, &mut free, WINDOW, 1, |_| table);
    memory.store(CODE_AT, program);
    let mut cpu = Cpu::new(memory).expect("a CPU");
    cpu.set_optimisations(optimisations);
    *cpu.state_mut() = State {
        rip: entry,
        rflags: 0x3202,
        cr0: control::CR0_PE | control::CR0_PG | control::CR0_WP | control::CR0_NE,
        cr3: TABLES,
        cr4: control::CR4_PAE | control::CR4_OSFXSR,
        efer: control::EFER_LME | control::EFER_LMA,
        cpl: 3,
        ..State::default()
    };
    let state = cpu.state_mut();
    state.segments[segment::CS] = Segment { base: 0, limit: u32::MAX, attributes: 0xafb, selector: 0x33 };
    for data in [segment::SS, segment::DS, segment::ES] {
        state.segments[data] = Segment { base: 0, limit: u32::MAX, attributes: 0xcf3, selector: 0x2b };
    }
    for pointer in [gpr::RSP, gpr::RBP, gpr::RBX] {
        state.gpr[pointer] = DATA + 0x8000;
    }
    cpu
}

fn saved(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = Vec::new();
    cpu.save(&mut bytes);
    bytes
}

fn data(cpu: &Cpu) -> Vec<u8> {
    let mut bytes = vec![0; (PAGES * 0x1000) as usize];
    cpu.memory().read(DATA_AT, &mut bytes);
    bytes
}

/// Runs both with the same cuts; what happens in between is only what must not matter, and changes of mappings. Gives how
/// often they ran.
fn run_alike(seed: u64, others: Optimisations) -> usize {
    let mut random = Random(seed | 1);
    let program = program(&mut random);
    let entry = CODE[random.below(2) as usize];
    let mut quick = machine(&program, Optimisations::all(), entry);
    let mut slow = machine(&program, others, entry);
    for round in 0..ROUNDS {
        let until = Icount(quick.count().0 + 1 + random.below(if round % 3 == 0 { 30 } else { 3000 }));
        let stops = [quick.run(&mut Bare, until, false), slow.run(&mut Bare, until, false)];
        assert_eq!(stops[0], stops[1], "seed {seed} at {:#x}", quick.state().rip);
        assert!(saved(&quick) == saved(&slow), "seed {seed}: registers at {:#x}", quick.state().rip);
        assert!(data(&quick) == data(&slow), "seed {seed}: memory at {:#x}", quick.state().rip);
        if stops[0] == Stop::Shutdown {
            // Its return address was exchanged for something else.
            return round;
        }
        let (page, other) = (random.below(PAGES), random.below(PAGES));
        match random.below(8) {
            0 => drop(quick.take_dirty()),
            1 => quick.forget_derived(),
            2 => [&mut quick, &mut slow].into_iter().for_each(|cpu| exchange(cpu, page, other)),
            _ => {}
        }
    }
    ROUNDS
}

/// Guest-physical address of the table entry that maps a data page.
fn entry_of(memory: &Memory, number: u64) -> u64 {
    let address = DATA + 0x1000 * number;
    let table = [39, 30, 21].into_iter().fold(TABLES, |table, shift| {
        let mut bytes = [0; 8];
        memory.read(table + 8 * (address >> shift & 511), &mut bytes);
        u64::from_le_bytes(bytes) & !0xfff
    });
    table + 8 * (address >> 12 & 511)
}

/// Exchanges what two data pages are mapped to.
fn exchange(cpu: &mut Cpu, first: u64, second: u64) {
    let memory = cpu.memory_mut();
    let places = [first, second].map(|number| entry_of(memory, number));
    let mut entries = [[0; 8]; 2];
    for (place, bytes) in places.iter().zip(&mut entries) {
        memory.read(*place, bytes);
    }
    memory.store(places[0], &entries[1]);
    memory.store(places[1], &entries[0]);
}

#[test]
fn no_shortcut_shows() {
    use Optimisation::{FarLinks, GroupedLookup, InlineStrings, MovableBlocks, TablesInPlace};
    let all = Optimisations::all();
    let mut rounds = 0;
    for one in [GroupedLookup, InlineStrings, FarLinks, MovableBlocks, TablesInPlace] {
        for seed in 0..12 {
            rounds += run_alike(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15), all.without(one));
        }
    }
    for seed in 100..112 {
        rounds += run_alike(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15), Optimisations::none());
    }
    assert!(rounds > 72 * ROUNDS / 2, "only {rounds} rounds: most programs ended early");
}
