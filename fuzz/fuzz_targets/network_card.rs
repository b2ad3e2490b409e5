//! Any bytes as the driver of a network card, of what comes by its cable, and of guest memory. Nothing panics or goes on for ever,
//! and a card that was saved and loaded is the same.
#![no_main]

use ftemu_cpu::{Icount, Memory};
use ftemu_devices::config::{NicConfig, NicModel};
use ftemu_devices::context::Context;
use ftemu_devices::drives::Drives;
use ftemu_devices::nic::Nic;
use ftemu_devices::output::Outputs;
use ftemu_devices::pci::device::PciDevice;
use ftemu_devices::state::Saved;
use libfuzzer_sys::fuzz_target;

const MEMORY: u64 = 2 << 20;

/// One access: what, where, how wide, and a value.
fn act(card: &mut Nic, context: &mut Context, step: &[u8; 12], frame: &[u8]) {
    let [kind, bar, a, b, c, size, value @ .., _, _] = step;
    let (offset, size) = (u64::from(u32::from_le_bytes([*a, *b, *c, 0])), 1 << (size & 3));
    let value = u64::from(u32::from_le_bytes([value[0], value[1], value[2], value[3]]));
    match kind % 8 {
        0 => drop(card.read(context, bar % 6, offset, size)),
        1 => card.receive(context, frame),
        2 => card.set_link(context, value & 1 != 0),
        3 => card.configure(*a, size.min(4), value as u32, context),
        4 => card.tick(context),
        _ => card.write(context, bar % 6, offset & 0x1_ffff, size, value),
    }
    card.line();
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, steps)) = bytes.split_first() else { return };
    let model = if first & 1 == 0 { NicModel::E1000 } else { NicModel::VirtioNet };
    let mut card = Nic::new(0, &NicConfig { model, mac: [2, 0, 0, 0, 0, 1] });
    card.function_mut().write(4, 2, 7);
    let mut memory = Memory::new(MEMORY).expect("memory");
    for (page, chunk) in (0..).zip(steps.chunks(4096)) {
        memory.store(page * 4096, chunk);
    }
    let (mut drives, mut outputs, mut now_ns) = (Drives::default(), Outputs::default(), 0);
    for step in steps.as_chunks::<12>().0 {
        let mut context =
            Context { now: Icount(1), now_ns, memory: &mut memory, drives: &mut drives, outputs: &mut outputs };
        act(&mut card, &mut context, step, steps);
        now_ns = card.deadline().filter(|_| step[0] & 0x80 != 0).unwrap_or(now_ns + 1000).max(now_ns);
        outputs.drain();
    }
    let mut saved = Vec::new();
    card.save(&mut saved);
    assert_eq!(Nic::load(&mut &saved[..]), Some(card));
});
