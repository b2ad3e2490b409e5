//! Cases for Unicorn alone: page tables with random permissions, and segment loads from random descriptors.

use super::builder::Builder;
use crate::case::{Case, Item, SystemInputs, encode};
use crate::engine::Privilege;
use crate::guest::{self, DESCRIPTORS, SPARE, SYSTEM};
use iced_x86::IcedError;
use iced_x86::code_asm::{self, CodeAssembler, byte_ptr, dword_ptr, ptr, qword_ptr, registers::*, word_ptr};

/// The linear address whose translation is random. Its low bits lead to the same frames through pages of any size.
pub const WINDOW: u64 = 0x1234_0000_0000 + SPARE + 0x3000;

/// A case of a seed.
pub fn case(seed: u64) -> Case {
    let mut builder = Builder::new(seed, 0);
    builder.case.registers.rflags = 0x202;
    builder.case.registers.gpr[4] = crate::layout::STACK + crate::layout::PAGE as u64;
    builder.case.registers.fx = crate::case::Registers::default().fx;
    builder.case.registers.fx[24..28].copy_from_slice(&0x1f80u32.to_le_bytes());
    let privilege = if builder.random.percent(50) { Privilege::User } else { Privilege::Kernel };
    let mut inputs = SystemInputs { privilege, write_protect: true, no_execute: true, stores: Vec::new() };
    let built = if builder.random.percent(60) {
        paging(&mut builder, &mut inputs)
    } else {
        segments(&mut builder, &mut inputs)
    };
    built.expect("the assembler knows these forms");
    builder.case.items.push(Item::End);
    builder.case.system = Some(inputs);
    builder.case
}

/// Appends what `write` assembles, one item an instruction.
fn assemble(
    builder: &mut Builder,
    write: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<(), IcedError> {
    let mut assembler = CodeAssembler::new(64)?;
    write(&mut assembler)?;
    for instruction in assembler.instructions() {
        builder.case.items.extend(encode(instruction, crate::layout::CODE).map(Item::Raw));
    }
    Ok(())
}

/// A table entry: mostly present and permissive, with every bit that means something set or clear at times.
fn entry(builder: &mut Builder, frame: u64, level: u32) -> u64 {
    let random = &mut builder.random;
    let mut entry = frame | 0x7;
    for (bit, percent) in [(0, 6), (1, 25), (2, 25)] {
        entry ^= u64::from(random.percent(percent)) << bit;
    }
    for (bit, percent) in [(3, 20), (4, 10), (5, 50), (6, 40), (8, 20), (9, 30), (52, 20), (63, 15), (45, 1), (51, 1)] {
        entry |= u64::from(random.percent(percent)) << bit;
    }
    match level {
        1 => entry |= u64::from(random.percent(20)) << 7,
        2 | 3 if random.percent(15) => {
            // The window's low bits select the frame, so a large page begins at 0.
            entry = entry & !0x000f_ffff_ffff_f000 | 0x80 | entry & 1 << 45 | entry & 1 << 51;
            entry |= u64::from(random.percent(15)) << 12 | u64::from(random.percent(4)) << 13;
        }
        4 => entry |= u64::from(random.percent(1)) << 7,
        _ => {}
    }
    entry
}

/// Accesses through the window, with changes of its translation between them at CPL 0.
fn paging(builder: &mut Builder, inputs: &mut SystemInputs) -> Result<(), IcedError> {
    inputs.write_protect = builder.random.percent(70);
    inputs.no_execute = builder.random.percent(85);
    let places = [
        (guest::TABLES + (WINDOW >> 39 & 511) * 8, SPARE, 4),
        (SPARE + (WINDOW >> 30 & 511) * 8, SPARE + 0x1000, 3),
        (SPARE + 0x1000 + (WINDOW >> 21 & 511) * 8, SPARE + 0x2000, 2),
        (SPARE + 0x2000 + (WINDOW >> 12 & 511) * 8, SPARE + 0x3000, 1),
        (SPARE + 0x2000 + (WINDOW >> 12 & 511) * 8 + 8, SPARE + 0x4000, 1),
    ];
    for (place, frame, level) in places {
        let value = entry(builder, frame, level);
        inputs.stores.push((place, value));
    }
    let offset = builder.random.pick(&[0, 8, 0x123, 0x800, 0xff8, 0xffc, 0xfff, 0xff1]);
    builder.case.registers.gpr[3] = WINDOW + offset;
    builder.case.registers.gpr[1] = builder.random.below(6) as u64;
    builder.case.registers.gpr[7] = WINDOW + offset;
    builder.case.registers.gpr[6] = crate::layout::DATA + 64;
    if builder.random.percent(10) {
        return assemble(builder, |a| a.jmp(rbx));
    }
    for _ in 0..1 + builder.random.below(4) {
        access(builder)?;
        if inputs.privilege == Privilege::Kernel && builder.random.percent(40) {
            let (place, frame, level) = builder.random.pick(&places);
            let value = entry(builder, frame, level);
            change(builder, SYSTEM + place, value)?;
        }
    }
    Ok(())
}

/// One access to [RBX].
fn access(builder: &mut Builder) -> Result<(), IcedError> {
    let kind = builder.random.below(15);
    assemble(builder, |a| match kind {
        0 => a.mov(rax, qword_ptr(rbx)),
        1 => a.mov(qword_ptr(rbx), rdx),
        2 => a.add(dword_ptr(rbx), edx),
        3 => a.mov(al, byte_ptr(rbx)),
        4 => a.movdqu(xmm1, ptr(rbx)),
        5 => a.movdqu(ptr(rbx), xmm1),
        6 => a.rep().stosb(),
        7 => a.rep().movsb(),
        8 => a.cmp(word_ptr(rbx), dx),
        9 => a.lock().xadd(dword_ptr(rbx), edx),
        10 => a.cmpxchg(dword_ptr(rbx), edx),
        11 => a.bt(dword_ptr(rbx), edx),
        12 => a.push(qword_ptr(rbx)),
        13 => a.pop(qword_ptr(rbx)),
        _ => {
            a.mov(r9, rsp)?;
            a.lea(rsp, ptr(rbx + 8))?;
            a.push(rdx)?;
            a.mov(rsp, r9)
        }
    })
}

/// Stores a table entry, whole or its low half, and invalidates both pages (Unicorn's TLB is a real one).
fn change(builder: &mut Builder, place: u64, value: u64) -> Result<(), IcedError> {
    let whole = builder.random.percent(80);
    let by_cr3 = builder.random.percent(20);
    assemble(builder, |a: &mut CodeAssembler| {
        a.mov(r10, place)?;
        a.mov(r11, value)?;
        if whole {
            a.mov(qword_ptr(r10), r11)?;
        } else {
            a.mov(dword_ptr(r10), r11d)?;
        }
        // Global entries outlive a write of CR3.
        if by_cr3 && value & 0x100 == 0 {
            a.mov(r11, cr3)?;
            a.mov(cr3, r11)?;
        }
        a.mov(r11, WINDOW)?;
        a.invlpg(byte_ptr(r11))?;
        a.invlpg(byte_ptr(r11 + 0x1000))
    })
}

/// Random descriptors in the spare slots of the GDT, then a few instructions that use selectors.
fn segments(builder: &mut Builder, inputs: &mut SystemInputs) -> Result<(), IcedError> {
    for slot in 0..8 {
        let value = match descriptor(builder) {
            // A system descriptor would reach beyond the limit.
            value if slot == 7 && value & 1 << 44 == 0 => guest::descriptor::USER_DATA,
            value => value,
        };
        inputs.stores.push((guest::GDT + u64::from(DESCRIPTORS) + 8 * slot, value));
    }
    for _ in 0..1 + builder.random.below(3) {
        let selector = selector(builder);
        use_selector(builder, selector, inputs.privilege)?;
    }
    Ok(())
}

/// Code is always 64-bit code; everything else is random.
fn descriptor(builder: &mut Builder) -> u64 {
    let random = &mut builder.random;
    let limit = random.bits() & 0xf_ffff;
    let mut kind = random.bits() & 15;
    let mut size = random.bits() & 0xd;
    let user = random.percent(85);
    if user && kind & 8 != 0 {
        size = size & 9 | 2 | u64::from(random.percent(8)) << 2;
    } else if !user {
        // Unicorn knows 16-bit system segments in long mode too.
        kind = random.pick(&[0, 2, 2, 8, 9, 9, 10, 11, 13]);
    } else if random.percent(50) {
        kind = random.pick(&[2, 3, 2, 3, 0, 1]);
    }
    // Unicorn adds the base of CS even in 64-bit mode.
    let base = if user && kind & 8 != 0 || random.percent(50) { 0 } else { random.bits() & 0xffff_ffff };
    let level = random.pick(&[0, 0, 3, 3, 3, 1, 2]);
    let present = u64::from(random.percent(88));
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | (kind | u64::from(user) << 4 | level << 5 | present << 7) << 40
        | (limit >> 16) << 48
        | size << 52
        | (base >> 24) << 56
}

/// Mostly a spare slot, sometimes a usual one, null, or beyond the limit.
fn selector(builder: &mut Builder) -> u16 {
    let random = &mut builder.random;
    let level = random.pick(&[0, 0, 3, 3, 1, 2]);
    match random.below(20) {
        0 | 1 => level,
        2 => random.pick(&[0x10, 0x18, 0x28, 0x30, 0x40]) | level,
        3 => random.bits() as u16 & 0x1f8 | level,
        4 => random.bits() as u16 & 0x7f | 4,
        _ => (DESCRIPTORS + 8 * random.below(8) as u16) | level,
    }
}

/// One instruction that loads or examines a selector.
fn use_selector(builder: &mut Builder, selector: u16, privilege: Privilege) -> Result<(), IcedError> {
    let kind = builder.random.below(14);
    let selector = u32::from(selector);
    let stack = self::selector(builder);
    assemble(builder, |a| {
        a.mov(eax, selector)?;
        match kind {
            0 => a.mov(ds, ax),
            1 => a.mov(es, eax),
            2 => a.mov(ss, ax),
            3 => a.mov(fs, ax),
            4 => a.mov(gs, ax),
            5 => {
                a.push(rax)?;
                a.pop(fs)
            }
            6 => a.db(&[0x0f, 0x02, 0xc8]), // lar ecx, eax
            7 => a.lsl(edx, eax),
            8 => a.verr(ax),
            9 => a.verw(ax),
            10 => {
                a.push(rax)?;
                a.push(0x1122_3344)?;
                a.mov(dword_ptr(rsp + 4), selector)?;
                a.lfs(r8d, code_asm::fword_ptr(rsp + 0))
            }
            11 => {
                a.mov(rcx, crate::layout::CODE)?;
                a.push(rax)?;
                a.push(rcx)?;
                a.db(&[0x48, 0xcb]) // retfq
            }
            12 => {
                a.mov(rcx, crate::layout::CODE)?;
                a.mov(r8, rsp)?;
                a.mov(edx, u32::from(stack))?;
                a.push(rdx)?;
                a.push(r8)?;
                a.pushfq()?;
                a.push(rax)?;
                a.push(rcx)?;
                a.iretq()
            }
            _ if privilege == Privilege::Kernel => a.ltr(ax),
            _ => a.mov(cx, ds),
        }
    })
}
