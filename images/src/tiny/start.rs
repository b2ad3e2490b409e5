//! What every tiny guest does first: own page tables (identity over 4 GiB in 2 MiB pages), GDT, IDT and stack.
//!
//! The loader enters in 64-bit mode with RSI at the boot parameters and interrupts off. From here on RBX holds the address of
//! the guest's own memory, and the offsets below count from it; R15 holds the boot parameters.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, CodeLabel, cr3, eax, ecx, edi, qword_ptr, r15, rax, rbx, rcx, rdi, rsi, rsp};
use iced_x86::code_asm::{ax, byte_ptr, ds, dword_ptr, dx, es, ptr, rdx, ss, word_ptr};

/// Offsets from RBX.
pub(super) const PML4: i32 = 0x1_0000;
pub(super) const PDPT: i32 = 0x1_1000;
const PAGE_DIRECTORIES: i32 = 0x1_2000;
const IDT: i32 = 0x1_6000;
const GDT: i32 = 0x1_7000;
const TABLE_REGISTER: i32 = 0x1_7100;
const STACK_TOP: i32 = 0x1_c000;
/// Variables of 8 bytes each, zero at first.
pub(super) const VARIABLES: i32 = 0x1_d000;
/// Page-aligned memory for a guest's own purposes.
pub(super) const SCRATCH: i32 = 0x2_0000;

/// The code segment, in both the loader's GDT and ours.
const CODE_SELECTOR: u32 = 0x10;
const DATA_SELECTOR: u32 = 0x18;

/// Page table entry bits: present, writable.
pub(super) const PRESENT_WRITABLE: u32 = 0x3;
/// PS of a page directory entry: a 2 MiB page.
const LARGE: u32 = 0x80;

/// The variable with this index.
pub(super) fn variable(index: i32) -> iced_x86::code_asm::AsmMemoryOperand {
    qword_ptr(rbx + VARIABLES + index * 8)
}

/// Emits the start. `entry` must be the first label of the program.
pub(super) fn start(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut entry = a.create_label();
    a.set_label(&mut entry)?;
    a.cli()?;
    a.cld()?;
    a.mov(r15, rsi)?;
    a.lea(rbx, ptr(entry))?;
    a.sub(rbx, 0x200)?;
    a.lea(rsp, ptr(rbx + STACK_TOP))?;
    clear_memory(a)?;
    page_tables(a)?;
    segments(a)
}

/// Zeroes tables, stack and variables.
fn clear_memory(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.lea(rdi, ptr(rbx + PML4))?;
    a.xor(eax, eax)?;
    a.mov(ecx, (SCRATCH - PML4) as u32 / 8)?;
    a.rep().stosq()
}

/// Intel SDM volume 3A, 4.5: one PML4, one PDPT, four page directories.
fn page_tables(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.lea(rax, ptr(rbx + PDPT + PRESENT_WRITABLE as i32))?;
    a.mov(qword_ptr(rbx + PML4), rax)?;
    for directory in 0..4 {
        a.lea(rax, ptr(rbx + PAGE_DIRECTORIES + directory * 0x1000 + PRESENT_WRITABLE as i32))?;
        a.mov(qword_ptr(rbx + PDPT + directory * 8), rax)?;
    }
    a.lea(rdi, ptr(rbx + PAGE_DIRECTORIES))?;
    a.mov(eax, PRESENT_WRITABLE | LARGE)?;
    a.mov(ecx, 2048)?;
    let mut next = a.create_label();
    a.set_label(&mut next)?;
    a.mov(qword_ptr(rdi), rax)?;
    a.add(rdi, 8)?;
    a.add(rax, 0x20_0000)?;
    a.dec(ecx)?;
    a.jne(next)?;
    a.lea(rax, ptr(rbx + PML4))?;
    a.mov(cr3, rax)
}

/// A GDT with the selectors that the loader used, and an empty IDT.
fn segments(a: &mut CodeAssembler) -> Result<(), IcedError> {
    // SDM volume 3A, 3.4.5: present, DPL 0, 64-bit code, execute and read; present, writable data.
    a.mov(rax, 0x00af_9b00_0000_ffff_u64)?;
    a.mov(qword_ptr(rbx + GDT + CODE_SELECTOR as i32), rax)?;
    a.mov(rax, 0x00cf_9300_0000_ffff_u64)?;
    a.mov(qword_ptr(rbx + GDT + DATA_SELECTOR as i32), rax)?;
    a.mov(word_ptr(rbx + TABLE_REGISTER), 0x1fu32)?;
    a.lea(rax, ptr(rbx + GDT))?;
    a.mov(qword_ptr(rbx + TABLE_REGISTER + 2), rax)?;
    a.lgdt(ptr(rbx + TABLE_REGISTER))?;
    a.mov(eax, DATA_SELECTOR)?;
    a.mov(ds, eax)?;
    a.mov(es, eax)?;
    a.mov(ss, eax)?;
    let mut reload = a.create_label();
    a.push(CODE_SELECTOR as i32)?;
    a.lea(rax, ptr(reload))?;
    a.push(rax)?;
    a.retf()?;
    a.set_label(&mut reload)?;
    a.mov(word_ptr(rbx + TABLE_REGISTER), 0xfffu32)?;
    a.lea(rax, ptr(rbx + IDT))?;
    a.mov(qword_ptr(rbx + TABLE_REGISTER + 2), rax)?;
    a.lidt(ptr(rbx + TABLE_REGISTER))
}

/// Points a vector's gate at a handler: SDM volume 3A, 6.14.1, a present 64-bit interrupt gate.
pub(super) fn gate(a: &mut CodeAssembler, vector: i32, handler: CodeLabel) -> Result<(), IcedError> {
    let at = rbx + IDT + vector * 16;
    a.lea(rax, ptr(handler))?;
    a.mov(word_ptr(at), ax)?;
    a.mov(word_ptr(at + 2), CODE_SELECTOR)?;
    a.mov(word_ptr(at + 4), 0x8e00u32)?;
    a.shr(rax, 16)?;
    a.mov(word_ptr(at + 6), ax)?;
    a.shr(rax, 16)?;
    a.mov(dword_ptr(at + 8), eax)
}

/// Emits a subroutine: RAX = the number after the NUL-terminated name at RSI in the command line, or RDX if it is absent.
/// The command line lies where `cmd_line_ptr` (offset 0x228 of the boot parameters) says.
pub(super) fn parameter(a: &mut CodeAssembler, label: &mut CodeLabel) -> Result<(), IcedError> {
    let (mut outer, mut compare, mut miss) = (a.create_label(), a.create_label(), a.create_label());
    let (mut digits, mut next_digit, mut absent, mut done) =
        (a.create_label(), a.create_label(), a.create_label(), a.create_label());
    a.set_label(label)?;
    a.mov(edi, dword_ptr(r15 + 0x228))?;
    a.set_label(&mut outer)?;
    a.cmp(byte_ptr(rdi), 0)?;
    a.je(absent)?;
    a.xor(ecx, ecx)?;
    a.set_label(&mut compare)?;
    a.movzx(eax, byte_ptr(rsi + rcx))?;
    a.test(eax, eax)?;
    a.je(digits)?;
    a.cmp(byte_ptr(rdi + rcx), iced_x86::code_asm::al)?;
    a.jne(miss)?;
    a.inc(rcx)?;
    a.jmp(compare)?;
    a.set_label(&mut miss)?;
    a.inc(rdi)?;
    a.jmp(outer)?;
    a.set_label(&mut digits)?;
    a.add(rdi, rcx)?;
    a.xor(eax, eax)?;
    a.set_label(&mut next_digit)?;
    a.movzx(ecx, byte_ptr(rdi))?;
    a.sub(ecx, 0x30)?;
    a.cmp(ecx, 9)?;
    a.ja(done)?;
    a.imul_3(rax, rax, 10)?;
    a.add(rax, rcx)?;
    a.inc(rdi)?;
    a.jmp(next_digit)?;
    a.set_label(&mut absent)?;
    a.mov(rax, rdx)?;
    a.set_label(&mut done)?;
    a.ret()
}

/// Stores the command line's `name` parameter, or a default, into a variable.
pub(super) fn load_parameter(
    a: &mut CodeAssembler,
    parameter: CodeLabel,
    name: CodeLabel,
    default: u64,
    into: i32,
) -> Result<(), IcedError> {
    a.lea(rsi, ptr(name))?;
    a.mov(rdx, default)?;
    a.call(parameter)?;
    a.mov(variable(into), rax)
}

/// OUT to a port above 255 or below, by DX.
pub(super) fn out_word(a: &mut CodeAssembler, port: u16, value: u16) -> Result<(), IcedError> {
    a.mov(dx, i32::from(port))?;
    a.mov(ax, i32::from(value))?;
    a.out(dx, ax)
}

/// Emits text with a NUL behind it, where no execution comes.
pub(super) fn text(a: &mut CodeAssembler, label: &mut CodeLabel, text: &str) -> Result<(), IcedError> {
    a.set_label(label)?;
    a.db(text.as_bytes())?;
    a.db(&[0])
}
