//! Drivers that do anything: nothing panics or goes on for ever, and a saved controller goes on as the original does.

use super::*;
use crate::state::{Random, Saved, assert_round_trip};

#[test]
fn rings_to_nowhere_and_tails_outside_do_nothing() {
    let mut bench = Bench::new();
    bench.write(TDBAL + 4, u32::MAX);
    bench.write(TDBAL, u32::MAX);
    bench.write(TDBAL + 8, u32::MAX);
    bench.write(TCTL, TCTL_EN);
    bench.write(TDT, 0xffff);
    assert_eq!((bench.sent().len(), bench.chip.deadline()), (0, None));
    bench.write(TDBAL + 4, 0);
    bench.write(TDBAL, TX_RING as u32);
    bench.write(TDBAL + 8, 128);
    bench.write(TDT, 9);
    assert_eq!(bench.chip.deadline(), None, "a tail outside of the ring");
    bench.receive_ring(8);
    bench.write(RDBAL + 4, 0x1234_5678);
    bench.receive(&frame(100));
    assert_eq!(bench.read(RDBAL + 0x10), 0);
}

#[test]
fn without_mastering_memory_is_left_alone() {
    let mut bench = Bench::new();
    bench.receive_ring(8);
    bench.chip.function_mut().write(4, 2, 3);
    bench.receive(&frame(100));
    bench.transmit(&[[0xff; 16]]);
    assert_eq!((bench.received(0).2, bench.read(TDBAL + 0x10), bench.chip.deadline()), (0, 0, None));
}

#[test]
fn packets_without_end_are_dropped() {
    let mut bench = Bench::new();
    let mut endless = [0; 16];
    endless[8..12].copy_from_slice(&(0xf_ffff_u32 | 1 << 20 | 0x20 << 24).to_le_bytes());
    let mut last = endless;
    last[11] |= 1;
    bench.transmit(&[endless, endless, last]);
    bench.pass(10_000_000);
    assert_eq!((bench.sent().len(), bench.read(TDBAL + 0x10)), (0, 3));
}

/// Registers that matter, often; any other, seldom.
fn register(random: &mut Random) -> u32 {
    let known = [CTRL, EECD, EERD, MDIC, ICR, ITR, ICS, IMS, IMC, RCTL, TCTL, RDTR, RADV, TIDV, TADV, RXCSUM, PBA, VET];
    match random.below(4) {
        0 => known[random.below(known.len() as u64) as usize],
        1 => RDBAL + 4 * random.below(7) as u32,
        2 => TDBAL + 4 * random.below(7) as u32,
        _ => random.below(0x2_0000) as u32 & !3,
    }
}

fn value(random: &mut Random, register: u32) -> u32 {
    match register {
        RDBAL | TDBAL => (0x1_0000 + random.below(0x40) * 0x1000) as u32,
        0x2804 | 0x3804 => u32::from(random.below(50) == 0),
        0x2808 | 0x3808 => 128 << random.below(8),
        0x2810 | 0x2818 | 0x3810 | 0x3818 => random.below(64) as u32,
        CTRL => random.next() as u32 & if random.below(20) == 0 { u32::MAX } else { !CTRL_RST },
        RCTL => random.next() as u32 | RCTL_EN | RCTL_UPE,
        TCTL => random.next() as u32 | TCTL_EN,
        _ => random.next() as u32,
    }
}

#[test]
fn random_drivers_harm_nobody_and_states_go_on_alike() {
    for seed in 1..=60 {
        println!("seed {seed}");
        let mut random = Random(seed);
        let mut bench = Bench::new();
        let mut noise = vec![0; 1 << 20];
        noise.fill_with(|| random.next() as u8);
        bench.memory.store(0, &noise);
        for _ in 0..400 {
            step(&mut bench, &mut random);
        }
        assert_round_trip_fast(&bench.chip);
        let (mut first, mut second) = (copy(&bench), copy(&bench));
        let mut same = Random(random.next() | 1);
        let mut again = Random(same.0);
        for _ in 0..50 {
            step(&mut first, &mut same);
            step(&mut second, &mut again);
            assert_eq!(first.chip, second.chip);
        }
        assert_eq!(first.sent(), second.sent());
    }
    assert_round_trip(&Bench::new().chip.receiver);
    assert_round_trip(&Bench::new().chip.transmitter);
}

fn step(bench: &mut Bench, random: &mut Random) {
    match random.below(12) {
        0 => bench.pass(random.step(24)),
        1 | 2 => {
            let length = 14 + random.step(14) as usize;
            let mut frame = vec![0; length];
            frame.fill_with(|| random.next() as u8);
            bench.receive(&frame);
        }
        3 => {
            let up = random.below(4) != 0;
            bench.with(|chip, context| chip.set_cable(context, up));
        }
        4..=6 => {
            let (bar, offset) = (random.below(3) as u8, u64::from(register(random)));
            let size = 1 << random.below(4);
            bench.with(|chip, context| chip.read(context, bar, offset, size));
        }
        _ => {
            let register = register(random);
            let value = value(random, register);
            bench.write(register, value);
        }
    }
    bench.chip.line();
    if random.below(50) == 0 {
        bench.outputs.drain();
    }
}

fn assert_round_trip_fast(chip: &E1000) {
    let mut bytes = Vec::new();
    chip.save(&mut bytes);
    let mut rest = &bytes[..];
    assert_eq!(E1000::load(&mut rest).as_ref(), Some(chip));
    assert!(rest.is_empty() && E1000::load(&mut &bytes[..bytes.len() - 1]).is_none());
}

/// The same through its saved form.
fn copy(bench: &Bench) -> Bench {
    let mut bytes = Vec::new();
    bench.chip.save(&mut bytes);
    let mut memory = Memory::new(4 << 20).expect("memory");
    for page in 0..bench.memory.pages() {
        memory.store(4096 * page as u64, bench.memory.page(page));
    }
    let chip = E1000::load(&mut &bytes[..]).expect("what was saved loads");
    Bench { chip, memory, drives: Drives::default(), outputs: Outputs::default(), now_ns: bench.now_ns }
}
