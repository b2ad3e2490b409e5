//! Header, base addresses and capabilities of a function, by the registers of PCI 2.1 chapter 6.

use super::*;
use crate::state::{Random, assert_round_trip};

fn function() -> Function {
    let identity = Identity {
        vendor: 0x8086,
        device: 0x100e,
        revision: 3,
        class: 0x02_0000,
        subsystem_vendor: 0x8086,
        subsystem: 0x001e,
        interrupt_pin: 1,
        multifunction: false,
    };
    Function::new(&identity)
        .with_memory_bar(0, 0x2_0000, false)
        .with_io_bar(1, 0x40)
        .with_memory_bar(2, 0x100_0000, true)
        .with_rom_bar(0x1_0000)
        .with_register(0xf0, &[0x12, 0x34], &[0x0f])
        .with_capability(9, &[1, 2, 3, 4], &[0, 0xff])
        .with_capability(5, &[0x80; 12], &[0xff; 12])
}

#[test]
fn header_says_who_it_is_and_is_read_only() {
    let mut function = function();
    for register in [0u8, 8, 0x2c] {
        function.write(register, 4, 0);
    }
    assert_eq!(function.read(0, 4), 0x100e_8086);
    assert_eq!(function.read(8, 4), 0x0200_0003);
    assert_eq!(function.read(0x2c, 4), 0x001e_8086);
    assert_eq!(function.read(0x3d, 1), 1);
    assert_eq!(function.read(0x06, 2), 0x0210, "medium DEVSEL, capabilities");
    function.write(0x3c, 2, 0xff0b);
    assert_eq!(function.read(0x3c, 2), 0x010b);
    assert_eq!(function.read(0xfe, 4), 0xffff_0000, "past the end nobody answers");
}

#[test]
fn base_addresses_tell_their_length_and_decode_when_enabled() {
    let mut function = function();
    for (register, length) in [(0x10, 0xfffe_0000u32), (0x14, 0xffff_ffc1), (0x18, 0xff00_0008), (0x30, 0xffff_0001)] {
        function.write(register, 4, u32::MAX);
        assert_eq!(function.read(register, 4), length);
    }
    function.write(4, 2, 7);
    assert_eq!((function.bar(0), function.bar(1)), (Some(0xfffe_0000), None), "ports end at 64 Ki");
    function.write(0x10, 4, 0xfebc_0000);
    function.write(0x14, 4, 0xc001);
    function.write(0x18, 4, 0);
    function.write(0x30, 4, 0xfebe_0000);
    assert_eq!((function.bar(0), function.bar(1), function.bar(2)), (Some(0xfebc_0000), Some(0xc000), None));
    assert_eq!((function.bar(3), function.bar(6), function.bar(200)), (None, None, None));
    assert_eq!(function.rom_bar(), None);
    function.write(0x30, 4, 0xfebe_0001);
    assert_eq!(function.rom_bar(), Some(0xfebe_0000));
    function.write(4, 2, 1);
    assert_eq!((function.bar(0), function.bar(1), function.rom_bar()), (None, Some(0xc000), None));
}

#[test]
fn command_and_status() {
    let mut function = function();
    function.write(4, 4, u32::MAX);
    assert_eq!(function.read(4, 4), 0x0210_0547);
    assert!(function.bus_master() && function.interrupt_disabled());
    function.set_interrupt_status(true);
    assert_eq!(function.read(6, 2), 0x0218);
    function.set_interrupt_status(false);
    assert_eq!(function.read(6, 2), 0x0210);
}

#[test]
fn capabilities_are_a_list() {
    let mut function = function();
    assert_eq!(function.read(0x34, 1), 0x40);
    assert_eq!(function.read(0x40, 4), 0x0201_4809);
    assert_eq!(function.read(0x48, 4), 0x8080_0005);
    function.write(0x40, 4, u32::MAX);
    assert_eq!(function.read(0x40, 4), 0xff01_4809);
    function.write(0xf0, 2, 0xffff);
    assert_eq!(function.read(0xf0, 2), 0x341f);
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0x2_1061);
    let mut function = function();
    for _ in 0..20_000 {
        let (register, size) = (random.below(256) as u8, 1 << random.below(3));
        match random.below(2) {
            0 => function.write(register, size, random.next() as u32),
            _ => drop(function.read(register, size)),
        }
        assert!((0..=255).all(|index| function.bar(index).is_none_or(|base| base != 0)));
        assert!(function.rom_bar().is_none_or(|base| base != 0));
    }
    assert_eq!(function.read(0, 4), 0x100e_8086);
    assert_round_trip(&function);
}
