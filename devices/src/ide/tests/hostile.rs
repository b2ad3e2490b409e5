//! Guests that do anything: nothing panics or goes on for ever, and a saved state goes on as the original does.

use super::*;
use crate::state::{Random, Saved, assert_round_trip};

/// One access, chosen at random but often enough one that leads somewhere.
fn access(world: &mut World, random: &mut Random) -> u64 {
    let base = [0x1f0, 0x170][random.below(2) as usize];
    let size = 1 << random.below(3);
    match random.below(24) {
        0..=5 => {
            let (port, value) = (base + random.below(8) as u16, random.next() as u32);
            world.with(|ide, context| ide.port_write(context, port, size, value));
        }
        6..=8 => {
            let [low, mid, ..] = random.next().to_le_bytes();
            let codes =
                [0x20, 0x24, 0x25, 0x30, 0x34, 0x35, 0x06, 0xa0, 0xa1, 0xc4, 0xc5, 0xc6, 0xc8, 0xca, 0xec, 0x42];
            let code = codes[random.below(16) as usize];
            world.outb(base + 1, random.below(2) as u8);
            world.command(base, [1 << random.below(4), low, mid & 15, 0, 0xe0 | random.below(32) as u8 & 0x10], code);
        }
        9..=12 => {
            for _ in 0..random.below(700) {
                let value = random.next() as u32 & [0x0000_00ff, u32::MAX][random.below(2) as usize];
                world.with(|ide, context| ide.port_write(context, base, size, value));
            }
        }
        13..=15 => {
            for _ in 0..random.below(700) {
                world.with(|ide, context| ide.port_read(context, base, size));
            }
        }
        16 => world.outb(base + 0x206, random.next() as u8 & random.next() as u8),
        17..=18 => {
            let (register, value) = (random.below(16), random.next() & 0x10_ffff);
            world.with(|ide, context| ide.write(context, BMIBA, register, size, value));
        }
        19 => world.with(|ide, context| ide.configure(0x04, 2, random.next() as u32 | 1, context)),
        20..=22 => world.answer(),
        _ => return world.with(|ide, context| ide.port_read(context, base + random.below(8) as u16, size)).into(),
    }
    0
}

#[test]
fn random_accesses_never_panic_and_states_round_trip() {
    let mut random = Random(0x7010);
    let mut world = World::new();
    for address in (0..4 << 20).step_by(4096) {
        let bytes: Vec<u8> = (0..32).flat_map(|_| random.next().to_le_bytes()).collect();
        world.memory.store(address, &bytes);
    }
    for round in 0..40_000 {
        access(&mut world, &mut random);
        if round % 500 == 0 {
            let mut bytes = Vec::new();
            world.ide.save(&mut bytes);
            assert_eq!(Ide::load(&mut &bytes[..]).as_ref(), Some(&world.ide));
        }
    }
    let mut world = World::new();
    world.command(0x170, [0; 5], 0xa0);
    world.disk_command(3, 1, 0x20);
    assert_round_trip(&world.ide);
}

#[test]
fn a_loaded_state_goes_on_equally() {
    let mut world = World::new();
    let mut twin = World::new();
    let (mut random, mut again) = (Random(0x8086), Random(0x8086));
    for round in 0..4000 {
        assert_eq!(access(&mut world, &mut random), access(&mut twin, &mut again));
        if round % 50 == 0 {
            let mut bytes = Vec::new();
            twin.ide.save(&mut bytes);
            twin.ide = Ide::load(&mut &bytes[..]).unwrap();
        }
    }
    assert_eq!(world.ide, twin.ide);
    assert_eq!(world.disk.bytes(), twin.disk.bytes());
}

#[test]
fn commands_and_resets_in_a_loop_pile_nothing_up() {
    let mut world = World::new();
    for _ in 0..10_000 {
        world.disk_command(0, 8, 0x20);
        world.outb(0x3f6, 4);
        world.outb(0x3f6, 0);
    }
    let mut bytes = Vec::new();
    world.drives.save(&mut bytes);
    assert!(bytes.len() < 1000, "{} bytes of requests under way", bytes.len());
}

#[test]
fn damaged_states_do_not_panic_later() {
    let mut random = Random(0x82371);
    let mut world = World::new();
    world.disk_command(3, 2, 0x20);
    world.answer();
    let mut good = Vec::new();
    world.ide.save(&mut good);
    for _ in 0..2000 {
        let mut bytes = good.clone();
        for _ in 0..=random.below(4) {
            let place = 512 + random.below(bytes.len() as u64 - 512) as usize;
            bytes[place] = random.next() as u8;
        }
        if let Some(ide) = Ide::load(&mut &bytes[..]) {
            world.ide = ide;
            for _ in 0..20 {
                access(&mut world, &mut random);
            }
        }
    }
}
