//! The guest `disk`: writes numbered sectors to the first IDE disk by PIO, flushes after each, reads an older one back and
//! compares it, and only then says so on COM1 (ATA/ATAPI-6, 9.5 and 9.6: PIO data-out and data-in; 8.12 FLUSH CACHE).
//!
//! First of all it says the first eight bytes of sector 0. Sector N holds 64 times N × [`super::DISK_FACTOR`]. So whoever has seen `ftemu-disk N` may look for sectors 1 to N on
//! the image, whatever happened since.

use iced_x86::IcedError;
use iced_x86::code_asm::{
    CodeAssembler, CodeLabel, al, dx, eax, ecx, ptr, qword_ptr, r10, r10b, rax, rbx, rcx, rdi, rsi,
};

use super::console::Console;
use super::platform::{self, IRQ_BASE};
use super::start::{SCRATCH, gate, load_parameter, parameter, start, text, variable};

/// Variables.
const TICKS: i32 = 0;
const LINES: i32 = 1;
const PAUSE: i32 = 2;
const NUMBER: i32 = 3;
const WAKE: i32 = 4;
const SECTOR: i32 = 5;

/// The first channel's registers, from Data on.
const DATA: i32 = 0x1f0;
const STATUS: i32 = 7;
/// Status: busy; a data request; an error or a device fault.
const BSY: i32 = 0x80;
const WRONG: i32 = 0x21;
const READ_SECTORS: i32 = 0x20;
const WRITE_SECTORS: i32 = 0x30;
const FLUSH_CACHE: i32 = 0xe7;

pub(super) fn program(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let console = Console::new(a);
    let [mut parameter_of, mut tick, mut next, mut end, mut command, mut ready] = [(); 6].map(|()| a.create_label());
    let [mut lines_name, mut pause_name, mut mark, mut line, mut ending, mut trouble] =
        [(); 6].map(|()| a.create_label());
    let [mut wrong, mut newline, mut rest] = [(); 3].map(|()| a.create_label());
    start(a)?;
    gate(a, IRQ_BASE, tick)?;
    console.set_up(a, 0)?;
    load_parameter(a, parameter_of, lines_name, 100, LINES)?;
    load_parameter(a, parameter_of, pause_name, 2, PAUSE)?;
    platform::interrupt_controllers(a, 0x01)?;
    platform::programmable_timer(a)?;
    console.print(a, mark)?;
    a.xor(eax, eax)?;
    a.mov(variable(SECTOR), rax)?;
    read_sector(a, command)?;
    a.mov(rax, qword_ptr(rbx + SCRATCH))?;
    a.call(console.put_hexadecimal)?;
    console.print(a, newline)?;

    a.set_label(&mut next)?;
    a.mov(rax, variable(NUMBER))?;
    a.cmp(rax, variable(LINES))?;
    a.jae(end)?;
    a.inc(rax)?;
    a.mov(variable(NUMBER), rax)?;
    write_sector(a, command, ready)?;
    a.mov(eax, FLUSH_CACHE)?;
    a.call(command)?;
    a.test(al, WRONG)?;
    a.jne(wrong)?;
    read_back(a, command, wrong)?;
    console.print(a, line)?;
    a.mov(rax, variable(NUMBER))?;
    a.call(console.put_decimal)?;
    console.print(a, newline)?;
    a.jmp(rest)?;

    a.set_label(&mut wrong)?;
    console.print(a, trouble)?;
    a.mov(rax, variable(NUMBER))?;
    a.call(console.put_decimal)?;
    console.print(a, newline)?;

    a.set_label(&mut rest)?;
    pause(a)?;
    a.jmp(next)?;

    a.set_label(&mut end)?;
    console.print(a, ending)?;
    platform::power_off(a)?;

    a.set_label(&mut tick)?;
    a.push(rax)?;
    a.inc(variable(TICKS))?;
    platform::end_of_interrupt(a)?;
    a.pop(rax)?;
    a.iretq()?;

    command_subroutine(a, &mut command, ready)?;
    ready_subroutine(a, &mut ready)?;
    parameter(a, &mut parameter_of)?;
    console.subroutines(a)?;
    text(a, &mut lines_name, "ftemu.lines=")?;
    text(a, &mut pause_name, "ftemu.pause=")?;
    text(a, &mut mark, "ftemu-mark disk\r\nftemu-sector-0 ")?;
    text(a, &mut line, "ftemu-disk ")?;
    text(a, &mut trouble, "ftemu-disk-error ")?;
    text(a, &mut newline, "\r\n")?;
    text(a, &mut ending, "ftemu-end disk\r\n")
}

/// Fills a sector with the number's pattern and writes it; AL is the status afterwards.
fn write_sector(a: &mut CodeAssembler, command: CodeLabel, ready: CodeLabel) -> Result<(), IcedError> {
    a.mov(variable(SECTOR), rax)?;
    pattern(a)?;
    a.lea(rdi, ptr(rbx + SCRATCH))?;
    a.mov(ecx, 64)?;
    a.rep().stosq()?;
    a.mov(eax, WRITE_SECTORS)?;
    a.call(command)?;
    a.lea(rsi, ptr(rbx + SCRATCH))?;
    a.mov(dx, DATA)?;
    a.mov(ecx, 256)?;
    a.rep().outsw()?;
    a.call(ready)
}

/// Reads the sector of half the number and compares it with its pattern.
fn read_back(a: &mut CodeAssembler, command: CodeLabel, wrong: CodeLabel) -> Result<(), IcedError> {
    a.mov(rax, variable(NUMBER))?;
    a.inc(rax)?;
    a.shr(rax, 1)?;
    a.mov(variable(SECTOR), rax)?;
    read_sector(a, command)?;
    a.test(r10b, WRONG)?;
    a.jne(wrong)?;
    a.mov(rax, variable(SECTOR))?;
    pattern(a)?;
    for offset in [0, 256, 504] {
        a.cmp(rax, qword_ptr(rbx + SCRATCH + offset))?;
        a.jne(wrong)?;
    }
    Ok(())
}

/// Reads the sector in SECTOR; R10 is the status.
fn read_sector(a: &mut CodeAssembler, command: CodeLabel) -> Result<(), IcedError> {
    a.mov(eax, READ_SECTORS)?;
    a.call(command)?;
    a.mov(r10, rax)?;
    a.lea(rdi, ptr(rbx + SCRATCH))?;
    a.mov(dx, DATA)?;
    a.mov(ecx, 256)?;
    a.rep().insw()
}

/// RAX times the factor. Changes RCX.
fn pattern(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(rcx, super::DISK_FACTOR)?;
    a.imul_2(rax, rcx)
}

/// Emits: sends the command in AL for one sector, the one in SECTOR, to device 0; returns when it is not busy.
fn command_subroutine(a: &mut CodeAssembler, label: &mut CodeLabel, ready: CodeLabel) -> Result<(), IcedError> {
    a.set_label(label)?;
    a.push(rax)?;
    a.call(ready)?;
    for (register, shift) in [(6, 24), (2, 64), (3, 0), (4, 8), (5, 16)] {
        a.mov(dx, DATA + register)?;
        if shift < 64 {
            a.mov(rax, variable(SECTOR))?;
            a.shr(rax, shift)?;
        } else {
            a.mov(eax, 1)?;
        }
        if register == 6 {
            a.and(eax, 0x0f)?;
            a.or(eax, 0xe0)?; // LBA, device 0
        }
        a.out(dx, al)?;
    }
    a.pop(rax)?;
    a.mov(dx, DATA + STATUS)?;
    a.out(dx, al)?;
    a.jmp(ready)
}

/// Emits: waits until the device is not busy; AL is its status then. Looks every few microseconds of virtual time.
fn ready_subroutine(a: &mut CodeAssembler, label: &mut CodeLabel) -> Result<(), IcedError> {
    let (mut done, mut spin) = (a.create_label(), a.create_label());
    a.set_label(label)?;
    a.mov(dx, DATA + STATUS)?;
    a.in_(al, dx)?;
    a.test(al, BSY)?;
    a.je(done)?;
    a.mov(ecx, 5000)?;
    a.set_label(&mut spin)?;
    a.dec(ecx)?;
    a.jne(spin)?;
    a.jmp(*label)?;
    a.set_label(&mut done)?;
    a.ret()
}

/// Waits for PAUSE ticks: CLI, look, and STI next to HLT, so that no tick slips between look and halt.
fn pause(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let (mut wait, mut waited) = (a.create_label(), a.create_label());
    a.mov(rax, variable(TICKS))?;
    a.add(rax, variable(PAUSE))?;
    a.mov(variable(WAKE), rax)?;
    a.set_label(&mut wait)?;
    a.cli()?;
    a.mov(rax, variable(TICKS))?;
    a.cmp(rax, variable(WAKE))?;
    a.jae(waited)?;
    a.sti()?;
    a.hlt()?;
    a.jmp(wait)?;
    a.set_label(&mut waited)?;
    a.sti()
}
