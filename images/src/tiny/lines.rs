//! The guest `lines`: per line some 1.6 million instructions of mixing ([`crate::chain`] redoes them), then HLT for a few
//! ticks of the PIT, whose handler counts them.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, al, eax, ecx, r8, r9, rax, rcx};

use super::console::Console;
use super::platform::{self, IRQ_BASE};
use super::start::{gate, load_parameter, parameter, start, text, variable};
use crate::chain::ROUNDS_PER_LINE;

/// Variables.
const TICKS: i32 = 0;
const LINES: i32 = 1;
const HASH: i32 = 2;
const PAUSE: i32 = 3;
const NUMBER: i32 = 4;
const WAKE: i32 = 5;

pub(super) fn program(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let console = Console::new(a);
    let [mut parameter_of, mut tick, mut next_line, mut end, mut wait, mut waited] = [(); 6].map(|()| a.create_label());
    let [mut lines_name, mut seed_name, mut pause_name, mut mark, mut line, mut ending] =
        [(); 6].map(|()| a.create_label());
    start(a)?;
    gate(a, IRQ_BASE, tick)?;
    console.set_up(a, 0)?;
    load_parameter(a, parameter_of, lines_name, 200, LINES)?;
    load_parameter(a, parameter_of, seed_name, 1, HASH)?;
    load_parameter(a, parameter_of, pause_name, 2, PAUSE)?;
    platform::interrupt_controllers(a, 0x01)?;
    platform::programmable_timer(a)?;
    console.print(a, mark)?;
    a.sti()?;

    a.set_label(&mut next_line)?;
    a.mov(rax, variable(NUMBER))?;
    a.cmp(rax, variable(LINES))?;
    a.jae(end)?;
    a.inc(rax)?;
    a.mov(variable(NUMBER), rax)?;
    work(a)?;
    console.print(a, line)?;
    number_and_hash(a, console)?;
    // Wait for PAUSE ticks: CLI, look, and STI next to HLT, so that no tick slips between look and halt.
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
    a.sti()?;
    a.jmp(next_line)?;

    a.set_label(&mut end)?;
    console.print(a, ending)?;
    number_and_hash(a, console)?;
    platform::power_off(a)?;

    a.set_label(&mut tick)?;
    a.push(rax)?;
    a.inc(variable(TICKS))?;
    platform::end_of_interrupt(a)?;
    a.pop(rax)?;
    a.iretq()?;

    parameter(a, &mut parameter_of)?;
    console.subroutines(a)?;
    text(a, &mut lines_name, "ftemu.lines=")?;
    text(a, &mut seed_name, "ftemu.seed=")?;
    text(a, &mut pause_name, "ftemu.pause=")?;
    text(a, &mut mark, "ftemu-mark init\r\n")?;
    text(a, &mut line, "ftemu-line ")?;
    text(a, &mut ending, "ftemu-end ")
}

/// The work for one line: `chain::tiny_hash`, in the same order.
fn work(a: &mut CodeAssembler) -> Result<(), IcedError> {
    let mut round = a.create_label();
    a.mov(rax, variable(HASH))?;
    a.xor(rax, variable(NUMBER))?;
    a.mov(ecx, u32::try_from(ROUNDS_PER_LINE).unwrap_or(u32::MAX))?;
    a.set_label(&mut round)?;
    a.mov(r8, 0x9e37_79b9_7f4a_7c15_u64)?;
    a.add(rax, r8)?;
    for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9_u64), (27, 0x94d0_49bb_1331_11eb)] {
        a.mov(r9, rax)?;
        a.shr(r9, shift)?;
        a.xor(rax, r9)?;
        a.mov(r8, factor)?;
        a.imul_2(rax, r8)?;
    }
    a.mov(r9, rax)?;
    a.shr(r9, 31)?;
    a.xor(rax, r9)?;
    a.dec(rcx)?;
    a.jne(round)?;
    a.mov(variable(HASH), rax)
}

/// Prints the line's number, a space, its hash and a line end.
fn number_and_hash(a: &mut CodeAssembler, console: Console) -> Result<(), IcedError> {
    a.mov(rax, variable(NUMBER))?;
    a.call(console.put_decimal)?;
    a.mov(al, 0x20)?;
    a.call(console.put_byte)?;
    a.mov(rax, variable(HASH))?;
    a.call(console.put_hexadecimal)?;
    for byte in [0x0d, 0x0a] {
        a.mov(eax, byte)?;
        a.call(console.put_byte)?;
    }
    Ok(())
}
