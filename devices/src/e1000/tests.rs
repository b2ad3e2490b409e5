//! The controller as a driver sees it, register by register, and as a hostile one would use it.

mod hostile;
mod receiving;
mod transmitting;

use super::E1000;
use super::registers::*;
use crate::context::Context;
use crate::drives::Drives;
use crate::output::{Output, Outputs};
use crate::pci::device::PciDevice;
use ftemu_cpu::{Icount, Memory};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const RX_RING: u64 = 0x1_0000;
const TX_RING: u64 = 0x2_0000;
const BUFFERS: u64 = 0x10_0000;

/// A controller, memory and a driver's view of both.
struct Bench {
    chip: E1000,
    memory: Memory,
    drives: Drives,
    outputs: Outputs,
    now_ns: u64,
}

impl Bench {
    fn new() -> Bench {
        let mut chip = E1000::new(0, MAC);
        chip.function_mut().write(4, 2, 7);
        let memory = Memory::new(4 << 20).expect("memory");
        Bench { chip, memory, drives: Drives::default(), outputs: Outputs::default(), now_ns: 0 }
    }

    fn with<R>(&mut self, act: impl FnOnce(&mut E1000, &mut Context) -> R) -> R {
        let Bench { chip, memory, drives, outputs, now_ns } = self;
        act(chip, &mut Context { now: Icount(1), now_ns: *now_ns, memory, drives, outputs })
    }

    fn read(&mut self, register: u32) -> u32 {
        self.with(|chip, context| chip.read(context, 0, register.into(), 4)) as u32
    }

    fn write(&mut self, register: u32, value: u32) {
        self.with(|chip, context| chip.write(context, 0, register.into(), 4, value.into()));
    }

    /// Time passes: everything that is due on the way happens.
    fn pass(&mut self, ns: u64) {
        let end = self.now_ns + ns;
        while let Some(due) = self.chip.deadline().filter(|due| *due <= end) {
            self.now_ns = self.now_ns.max(due);
            self.with(|chip, context| chip.tick(context));
        }
        self.now_ns = end;
    }

    fn receive(&mut self, frame: &[u8]) {
        self.with(|chip, context| chip.receive(context, frame));
    }

    /// Frames that have left.
    fn sent(&mut self) -> Vec<Vec<u8>> {
        let frame = |emitted: crate::Emitted| match emitted.output {
            Output::Frame { nic: 0, bytes } => bytes,
            other => panic!("{other:?}"),
        };
        self.outputs.drain().into_iter().map(frame).collect()
    }

    /// A ring of `size` receive descriptors with buffers of 2 KiB, all of them but one the chip's.
    fn receive_ring(&mut self, size: u32) {
        for index in 0..u64::from(size) {
            self.memory.store(RX_RING + 16 * index, &(BUFFERS + 2048 * index).to_le_bytes());
            self.memory.store(RX_RING + 16 * index + 8, &[0; 8]);
        }
        self.write(RDBAL, RX_RING as u32);
        self.write(RDBAL + 8, size * 16);
        self.write(RCTL, RCTL_EN | RCTL_BAM | RCTL_SECRC);
        self.write(RDT, size - 1);
    }

    /// Length, checksum, status, errors and special of a receive descriptor.
    fn received(&mut self, index: u64) -> (u16, u16, u8, u8, u16) {
        let mut bytes = [0; 8];
        self.memory.read(RX_RING + 16 * index + 8, &mut bytes);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        (half(0), half(2), bytes[4], bytes[5], half(6))
    }

    /// Puts descriptors into the transmit ring, from its beginning, and hands them over.
    fn transmit(&mut self, descriptors: &[[u8; 16]]) {
        for (index, descriptor) in (0..).zip(descriptors) {
            self.memory.store(TX_RING + 16 * index, descriptor);
        }
        self.write(TDBAL, TX_RING as u32);
        self.write(TDBAL + 8, 4096);
        self.write(TDBAL + 0x10, 0);
        self.write(TCTL, TCTL_EN);
        self.write(TDT, descriptors.len() as u32);
    }
}

/// A frame to the controller with `length` bytes in all.
fn frame(length: usize) -> Vec<u8> {
    let mut frame = [&MAC[..], &[2, 0, 0, 0, 0, 1], &[0x88, 0xb5]].concat();
    frame.extend((0..length - 14).map(|index| index as u8));
    frame
}

#[test]
fn a_driver_finds_the_chip_its_address_and_its_link() {
    let mut bench = Bench::new();
    assert_eq!(bench.chip.function().read(0, 4), 0x100e_8086);
    assert_eq!(bench.chip.function().read(8, 4) >> 8, 0x02_0000);
    assert_eq!(bench.read(RAL.start), 0x1200_5452);
    assert_eq!(bench.read(RAL.start + 4), 0x8000_5634);
    let up = STATUS_FD | STATUS_LU | 2 << STATUS_SPEED | 2 << STATUS_ASDV;
    assert_eq!(bench.read(STATUS), up);
    bench.write(IMS, ICR_LSC);
    bench.with(|chip, context| chip.set_cable(context, false));
    assert_eq!(bench.read(STATUS) & STATUS_LU, 0);
    assert!(bench.chip.line());
    assert_eq!(bench.read(ICR), ICR_LSC);
    bench.with(|chip, context| chip.set_cable(context, true));
    bench.pass(100_000_000);
    assert_eq!(bench.read(STATUS), up);
    assert_eq!(bench.read(ICR), ICR_LSC);
}

#[test]
fn a_reset_leaves_the_address_and_the_phy() {
    let mut bench = Bench::new();
    bench.write(RAL.start, 0);
    bench.write(IMS, CAUSES);
    bench.write(ICS, ICR_LSC);
    bench.write(CTRL, CTRL_RST);
    assert_eq!((bench.read(CTRL), bench.read(IMS), bench.read(ICR)), (CTRL_FD, 0, 0));
    assert_eq!(bench.read(RAL.start), 0x1200_5452);
    assert_ne!(bench.read(STATUS) & STATUS_LU, 0);
    assert!(!bench.chip.line());
}

#[test]
fn io_space_is_a_window_to_the_registers() {
    let mut bench = Bench::new();
    let mut io = |offset, value| bench.with(|chip, context| chip.write(context, 1, offset, 4, value));
    io(0, u64::from(VET));
    io(4, 0x9100);
    assert_eq!(bench.with(|chip, context| chip.read(context, 1, 4, 4)), 0x9100);
    assert_eq!(bench.read(VET), 0x9100);
    assert_eq!(bench.with(|chip, context| chip.read(context, 0, u64::from(VET) + 1, 1)) & 0xff, 0x91);
    bench.with(|chip, context| chip.write(context, 0, u64::from(VET), 2, 0));
    assert_eq!(bench.read(VET), 0x9100, "registers are written as a whole");
}

#[test]
fn causes_masks_and_throttling_make_the_line() {
    let mut bench = Bench::new();
    bench.write(ICS, ICR_RXO);
    assert!(!bench.chip.line(), "masked");
    bench.write(IMS, ICR_RXO | ICR_TXDW);
    assert!(bench.chip.line());
    bench.write(IMC, ICR_RXO);
    assert!(!bench.chip.line());
    assert_eq!(bench.read(IMS), ICR_TXDW);
    assert_eq!((bench.read(ICR), bench.read(ICR)), (ICR_RXO, 0));
    bench.write(ITR, 1000);
    bench.write(ICS, ICR_TXDW);
    assert!(bench.chip.line());
    bench.write(ICR, ICR_TXDW);
    bench.write(ICS, ICR_TXDW);
    assert!(!bench.chip.line(), "256 us between interrupts");
    bench.pass(255_999);
    assert!(!bench.chip.line());
    bench.pass(1);
    assert!(bench.chip.line());
}

#[test]
fn registers_of_the_82542_are_where_they_were() {
    let mut bench = Bench::new();
    bench.write(0x0128, 7);
    bench.write(0x0210, 5);
    assert_eq!((bench.read(RDT), bench.read(MTA.start + 0x10)), (7, 5));
    assert_eq!(bench.read(0x0040), bench.read(RAL.start));
}
