//! The wires: which line reaches what, and what an access sees.

mod bus;

use super::*;
use crate::clock::Clock;
use crate::config::{Attachment, DriveConfig, DriveKind, NicConfig, NicModel};
use crate::rtc::Rtc;
use crate::state::Random;
use crate::state::Saved;
use crate::storage::MemoryStorage;

const AT_ZERO: Icount = Icount(0);

/// RAM for chips that read and write it themselves.
fn memory() -> Memory {
    Memory::new(1 << 20).expect("one megabyte")
}

fn config() -> Config {
    let nic = |model| NicConfig { model, mac: [2, 0, 0, 0, 0, 1] };
    let nics = vec![nic(NicModel::E1000), nic(NicModel::VirtioNet)];
    let drive = |attachment| DriveConfig {
        attachment,
        kind: DriveKind::Disk,
        sectors: 64,
        serial: "1".into(),
        read_only: false,
    };
    let drives = vec![drive(Attachment::Ide { channel: 0, unit: 0 }), drive(Attachment::Virtio)];
    Config { video: true, nics, drives, ..Config::default() }
}

fn board_with(memory: &mut Memory) -> Board {
    let regions = Regions::add(&config(), memory).expect("regions");
    let chips = Chips::new(&config(), &regions, Clock::new(crate::clock::RATE_ONE), Rtc::new(0));
    Board::new(&config(), memory, chips, regions)
}

fn board() -> Board {
    board_with(&mut memory())
}

fn out(board: &mut Board, port: u16, value: u8) {
    board.port_write(&mut memory(), AT_ZERO, port, 1, u32::from(value));
}

fn program_pic(board: &mut Board) {
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1)] {
        out(board, port, value);
    }
    for (port, value) in [(0xa0, 0x11), (0xa1, 0x38), (0xa1, 2), (0xa1, 1)] {
        out(board, port, value);
    }
}

fn io_apic(board: &mut Board, register: u32, value: u32) {
    board.mmio_write(&mut memory(), AT_ZERO, 0xfec0_0000, 4, u64::from(register));
    board.mmio_write(&mut memory(), AT_ZERO, 0xfec0_0010, 4, u64::from(value));
}

fn enable_transmitter_interrupt(board: &mut Board) {
    out(board, 0x3fc, 8);
    out(board, 0x3f9, 2);
}

#[test]
fn com1_through_the_8259_pair_and_lint0() {
    let mut board = board();
    program_pic(&mut board);
    enable_transmitter_interrupt(&mut board);
    assert!(board.has_interrupt());
    assert_eq!(board.acknowledge(0), 0x34);
    assert!(!board.has_interrupt());
}

#[test]
fn com1_through_the_io_apic() {
    let mut board = board();
    out(&mut board, 0x21, 0xff);
    io_apic(&mut board, 0x18, 0x41);
    enable_transmitter_interrupt(&mut board);
    assert!(board.has_interrupt());
    assert_eq!(board.acknowledge(0), 0x41);
    board.mmio_write(&mut memory(), AT_ZERO, 0xfee0_00b0, 4, 0);
    assert!(!board.has_interrupt());
}

#[test]
fn the_sci_repeats_until_its_source_is_quiet() {
    let mut board = board();
    out(&mut board, 0x21, 0xff);
    io_apic(&mut board, 0x22, 0x8042);
    board.port_write(&mut memory(), AT_ZERO, 0x602, 2, 0x100);
    board.chips.power.press_power_button();
    board.settle(0);
    assert_eq!(board.acknowledge(0), 0x42);
    board.mmio_write(&mut memory(), AT_ZERO, 0xfee0_00b0, 4, 0);
    assert_eq!(board.acknowledge(0), 0x42, "the button's status bit is still set");
    board.port_write(&mut memory(), AT_ZERO, 0x600, 2, 0x100);
    board.mmio_write(&mut memory(), AT_ZERO, 0xfee0_00b0, 4, 0);
    assert!(!board.has_interrupt());
}

#[test]
fn a_timer_nobody_can_see_has_no_deadline() {
    let mut board = board();
    program_pic(&mut board);
    for (port, value) in [(0x21, 0xff), (0x43, 0x34), (0x40, 0xa5), (0x40, 0x12)] {
        out(&mut board, port, value);
    }
    assert_eq!(board.deadline(), None);
    board.port_write(&mut memory(), Icount(10_000_001), 0x21, 1, 0xfe);
    let deadline = board.deadline().unwrap();
    assert_eq!(deadline, 12_000_684, "250 Hz, the third edge");
    assert!(board.has_interrupt(), "edges while masked leave a request in the 8259A");
    assert_eq!(board.acknowledge(10_000_001), 0x30);
    board.port_write(&mut memory(), Icount(10_000_002), 0x20, 1, 0x20);
    assert!(!board.has_interrupt());
    board.tick(&mut memory(), Icount(deadline));
    assert_eq!(board.acknowledge(deadline), 0x30);
    board.mmio_write(&mut memory(), Icount(deadline), 0xfee0_0350, 4, 0x1_0700);
    assert_eq!(board.deadline(), None, "LINT0 is masked and so is the I/O APIC");
    board.mmio_write(&mut memory(), Icount(deadline), 0xfec0_0000, 4, 0x14);
    board.mmio_write(&mut memory(), Icount(deadline), 0xfec0_0010, 4, 0x31);
    assert!(board.deadline().is_some());
}

#[test]
fn every_way_to_ask_for_a_reset() {
    for (port, value) in [(0xcf9, 6), (0x64, 0xfe), (0x92, 1)] {
        let mut board = board();
        out(&mut board, port, value);
        assert!(board.chips.reset, "{port:#x}");
    }
}

#[test]
fn ports_and_memory_that_nobody_owns_read_all_ones() {
    let mut board = board();
    assert_eq!(board.port_read(&mut memory(), AT_ZERO, 0x3e8, 1), 0xff);
    assert_eq!(board.port_read(&mut memory(), AT_ZERO, 0x1f0, 2), 0xffff);
    assert_eq!(board.port_read(&mut memory(), AT_ZERO, 0xffff, 4), u32::MAX);
    assert_eq!(board.mmio_read(&mut memory(), AT_ZERO, 0xb_8000, 8), u64::MAX);
    assert_eq!(board.mmio_read(&mut memory(), AT_ZERO, 0xfed1_0000, 4), 0xffff_ffff);
    assert_eq!(board.msr_read(AT_ZERO, 0x800), None);
}

#[test]
fn wide_accesses_to_byte_wide_chips_are_split() {
    let mut board = board();
    board.port_write(&mut memory(), AT_ZERO, 0x80, 2, 0x1234);
    assert_eq!(board.port_read(&mut memory(), AT_ZERO, 0x80, 2), 0xff34);
    board.port_write(&mut memory(), AT_ZERO, 0x3ff, 2, 0xaa55);
    assert_eq!(board.port_read(&mut memory(), AT_ZERO, 0x3ff, 1), 0x55);
    assert_eq!(board.port_read(&mut memory(), AT_ZERO, 0x604, 4), 1);
}

#[test]
fn apic_registers_by_byte_and_quadword() {
    let mut board = board();
    assert_eq!(board.mmio_read(&mut memory(), AT_ZERO, 0xfee0_0030, 4), 0x0005_0014);
    assert_eq!(board.mmio_read(&mut memory(), AT_ZERO, 0xfee0_0032, 1), 5);
    assert_eq!(board.mmio_read(&mut memory(), AT_ZERO, 0xfee0_0030, 8), 0x0005_0014);
    assert!(board.msr_write(AT_ZERO, MSR_APIC_BASE, 0xfee0_0100));
    assert_eq!(board.mmio_read(&mut memory(), AT_ZERO, 0xfee0_0030, 4), 0xffff_ffff, "globally disabled");
}

#[test]
fn serial_bytes_leave_with_the_count_after_their_instruction() {
    let mut board = board();
    board.port_write(&mut memory(), Icount(41), 0x3f8, 1, u32::from(b'x'));
    let emitted = board.outputs.drain();
    assert_eq!(emitted[0].count, Icount(42));
}

/// A board with its own memory and something in its drives.
fn whole_board() -> (Board, Memory) {
    let mut memory = memory();
    let mut board = board_with(&mut memory);
    for drive in 0..board.drives.count() {
        board.drives.attach(drive, Box::new(MemoryStorage::new(64))).expect("a drive of 64 sectors");
    }
    (board, memory)
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0xb0a2d);
    let (mut board, mut memory) = whole_board();
    shake(&mut board, &mut memory, &mut random, 100_000);
    assert_round_trip_quickly(&board.chips);
}

/// As `assert_round_trip`, without cutting the state at every byte: it is long.
fn assert_round_trip_quickly(chips: &Chips) {
    let (mut first, mut second) = (Vec::new(), Vec::new());
    chips.save(&mut first);
    let loaded = Chips::load(&mut &first[..]).expect("what was saved loads");
    loaded.save(&mut second);
    assert!(first == second && loaded == *chips);
    assert!((0..first.len()).step_by(97).all(|length| Chips::load(&mut &first[..length]).is_none()));
}

#[test]
fn a_damaged_state_that_loads_never_panics() {
    let mut random = Random(0xdead);
    let mut loaded = 0;
    for _ in 0..1_000 {
        let (mut board, mut memory) = whole_board();
        shake(&mut board, &mut memory, &mut random, 20);
        let mut state = Vec::new();
        board.chips.save(&mut state);
        for _ in 0..1 + random.below(8) {
            let at = random.below(state.len() as u64) as usize;
            state[at] = random.next() as u8;
        }
        let fits = |chips: &Chips| chips.rtc.is_plausible() && chips.fit(&config());
        if let Some(chips) = Chips::load(&mut &state[..]).filter(fits) {
            loaded += 1;
            board.replace_chips(&mut memory, chips);
            shake(&mut board, &mut memory, &mut random, 200);
        }
    }
    assert!(loaded > 250, "{loaded}");
}

/// Random accesses at random times.
fn shake(board: &mut Board, memory: &mut Memory, random: &mut Random, accesses: u64) {
    let mut now = 0;
    for _ in 0..accesses {
        now += random.step(30);
        let now = Icount(now);
        let now_ns = board.chips.clock.now_ns(now);
        let size = 1 << random.below(3);
        let value = random.next() >> (8 * random.below(8));
        let (port, address) = places(board, random);
        let kind = random.below(10);
        match kind {
            0..=2 => board.port_write(memory, now, port, size, value as u32),
            3 => drop(board.port_read(memory, now, port, size).to_le_bytes()),
            4 => board.mmio_write(memory, now, address, 4, value & 0xffff_ffff),
            5 => drop(board.mmio_read(memory, now, address, size).to_le_bytes()),
            6 => drop(board.msr_write(now, MSR_TSC_DEADLINE, random.next() >> 30)),
            7 => board.tick(memory, now),
            8 => {
                let register = random.below(8 * 0x800) as u32 & 0xfffc;
                board.port_write(memory, now, 0xcf8, 4, 0x8000_0000 | register);
                board.port_write(memory, now, 0xcfc, 4, value as u32);
            }
            _ if board.has_interrupt() => drop(board.acknowledge(now_ns).to_le_bytes()),
            _ => {
                board.drives.release(now_ns).expect("drives of memory");
                board.tick(memory, now);
            }
        }
        board.outputs.drain();
        let remembered = board.deadline();
        board.forget_deadlines();
        assert_eq!(board.deadline(), remembered, "forgotten after {kind}, {port:#x}, {address:#x}");
    }
}

/// A port and an address where something may answer.
fn places(board: &Board, random: &mut Random) -> (u16, u64) {
    let (first, last, ..) = map::PORTS[random.below(map::PORTS.len() as u64) as usize];
    let fixed_port = first + random.below(u64::from(last - first) + 1) as u16;
    let (first, last, _) = map::MEMORY[random.below(map::MEMORY.len() as u64) as usize];
    let fixed_address = first + (random.below(last - first) & !3);
    match random.below(2) {
        0 => (fixed_port, fixed_address),
        _ => board.routes.somewhere(random).unwrap_or((fixed_port, fixed_address)),
    }
}
