//! The PCI bus: who is in which slot, where windows lie, where interrupts go.

use super::*;

/// Number of the network card's slot, and registers of it (82540EM).
const CARD: u32 = 3 << 11;
const STATUS: u64 = 0x0008;
const ICR: u64 = 0x00c0;
const ICS: u64 = 0x00c8;
const IMS: u64 = 0x00d0;
const LINK_CHANGE: u64 = 4;
const WINDOW: u64 = 0xfebc_0000;

struct Bench {
    board: Board,
    memory: Memory,
}

impl Bench {
    fn new() -> Bench {
        let mut memory = memory();
        Bench { board: board_with(&mut memory), memory }
    }

    fn read(&mut self, address: u32, size: u8) -> u32 {
        self.board.port_write(&mut self.memory, AT_ZERO, 0xcf8, 4, 0x8000_0000 | address & !3);
        self.board.port_read(&mut self.memory, AT_ZERO, 0xcfc + (address & 3) as u16, size)
    }

    fn write(&mut self, address: u32, size: u8, value: u32) {
        self.board.port_write(&mut self.memory, AT_ZERO, 0xcf8, 4, 0x8000_0000 | address & !3);
        self.board.port_write(&mut self.memory, AT_ZERO, 0xcfc + (address & 3) as u16, size, value);
    }

    fn load(&mut self, register: u64) -> u64 {
        self.board.mmio_read(&mut self.memory, AT_ZERO, WINDOW + register, 4)
    }

    fn store(&mut self, register: u64, value: u64) {
        self.board.mmio_write(&mut self.memory, AT_ZERO, WINDOW + register, 4, value);
    }

    fn place_card(&mut self) {
        self.write(CARD | 0x10, 4, WINDOW as u32);
        self.write(CARD | 0x04, 2, 0x0002);
    }
}

#[test]
fn every_slot_has_its_device() {
    let mut bench = Bench::new();
    let expected = [
        (0x0000, 0x1237_8086),
        (0x0800, 0x7000_8086),
        (0x0900, 0x7010_8086),
        (0x0a00, u32::MAX),
        (0x0b00, 0x7113_8086),
        (0x1000, 0x1111_1234),
        (0x1800, 0x100e_8086),
        (0x2000, 0x1000_1af4),
        (0x2800, 0x1001_1af4),
        (0x3000, 0x1005_1af4),
        (0x3800, 0x1003_1af4),
        (0x4000, u32::MAX),
        (0xf800, u32::MAX),
        (0x1900, u32::MAX),
    ];
    for (address, identity) in expected {
        assert_eq!(bench.read(address, 4), identity, "{address:#x}");
    }
    assert_eq!(bench.read(0x1802, 2), 0x100e);
    assert_eq!(bench.read(0x1801, 1), 0x80);
}

#[test]
fn a_window_answers_where_its_base_address_says() {
    let mut bench = Bench::new();
    assert_eq!(bench.load(STATUS), 0xffff_ffff);
    bench.place_card();
    assert_ne!(bench.load(STATUS), 0xffff_ffff);
    bench.write(CARD | 0x10, 4, 0xe000_0000);
    assert_eq!(bench.load(STATUS), 0xffff_ffff, "it has moved");
    bench.write(CARD | 0x10, 4, WINDOW as u32);
    bench.write(CARD | 0x04, 2, 0);
    assert_eq!(bench.load(STATUS), 0xffff_ffff, "it is not decoded");
}

#[test]
fn a_window_of_ports_answers_words_and_dwords() {
    let mut bench = Bench::new();
    let disk = 5 << 11;
    bench.write(disk | 0x10, 4, 0xc000);
    bench.write(disk | 0x04, 2, 1);
    let queue_size = bench.board.port_read(&mut bench.memory, AT_ZERO, 0xc00c, 2);
    assert!(queue_size.is_power_of_two(), "{queue_size}");
    assert_eq!(bench.board.port_read(&mut bench.memory, AT_ZERO, 0xc080, 4), u32::MAX, "past its end");
}

#[test]
fn interrupts_go_where_the_isa_bridge_routes_them() {
    let mut bench = Bench::new();
    bench.place_card();
    io_apic(&mut bench.board, 0x10 + 2 * 11, 0x8000 | 0x51); // pin 11, level
    bench.store(IMS, LINK_CHANGE);
    bench.store(ICS, LINK_CHANGE);
    assert!(!bench.board.has_interrupt(), "PIRQC is not routed");
    assert_eq!(bench.read(CARD | 0x06, 1) & 8, 8, "the status register says that one waits");
    bench.write(0x0862, 1, 11);
    assert_eq!(bench.board.acknowledge(0), 0x51);
    bench.write(CARD | 0x04, 2, 0x0402);
    bench.board.mmio_write(&mut bench.memory, AT_ZERO, 0xfee0_00b0, 4, 0);
    assert!(!bench.board.has_interrupt(), "held off by the command register");
    bench.write(CARD | 0x04, 2, 0x0002);
    assert_eq!(bench.board.acknowledge(0), 0x51, "the line was still high");
    bench.load(ICR);
    bench.board.mmio_write(&mut bench.memory, AT_ZERO, 0xfee0_00b0, 4, 0);
    assert!(!bench.board.has_interrupt());
}

#[test]
fn slots_share_interrupt_lines_in_rotation() {
    assert_eq!([1, 2, 3, 4, 5].map(|slot: u8| map::pirq(slot << 3, 1)), [0, 1, 2, 3, 0]);
    assert_eq!(map::pirq(3 << 3, 4), 1);
}

#[test]
fn the_event_timer_takes_the_place_of_the_8254() {
    let mut bench = Bench::new();
    let store = |bench: &mut Bench, offset: u64, value: u64| {
        bench.board.mmio_write(&mut bench.memory, AT_ZERO, crate::hpet::BASE + offset, 8, value);
    };
    io_apic(&mut bench.board, 0x10 + 2 * 2, 0x41);
    store(&mut bench, 0x100, 1 << 2);
    store(&mut bench, 0x108, 1000);
    store(&mut bench, 0x10, 3);
    let due = bench.board.deadline().expect("a match is due");
    assert_eq!(due, 10_000);
    bench.board.tick(&mut bench.memory, Icount(due));
    assert_eq!(bench.board.acknowledge(due), 0x41);
}

#[test]
fn firmware_reads_its_configuration_and_says_what_it_does() {
    let mut bench = Bench::new();
    bench.board.port_write(&mut bench.memory, AT_ZERO, 0x510, 2, 0);
    let signature: Vec<u32> = (0..4).map(|_| bench.board.port_read(&mut bench.memory, AT_ZERO, 0x511, 1)).collect();
    assert_eq!(signature, b"QEMU".map(u32::from));
    assert_eq!(bench.board.port_read(&mut bench.memory, AT_ZERO, 0x402, 1), 0xe9);
    bench.board.port_write(&mut bench.memory, AT_ZERO, 0x402, 1, u32::from(b'x'));
    assert_eq!(bench.board.debug, [b'x']);
}

#[test]
fn ports_that_only_keep_a_byte() {
    let mut bench = Bench::new();
    for (port, byte) in [(0x80, 0x5a), (0xb2, 0x12), (0xb3, 0x34), (0x92, 0x02)] {
        bench.board.port_write(&mut bench.memory, AT_ZERO, port, 1, byte);
        assert_eq!(bench.board.port_read(&mut bench.memory, AT_ZERO, port, 1), byte, "{port:#x}");
    }
    bench.board.port_write(&mut bench.memory, AT_ZERO, 0x92, 1, 0xfe);
    let port_a = bench.board.port_read(&mut bench.memory, AT_ZERO, 0x92, 1);
    assert_eq!(port_a, 0x02, "of system control port A there are reset and A20");
    assert!(!bench.board.chips.reset);
}
