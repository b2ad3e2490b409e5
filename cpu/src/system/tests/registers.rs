//! Segment, control, debug and model-specific registers, descriptor tables, CPUID.

use super::*;
use crate::state::rflags;
use crate::state::{gpr, segment};
use crate::system::{Flow, cpuid, msr};
use iced_x86::code_asm::*;

const GENERAL: Exception = Exception::general_protection(0);

#[test]
fn loads_of_data_segments() {
    use selector::*;
    let general = Exception::general_protection;
    let cases: [(u16, Result<u16, Exception>); 10] = [
        (0, Ok(0)),
        (3, Ok(0)),
        (DATA_3 | 3, Ok(0xcf3)),
        (FRESH | 3, Ok(0xcf3)),
        (CODE_3 | 3, Ok(0xafb)),
        (CONFORMING, Ok(0xa9f)),
        (DATA_0, Err(general(0x10))),
        (TASK, Err(general(0x30))),
        (BEYOND, Err(general(0x90))),
        (0x0f, Err(general(0x0c))),
    ];
    for (value, expected) in cases {
        let mut machine = Machine::user();
        machine.state.gpr[gpr::RAX] = u64::from(value);
        let before = machine.state.segments[segment::FS];
        let result = machine.run(|a| a.mov(fs, ax));
        let loaded = machine.state.segments[segment::FS];
        match expected {
            Ok(attributes) => {
                assert!(result.is_ok(), "{value:#x}");
                assert_eq!((loaded.selector, loaded.attributes), (value, attributes));
            }
            Err(exception) => {
                assert_eq!(result, Err(exception), "{value:#x}");
                assert_eq!(loaded, before);
            }
        }
    }
}

#[test]
fn a_load_sets_the_accessed_bit_and_the_base() {
    let mut machine = Machine::user();
    machine.state.gpr[gpr::RAX] = u64::from(selector::FRESH | 3);
    machine.run(|a| a.mov(gs, ax)).expect("loaded");
    assert_eq!(machine.state.segments[segment::GS].base, 0x12_3456);
    assert_eq!(machine.load(GDT + 0x80) >> 40 & 0xff, 0xf3);
    machine.state.gpr[gpr::RAX] = 0;
    machine.run(|a| a.mov(gs, ax)).expect("loaded");
    assert_eq!(machine.state.segments[segment::GS], Segment::default());
}

#[test]
fn absent_segments_and_stack_segments() {
    let load_ss = |value: u16| {
        let mut machine = Machine::new();
        machine.state.gpr[gpr::RAX] = u64::from(value);
        let result = machine.run(|a| a.mov(ss, ax));
        (result.map(|executed| executed.flow), machine.state.interrupt_shadow)
    };
    assert_eq!(load_ss(selector::DATA_0), (Ok(Flow::Next), true));
    assert_eq!(load_ss(0), (Ok(Flow::Next), true));
    assert_eq!(load_ss(3), (Err(GENERAL), false));
    assert_eq!(load_ss(selector::DATA_3 | 3), (Err(Exception::general_protection(0x20)), false));
    assert_eq!(load_ss(selector::READ_ONLY), (Err(Exception::general_protection(0x70)), false));
    assert_eq!(load_ss(selector::ABSENT_DATA), (Err(Exception::stack(0x40)), false));
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RAX] = u64::from(selector::ABSENT_DATA);
    assert_eq!(machine.run(|a| a.mov(ds, ax)), Err(Exception::segment_not_present(0x40)));
}

#[test]
fn selectors_are_stored_pushed_and_popped() {
    let mut machine = Machine::new();
    machine.state.segments[segment::FS].selector = 0x20;
    machine.state.gpr[gpr::RAX] = u64::MAX;
    machine.run(|a| a.mov(eax, fs)).expect("stored");
    assert_eq!(machine.state.gpr[gpr::RAX], 0x20);
    machine.run(|a| a.push(fs)).expect("pushed");
    assert_eq!((machine.load(STACK - 8), machine.state.gpr[gpr::RSP]), (0x20, STACK - 8));
    machine.run(|a| a.pop(gs)).expect("popped");
    assert_eq!((machine.state.segments[segment::GS].selector, machine.state.gpr[gpr::RSP]), (0x20, STACK));
    machine.store(DATA, 0x20_1234_5678);
    machine.state.gpr[gpr::RBX] = DATA;
    machine.run(|a| a.lfs(ecx, ptr(rbx))).expect("loaded");
    assert_eq!(machine.state.gpr[gpr::RCX], 0x1234_5678);
    assert_eq!(machine.state.segments[segment::FS].attributes, 0xcf3);
}

#[test]
fn local_and_task_registers() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RAX] = u64::from(selector::LOCAL);
    machine.run(|a| a.lldt(ax)).expect("loaded");
    assert_eq!((machine.state.ldtr.base, machine.state.ldtr.limit), (GDT + 0x100, 15));
    machine.state.gpr[gpr::RCX] = 0x0c;
    machine.run(|a| a.mov(es, cx)).expect("from the LDT");
    machine.state.gpr[gpr::RAX] = u64::from(selector::TASK);
    machine.run(|a| a.ltr(ax)).expect("loaded");
    assert_eq!((machine.state.tr.base, machine.state.tr.limit, machine.state.tr.attributes), (TSS, 0x67, 0x8b));
    assert_eq!(machine.load(GDT + 0x30) >> 40 & 0xff, 0x8b, "busy");
    assert_eq!(machine.run(|a| a.ltr(ax)), Err(Exception::general_protection(0x30)), "busy");
    machine.run(|a| a.str(edx)).expect("stored");
    assert_eq!(machine.state.gpr[gpr::RDX], 0x30);
    machine.enter_ring_3();
    assert_eq!(machine.run(|a| a.ltr(ax)), Err(GENERAL));
}

#[test]
fn table_registers() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RBX] = DATA;
    machine.store(DATA, 0x8000_5678_9abc << 16 | 0x1234);
    machine.store(DATA + 8, 0xffff);
    machine.run(|a| a.lidt(ptr(rbx))).expect("loaded");
    assert_eq!(machine.state.idtr, TableRegister { base: 0xffff_8000_5678_9abc, limit: 0x1234 });
    machine.run(|a| a.sidt(ptr(rbx + 16))).expect("stored");
    assert_eq!((machine.load(DATA + 16), machine.load(DATA + 24)), (machine.load(DATA), 0xffff));
    machine.store(DATA, 0x1_0000_0000 << 16);
    assert_eq!(machine.run(|a| a.lgdt(ptr(rbx))), Err(GENERAL), "not canonical");
}

#[test]
fn questions_about_descriptors() {
    use selector::*;
    /// Selector, LAR, LSL, VERR, VERW, all seen from ring 3.
    type Case = (u16, Option<u64>, Option<u64>, bool, bool);
    let cases: [Case; 7] = [
        (0, None, None, false, false),
        (DATA_0, None, None, false, false),
        (DATA_3, Some(0x00cf_f300), Some(0xffff_ffff), true, true),
        (CODE_3, Some(0x00af_fb00), Some(0xffff_ffff), true, false),
        (CONFORMING, Some(0x00af_9f00), Some(0xffff_ffff), true, false),
        (GATE, Some(0x1_ec00), None, false, false),
        (BEYOND, None, None, false, false),
    ];
    for (value, rights, limit, readable, writable) in cases {
        let mut machine = Machine::user();
        machine.state.gpr[gpr::RAX] = u64::from(value);
        let mut ask = |emit: fn(&mut CodeAssembler) -> Result<(), IcedError>| {
            machine.state.rip = CODE;
            machine.state.gpr[gpr::RCX] = 0x5555;
            machine.run(emit).expect("answered");
            (machine.state.rflags & rflags::ZF != 0).then_some(machine.state.gpr[gpr::RCX])
        };
        assert_eq!(ask(|a| a.lar(ecx, eax)), rights, "LAR {value:#x}");
        assert_eq!(ask(|a| a.lsl(ecx, eax)), limit, "LSL {value:#x}");
        assert_eq!(ask(|a| a.verr(ax)).is_some(), readable, "VERR {value:#x}");
        assert_eq!(ask(|a| a.verw(ax)).is_some(), writable, "VERW {value:#x}");
    }
}

#[test]
fn control_registers_refuse_what_the_model_lacks() {
    let write = |register: AsmRegisterCr, value: u64| {
        let mut machine = Machine::new();
        machine.state.gpr[gpr::RAX] = value;
        machine.run(|a| a.mov(register, rax)).map(|_| machine.state)
    };
    let cr0_good = Machine::new().state.cr0;
    let cr4_good = Machine::new().state.cr4;
    assert!(write(cr0, cr0_good | control::CR0_TS).is_ok_and(|state| state.cr0 & control::CR0_TS != 0));
    assert_eq!(write(cr0, cr0_good & !control::CR0_PG).err(), Some(GENERAL), "paging off in 64-bit mode");
    assert_eq!(write(cr0, cr0_good & !control::CR0_PE).err(), Some(GENERAL));
    assert_eq!(write(cr0, cr0_good | 1 << 32).err(), Some(GENERAL));
    assert_eq!(write(cr0, cr0_good | control::CR0_NW).err(), Some(GENERAL));
    assert!(write(cr4, cr4_good | control::CR4_PGE).is_ok());
    assert_eq!(write(cr4, cr4_good & !control::CR4_PAE).err(), Some(GENERAL));
    assert_eq!(write(cr4, cr4_good | 1 << 18).err(), Some(GENERAL), "no XSAVE");
    assert!(write(cr3, 0x12_3000).is_ok_and(|state| state.cr3 == 0x12_3000));
    assert_eq!(write(cr3, 1 << 40).err(), Some(GENERAL));
    assert_eq!(write(cr8, 16).err(), Some(GENERAL));
    assert!(write(cr2, u64::MAX).is_ok_and(|state| state.cr2 == u64::MAX));
}

#[test]
fn cr8_is_the_boards() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RAX] = 9;
    machine.run(|a| a.mov(cr8, rax)).expect("written");
    assert!(machine.device);
    machine.run(|a| a.mov(rcx, cr8)).expect("read");
    assert_eq!((machine.board.priority, machine.state.gpr[gpr::RCX]), (9, 9));
}

#[test]
fn long_mode_is_entered_by_paging() {
    let mut machine = Machine::new();
    machine.state.efer = 0;
    machine.state.cr0 &= !control::CR0_PG;
    let wrmsr = |machine: &mut Machine, value: u64| {
        machine.state.gpr[gpr::RCX] = 0xc000_0080;
        machine.state.gpr[gpr::RAX] = value;
        machine.state.gpr[gpr::RDX] = 0;
        machine.run(|a| a.wrmsr())
    };
    wrmsr(&mut machine, control::EFER_LME).expect("written");
    machine.state.segments[segment::CS].attributes = 0xc9b;
    machine.state.gpr[gpr::RAX] = machine.state.cr0 | control::CR0_PG;
    machine.run(|a| a.mov(cr0, eax)).expect("paging on");
    assert_eq!(machine.state.efer, control::EFER_LME | control::EFER_LMA);
    assert_eq!(wrmsr(&mut machine, 0), Err(GENERAL), "LME with paging on");
    machine.state.gpr[gpr::RAX] = machine.state.cr0 & !control::CR0_PG;
    machine.run(|a| a.mov(cr0, eax)).expect("paging off");
    assert_eq!(machine.state.efer, control::EFER_LME);
}

#[test]
fn model_specific_registers() {
    let canonical = 0xffff_8000_0000_1000;
    let odd = 1 << 50;
    let cases: [(u32, u64, Option<u64>); 19] = [
        (0xc000_0082, canonical, Some(canonical)),
        (0xc000_0082, odd, None),
        (0xc000_0100, canonical, Some(canonical)),
        (0xc000_0101, odd, None),
        (0xc000_0102, canonical, Some(canonical)),
        (0xc000_0103, 5, Some(5)),
        (0xc000_0103, 1 << 32, None),
        (0xc000_0081, u64::MAX, Some(u64::MAX)),
        (0xc000_0084, u64::MAX, Some(0xffff_ffff)),
        (0xc000_0080, 0xd01 | 1 << 21, Some(0xd01 | 1 << 21)),
        (0xc000_0080, 1 << 12, None),
        (0x277, 0x0007_0406_0007_0406, Some(0x0007_0406_0007_0406)),
        (0x277, 2, None),
        (0x2ff, 0xc06, Some(0xc06)),
        (0x200, 0x8000_0006, Some(0x8000_0006)),
        (0x26f, 0x0606_0606_0606_0606, Some(0x0606_0606_0606_0606)),
        (0x1b, 0xfee0_0900, Some(0xfee0_0900)),
        (0xc001_0015, 0, Some(1 << 24)),
        (0x1234, 0, None),
    ];
    for (register, value, expected) in cases {
        let mut machine = Machine::new();
        machine.state.gpr[gpr::RCX] = u64::from(register);
        machine.state.gpr[gpr::RAX] = value & 0xffff_ffff;
        machine.state.gpr[gpr::RDX] = value >> 32;
        let written = machine.run(|a| a.wrmsr());
        assert_eq!(written.is_ok(), expected.is_some(), "{register:#x}");
        let Some(expected) = expected else { continue };
        machine.run(|a| a.rdmsr()).expect("read");
        let read = machine.state.gpr[gpr::RDX] << 32 | machine.state.gpr[gpr::RAX];
        assert_eq!(read, expected, "{register:#x}");
    }
    let mut machine = Machine::user();
    machine.state.gpr[gpr::RCX] = 0xc000_0100;
    assert_eq!(machine.run(|a| a.rdmsr()), Err(GENERAL));
}

#[test]
fn the_time_stamp_counter_can_be_set() {
    let mut machine = Machine::new();
    machine.run(|a| a.rdtsc()).expect("read");
    assert_eq!(machine.state.gpr[gpr::RAX], 1100);
    machine.state.gpr[gpr::RCX] = 0x10;
    machine.state.gpr[gpr::RAX] = 7;
    machine.state.gpr[gpr::RDX] = 1;
    machine.run(|a| a.wrmsr()).expect("written");
    machine.state.tsc_aux = 3;
    machine.run(|a| a.rdtscp()).expect("read");
    let state = &machine.state;
    assert_eq!([state.gpr[gpr::RAX], state.gpr[gpr::RDX], state.gpr[gpr::RCX]], [8, 1, 3]);
    assert_eq!(machine.with(|x| msr::time_stamp(x)), 1 << 32 | 9);
    machine.enter_ring_3();
    machine.state.cr4 |= control::CR4_TSD;
    assert_eq!(machine.run(|a| a.rdtsc()), Err(GENERAL));
}

#[test]
fn debug_registers() {
    let mut machine = Machine::new();
    machine.state.gpr[gpr::RAX] = 0xffff_ffff;
    machine.run(|a| a.mov(dr6, rax)).expect("written");
    assert_eq!(machine.state.dr[6], 0xffff_efff);
    machine.state.gpr[gpr::RAX] = 0;
    machine.run(|a| a.mov(dr7, rax)).expect("written");
    assert_eq!(machine.state.dr[7], 0x400);
    machine.run(|a| a.mov(rcx, dr5)).expect("an alias");
    assert_eq!(machine.state.gpr[gpr::RCX], 0x400);
    machine.state.dr[7] |= 1 << 13;
    assert_eq!(machine.run(|a| a.mov(rcx, dr0)), Err(Exception::debug()));
    assert_eq!(machine.state.dr[6] >> 13 & 1, 1);
    machine.state.cr4 |= 1 << 3;
    assert_eq!(machine.run(|a| a.mov(rcx, dr5)), Err(Exception::invalid_opcode()));
}

#[test]
fn cpuid_spells_the_vendor_and_the_brand() {
    let spell = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let [maximum, b, c, d] = cpuid::leaf(0);
    assert_eq!((maximum, &spell(&[b, d, c])[..]), (7, &b"AuthenticAMD"[..]));
    let brand: Vec<u8> = (2..5).flat_map(|part| spell(&cpuid::leaf(0x8000_0000 + part))).collect();
    assert!(brand.starts_with(b"ftemu Virtual CPU\0") && brand.len() == 48);
    let [signature, ..] = cpuid::leaf(1);
    let (base, extended) = (signature >> 8 & 15, signature >> 20 & 0xff);
    assert_eq!((base + extended, signature >> 4 & 15), (0x1a, 2));
    assert_eq!(cpuid::leaf(0x4000_0010)[0], 1_000_000);
    assert_eq!(cpuid::leaf(0x8000_0008)[0], 0x3028);
    for absent in [2, 4, 7, 11, 13, 0x4000_0001, 0x8000_000a, 0x8000_001f, 0x9000_0000] {
        assert_eq!(cpuid::leaf(absent), [0; 4], "{absent:#x}");
    }
    let mut machine = Machine::user();
    machine.state.gpr[gpr::RAX] = 0xffff_ffff_8000_0007;
    machine.state.gpr[gpr::RDX] = u64::MAX;
    machine.run(|a| a.cpuid()).expect("answered");
    assert_eq!((machine.state.gpr[gpr::RAX], machine.state.gpr[gpr::RDX]), (0, 0x100));
}

#[test]
fn only_what_cpuid_offers_is_accepted() {
    let accepts = |bytes: &[u8]| {
        let instruction = Decoder::with_ip(64, bytes, 0, 0).decode();
        assert!(!instruction.is_invalid(), "{bytes:x?}");
        cpuid::accepts(&instruction)
    };
    let offered: [&[u8]; 12] = [
        &[0x90],
        &[0xf3, 0x90],
        &[0x0f, 0x1f, 0x00],
        &[0x0f, 0xa2],
        &[0x48, 0x0f, 0xc7, 0x0e],
        &[0xf3, 0x0f, 0xb8, 0xc1],
        &[0xf2, 0x0f, 0x38, 0xf0, 0xc1],
        &[0x66, 0x0f, 0x3a, 0x63, 0xc1, 0],
        &[0x0f, 0x0d, 0x08],
        &[0xf3, 0x0f, 0x1e, 0xfa],
        &[0x9f],
        &[0xdb, 0xf1],
    ];
    for bytes in offered {
        assert!(accepts(bytes), "{bytes:x?}");
    }
    let withheld: [&[u8]; 10] = [
        &[0xc5, 0xf8, 0x77],
        &[0x66, 0x0f, 0x38, 0xdc, 0xc1],
        &[0x66, 0x0f, 0x3a, 0x44, 0xc1, 0],
        &[0x0f, 0x01, 0xd0],
        &[0x0f, 0xc7, 0xf0],
        &[0xf3, 0x0f, 0xae, 0xc0],
        &[0x0f, 0x38, 0xf0, 0x00],
        &[0x0f, 0x01, 0xc8],
        &[0x0f, 0x01, 0xd9],
        &[0x0f, 0x01, 0xcb],
    ];
    for bytes in withheld {
        assert!(!accepts(bytes), "{bytes:x?}");
    }
}
