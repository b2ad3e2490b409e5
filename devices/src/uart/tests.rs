//! Register-level tests of the 16550A.

use super::*;
use crate::state::{Random, assert_round_trip};

const RBR: u16 = 0;
const THR: u16 = 0;
const IER: u16 = 1;
const IIR: u16 = 2;
const FCR: u16 = 2;
const LCR: u16 = 3;
const MCR: u16 = 4;
const LSR: u16 = 5;
const MSR: u16 = 6;

fn opened() -> Uart {
    let mut uart = Uart::default();
    uart.write(FCR, 0x87);
    uart.write(MCR, 0x0b);
    uart
}

#[test]
fn transmits_at_once_and_interrupts_when_empty() {
    let mut uart = opened();
    assert_eq!(uart.write(THR, b'x'), Some(b'x'));
    assert_eq!(uart.read(LSR), 0x60);
    assert!(!uart.line());
    uart.write(IER, ETBEI);
    assert!(uart.line());
    assert_eq!(uart.read(IIR), 0xc2);
    assert_eq!(uart.read(IIR), 0xc1, "reading IIR ended it");
    uart.write(IER, 0);
    uart.write(IER, ETBEI);
    assert_eq!(uart.read(IIR), 0xc2, "enabling it again raises it again");
    uart.write(THR, b'y');
    assert!(uart.line());
}

#[test]
fn receiver_trigger_timeout_and_queue() {
    let mut uart = opened(); // trigger level 8
    uart.write(IER, ERBFI);
    uart.push(b"abc");
    assert_eq!(uart.read(IIR), 0xcc, "character timeout");
    uart.push(&[b'z'; 30]);
    assert_eq!(uart.waiting(), 17);
    assert_eq!(uart.read(IIR), 0xc4);
    let mut read = Vec::new();
    while uart.read(LSR) & 1 != 0 {
        read.push(uart.read(RBR));
    }
    assert_eq!(read.len(), 33);
    assert_eq!(&read[..4], b"abcz");
    assert!(!uart.line());
}

#[test]
fn without_fifos_one_byte_at_a_time() {
    let mut uart = Uart::default();
    uart.push(b"ab");
    assert_eq!(uart.waiting(), 1);
    assert_eq!(uart.read(IIR), 1);
    assert_eq!((uart.read(RBR), uart.read(RBR), uart.read(RBR)), (b'a', b'b', 0));
}

#[test]
fn loopback_as_drivers_test_it() {
    let mut uart = Uart::default();
    uart.write(MCR, LOOP | 0x0a);
    assert_eq!(uart.read(MSR) & 0xf0, 0x90);
    assert_eq!(uart.write(THR, 0x5a), None);
    assert_eq!(uart.read(RBR), 0x5a);
    uart.write(IER, ELSI);
    uart.write(THR, 1);
    uart.write(THR, 2);
    assert_eq!(uart.read(IIR), 6);
    assert_eq!(uart.read(LSR), 0x63);
    assert_eq!(uart.read(IIR), 1);
    assert_eq!(uart.read(RBR), 2, "the holding register is overwritten");
}

#[test]
fn modem_status_changes() {
    let mut uart = Uart::default();
    assert_eq!(uart.read(MSR), 0xb0);
    uart.write(MCR, LOOP);
    assert_eq!(uart.read(MSR), 0x0b);
    uart.write(MCR, LOOP | 4);
    uart.write(MCR, LOOP);
    assert_eq!(uart.read(MSR), 0x04, "trailing edge of RI");
    assert_eq!(uart.read(MSR), 0);
}

#[test]
fn divisor_latch_and_scratch() {
    let mut uart = opened();
    uart.write(LCR, 0x83);
    uart.write(0, 1);
    uart.write(1, 0);
    assert_eq!(uart.read(0), 1);
    uart.write(LCR, 0x03);
    assert_eq!(uart.read(IER), 0);
    uart.write(7, 0xa5);
    assert_eq!(uart.read(7), 0xa5);
}

#[test]
fn out2_gates_the_irq() {
    let mut uart = opened();
    uart.write(IER, ETBEI);
    assert!(uart.line());
    uart.write(MCR, 0x03);
    assert!(!uart.line());
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0x16550);
    let mut uart = Uart::default();
    for _ in 0..50_000 {
        match random.below(5) {
            0 | 1 => drop(uart.write(random.below(8) as u16, random.next() as u8)),
            2 | 3 => drop(uart.read(random.below(8) as u16)),
            _ => uart.push(&random.next().to_le_bytes()[..random.below(4) as usize]),
        }
        uart.line();
    }
    assert_round_trip(&uart);
}
