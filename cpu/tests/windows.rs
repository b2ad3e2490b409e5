//! Address line 20 and shadow RAM, as programs see them.

mod bare;

use bare::Bare;
use ftemu_cpu::state::{Segment, State, control, gpr, segment};
use ftemu_cpu::{Bus, Cpu, Icount, Memory, Stop};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// A board whose only port is a switch for address line 20, and another for the last 64 KiB of shadow RAM.
struct Switches;

impl Bus for Switches {
    fn port_read(&mut self, _: &mut Memory, _: Icount, _: u16, _: u8) -> u32 {
        u32::MAX
    }
    fn port_write(&mut self, memory: &mut Memory, _: Icount, port: u16, _: u8, value: u32) {
        let pages = |bit: u32| if value & bit != 0 { 0xffff << 48 } else { 0 };
        match port {
            0x92 => memory.set_line_20(value & 2 != 0),
            _ => memory.set_shadow(pages(1), pages(2), memory.region(0)),
        }
    }
    fn mmio_read(&mut self, memory: &mut Memory, now: Icount, address: u64, size: u8) -> u64 {
        Bare.mmio_read(memory, now, address, size)
    }
    fn mmio_write(&mut self, _: &mut Memory, _: Icount, _: u64, _: u8, _: u64) {}
    fn time_stamp(&self, now: Icount) -> u64 {
        now.0
    }
    fn msr_read(&mut self, _: Icount, _: u32) -> Option<u64> {
        None
    }
    fn msr_write(&mut self, _: Icount, _: u32, _: u64) -> bool {
        false
    }
    fn task_priority(&mut self) -> u8 {
        0
    }
    fn set_task_priority(&mut self, _: Icount, _: u8) {}
}

/// Real mode, code at 2000:0100, DS 0, ES FFFFh, a firmware region with 5Ah in its last paragraph.
fn real_mode(build: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Cpu {
    let mut a = CodeAssembler::new(16).expect("an assembler");
    build(&mut a).expect("a program");
    let mut memory = Memory::new(2 << 20).expect("memory");
    let firmware = memory.add_region(64 << 10, false).expect("memory");
    memory.region_store(firmware, 0xfff0, &[0x5a; 16]);
    memory.store(0x2_0100, &a.assemble(0x100).expect("a program that assembles"));
    let mut cpu = Cpu::new(memory).expect("a CPU");
    let paragraph =
        |selector: u16| Segment { base: u64::from(selector) * 16, limit: 0xffff, attributes: 0x93, selector };
    let mut state = State { rip: 0x100, rflags: 2, cr0: control::CR0_ET, ..State::default() };
    state.segments = [paragraph(0); 6];
    state.segments[segment::CS] = paragraph(0x2000);
    state.segments[segment::ES] = paragraph(0xffff);
    state.gpr[gpr::RSP] = 0x8000;
    *cpu.state_mut() = state;
    cpu
}

fn run(cpu: &mut Cpu) {
    for slice in 1.. {
        match cpu.run(&mut Switches, Icount(cpu.count().0 + 1 + slice % 5), false) {
            Stop::Halt => return,
            Stop::Device | Stop::Count => {}
            stop => panic!("{stop:?} at {:#x}", cpu.state().rip),
        }
        assert!(cpu.count().0 < 10_000);
    }
}

/// What DOS extenders do: a word below 64 KiB and its neighbour 1 MiB above differ only while the line is open.
#[test]
fn with_line_20_closed_addresses_wrap_at_1_mib() {
    let mut cpu = real_mode(|a| {
        for (value, open) in [(0x1111, 2), (0x2222, 0), (0x3333, 2), (0x4444, 0)] {
            a.mov(al, open)?;
            a.out(0x92, al)?;
            a.mov(word_ptr(0x500), value)?;
            a.mov(word_ptr(0x510).es(), value + 1)?; // FFFF:0510 is 100500h
            a.push(word_ptr(0x500))?;
            a.mov(si, 0x500)?;
            a.lodsw()?;
            a.push(ax)?;
        }
        a.hlt()
    });
    run(&mut cpu);
    let mut stack = [0; 16];
    cpu.memory().read(0x7ff0, &mut stack);
    let words: Vec<u16> = stack.chunks_exact(2).rev().map(|word| u16::from_le_bytes([word[0], word[1]])).collect();
    assert_eq!(words, [0x1111, 0x1111, 0x2223, 0x2223, 0x3333, 0x3333, 0x4445, 0x4445]);
}

#[test]
fn code_above_1_mib_is_other_code_when_the_line_closes() {
    let mut cpu = real_mode(|a| {
        for open in [2, 0, 2, 0] {
            a.mov(al, open)?;
            a.out(0x92, al)?;
            a.push(0x20)?; // return to 2000:...
            a.pop(ax)?;
            a.db(&[0x9a, 0x10, 0x05, 0xff, 0xff])?; // CALL FFFF:0510
        }
        a.hlt()
    });
    // Above: INC BX, RETF; below: INC DX, RETF.
    cpu.memory_mut().store(0x10_0500, &[0x43, 0xcb]);
    cpu.memory_mut().store(0x500, &[0x42, 0xcb]);
    run(&mut cpu);
    assert_eq!((cpu.state().gpr[gpr::RBX], cpu.state().gpr[gpr::RDX]), (2, 2));
}

#[test]
fn shadow_ram_is_copied_to_protected_and_run_from() {
    let mut cpu = real_mode(|a| {
        // Loads from the firmware, stores to RAM behind it: the way a BIOS copies itself.
        a.mov(al, 2)?;
        a.out(0x59, al)?;
        a.mov(bl, byte_ptr(0).es())?; // FFFFh:0 is FFFF0h
        a.mov(byte_ptr(0).es(), 0x43)?; // INC BX
        a.mov(byte_ptr(1).es(), 0xcb_u32 as i32)?; // RETF
        a.mov(bh, byte_ptr(0).es())?;
        a.mov(word_ptr(0x600), bx)?;
        a.mov(al, 1)?;
        a.out(0x59, al)?;
        a.mov(byte_ptr(0).es(), 0)?; // lost
        a.mov(cl, byte_ptr(0).es())?;
        a.xor(bx, bx)?;
        a.db(&[0x9a, 0, 0, 0xff, 0xff])?; // CALL FFFF:0
        a.mov(al, 3)?;
        a.out(0x59, al)?;
        a.mov(byte_ptr(0).es(), 0x42)?; // INC DX
        a.db(&[0x9a, 0, 0, 0xff, 0xff])?;
        a.hlt()
    });
    let firmware = cpu.memory().region(0);
    cpu.memory_mut().set_shadow(0, 0, firmware);
    run(&mut cpu);
    let mut seen = [0; 2];
    cpu.memory().read(0x600, &mut seen);
    assert_eq!(seen, [0x5a, 0x5a]);
    let gpr = &cpu.state().gpr;
    assert_eq!((gpr[gpr::RCX] & 0xff, gpr[gpr::RBX], gpr[gpr::RDX]), (0x43, 1, 1));
}
