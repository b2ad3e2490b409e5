//! The guest `torture`: what a lockstep pair finds hardest, over and over, hashed.
//!
//! Each iteration patches code that runs next (in the same block, in a generated routine, across a page border), changes page
//! table entries with and without INVLPG and looks at their accessed and dirty bits, faults on purpose, moves strings over
//! page borders and computes in x87 and SSE. The local APIC's timer interrupts all of it, and its handler hashes where.
//!
//! R12 holds the hash, R13 counts iterations down, R14 holds a generator's state; RBX and R15 as in [`super::start`].

mod handlers;

use iced_x86::IcedError;
use iced_x86::code_asm::{AsmMemoryOperand, CodeAssembler, al, byte_ptr, cr0, cr3, cr4, dword_ptr, eax, ecx};
use iced_x86::code_asm::{ptr, qword_ptr, r12, r13, r14, rax, rbx, rcx, rdi, rdx, rsi, rsp, st0, xmm0, xmm1};

use super::console::Console;
use super::platform;
use super::start::{PDPT, PRESENT_WRITABLE, SCRATCH, load_parameter, parameter, start, text, variable};
use handlers::Handlers;

/// Variables.
const ROUNDS: i32 = 0;
const NUMBER: i32 = 1;
const TIMER_HASH: i32 = 2;

/// Iterations between two lines.
const ITERATIONS: i32 = 64;
/// Ticks of the local APIC's clock, divided by 16, between two interrupts.
const TIMER_PERIOD: u32 = 3001;

/// Offsets into the scratch memory: generated code (two pages), a page directory and a page table for the window, the
/// frames that it shows, and the two ends of string moves.
const GENERATED: i32 = SCRATCH;
const WINDOW_DIRECTORY: i32 = SCRATCH + 0x2000;
const WINDOW_TABLE: i32 = SCRATCH + 0x3000;
const FRAMES: i32 = SCRATCH + 0x4000;
const SOURCE: i32 = SCRATCH + 0x1_0000;
const DESTINATION: i32 = SCRATCH + 0x2_0000;
const SCRATCH_BYTES: u32 = 0x3_0000;

/// Linear address of the window: 4 GiB, the fifth entry of the PDPT.
const WINDOW: u64 = 0x1_0000_0000;

/// An encoding of `mov eax, imm32; add rax, rcx; ret`, with the immediate at offset 1.
const ROUTINE: [u8; 9] = [0xb8, 0, 0, 0, 0, 0x48, 0x01, 0xc8, 0xc3];
/// Where the routine starts in order to lie across the border of the two generated pages.
const ACROSS: i32 = GENERATED + 0x1000 - 3;

pub(super) fn program(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let console = Console::new(a);
    let [mut parameter_of, mut round, mut iteration, mut end] = [(); 4].map(|()| a.create_label());
    let [mut rounds_name, mut seed_name, mut mark, mut line, mut ending] = [(); 5].map(|()| a.create_label());
    let handlers = Handlers::new(a);
    start(a)?;
    console.set_up(a, 0)?;
    load_parameter(a, parameter_of, rounds_name, 50, ROUNDS)?;
    load_parameter(a, parameter_of, seed_name, 1, TIMER_HASH)?;
    a.mov(r14, rax)?;
    a.xor(r12, r12)?;
    processor(a)?;
    memory(a)?;
    handlers.install(a)?;
    platform::interrupt_controllers(a, 0)?;
    platform::local_timer(a, TIMER_PERIOD)?;
    console.print(a, mark)?;
    a.sti()?;

    a.set_label(&mut round)?;
    a.mov(rax, variable(NUMBER))?;
    a.cmp(rax, variable(ROUNDS))?;
    a.jae(end)?;
    a.inc(variable(NUMBER))?;
    a.mov(r13, i64::from(ITERATIONS))?;
    a.set_label(&mut iteration)?;
    for step in
        [same_block, routine, across_pages, window, border_and_protection, no_execute, faults, strings, floating_point]
    {
        generate(a)?;
        step(a)?;
    }
    a.dec(r13)?;
    a.jne(iteration)?;
    console.print(a, line)?;
    number_and_hash(a, console)?;
    a.hlt()?;
    a.jmp(round)?;

    a.set_label(&mut end)?;
    console.print(a, ending)?;
    number_and_hash(a, console)?;
    platform::power_off(a)?;

    handlers.emit(a)?;
    parameter(a, &mut parameter_of)?;
    console.subroutines(a)?;
    text(a, &mut rounds_name, "ftemu.lines=")?;
    text(a, &mut seed_name, "ftemu.seed=")?;
    text(a, &mut mark, "ftemu-mark init\r\n")?;
    text(a, &mut line, "ftemu-line ")?;
    text(a, &mut ending, "ftemu-end ")
}

/// CR0.MP and WP on, EM and TS off; CR4.OSFXSR and OSXMMEXCPT; EFER.NXE.
fn processor(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(rax, cr0)?;
    a.and(rax, !0xc_i32)?;
    a.or(rax, 0x1_0002)?;
    a.mov(cr0, rax)?;
    a.mov(rax, cr4)?;
    a.or(rax, 0x600)?;
    a.mov(cr4, rax)?;
    a.mov(ecx, 0xc000_0080_u32)?;
    a.rdmsr()?;
    a.or(eax, 0x800)?;
    a.wrmsr()?;
    a.fninit()
}

/// Clears the scratch memory, fills the moves' source, hangs the window into the PDPT, writes the routines.
fn memory(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.lea(rdi, ptr(rbx + SCRATCH))?;
    a.xor(eax, eax)?;
    a.mov(ecx, SCRATCH_BYTES / 8)?;
    a.rep().stosq()?;
    a.lea(rdi, ptr(rbx + SOURCE))?;
    a.mov(ecx, 0x1000)?;
    let mut fill = a.create_label();
    a.set_label(&mut fill)?;
    a.lea(rax, ptr(rcx + rcx * 4 + 7))?;
    a.stosb()?;
    a.loop_(fill)?;
    for (table, entry) in [(WINDOW_DIRECTORY, PDPT + 4 * 8), (WINDOW_TABLE, WINDOW_DIRECTORY)] {
        a.lea(rax, ptr(rbx + table + PRESENT_WRITABLE as i32))?;
        a.mov(qword_ptr(rbx + entry), rax)?;
    }
    for at in [GENERATED, ACROSS] {
        for (offset, byte) in (0..).zip(ROUTINE) {
            a.mov(byte_ptr(rbx + at + offset), u32::from(byte))?;
        }
    }
    Ok(())
}

/// The next number of Knuth's generator for MMIX, into R14. Changes RAX.
fn generate(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(rax, 6_364_136_223_846_793_005_u64)?;
    a.imul_2(r14, rax)?;
    a.mov(rax, 1_442_695_040_888_963_407_u64)?;
    a.add(r14, rax)
}

/// Mixes RAX into the hash. Changes nothing else.
fn mix(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.rol(r12, 7)?;
    a.xor(r12, rax)
}

/// Patches the immediate of an instruction a few bytes ahead, in the block that is running.
fn same_block(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut patched = a.create_label();
    a.mov(rax, r14)?;
    a.shr(rax, 32)?;
    a.lea(rdi, ptr(patched))?;
    a.mov(dword_ptr(rdi + 1), eax)?;
    a.set_label(&mut patched)?;
    a.mov(eax, 0x1234_5678)?;
    mix(a)
}

/// Patches a generated routine and calls it.
fn routine(a: &mut CodeAssembler) -> Result<(), IcedError> {
    patch_and_call(a, GENERATED)
}

/// The same for a routine whose patched immediate lies in two pages.
fn across_pages(a: &mut CodeAssembler) -> Result<(), IcedError> {
    patch_and_call(a, ACROSS)
}

fn patch_and_call(a: &mut CodeAssembler, at: i32) -> Result<(), IcedError> {
    a.mov(rax, r14)?;
    a.shr(rax, 24)?;
    a.mov(dword_ptr(rbx + at + 1), eax)?;
    a.mov(rcx, r13)?;
    a.lea(rdi, ptr(rbx + at))?;
    a.call(rdi)?;
    mix(a)
}

/// RCX = a page of the window (0 to 7), RDI its address.
fn choose_page(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(rcx, r14)?;
    a.shr(rcx, 33)?;
    a.and(ecx, 7)?;
    a.mov(rdi, rcx)?;
    a.shl(rdi, 12)?;
    a.mov(rax, WINDOW)?;
    a.add(rdi, rax)
}

/// The page table entry of page RCX.
fn entry() -> AsmMemoryOperand {
    qword_ptr(rbx + rcx * 8 + WINDOW_TABLE)
}

/// RAX = frame (number in RAX) with these low bits.
fn frame(a: &mut CodeAssembler, bits: i32) -> Result<(), IcedError> {
    a.shl(rax, 12)?;
    a.lea(rax, ptr(rbx + rax + FRAMES + bits))
}

/// Shows another frame in a page, now and then without INVLPG; writes through it, reads the frame, looks at A and D.
fn window(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut keep = a.create_label();
    choose_page(a)?;
    a.mov(rax, r14)?;
    a.shr(rax, 40)?;
    a.and(eax, 7)?;
    frame(a, PRESENT_WRITABLE as i32)?;
    a.mov(rsi, rax)?;
    a.mov(entry(), rax)?;
    a.bt(r14, 50)?;
    a.jb(keep)?;
    a.invlpg(byte_ptr(rdi))?;
    a.set_label(&mut keep)?;
    a.mov(rax, qword_ptr(rdi + 64))?;
    mix(a)?;
    a.mov(rax, entry())?;
    mix(a)?;
    a.mov(qword_ptr(rdi + 64), r14)?;
    a.mov(rax, entry())?;
    mix(a)?;
    a.mov(rax, qword_ptr(rsi - PRESENT_WRITABLE as i32 + 64))?;
    mix(a)
}

/// Takes a page away and reads over the border before it; makes a page read-only and writes it: the page-fault handler
/// hashes what it is told and maps the page.
fn border_and_protection(a: &mut CodeAssembler) -> Result<(), IcedError> {
    choose_page(a)?;
    a.inc(ecx)?;
    a.xor(eax, eax)?;
    a.mov(entry(), rax)?;
    a.invlpg(byte_ptr(rdi + 0x1000))?;
    a.mov(rax, qword_ptr(rdi + 0xffc))?;
    mix(a)?;
    a.and(entry(), !2)?;
    a.invlpg(byte_ptr(rdi + 0x1000))?;
    a.add(qword_ptr(rdi + 0xffd), r14)?;
    a.mov(rax, cr3)?;
    a.mov(cr3, rax)?;
    a.mov(rax, entry())?;
    mix(a)
}

/// Calls into a page that must not be executed; the handler allows it.
fn no_execute(a: &mut CodeAssembler) -> Result<(), IcedError> {
    choose_page(a)?;
    a.mov(rax, rcx)?;
    frame(a, PRESENT_WRITABLE as i32)?;
    a.bts(rax, 63)?;
    a.mov(entry(), rax)?;
    a.invlpg(byte_ptr(rdi))?;
    a.mov(byte_ptr(rdi), 0xc3u32)?; // RET
    a.call(rdi)?;
    a.mov(rax, entry())?;
    mix(a)
}

/// A division by zero, an undefined opcode, a breakpoint, a non-canonical address.
fn faults(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.xor(ecx, ecx)?;
    a.mov(eax, 7)?;
    a.cdq()?;
    a.div(ecx)?;
    a.ud2()?;
    a.int3()?;
    a.bts(r14, 62)?;
    a.btr(r14, 63)?;
    a.mov(rax, qword_ptr(r14))
}

/// Moves a few thousand bytes over page borders, compares them, looks for a byte.
fn strings(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let begin = |a: &mut CodeAssembler| -> Result<(), IcedError> {
        a.mov(rax, r14)?;
        a.shr(rax, 52)?;
        a.lea(rsi, ptr(rbx + rax + SOURCE))?;
        a.lea(rdi, ptr(rbx + rax + DESTINATION + 3))
    };
    begin(a)?;
    a.mov(ecx, 3000)?;
    a.rep().movsb()?;
    begin(a)?;
    a.mov(byte_ptr(rdi + rcx + 2000), 0x55u32)?;
    a.mov(ecx, 3000)?;
    a.repe().cmpsb()?;
    a.mov(rax, rcx)?;
    mix(a)?;
    a.std()?;
    a.mov(ecx, 500)?;
    a.mov(al, 0x5a)?;
    a.repne().scasb()?;
    a.cld()?;
    a.mov(rax, rcx)?;
    mix(a)
}

/// A quotient and a square root in SSE2, a product and a square root in x87.
fn floating_point(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(rax, r14)?;
    a.shr(rax, 12)?;
    a.cvtsi2sd(xmm0, rax)?;
    a.lea(rdx, ptr(r13 + 3))?;
    a.cvtsi2sd(xmm1, rdx)?;
    a.divsd(xmm0, xmm1)?;
    a.sqrtsd(xmm0, xmm0)?;
    a.movq(rax, xmm0)?;
    mix(a)?;
    a.push(rdx)?;
    a.fild(qword_ptr(rsp))?;
    a.fldpi()?;
    a.fmul_2(st0, iced_x86::code_asm::st1)?;
    a.fsqrt()?;
    a.fstp(qword_ptr(rsp))?;
    a.fstp(st0)?;
    a.pop(rax)?;
    mix(a)
}

/// Prints the line's number and the two hashes as one, and a line end.
fn number_and_hash(a: &mut CodeAssembler, console: Console) -> Result<(), IcedError> {
    a.mov(rax, variable(NUMBER))?;
    a.call(console.put_decimal)?;
    a.mov(al, 0x20)?;
    a.call(console.put_byte)?;
    a.mov(rax, r12)?;
    a.xor(rax, variable(TIMER_HASH))?;
    a.call(console.put_hexadecimal)?;
    for byte in [0x0d, 0x0a] {
        a.mov(eax, byte)?;
        a.call(console.put_byte)?;
    }
    Ok(())
}
