//! The guest `resets`: says on COM1 that it started, and then resets the machine, over and over.
//!
//! The ways are those of PC software: a triple fault (Intel SDM volume 3A, 6.15), the reset control register of the PIIX3
//! (CF9h), the 8042's output port (command FEh), and port 92h.

use iced_x86::IcedError;
use iced_x86::code_asm::{CodeAssembler, al, dx, ptr, qword_ptr, rbx, word_ptr};

use super::ResetBy;
use super::console::Console;
use super::start::{SCRATCH, start, text};

pub(super) fn program(by: ResetBy) -> fn(&mut CodeAssembler) -> Result<(), IcedError> {
    match by {
        ResetBy::TripleFault => |a| guest(a, triple_fault),
        ResetBy::ResetControl => |a| guest(a, |a| out_bytes(a, &[(0xcf9, 0x02), (0xcf9, 0x06)])),
        ResetBy::KeyboardController => |a| guest(a, |a| out_bytes(a, &[(0x64, 0xfe)])),
        ResetBy::Port92 => |a| guest(a, |a| out_bytes(a, &[(0x92, 0x00), (0x92, 0x01)])),
    }
}

fn guest(a: &mut CodeAssembler, reset: fn(&mut CodeAssembler) -> Result<(), IcedError>) -> Result<(), IcedError> {
    let console = Console::new(a);
    let [mut mark, mut halt] = [(); 2].map(|()| a.create_label());
    start(a)?;
    console.set_up(a, 0)?;
    console.print(a, mark)?;
    reset(a)?;
    // Nothing but a reset leads on from here.
    a.set_label(&mut halt)?;
    a.cli()?;
    a.hlt()?;
    a.jmp(halt)?;
    console.subroutines(a)?;
    text(a, &mut mark, "ftemu-mark start\r\n")
}

/// An exception with an IDT of no length.
fn triple_fault(a: &mut CodeAssembler) -> Result<(), IcedError> {
    a.mov(word_ptr(rbx + SCRATCH), 0u32)?;
    a.mov(qword_ptr(rbx + SCRATCH + 2), 0)?;
    a.lidt(ptr(rbx + SCRATCH))?;
    a.ud2()
}

fn out_bytes(a: &mut CodeAssembler, writes: &[(u16, u32)]) -> Result<(), IcedError> {
    for (port, value) in writes {
        a.mov(dx, i32::from(*port))?;
        a.mov(al, *value)?;
        a.out(dx, al)?;
    }
    Ok(())
}
