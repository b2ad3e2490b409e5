//! String instructions: spans against single iterations, faults and devices in the middle, overlaps, comparisons.

use super::*;
use crate::state::rflags;
use crate::system::Flow;

const REP_MOVSB: [u8; 2] = [0xf3, 0xa4];
const REP_MOVSQ: [u8; 3] = [0xf3, 0x48, 0xa5];
const REP_STOSQ: [u8; 3] = [0xf3, 0x48, 0xab];
const REPE_CMPSB: [u8; 2] = [0xf3, 0xa6];
const REPNE_SCASB: [u8; 2] = [0xf2, 0xae];

fn machine(source: u64, destination: u64, count: u64) -> Machine {
    let mut machine = Machine::user();
    machine.state.gpr[gpr::RSI] = source;
    machine.state.gpr[gpr::RDI] = destination;
    machine.state.gpr[gpr::RCX] = count;
    machine
}

fn registers(machine: &Machine) -> [u64; 3] {
    [machine.state.gpr[gpr::RCX], machine.state.gpr[gpr::RSI], machine.state.gpr[gpr::RDI]]
}

/// Runs to the end of the instruction; the sum of its counts.
fn finish(machine: &mut Machine, mut allowance: impl FnMut() -> u64) -> Result<u64, Exception> {
    let mut count = 0;
    loop {
        let executed = machine.step(allowance())?;
        count += executed.count;
        if executed.flow == Flow::Next {
            return Ok(count);
        }
        assert_eq!(executed.flow, Flow::Again);
    }
}

#[test]
fn a_copy_across_pages_stops_exactly_at_a_fault() {
    let mut machine = machine(DATA + 0x10, DATA + 0x4ff8 - 0x800, 0x900);
    for offset in 0..0x900 {
        machine.memory.store(DATA + 0x10 + offset, &[offset as u8 ^ 0x5a]);
    }
    machine.protect(DATA + 0x5000, 5);
    machine.place(&REP_MOVSB);
    let mut done = 0;
    let fault = loop {
        match machine.step(1000) {
            Ok(executed) => done += executed.count,
            Err(exception) => break exception,
        }
    };
    done += machine.completed;
    assert_eq!(fault, Exception::page_fault(7, DATA + 0x5000));
    assert_eq!(done, 0x808);
    assert_eq!(registers(&machine), [0xf8, DATA + 0x818, DATA + 0x5000]);
    assert_eq!(machine.state.rip, CODE);
    let mut last = [0];
    machine.memory.read(DATA + 0x4fff, &mut last);
    assert_eq!(last[0], 0x807_u64 as u8 ^ 0x5a);
    machine.protect(DATA + 0x5000, 7);
    assert_eq!(finish(&mut machine, || u64::MAX), Ok(0xf8));
    assert_eq!(machine.state.rip, CODE + 2);
}

#[test]
fn an_element_across_a_page_boundary_moves_whole_or_not_at_all() {
    let mut machine = machine(DATA, DATA + 0x2000 - 4, 1);
    machine.store(DATA, 0x1122_3344_5566_7788);
    machine.store(DATA + 0x2000 - 8, 0);
    machine.protect(DATA + 0x2000, 5);
    machine.place(&REP_MOVSQ);
    assert_eq!(machine.step(9), Err(Exception::page_fault(7, DATA + 0x2000)));
    assert_eq!(machine.load(DATA + 0x2000 - 8), 0);
    machine.protect(DATA + 0x2000, 7);
    assert_eq!(finish(&mut machine, || 9), Ok(1));
    assert_eq!(machine.load(DATA + 0x2000 - 4), 0x1122_3344_5566_7788);
}

#[test]
fn forward_overlap_replicates() {
    let mut machine = machine(DATA, DATA + 3, 20);
    machine.memory.store(DATA, b"abc");
    machine.place(&REP_MOVSB);
    assert_eq!(finish(&mut machine, || u64::MAX), Ok(20));
    let mut bytes = [0; 23];
    machine.memory.read(DATA, &mut bytes);
    assert_eq!(&bytes, b"abcabcabcabcabcabcabcab");
}

#[test]
fn the_allowance_bounds_iterations() {
    let mut machine = machine(0, DATA, 10);
    machine.state.gpr[gpr::RAX] = 7;
    machine.place(&REP_STOSQ);
    assert_eq!(machine.step(4), Ok(Executed { count: 4, flow: Flow::Again }));
    assert_eq!((registers(&machine), machine.state.rip), ([6, 0, DATA + 32], CODE));
    assert_eq!(machine.step(6), Ok(Executed { count: 6, flow: Flow::Next }));
    assert_eq!(machine.state.rip, CODE + 3);
    machine.state.rip = CODE;
    assert_eq!(machine.step(5), Ok(Executed { count: 1, flow: Flow::Next }), "no iteration counts as one");
}

#[test]
fn backward_and_narrow_addresses() {
    let mut machine = machine(DATA + 0x1001, DATA + 0x3001, 4);
    machine.memory.store(DATA + 0xffe, b"wxyz");
    machine.state.rflags |= rflags::DF;
    machine.place(&REP_MOVSB);
    assert_eq!(finish(&mut machine, || u64::MAX), Ok(4));
    assert_eq!(registers(&machine), [0, DATA + 0xffd, DATA + 0x2ffd]);
    assert_eq!(machine.load(DATA + 0x2ffe) as u32, u32::from_le_bytes(*b"wxyz"));
    let mut machine = self::machine(DATA | (5 << 32), (DATA + 64) | (6 << 32), 2 | (7 << 32));
    machine.place(&[0x67, 0xf3, 0xa4]);
    assert_eq!(finish(&mut machine, || u64::MAX), Ok(2));
    assert_eq!(registers(&machine), [0, DATA + 2, DATA + 66]);
}

#[test]
fn comparisons_stop_with_the_last_flags() {
    let mut machine = machine(DATA, DATA + 0x1ff0, 100);
    machine.memory.store(DATA, &[7; 100]);
    machine.memory.store(DATA + 0x1ff0, &[7; 100]);
    machine.memory.store(DATA + 0x1ff0 + 50, &[9]);
    machine.place(&REPE_CMPSB);
    assert_eq!(finish(&mut machine, || 13), Ok(51));
    assert_eq!(registers(&machine), [49, DATA + 51, DATA + 0x1ff0 + 51]);
    assert_eq!(machine.state.rflags, 0x2 | rflags::CF | rflags::SF | rflags::AF);
    let mut machine = self::machine(0, DATA, u64::MAX);
    machine.memory.store(DATA, b"a string, and its end\0");
    machine.place(&REPNE_SCASB);
    assert_eq!(finish(&mut machine, || u64::MAX), Ok(22));
    assert_eq!(machine.state.gpr[gpr::RDI], DATA + 22);
    assert_eq!(machine.state.rflags, 0x2 | rflags::ZF | rflags::PF);
}

#[test]
fn devices_see_one_iteration_at_a_time_and_its_count() {
    let mut machine = machine(DATA, DEVICE, 3);
    machine.place(&[0xf3, 0xa5]);
    for left in [2, 1, 0] {
        let executed = machine.step(u64::MAX).expect("moved");
        assert_eq!((executed.count, machine.device), (1, true));
        assert_eq!(executed.flow, if left == 0 { Flow::Next } else { Flow::Again });
    }
    assert_eq!(machine.board.log.len(), 3);
    assert_eq!(machine.board.log[0], "100 store 0xfee00000 4 0x0");
    // The last of a page of RAM, then a device: its count is that of its own iteration.
    let mut machine = self::machine(0, DEVICE - 16, 3);
    machine.state.gpr[gpr::RAX] = 5;
    machine.place(&REP_STOSQ);
    assert_eq!(machine.step(u64::MAX), Ok(Executed { count: 3, flow: Flow::Next }));
    assert_eq!(machine.board.log, ["102 store 0xfee00000 8 0x5"]);
}

#[test]
fn ports_in_strings() {
    let mut machine = machine(DATA, DATA + 64, 2);
    machine.state.rflags |= rflags::IOPL;
    machine.state.gpr[gpr::RDX] = 0x1f0;
    machine.board.value = 0x1234;
    machine.place(&[0xf3, 0x66, 0x6d]);
    assert_eq!(finish(&mut machine, || u64::MAX), Ok(2));
    assert_eq!(machine.load(DATA + 64), 0x1234_1234);
    machine.state.gpr[gpr::RCX] = 1;
    machine.place(&[0xf3, 0x66, 0x6f]);
    assert_eq!(finish(&mut machine, || u64::MAX), Ok(1));
    assert_eq!(machine.board.log, ["100 in 0x1f0 2", "101 in 0x1f0 2", "102 out 0x1f0 2 0x0"]);
    machine.protect(DATA, 5);
    machine.place(&[0x6c]);
    assert_eq!(machine.step(1), Err(Exception::page_fault(7, DATA + 68)));
    assert_eq!(machine.board.log.len(), 3, "a fault reads no port");
}

#[test]
fn a_repetition_sees_the_tables_and_the_code_it_overwrites() {
    // STOSQ over the leaf table: the fourth entry written maps the table's own page elsewhere.
    let mut machine = machine(0, LEAF_TABLE, 8);
    machine.state.gpr[gpr::RAX] = DATA | 7;
    machine.place(&REP_STOSQ);
    machine.state.rip = CODE;
    assert_eq!(finish(&mut machine, || u64::MAX), Ok(8));
    assert_eq!(machine.load(LEAF_TABLE + 32) & !0x60, DATA | 7);
    assert_ne!(machine.load(LEAF_TABLE + 40), DATA | 7, "written through the new mapping");
    assert_eq!(machine.load(DATA + 40), DATA | 7);
    // STOSB over itself: the next fetch finds what was written.
    let mut machine = self::machine(0, CODE + 1, 5);
    machine.state.gpr[gpr::RAX] = 0x90;
    machine.place(&[0xf3, 0xaa]);
    assert_eq!(machine.step(u64::MAX), Ok(Executed { count: 1, flow: Flow::Again }));
}

/// A small generator; its seed names a case.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

/// A random string instruction over a few pages that include the page tables and the code.
fn random_machine(seed: u64) -> Machine {
    let random = &mut Random(seed);
    let regions = [DATA, DATA, DATA + PAGE, LEAF_TABLE, 0x3000, CODE, DEVICE - PAGE];
    let mut address = || {
        let region = regions[random.below(7) as usize];
        region + [random.below(64), PAGE - 1 - random.below(64), random.below(PAGE)][random.below(3) as usize]
    };
    let (source, destination) = (address(), address());
    let near = random.below(3) == 0;
    let destination = if near { source.wrapping_add(random.below(64)) } else { destination };
    let mut machine = machine(source, destination, random.below(700));
    machine.state.gpr[gpr::RAX] = [0, DATA | 7, 0x9090_9090_9090_9090, random.0][random.below(4) as usize];
    if random.below(8) == 0 {
        machine.state.rflags |= rflags::DF;
    }
    for offset in (0..2 * PAGE).step_by(8) {
        let value = if random.below(40) == 0 { random.0 } else { machine.state.gpr[gpr::RAX] };
        machine.store(DATA + offset, value);
    }
    let opcode = [0xa4, 0xa4, 0xaa, 0xa6, 0xae, 0xac][random.below(6) as usize] + random.below(2) as u8;
    let repeat = 0xf2 + random.below(2) as u8;
    let wide: &[u8] = if random.below(2) == 0 { &[0x48] } else { &[] };
    let mut bytes = vec![repeat];
    bytes.extend_from_slice(wide);
    bytes.push(opcode);
    machine.place(&bytes);
    machine
}

/// Runs until the instruction is another one, ends, or faults.
fn outcome(mut machine: Machine, mut allowance: impl FnMut() -> u64) -> (Machine, u64, Option<Exception>) {
    let first = machine.fetch();
    let mut count = 0;
    while machine.state.rip == CODE && machine.fetch() == first {
        match machine.step(allowance()) {
            Ok(executed) => count += executed.count,
            Err(exception) => {
                count += machine.completed;
                return (machine, count, Some(exception));
            }
        }
    }
    let fault = if machine.state.rip == CODE { machine.fetch().err() } else { None };
    (machine, count, fault)
}

#[test]
fn spans_equal_single_iterations() {
    for seed in 0..800 {
        let one = outcome(random_machine(seed), || 1);
        let mut random = Random(seed ^ 0x5555);
        for slices in [false, true] {
            let other = outcome(random_machine(seed), || if slices { 1 + random.below(40) } else { u64::MAX });
            assert_eq!((one.1, one.2), (other.1, other.2), "seed {seed}");
            assert!(one.0.state == other.0.state, "seed {seed}: registers");
            assert_eq!(one.0.board.log, other.0.board.log, "seed {seed}");
            for page in 0..one.0.memory.pages() {
                assert!(one.0.memory.page(page) == other.0.memory.page(page), "seed {seed}: page {page:#x}");
            }
        }
    }
}
