//! Whole machines that run small guests, booted by the Linux protocol.

use super::*;
use crate::state::{Random, Saved};
use guests::*;
use iced_x86::code_asm::*;

mod guests;

fn serial(emitted: &[Emitted]) -> Vec<u8> {
    emitted
        .iter()
        .flat_map(|emitted| match &emitted.output {
            Output::Serial { port: 0, bytes } => bytes.clone(),
            _ => Vec::new(),
        })
        .collect()
}

/// Runs to exactly `end`, sleeping through idle times; returns what COM1 sent.
fn run_to(machine: &mut Machine, end: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let ran = machine.run(Icount(end));
        bytes.extend(serial(&machine.drain()));
        match ran {
            Ran::Count => return bytes,
            Ran::Output => {}
            Ran::Idle { deadline_ns: Some(_) } => machine.skip_idle(),
            other => panic!("{other:?} at {:?}", machine.count()),
        }
    }
}

#[test]
fn a_run_stops_at_the_exact_count() {
    let mut machine = machine(ticking);
    for end in [1, 2, 77, 5_001, 5_002, 123_456] {
        run_to(&mut machine, end);
        assert_eq!(machine.count(), Icount(end));
        assert_eq!(machine.now_ns(), end);
    }
}

#[test]
fn slices_do_not_show() {
    const END: u64 = 1_000_000;
    let mut whole = machine(ticking);
    let bytes = run_to(&mut whole, END);
    assert_eq!(bytes.len(), 199, "a tick every 5000 ns");
    let mut sliced = machine(ticking);
    let mut random = Random(0x51ce);
    let mut pieces = Vec::new();
    while sliced.count().0 < END {
        let end = END.min(sliced.count().0 + 1 + random.step(15));
        pieces.extend(run_to(&mut sliced, end));
        if random.below(8) == 0 {
            sliced.forget_derived();
        }
    }
    assert_eq!(pieces, bytes);
    assert_eq!(sliced.digest(), whole.digest());
}

#[test]
fn a_machine_resumed_from_a_checkpoint_is_the_same_machine() {
    let mut original = machine(ticking);
    run_to(&mut original, 333_333);
    let mut state = Vec::new();
    original.save(&mut state);
    let mut copy = Machine::new(&config()).unwrap();
    copy.load(&state).unwrap();
    for page in 0..original.ram_pages() {
        copy.set_ram_page(page, original.ram_page(page));
    }
    assert_eq!(copy.digest(), original.digest());
    let mut again = Vec::new();
    copy.save(&mut again);
    assert!(again == state);
    assert_eq!(run_to(&mut copy, 700_000), run_to(&mut original, 700_000));
    assert_eq!(copy.digest(), original.digest());
}

#[test]
fn damaged_states_are_refused() {
    let mut machine = machine(ticking);
    let mut state = Vec::new();
    machine.save(&mut state);
    for length in [0, 3, 4, 40, state.len() - 1] {
        assert!(matches!(machine.load(&state[..length]), Err(MachineError::Malformed)), "{length}");
    }
    let kernel = state.windows(4).position(|bytes| bytes == b"HdrS").unwrap();
    let mut broken = state.clone();
    broken[kernel] = 0;
    assert!(matches!(machine.load(&broken), Err(MachineError::Malformed)), "an image that cannot be booted again");
    let mut long = state.clone();
    long.push(0);
    assert!(matches!(machine.load(&long), Err(MachineError::Malformed)));
    let mut other = Machine::new(&Config { memory_bytes: 32 << 20, ..config() }).unwrap();
    assert!(matches!(other.load(&state), Err(MachineError::OtherMemory { .. })));
}

#[test]
fn serial_input_wakes_a_halted_machine_at_the_current_count() {
    let mut machine = machine(echo);
    assert_eq!(machine.run(Icount(1 << 30)), Ran::Idle { deadline_ns: None });
    let count = machine.count();
    machine.skip_idle();
    assert_eq!(machine.count(), count, "nothing to skip to");
    machine.apply(&Input::Clock { ns: 5_000_000, rate: 1024 });
    machine.apply(&Input::Serial { port: 0, bytes: b"HAL".to_vec() });
    assert_eq!(machine.count(), count);
    assert_eq!(machine.run(Icount(1 << 30)), Ran::Output);
    assert_eq!(serial(&machine.drain()), b"IBM");
    assert_eq!(machine.run(Icount(1 << 30)), Ran::Idle { deadline_ns: None });
    machine.apply(&Input::Serial { port: 0, bytes: vec![b'a'; 100] });
    assert_eq!(machine.run(Icount(1 << 30)), Ran::Output);
    assert_eq!(serial(&machine.drain()), vec![b'b'; 100]);
}

#[test]
fn idle_time_is_skipped_and_counts_one() {
    let mut machine = machine(|a| {
        let mut handler = a.create_label();
        gate(a, 0x40, handler)?;
        outb(a, 0x21, 0xff)?;
        mmio(a, 0xfee0_03e0, 0xb)?;
        mmio(a, 0xfee0_0320, 0x40)?;
        mmio(a, 0xfee0_0380, 1_000_000)?;
        a.sti()?;
        a.hlt()?;
        outb(a, 0x3f8, u32::from(b'!'))?;
        a.cli()?;
        a.hlt()?;
        a.set_label(&mut handler)?;
        a.iretq()
    });
    let Ran::Idle { deadline_ns: Some(deadline) } = machine.run(Icount(1 << 30)) else { panic!("not idle") };
    let count = machine.count();
    assert!(deadline > 1_000_000 && deadline < 1_000_100);
    machine.skip_idle();
    assert_eq!((machine.count().0, machine.now_ns()), (count.0 + 1, deadline));
    assert_eq!(machine.run(Icount(1 << 30)), Ran::Output);
    assert_eq!(serial(&machine.drain()), b"!");
    assert_eq!(machine.run(Icount(1 << 30)), Ran::Idle { deadline_ns: None }, "HLT with interrupts off");
}

#[test]
fn a_backup_that_follows_the_log_agrees_with_a_primary_that_idled() {
    let mut random = Random(0x106);
    let mut primary = machine(echo);
    primary.chips_mut().rtc.write(0, 0x70, 0x0b);
    primary.chips_mut().rtc.write(0, 0x71, 0x42); // 1024 Hz of deadlines that interrupt nobody: IRQ 8 is masked
    let mut log = Vec::new();
    for _ in 0..200 {
        let until = Icount(primary.count().0 + 1 + random.below(500));
        match primary.run(until) {
            Ran::Idle { .. } if random.below(3) != 0 => primary.skip_idle(),
            Ran::Idle { .. } => {
                let clock = Input::Clock { ns: primary.now_ns() + random.below(3_000_000), rate: 1000 };
                let serial = Input::Serial { port: 0, bytes: vec![random.next() as u8; random.below(20) as usize] };
                for input in [clock, serial] {
                    primary.apply(&input);
                    log.push((primary.count(), input));
                }
            }
            _ => drop(primary.drain()),
        }
        log.push((primary.count(), Input::Clock { ns: 0, rate: 1024 }));
        primary.apply(&log.last().unwrap().1);
    }
    let mut backup = machine(echo);
    backup.chips_mut().rtc.write(0, 0x70, 0x0b);
    backup.chips_mut().rtc.write(0, 0x71, 0x42);
    for (count, input) in &log {
        run_to(&mut backup, count.0);
        backup.apply(input);
    }
    assert!(log.len() > 220 && backup.count() == primary.count());
    assert_eq!(backup.digest(), primary.digest());
}

#[test]
fn acpi_power_off_ends_the_machine() {
    let mut machine = machine(|a| {
        outb(a, 0x3f8, u32::from(b'.'))?;
        a.mov(edx, 0x604)?;
        a.mov(eax, 0x3400)?;
        a.out(dx, ax)?;
        outb(a, 0x3f8, u32::from(b'?'))
    });
    assert_eq!(machine.run(Icount(1000)), Ran::Output);
    let emitted = machine.drain();
    assert_eq!(emitted.last().unwrap().output, Output::PowerOff);
    assert_eq!(serial(&emitted), b".");
    let count = machine.count();
    assert_eq!(machine.run(Icount(1000)), Ran::PoweredOff);
    assert_eq!(machine.count(), count);
}

/// Prints a letter, changes memory, and resets as `end` says.
fn resetting(end: impl FnOnce(&mut CodeAssembler) -> Assembled) -> Machine {
    machine(|a| {
        a.mov(rbx, TICKS)?;
        a.inc(dword_ptr(rbx))?;
        a.mov(eax, dword_ptr(rbx))?;
        a.add(eax, u32::from(b'@'))?;
        a.mov(edx, 0x3f8)?;
        a.out(dx, al)?;
        end(a)
    })
}

#[test]
fn resets_boot_the_same_image_again() {
    let by_port = resetting(|a| outb(a, 0xcf9, 6));
    let by_triple_fault = resetting(|a| {
        a.mov(rbx, TICKS + 64)?;
        a.lidt(ptr(rbx))?;
        a.ud2()
    });
    for mut machine in [by_port, by_triple_fault] {
        let mut emitted = Vec::new();
        while emitted.len() < 6 {
            machine.run(Icount(machine.count().0 + 5));
            emitted.extend(machine.drain());
        }
        assert!(serial(&emitted).iter().all(|byte| *byte == b'A'), "RAM starts empty each time");
        assert!(emitted.iter().any(|emitted| emitted.output == Output::Reset));
        let mut state = Vec::new();
        machine.save(&mut state);
        let mut copy = Machine::new(&config()).unwrap();
        copy.load(&state).unwrap();
        (0..machine.ram_pages()).for_each(|page| copy.set_ram_page(page, machine.ram_page(page)));
        let end = Icount(machine.count().0 + 100);
        while machine.run(end) != Ran::Count {
            machine.drain();
        }
        while copy.run(end) != Ran::Count {
            copy.drain();
        }
        assert_eq!(copy.digest(), machine.digest(), "a copy can reset too");
    }
}

#[test]
fn digests_see_ram_registers_and_chips() {
    let mut machine = machine(ticking);
    run_to(&mut machine, 50_000);
    let digest = machine.digest();
    assert_eq!(machine.digest(), digest);
    let page = 0x70_0000 / 4096;
    machine.set_ram_page(page, &[1; 4096]);
    assert_ne!(machine.digest(), digest);
    machine.set_ram_page(page, &[0; 4096]);
    assert_eq!(machine.digest(), digest);
    machine.cpu_mut().state_mut().gpr[8] ^= 1;
    assert_ne!(machine.digest(), digest);
    machine.cpu_mut().state_mut().gpr[8] ^= 1;
    machine.chips_mut().diagnostic ^= 1;
    assert_ne!(machine.digest(), digest);
}

#[test]
fn parts_are_what_digests_cover_with_names() {
    let mut machine = machine(ticking);
    run_to(&mut machine, 50_000);
    let parts = machine.parts();
    let names: std::collections::BTreeSet<&str> = parts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names.len(), parts.len(), "no two have one name");
    for name in ["RAX", "CS.BASE", "XMM7", "8259 pair.master.imr", "COM2.divisor", "port 80h", "drives"] {
        assert!(names.contains(name), "{name}");
    }
    let (mut state, mut count) = (Vec::new(), Vec::new());
    machine.save_running(&mut state);
    machine.count().0.save(&mut count);
    let parts: Vec<u8> = parts.into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert!([count, parts].concat() == state);
}

#[test]
fn dirty_pages_are_reported_once() {
    let mut machine = machine(ticking);
    assert_eq!(machine.take_dirty().len(), machine.ram_pages());
    run_to(&mut machine, 20_000);
    let dirty = machine.take_dirty();
    assert!(dirty.contains(&((TICKS / 4096) as u32)));
    assert!(dirty.len() < 64);
    machine.digest();
    assert!(machine.take_dirty().is_empty());
}

#[test]
fn configurations_round_trip_and_are_checked() {
    let mut bytes = Vec::new();
    config().encode(&mut bytes);
    assert_eq!(Config::decode(&mut &bytes[..]), Some(config()));
    for memory_bytes in [0, 1 << 20, u64::MAX] {
        let error = Machine::new(&Config { memory_bytes, ..config() }).err().unwrap();
        assert!(matches!(error, MachineError::MemorySize { .. }));
    }
}
